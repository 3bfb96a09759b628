//! The acknowledgement memory: one cell of the primary's, into which a standby's device writes its newest acknowledgement.
//!
//! | Word  | Meaning                                                                            |
//! |------:|------------------------------------------------------------------------------------|
//! |     0 | [`hash`] of the other seven                                                        |
//! | 1 – 7 | [`Message::to_words`] of a [`Message::Ack`]: no other message is taken from here   |
//!
//! **Why it proves itself.** Whoever polls memory that a device writes may count on nothing: the InfiniBand Architecture
//! Specification (volume 1, 9.5) lets an application look at what an RDMA WRITE brought only after a completion that tells of it,
//! of which there is none here, and promises no order within a message; PCI Express (base specification, 2.4) promises not even that
//! the two halves of an aligned 8-byte word become visible together; soft-RoCE copies byte by byte on some processors. So neither
//! an aligned word nor a version before and behind the others would do. A mixture of two acknowledgements, whatever of them it
//! consists of, passes with a chance of 1 in 2^64, and if it is wrong in one word only it never does, since each
//! step of the hash is a bijection. What does not pass is not there yet, and is looked at again in the next round.
//!
//! **What it does not prove.** A standby may write whatever it likes, with the right hash. That is no more than it can say by
//! the stream: [`Primary::take`](dataplane::replica::Primary::take) counts nothing of another session or beyond what was sent.

use super::LinkError;
use crate::rdma::{Access, Device, MemoryRegion, RemoteMemory};
use crate::region::{CELL_BYTES, RegionMapping};
use dataplane::cache::region::hash;
use dataplane::replica::Message;
use std::sync::Arc;

/// Words of a cell.
pub const WORDS: usize = CELL_BYTES / 8;

/// What one standby may write on one connection; dropping it takes the key back.
#[derive(Debug)]
pub struct AcknowledgementMemory {
    memory: MemoryRegion,
    /// Word 0 of the last one that was taken.
    taken: u64,
}

impl AcknowledgementMemory {
    pub fn new(device: &Arc<Device>) -> Result<AcknowledgementMemory, LinkError> {
        let mapping = Arc::new(RegionMapping::create_anonymous("acknowledgement", 1)?);
        let memory = MemoryRegion::register(device, &mapping, 0..CELL_BYTES, Access::RemoteWrite)?;
        Ok(AcknowledgementMemory { memory, taken: 0 })
    }

    pub fn remote(&self) -> RemoteMemory {
        self.memory.remote()
    }

    /// The newest acknowledgement, if it is another one than was taken last, and whole.
    #[inline]
    pub fn take(&mut self) -> Option<Message> {
        // In most rounds nothing has come, and one word tells.
        let first = self.memory.word(0);
        if first == self.taken {
            return None;
        }
        let words = std::array::from_fn(|index| if index == 0 { first } else { self.memory.word(index * 8) });
        let acknowledgement = from_words(words)?;
        self.taken = first;
        Some(acknowledgement)
    }
}

/// The cell that holds an acknowledgement.
pub fn to_words(acknowledgement: Message) -> [u64; WORDS] {
    let words = acknowledgement.to_words();
    let [a, b, c, d, e, f, g] = words;
    [hash(&words), a, b, c, d, e, f, g]
}

fn from_words(words: [u64; WORDS]) -> Option<Message> {
    let [first, words @ ..] = words;
    let message = Message::from_words(words).filter(|_| first == hash(&words))?;
    matches!(message, Message::Ack { .. }).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::replica::Refusal;
    use proptest::prelude::*;

    fn acknowledgement() -> impl Strategy<Value = Message> {
        // Alike, as those are that follow one another, and across a carry.
        (1..3_u64, prop::sample::select(vec![0, 255, 0xFFFF_FFFE, 1 << 40]), 0..4_u64, 0..1_000_000_000_u64)
            .prop_map(|(session, position, more, clock_ns)| Message::Ack {
                session,
                position: position + more,
                clock_ns,
                whole: more == 0,
            })
    }

    /// Each byte of one or the other, as `which` says.
    fn mixed(one: [u64; WORDS], other: [u64; WORDS], which: u64) -> [u64; WORDS] {
        std::array::from_fn(|word| {
            u64::from_le_bytes(std::array::from_fn(|byte| {
                let from = if which >> (word * 8 + byte) & 1 == 0 { one } else { other };
                from[word].to_le_bytes()[byte]
            }))
        })
    }

    proptest! {
        #[test]
        fn a_mixture_of_two_is_neither(one in acknowledgement(), other in acknowledgement(), which: u64) {
            let (first, second) = (to_words(one), to_words(other));
            prop_assert_eq!((from_words(first), from_words(second)), (Some(one), Some(other)));
            let mixed = mixed(first, second, which);
            match from_words(mixed) {
                Some(message) if message == one => prop_assert_eq!(mixed, first),
                Some(message) => prop_assert_eq!((mixed, message), (second, other)),
                None => prop_assert!(mixed != first && mixed != second),
            }
        }

        #[test]
        fn what_is_wrong_in_one_word_is_none(one in acknowledgement(), word in 0..WORDS, change in 1..u64::MAX) {
            let mut words = to_words(one);
            words[word] ^= change;
            prop_assert_eq!(from_words(words), None);
        }
    }

    #[test]
    fn nothing_else_is_an_acknowledgement() {
        assert_eq!(from_words([0; WORDS]), None, "nothing was written yet");
        let others = [
            Message::Hello { protocol: 1, layout: 2, heard: 3, log: 4, position: 5, node: 6 },
            Message::Refuse { refusal: Refusal::Term, term: 2 },
            Message::Link([1, 2, 3, 4, 5, 6]),
        ];
        for message in others {
            assert_eq!(from_words(to_words(message)), None, "{message:?}");
        }
    }
}
