//! IEX-TP: numbered messages of a session, packed into UDP datagrams (IEX Transport Specification, "Outbound
//! Segment"). All integers are little-endian.
//!
//! A segment is the [`Header`] and then `message_count` blocks, each a u16 length and that many bytes. The messages of
//! a segment have the numbers `first_sequence`, `first_sequence + 1`, …; a session's first is 1. Lines A and B carry
//! the same messages in the same order, but not always cut into the same segments.
//!
//! A segment without messages is a heartbeat, about one a second while there is nothing else. The transport knows no
//! end of a session.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The only version that there is.
pub const VERSION: u8 = 1;
/// [`Stream::protocol`] of TOPS, version 1.5 and later.
pub const PROTOCOL_TOPS: u16 = 0x8003;
/// [`Stream::protocol`] of DEEP, version 1.0 and later.
pub const PROTOCOL_DEEP: u16 = 0x8004;
/// The length in front of each message.
pub const BLOCK_LENGTH_BYTES: usize = size_of::<U16>();
/// The names of a stream together, as they stand in the header.
pub const STREAM_BYTES: usize = size_of::<Stream>();

/// Whose messages are numbered together.
///
/// | offset | bytes | field      | meaning                                                              |
/// |-------:|------:|------------|----------------------------------------------------------------------|
/// |      0 |     2 | `protocol` | what the messages are: [`PROTOCOL_TOPS`], [`PROTOCOL_DEEP`]          |
/// |      2 |     4 | `channel`  | the part of the market                                               |
/// |      6 |     4 | `session`  | a new one each day                                                   |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Stream {
    pub protocol: U16,
    pub channel: U32,
    pub session: U32,
}

const _: () = assert!(size_of::<Stream>() == 10);

/// Segment header.
///
/// | offset | bytes | field            | meaning                                                       |
/// |-------:|------:|------------------|---------------------------------------------------------------|
/// |      0 |     1 | `version`        | [`VERSION`]                                                   |
/// |      1 |     1 | `reserved`       | 0                                                             |
/// |      2 |    10 | `stream`         | protocol, channel and session                                 |
/// |     12 |     2 | `payload_length` | bytes behind the header                                       |
/// |     14 |     2 | `message_count`  | blocks that follow; 0 = heartbeat                             |
/// |     16 |     8 | `stream_offset`  | bytes of all payloads of the session before this one          |
/// |     24 |     8 | `first_sequence` | the number of the first message; of a heartbeat: of the next  |
/// |     32 |     8 | `send_time`      | ns of Unix UTC                                                |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub version: u8,
    pub reserved: u8,
    pub stream: Stream,
    pub payload_length: U16,
    pub message_count: U16,
    pub stream_offset: I64,
    /// Signed in the specification; what does not fit there is [`Malformed::SequenceOverflow`].
    pub first_sequence: U64,
    pub send_time: I64,
}

const _: () = assert!(size_of::<Header>() == 40);

/// Why a datagram is not an IEX-TP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the header.
    Header,
    /// Another version.
    Version(u8),
    /// Not as many bytes behind the header as it announced.
    PayloadLength,
    /// A block's length, or its bytes, reach beyond the end of the datagram.
    BlockTruncated,
    /// Bytes behind the last block that the header announced.
    TrailingBytes,
    /// The numbers of the segment's messages do not fit into 63 bits.
    SequenceOverflow,
}

/// A segment, in place.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    header: &'a Header,
    blocks: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Takes a datagram's header; the blocks are checked by [`validate`].
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Segment<'a>, Malformed> {
        let (header, blocks) = Header::ref_from_prefix(datagram).map_err(|_| Malformed::Header)?;
        if header.version != VERSION {
            return Err(Malformed::Version(header.version));
        }
        if blocks.len() != usize::from(header.payload_length.get()) {
            return Err(Malformed::PayloadLength);
        }
        Ok(Segment { header, blocks })
    }

    #[inline]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    /// The number of the first message; of the next one to come, if the segment has no messages.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.header.first_sequence.get()
    }

    #[inline]
    pub fn message_count(&self) -> u16 {
        self.header.message_count.get()
    }

    /// Everything behind the header.
    #[inline]
    pub fn blocks(&self) -> &'a [u8] {
        self.blocks
    }

    /// The messages, in order; they may be empty. Of a segment that [`validate`] refuses, those before the first
    /// broken block.
    #[inline]
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.blocks;
        (0..self.message_count()).map_while(move |_| {
            let (message, behind) = split_block(rest)?;
            rest = behind;
            Some(message)
        })
    }
}

