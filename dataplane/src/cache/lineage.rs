//! The lineage: which log a region holds.

/// The present term, where it began, and the term that it grew out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub term: u64,
    /// Positions from here on are the term's own.
    pub start: u64,
    /// The term whose log below `start` this is; 0 = none.
    pub before: u64,
}

impl Lineage {
    /// The first term of a region that begins empty.
    pub fn first(term: u64) -> Lineage {
        Lineage { term, start: 0, before: 0 }
    }

    /// Whether the log below `position` of `term` is a beginning of this one. Proven as far as each term had one primary, which
    /// an election sees to.
    pub fn continues(&self, term: u64, position: u64) -> bool {
        term == self.term || (term != 0 && term == self.before && position <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_term_itself_and_what_it_grew_out_of_are_beginnings_of_it() {
        let lineage = Lineage { term: 5, start: 100, before: 3 };
        assert!(lineage.continues(5, 1_000) && lineage.continues(3, 100));
        assert!(!lineage.continues(3, 101) && !lineage.continues(4, 1) && !lineage.continues(6, 1));
        assert!(!Lineage::first(5).continues(0, 0), "no term is no beginning");
    }
}
