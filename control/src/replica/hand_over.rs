//! A hand-over that is under way: the worker gives the region up, and the successor gets what it lacks of it.

use super::orders::Answer;
use super::primary::PrimaryGroup;
use dataplane::time::NS_PER_MS;

/// How long the successor may take to get everything, and then to hear that it is its turn.
const DRAIN_MAX_NS: u64 = 1_000 * NS_PER_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// The successor was told, and this node is the primary no longer.
    Done,
    /// It does not get everything: this node is the primary still.
    Back,
}

pub struct HandOver {
    pub group: PrimaryGroup,
    pub to: String,
    pub answer: Answer,
    since_ns: u64,
    is_told: bool,
    /// The successor hears from etcd that it is its turn.
    elected: bool,
}

impl HandOver {
    pub fn new(group: PrimaryGroup, to: String, answer: Answer, elected: bool, now_ns: u64) -> HandOver {
        HandOver { group, to, answer, since_ns: now_ns, is_told: false, elected }
    }

    /// `is_final` = nothing more is published in the group's region.
    pub fn step(&mut self, is_final: bool, now_ns: u64) -> Step {
        let term = self.group.term();
        let is_late = now_ns.saturating_sub(self.since_ns) > DRAIN_MAX_NS;
        let Some(peer) = self.group.peer(&self.to) else { return Step::Back };
        if self.is_told {
            // It ends its connection as the first thing that it does as the primary.
            return if !peer.is_connected() || is_late { Step::Done } else { Step::Wait };
        }
        if !is_final {
            return Step::Wait;
        }
        if self.elected && peer.has_all() {
            return Step::Done;
        }
        if !self.elected && peer.hand_over(term + 1) {
            (self.is_told, self.since_ns) = (true, now_ns);
        } else if is_late || !peer.is_connected() {
            return Step::Back;
        }
        Step::Wait
    }
}
