//! MoldUDP64: numbered messages of a session, packed into UDP datagrams (MoldUDP64 Protocol
//! Specification V 1.00, Nasdaq). All integers are big-endian.
//!
//! A downstream packet is the [`Header`] and then `message_count` blocks, each a u16 length and that many
//! bytes. The messages of a packet have the numbers `sequence`, `sequence + 1`, …; a session's first is 1.
//!
//! What is behind the last announced block makes the packet malformed: Ethernet's padding is cut off by the
//! UDP length, so nobody but a broken sender (or another protocol) puts bytes there.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A session's name: left-justified ASCII, padded with blanks.
pub const SESSION_BYTES: usize = 10;
/// `message_count` of a packet without messages; its `sequence` is that of the next message.
pub const HEARTBEAT: u16 = 0;
/// `message_count` of the packets that end a session; `sequence` is one above that of the last message.
pub const END_OF_SESSION: u16 = 0xFFFF;
/// The length in front of each message.
pub const BLOCK_LENGTH_BYTES: usize = size_of::<U16>();

/// Downstream packet header.
///
/// | offset | bytes | field           | meaning                                                         |
/// |-------:|------:|-----------------|-----------------------------------------------------------------|
/// |      0 |    10 | `session`       | the session to which the packet belongs                         |
/// |     10 |     8 | `sequence`      | the number of the packet's first message                        |
/// |     18 |     2 | `message_count` | blocks that follow; 0 = heartbeat, 0xFFFF = end of session       |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub session: [u8; SESSION_BYTES],
    pub sequence: U64,
    pub message_count: U16,
}

const _: () = assert!(size_of::<Header>() == 20);

/// Request packet: asks a re-request server for messages again; answered by downstream packets, unicast.
///
/// | offset | bytes | field           | meaning                                                         |
/// |-------:|------:|-----------------|-----------------------------------------------------------------|
/// |      0 |    10 | `session`       | the session whose messages are wanted                           |
/// |     10 |     8 | `sequence`      | the first message wanted                                        |
/// |     18 |     2 | `message_count` | how many are wanted; the answer is what fits into one packet     |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Request {
    pub session: [u8; SESSION_BYTES],
    pub sequence: U64,
    pub message_count: U16,
}

const _: () = assert!(size_of::<Request>() == 20);

/// Why a datagram is not a MoldUDP64 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the header.
    Header,
    /// A block's length, or its bytes, reach beyond the end of the datagram.
    BlockTruncated,
    /// Bytes behind the last block that the header announced.
    TrailingBytes,
    /// The numbers of the packet's messages do not fit into 64 bits.
    SequenceOverflow,
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Heartbeat,
    Messages,
    EndOfSession,
}

/// A downstream packet, in place.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a Header,
    blocks: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram's header; the blocks are checked by [`Packet::validate`].
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let (header, blocks) = Header::ref_from_prefix(datagram).map_err(|_| Malformed::Header)?;
        Ok(Packet { header, blocks })
    }

    #[inline]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    #[inline]
    pub fn session(&self) -> &'a [u8; SESSION_BYTES] {
        &self.header.session
    }

    /// The number of the first message; of the next one to come, if the packet has no messages.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.header.sequence.get()
    }

    #[inline]
    pub fn kind(&self) -> PacketKind {
        match self.header.message_count.get() {
            HEARTBEAT => PacketKind::Heartbeat,
            END_OF_SESSION => PacketKind::EndOfSession,
            _ => PacketKind::Messages,
        }
    }

    /// How many messages the header announces; 0 for a heartbeat and for the end of a session.
    #[inline]
    pub fn message_count(&self) -> u16 {
        match self.header.message_count.get() {
            END_OF_SESSION => 0,
            count => count,
        }
    }

    /// Everything behind the header.
    #[inline]
    pub fn blocks(&self) -> &'a [u8] {
        self.blocks
    }

    /// The number of the message that follows this packet's last one.
    #[inline]
    pub fn sequence_next(&self) -> u64 {
        self.sequence().wrapping_add(u64::from(self.message_count()))
    }

    /// Walks the blocks' lengths: exactly the announced number of them fills the datagram exactly.
    #[inline]
    pub fn validate(&self) -> Result<(), Malformed> {
        validate(self.sequence(), self.message_count(), self.blocks)
    }

    /// The messages. Of a packet that [`Packet::validate`] refuses, those before the first broken block.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages::new(self.message_count(), self.blocks)
    }
}

