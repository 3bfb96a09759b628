//! The groups that a host is a member of, each with the sources that it wants and its timer.

use super::{HostError, NEVER_NS};
use crate::port::Membership;
use crate::wire::ipv4::Address;
use std::net::Ipv4Addr;

/// Sources of pending queries that are remembered for each group; beyond, the answer is about all of them.
pub(super) const ASKED_MAX: usize = 32;

/// One group. In the terms of RFC 3376: EXCLUDE {} if it has no sources, else INCLUDE {sources}.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) group: Ipv4Addr,
    /// Ascending; empty = any source is wanted.
    pub(super) sources: Vec<Address>,
    /// When a query for this group is answered.
    pub(super) answer_ns: u64,
    /// The sources that the query named; empty = it was about the whole group.
    asked: [Address; ASKED_MAX],
    asked_count: usize,
}

/// The groups, ascending.
#[derive(Debug)]
pub(super) struct Groups(Vec<Group>);

impl Groups {
    pub(super) fn new(memberships: &[Membership]) -> Result<Self, HostError> {
        let mut sorted = memberships.to_vec();
        // Any source sorts before one source.
        sorted.sort();
        sorted.dedup();
        let mut groups: Vec<Group> = Vec::with_capacity(sorted.len());
        for Membership { group, source } in sorted {
            // All hosts are members of 224.0.0.1 and never say so (RFC 3376 §6).
            if !group.is_multicast() || group <= Ipv4Addr::new(224, 0, 0, 1) {
                return Err(HostError::NotMulticast { group });
            }
            if groups.last().is_none_or(|last| last.group != group) {
                groups.push(Group::new(group));
                if source.is_none() {
                    continue;
                }
            } else if groups.last().is_some_and(|last| last.sources.is_empty()) {
                continue;
            }
            let Some(source) = source else { continue };
            if source.is_unspecified() || source.is_multicast() || source.is_broadcast() {
                return Err(HostError::NotUnicast { source });
            }
            groups.last_mut().expect("the group was just pushed").sources.push(source.into());
        }
        Ok(Groups(groups))
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Group> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Group> {
        self.0.iter_mut()
    }

    pub(super) fn get_mut(&mut self, group: Ipv4Addr) -> Option<&mut Group> {
        let index = self.0.binary_search_by_key(&group, |known| known.group).ok()?;
        Some(&mut self.0[index])
    }

    pub(super) fn cancel_answers(&mut self) {
        for group in &mut self.0 {
            group.cancel_answer();
        }
    }
}

impl Group {
    fn new(group: Ipv4Addr) -> Self {
        Group {
            group,
            sources: Vec::new(),
            answer_ns: NEVER_NS,
            asked: [Address([0; 4]); ASKED_MAX],
            asked_count: 0,
        }
    }

    pub(super) fn wants_any_source(&self) -> bool {
        self.sources.is_empty()
    }

    /// The sources that pending queries named; empty = the whole group.
    pub(super) fn asked(&self) -> &[Address] {
        &self.asked[..self.asked_count]
    }

    pub(super) fn cancel_answer(&mut self) {
        self.answer_ns = NEVER_NS;
        self.asked_count = 0;
    }

    /// Merges a query for this group, to be answered at `answer_ns`, with what is pending (RFC 3376 §5.2, rules 3
    /// to 5).
    pub(super) fn ask(&mut self, sources: &[Address], answer_ns: u64) {
        let is_pending = self.answer_ns != NEVER_NS;
        let is_whole = sources.is_empty() || (is_pending && self.asked_count == 0);
        self.answer_ns = self.answer_ns.min(answer_ns);
        if is_whole {
            self.asked_count = 0;
            return;
        }
        for source in sources {
            if self.asked().contains(source) {
                continue;
            }
            if self.asked_count == ASKED_MAX {
                self.asked_count = 0;
                return;
            }
            self.asked[self.asked_count] = *source;
            self.asked_count += 1;
        }
    }
}
