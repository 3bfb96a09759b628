//! What is around the messages: a packet's header, and each message's size and SBE header.

use super::Mdp3Error;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const PACKET_HEADER_BYTES: usize = size_of::<PacketHeader>();
pub const MESSAGE_HEADER_BYTES: usize = size_of::<MessageHeader>();

/// The binary packet header.
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 4 | `sequence` | the packet's number on its channel |
/// | 4 | 8 | `sending_time` | ns of Unix UTC |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PacketHeader {
    pub sequence: U32,
    pub sending_time: U64,
}

const _: () = assert!(PACKET_HEADER_BYTES == 12);

/// The size field and the SBE message header.
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 2 | `size` | bytes of the message with this field |
/// | 2 | 2 | `block_length` | bytes of the root block |
/// | 4 | 2 | `template_id` | which message it is |
/// | 6 | 2 | `schema_id` | 1 |
/// | 8 | 2 | `version` | of the schema |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MessageHeader {
    pub size: U16,
    pub block_length: U16,
    pub template_id: U16,
    pub schema_id: U16,
    pub version: U16,
}

const _: () = assert!(MESSAGE_HEADER_BYTES == 10);

impl MessageHeader {
    /// The header, and the bytes of its message behind it.
    #[inline(always)]
    pub(super) fn split(message: &[u8]) -> Result<(&MessageHeader, &[u8]), Mdp3Error> {
        MessageHeader::ref_from_prefix(message).map_err(|_| bad_size(message))
    }
}

/// A packet, in place.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub header: &'a PacketHeader,
    /// All messages, each with its size in front.
    pub messages: &'a [u8],
}

impl<'a> Packet<'a> {
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, Mdp3Error> {
        let (header, messages) =
            PacketHeader::ref_from_prefix(datagram).map_err(|_| Mdp3Error::PacketHeader)?;
        Ok(Packet { header, messages })
    }

    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages::new(self.messages)
    }
}

/// The messages of a packet, in order. A size that can't be is the last item.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages of what is behind a packet's header.
    #[inline(always)]
    pub fn new(messages: &'a [u8]) -> Messages<'a> {
        Messages { rest: messages }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<&'a [u8], Mdp3Error>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let size = self.rest.first_chunk().map_or(0, |size| usize::from(u16::from_le_bytes(*size)));
        if size < MESSAGE_HEADER_BYTES || size > self.rest.len() {
            return Some(Err(bad_size(std::mem::take(&mut self.rest))));
        }
        let (message, rest) = self.rest.split_at(size);
        self.rest = rest;
        Some(Ok(message))
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

#[cold]
fn bad_size(rest: &[u8]) -> Mdp3Error {
    let size = rest.first_chunk().map_or(0, |size| u16::from_le_bytes(*size));
    Mdp3Error::MessageSize { size, left: rest.len() }
}
