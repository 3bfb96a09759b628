//! What a primary and a standby say to each other, besides ticks. A message is seven words, as long as a tick.

use crate::cache::lineage::Lineage;

/// Its first word on the wire is the number of its kind; words that a kind does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Standby: who I am, and what I have: `log` below `position` (0 = nothing of use). `heard` is the latest term
    /// that I know of, `layout` is [`Layout::hash`](crate::cache::region::Layout::hash), `node` is [`node_id`](super::node_id)
    /// of my name.
    Hello { protocol: u64, layout: u64, heard: u64, log: u64, position: u64, node: u64 },
    /// Standby: I have everything below `position`; my time is `clock_ns` (its own, and for its own use). `whole` = I know the
    /// feeds myself as well as your log does, so I could go on without a loss.
    Ack { session: u64, position: u64, clock_ns: u64, whole: bool },
    /// Primary: this is the log of `lineage`. Yours goes on at `from`: where you are, or with an image (`image`), before which
    /// you forget what you have. The session numbers the beginnings of one connection.
    Begin { session: u64, lineage: Lineage, from: u64, image: bool },
    /// Primary: those were all rows of the image; you are level at `at`.
    Level { session: u64, at: u64 },
    /// Primary: once you are at `tail`, you may be believed until `valid_for_ns` after `echo_ns`, the time of your last
    /// acknowledgement.
    Alive { session: u64, tail: u64, echo_ns: u64, valid_for_ns: u64 },
    /// Primary: you have all there is, up to `at`, and I have given up: be the primary of `term`.
    HandOver { session: u64, term: u64, at: u64 },
    /// Primary: you can't be a standby of mine.
    Refuse { refusal: Refusal, term: u64 },
    /// Either: what the two ends of a link have to tell each other, before all else. The state machines never see it.
    Link([u64; 6]),
}

/// Why a node is not taken as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it speaks another version of the protocol: run the same version of Tickplane on both nodes")]
    Protocol = 1,
    #[error(
        "its region has another layout: give both nodes the same [region] sizes, as many [[feeds]], and the same version \
         of Tickplane"
    )]
    Layout = 2,
    #[error("it has heard of a later term: the primary is no longer the primary")]
    Term = 3,
    #[error(
        "its name is not among the primary's peers: add it there, in [replica] peers or by `tickplane peer add`"
    )]
    Stranger = 4,
}

impl Refusal {
    fn from_word(word: u64) -> Option<Refusal> {
        [Refusal::Protocol, Refusal::Layout, Refusal::Term, Refusal::Stranger]
            .into_iter()
            .find(|refusal| *refusal as u64 == word)
    }
}

impl Message {
    pub fn to_words(self) -> [u64; 7] {
        match self {
            Message::Hello { protocol, layout, heard, log, position, node } => {
                [1, protocol, layout, heard, log, position, node]
            }
            Message::Ack { session, position, clock_ns, whole } => {
                [2, session, position, clock_ns, whole.into(), 0, 0]
            }
            Message::Begin { session, lineage: Lineage { term, log, start, before }, from, image } => {
                [if image { 9 } else { 3 }, session, term, log, start, before, from]
            }
            Message::Level { session, at } => [4, session, at, 0, 0, 0, 0],
            Message::Alive { session, tail, echo_ns, valid_for_ns } => {
                [5, session, tail, echo_ns, valid_for_ns, 0, 0]
            }
            Message::Refuse { refusal, term } => [6, refusal as u64, term, 0, 0, 0, 0],
            Message::Link([a, b, c, d, e, f]) => [7, a, b, c, d, e, f],
            Message::HandOver { session, term, at } => [8, session, term, at, 0, 0, 0],
        }
    }

    /// `None` = no message of this version.
    pub fn from_words(words: [u64; 7]) -> Option<Message> {
        Some(match words {
            [1, protocol, layout, heard, log, position, node] => {
                Message::Hello { protocol, layout, heard, log, position, node }
            }
            [2, session, position, clock_ns, whole @ 0..=1, 0, 0] => {
                Message::Ack { session, position, clock_ns, whole: whole == 1 }
            }
            [kind @ (3 | 9), session, term, log, start, before, from] => {
                let lineage = Lineage { term, log, start, before };
                Message::Begin { session, lineage, from, image: kind == 9 }
            }
            [4, session, at, 0, 0, 0, 0] => Message::Level { session, at },
            [5, session, tail, echo_ns, valid_for_ns, 0, 0] => {
                Message::Alive { session, tail, echo_ns, valid_for_ns }
            }
            [6, refusal, term, 0, 0, 0, 0] => Message::Refuse { refusal: Refusal::from_word(refusal)?, term },
            [7, a, b, c, d, e, f] => Message::Link([a, b, c, d, e, f]),
            [8, session, term, at, 0, 0, 0] => Message::HandOver { session, term, at },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_that_are_a_message_come_back(
            kind in 0..10_u64, words in prop::array::uniform6(prop::sample::select(vec![0, 0, 1, 2, 3, u64::MAX])),
        ) {
            let [a, b, c, d, e, f] = words;
            let words = [kind, a, b, c, d, e, f];
            if let Some(message) = Message::from_words(words) {
                prop_assert_eq!(message.to_words(), words);
            }
        }
    }

    #[test]
    fn every_kind_comes_back() {
        let messages = [
            Message::Hello { protocol: 1, layout: 2, heard: 3, log: 4, position: 5, node: 6 },
            Message::Ack { session: 1, position: 2, clock_ns: 3, whole: false },
            Message::Ack { session: 1, position: 2, clock_ns: 3, whole: true },
            Message::Begin { session: 1, lineage: Lineage::first(2, 7), from: 3, image: true },
            Message::Begin { session: 1, lineage: Lineage::after(1, 4, 2, 7), from: 3, image: false },
            Message::Level { session: 1, at: 2 },
            Message::Alive { session: 1, tail: 2, echo_ns: 3, valid_for_ns: 4 },
            Message::Refuse { refusal: Refusal::Protocol, term: 2 },
            Message::Refuse { refusal: Refusal::Layout, term: 2 },
            Message::Refuse { refusal: Refusal::Term, term: 2 },
            Message::Refuse { refusal: Refusal::Stranger, term: 2 },
            Message::HandOver { session: 1, term: 2, at: 3 },
            Message::Link([1, 2, 3, 4, 5, 6]),
        ];
        for message in messages {
            assert_eq!(Message::from_words(message.to_words()), Some(message));
        }
    }
}