/// The messages of a packet, in order; they may be empty.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    remaining: u16,
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The first `count` messages of `blocks`.
    #[inline]
    pub fn new(count: u16, blocks: &'a [u8]) -> Messages<'a> {
        Messages { remaining: count, rest: blocks }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.remaining == 0 {
            return None;
        }
        let Some((message, rest)) = split_block(self.rest) else {
            self.remaining = 0;
            return None;
        };
        self.remaining -= 1;
        self.rest = rest;
        Some(message)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.remaining)))
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

/// Whether `blocks` are exactly the messages `sequence`, `sequence + 1`, … that a header announces.
#[inline(always)]
pub fn validate(sequence: u64, message_count: u16, blocks: &[u8]) -> Result<(), Malformed> {
    if sequence.checked_add(u64::from(message_count)).is_none() {
        return Err(Malformed::SequenceOverflow);
    }
    let mut rest = blocks;
    for _ in 0..message_count {
        rest = split_block(rest).ok_or(Malformed::BlockTruncated)?.1;
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
}

/// The first block's message and what is behind it; the same framing as in Nasdaq's files of ITCH messages.
#[inline(always)]
pub fn split_block(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blocks.split_first_chunk::<BLOCK_LENGTH_BYTES>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(sequence: u64, message_count: u16, blocks: &[&[u8]]) -> Vec<u8> {
        let header = Header {
            session: *b"SESSION001",
            sequence: U64::new(sequence),
            message_count: U16::new(message_count),
        };
        let mut bytes = header.as_bytes().to_vec();
        for block in blocks {
            bytes.extend_from_slice(&(block.len() as u16).to_be_bytes());
            bytes.extend_from_slice(block);
        }
        bytes
    }

    #[test]
    fn header_lies_on_the_wire_as_specified() {
        let bytes = datagram(0x0102_0304_0506_0708, 0x0A0B, &[]);
        assert_eq!(&bytes[..10], b"SESSION001");
        assert_eq!(&bytes[10..], &[1, 2, 3, 4, 5, 6, 7, 8, 0x0A, 0x0B]);
    }

    #[test]
    fn packets_without_messages_are_told_apart() {
        for (count, kind) in [(HEARTBEAT, PacketKind::Heartbeat), (END_OF_SESSION, PacketKind::EndOfSession)]
        {
            let bytes = datagram(9, count, &[]);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.kind(), kind);
            assert_eq!(packet.validate(), Ok(()));
            assert_eq!((packet.message_count(), packet.sequence_next()), (0, 9));
            assert_eq!(packet.messages().count(), 0);
        }
    }

    #[test]
    fn framing_that_does_not_fit_exactly_is_malformed() {
        let validate = |bytes: &[u8]| Packet::parse(bytes).and_then(|packet| packet.validate());
        let good = datagram(1, 2, &[b"abc", b""]);
        assert_eq!(validate(&good), Ok(()));
        assert_eq!(validate(&good[..19]), Err(Malformed::Header));
        assert_eq!(validate(&good[..good.len() - 1]), Err(Malformed::BlockTruncated));
        assert_eq!(validate(&good[..24]), Err(Malformed::BlockTruncated));
        assert_eq!(validate(&datagram(1, 1, &[b"abc", b"d"])), Err(Malformed::TrailingBytes));
        assert_eq!(validate(&datagram(1, HEARTBEAT, &[b"abc"])), Err(Malformed::TrailingBytes));
        assert_eq!(validate(&datagram(1, END_OF_SESSION, &[b"abc"])), Err(Malformed::TrailingBytes));
        assert_eq!(validate(&datagram(u64::MAX, 1, &[b"abc"])), Err(Malformed::SequenceOverflow));
    }

    #[test]
    fn a_broken_block_ends_the_messages() {
        let mut bytes = datagram(1, 3, &[b"abc", b"de"]);
        bytes.extend_from_slice(&[0, 9, b'x']);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.messages().collect::<Vec<_>>(), [&b"abc"[..], b"de"]);
        assert_eq!(packet.validate(), Err(Malformed::BlockTruncated));
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were_packed(
            sequence in 0..u64::MAX - 65_536,
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40),
        ) {
            let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let bytes = datagram(sequence, messages.len() as u16, &slices);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.validate(), Ok(()));
            prop_assert_eq!(packet.messages().collect::<Vec<_>>(), slices);
            prop_assert_eq!(packet.sequence_next(), sequence + messages.len() as u64);
        }

        #[test]
        fn any_bytes_are_a_packet_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..120), count in 0..6u16) {
            let mut bytes = bytes;
            if let Some(field) = bytes.get_mut(18..20) {
                field.copy_from_slice(&count.to_be_bytes());
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                let seen = packet.messages().count();
                prop_assert!(seen <= usize::from(count));
                if packet.validate().is_ok() {
                    prop_assert_eq!(seen, usize::from(count));
                }
            }
        }
    }
}
