//! The feeds and their lines over the last seconds: which line is first, and by how much.

use crate::proto::{Feed, FeedsListResponse, Line};
use dataplane::limits::{FEEDS_MAX, LINES_MAX};
use std::collections::VecDeque;

/// Polls that are compared: one a second.
const POLLS_MAX: usize = 11;

#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Oldest first.
    polls: VecDeque<FeedsListResponse>,
}

/// How a line did against the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Race {
    /// Part of the feed's packets that this line brought first, 0 to 1.
    pub won: Option<f64>,
    /// By how much they were ahead of the same packets on other lines, on average, in ns.
    pub lead_ns: Option<u64>,
    /// Packets lacking on the line, since the start.
    pub gaps: u64,
}

impl Lines {
    pub fn take(&mut self, mut response: FeedsListResponse) {
        response.feeds.truncate(FEEDS_MAX);
        response.feeds.iter_mut().for_each(|feed| feed.lines.truncate(LINES_MAX));
        // Counters that went back are another process's.
        let packets = |response: &FeedsListResponse| -> Vec<u64> {
            response.feeds.iter().flat_map(|feed| &feed.lines).map(|line| line.packets).collect()
        };
        let (now, before) = (packets(&response), self.polls.back().map(packets).unwrap_or_default());
        if now.len() != before.len() || now.iter().zip(&before).any(|(now, before)| now < before) {
            self.polls.clear();
        }
        if self.polls.len() == POLLS_MAX {
            self.polls.pop_front();
        }
        self.polls.push_back(response);
    }

    /// The feeds as they were told last.
    pub fn feeds(&self) -> &[Feed] {
        self.polls.back().map_or(&[], |response| &response.feeds)
    }

    /// How the lines of a feed did lately, in their order.
    pub fn races(&self, feed: usize) -> Vec<Race> {
        let lines_of = |response: Option<&FeedsListResponse>| -> Vec<Line> {
            response
                .and_then(|response| response.feeds.get(feed))
                .map(|feed| feed.lines.clone())
                .unwrap_or_default()
        };
        let now = lines_of(self.polls.back());
        // Of the only poll there is, the counts since the node's start are taken.
        let before = if self.polls.len() > 1 { lines_of(self.polls.front()) } else { Vec::new() };
        let grown = |index: usize, name: &str| {
            let count = |lines: &[Line]| lines.get(index).and_then(|line| line.counters.get(name)).copied();
            count(&now).unwrap_or(0).saturating_sub(count(&before).unwrap_or(0))
        };
        let won_by_all: u64 = (0..now.len()).map(|index| grown(index, "won")).sum();
        let race = |(index, line): (usize, &Line)| {
            let samples = grown(index, "lead_samples");
            Race {
                won: (won_by_all > 0).then(|| grown(index, "won") as f64 / won_by_all as f64),
                lead_ns: grown(index, "lead_ns").checked_div(samples),
                gaps: line.gaps,
            }
        };
        now.iter().enumerate().map(race).collect()
    }
}
