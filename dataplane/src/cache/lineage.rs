//! The lineage: which log a region holds.

use super::region::hash;

/// The present term, its log, where that began, and the log that it grew out of.
///
/// A log is known by a number of its own, since a term's number can come again: when all nodes of a group have lost what they wrote
/// down of terms, or two standbys were made primaries of one term by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub term: u64,
    /// The term's log; never 0.
    pub log: u64,
    /// Positions from here on are the term's own.
    pub start: u64,
    /// The log whose beginning below `start` this is; 0 = none.
    pub before: u64,
}

impl Lineage {
    /// The first term of a region that begins empty, and is of `generation`.
    pub fn first(term: u64, generation: u64) -> Lineage {
        Lineage { term, log: log(term, generation), start: 0, before: 0 }
    }

    /// A later term, whose log goes on at `start` of the log `before`, in a region of `generation`.
    pub fn after(before: u64, start: u64, term: u64, generation: u64) -> Lineage {
        Lineage { term, log: log(term, generation), start, before }
    }

    /// Whether `log` below `position` is a beginning of this one.
    pub fn continues(&self, log: u64, position: u64) -> bool {
        log == self.log || (log != 0 && log == self.before && position <= self.start)
    }
}

/// No two regions have the same generation, and a region has each term once.
fn log(term: u64, generation: u64) -> u64 {
    hash(&[term, generation]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_log_itself_and_what_it_grew_out_of_are_beginnings_of_it() {
        let first = Lineage::first(3, 1);
        let lineage = Lineage::after(first.log, 100, 5, 2);
        assert!(lineage.continues(lineage.log, 1_000) && lineage.continues(first.log, 100));
        assert!(!lineage.continues(first.log, 101) && !lineage.continues(5, 1) && !lineage.continues(3, 1));
        assert!(!first.continues(0, 0), "no log is no beginning");
    }

    #[test]
    fn a_term_that_comes_again_has_another_log() {
        let first = Lineage::first(3, 1);
        assert!(!Lineage::first(3, 2).continues(first.log, 1), "of a region that began anew");
        let [one, other] = [7, 8].map(|generation| Lineage::after(first.log, 100, 4, generation));
        assert!(!one.continues(other.log, 100) && one.continues(first.log, 100));
    }
}