/// Walks the blocks' lengths: exactly the announced number of them fills the datagram exactly.
#[inline]
pub fn validate(sequence: u64, message_count: u16, blocks: &[u8]) -> Result<(), Malformed> {
    let next = sequence.checked_add(u64::from(message_count));
    if next.is_none_or(|next| next > i64::MAX as u64) {
        return Err(Malformed::SequenceOverflow);
    }
    let mut rest = blocks;
    for _ in 0..message_count {
        rest = split_block(rest).ok_or(Malformed::BlockTruncated)?.1;
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
}

/// The first block's message and what is behind it.
#[inline(always)]
pub fn split_block(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blocks.split_first_chunk::<BLOCK_LENGTH_BYTES>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(first_sequence: u64, message_count: u16, blocks: &[&[u8]]) -> Vec<u8> {
        let payload: Vec<u8> =
            blocks.iter().flat_map(|block| [&(block.len() as u16).to_le_bytes(), *block].concat()).collect();
        let header = Header {
            version: VERSION,
            reserved: 0,
            stream: Stream {
                protocol: U16::new(PROTOCOL_TOPS),
                channel: U32::new(1),
                session: U32::new(1_137_508_352),
            },
            payload_length: U16::new(payload.len() as u16),
            message_count: U16::new(message_count),
            stream_offset: I64::new(0x0102_0304_0506_0708),
            first_sequence: U64::new(first_sequence),
            send_time: I64::new(1_499_697_138_426_334_905),
        };
        [header.as_bytes(), &payload].concat()
    }

    fn check(datagram: &[u8]) -> Result<(), Malformed> {
        let segment = Segment::parse(datagram)?;
        validate(segment.sequence(), segment.message_count(), segment.blocks())
    }

    #[test]
    fn header_lies_on_the_wire_as_specified() {
        let bytes = segment(0x1112_1314_1516_1718, 0x0A0B, &[b"abc"]);
        assert_eq!(&bytes[..4], &[1, 0, 0x03, 0x80]);
        assert_eq!(&bytes[4..12], &[1, 0, 0, 0, 0x00, 0x00, 0xcd, 0x43]);
        assert_eq!(&bytes[12..16], &[5, 0, 0x0B, 0x0A]);
        assert_eq!(&bytes[16..24], &[8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(&bytes[24..32], &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        assert_eq!(&bytes[32..40], &1_499_697_138_426_334_905_u64.to_le_bytes());
        assert_eq!(&bytes[40..], b"\x03\0abc");
    }

    #[test]
    fn a_heartbeat_has_no_messages() {
        let bytes = segment(9, 0, &[]);
        let heartbeat = Segment::parse(&bytes).unwrap();
        assert_eq!((heartbeat.sequence(), heartbeat.message_count()), (9, 0));
        assert_eq!((check(&bytes), heartbeat.messages().count()), (Ok(()), 0));
    }

    #[test]
    fn framing_that_does_not_fit_exactly_is_malformed() {
        let with_length = |blocks: &[&[u8]], count, length: u16| {
            let mut bytes = segment(1, count, blocks);
            bytes[12..14].copy_from_slice(&length.to_le_bytes());
            bytes
        };
        assert_eq!(check(&segment(1, 2, &[b"abc", b""])), Ok(()));
        assert_eq!(check(&segment(1, 3, &[b"abc", b""])), Err(Malformed::BlockTruncated));
        assert_eq!(check(&segment(1, 1, &[b"abc", b"d"])), Err(Malformed::TrailingBytes));
        assert_eq!(check(&segment(1, 0, &[b"abc"])), Err(Malformed::TrailingBytes));
        assert_eq!(check(&with_length(&[b"abc"], 1, 4)), Err(Malformed::PayloadLength));
        assert_eq!(check(&with_length(&[b"abc"], 1, 6)), Err(Malformed::PayloadLength));
        assert_eq!(check(&segment(i64::MAX as u64, 1, &[b"abc"])), Err(Malformed::SequenceOverflow));
        assert_eq!(check(&segment(u64::MAX, 1, &[b"abc"])), Err(Malformed::SequenceOverflow));
        let mut other = segment(1, 0, &[]);
        other[0] = 2;
        assert_eq!(check(&other), Err(Malformed::Version(2)));
    }

    #[test]
    fn every_prefix_of_a_segment_is_malformed() {
        let bytes = segment(1, 3, &[b"abc", b"", b"defg"]);
        assert_eq!(check(&bytes), Ok(()));
        for length in 0..bytes.len() {
            let expected = if length < 40 { Malformed::Header } else { Malformed::PayloadLength };
            assert_eq!(check(&bytes[..length]), Err(expected), "{length}");
            // The same with a length that was made to fit.
            if length >= 40 {
                let mut cut = bytes[..length].to_vec();
                cut[12..14].copy_from_slice(&(length as u16 - 40).to_le_bytes());
                assert_eq!(check(&cut), Err(Malformed::BlockTruncated), "{length}");
                assert!(Segment::parse(&cut).unwrap().messages().count() < 3);
            }
        }
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were_packed(
            sequence in 0..i64::MAX as u64 - 65_536,
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40),
        ) {
            let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let bytes = segment(sequence, messages.len() as u16, &slices);
            let segment = Segment::parse(&bytes).unwrap();
            prop_assert_eq!(check(&bytes), Ok(()));
            prop_assert_eq!(segment.messages().collect::<Vec<_>>(), slices);
            prop_assert_eq!(segment.sequence(), sequence);
        }

        #[test]
        fn any_bytes_are_a_segment_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..160), count in 0..6u16) {
            let mut bytes = bytes;
            let length = bytes.len();
            if length >= 40 {
                bytes[0] = VERSION;
                bytes[12..14].copy_from_slice(&(length as u16 - 40).to_le_bytes());
                bytes[14..16].copy_from_slice(&count.to_le_bytes());
                bytes[31] = 0;
            }
            if let Ok(segment) = Segment::parse(&bytes) {
                let seen = segment.messages().count();
                prop_assert!(seen <= usize::from(count));
                if check(&bytes).is_ok() {
                    prop_assert_eq!(seen, usize::from(count));
                }
            }
        }
    }
}
