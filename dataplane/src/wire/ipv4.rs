//! IPv4 headers (RFC 791). All integers are big-endian.

use crate::wire::checksum;
use std::net::Ipv4Addr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Protocol numbers (IANA).
pub const PROTOCOL_IGMP: u8 = 2;
pub const PROTOCOL_UDP: u8 = 17;

/// Version 4 and a header of five words: no options.
pub const VERSION_IHL_PLAIN: u8 = 0x45;
pub const DONT_FRAGMENT: u16 = 0x4000;
pub const MORE_FRAGMENTS: u16 = 0x2000;
pub const FRAGMENT_OFFSET_MASK: u16 = 0x1FFF;
/// The option by which every router on the way looks at the packet (RFC 2113): kind 148, length 4, value 0.
pub const ROUTER_ALERT: [u8; 4] = [0x94, 0x04, 0x00, 0x00];

/// An address as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Address(pub [u8; 4]);

impl From<Ipv4Addr> for Address {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Address(address.octets())
    }
}

impl From<Address> for Ipv4Addr {
    #[inline]
    fn from(address: Address) -> Self {
        Ipv4Addr::from(address.0)
    }
}

/// Packet header; options, if any, follow.
///
/// | offset | bytes | field            | meaning                                                           |
/// |-------:|------:|------------------|-------------------------------------------------------------------|
/// |      0 |     1 | `version_ihl`    | version (4 bits, 4), header's length in 32-bit words (4 bits, ≥ 5) |
/// |      1 |     1 | `service`        | DSCP and ECN (RFC 2474, RFC 3168)                                 |
/// |      2 |     2 | `total_length`   | bytes of header and payload                                       |
/// |      4 |     2 | `identification` | common to the fragments of a packet                               |
/// |      6 |     2 | `fragment`       | reserved, don't fragment, more fragments, offset in 8 bytes (13 bits) |
/// |      8 |     1 | `hops_left`      | time to live                                                      |
/// |      9 |     1 | `protocol`       | what the payload is                                               |
/// |     10 |     2 | `checksum`       | over the header with its options                                  |
/// |     12 |     4 | `source`         | sender                                                            |
/// |     16 |     4 | `destination`    | receiver or group                                                 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub version_ihl: u8,
    pub service: u8,
    pub total_length: U16,
    pub identification: U16,
    pub fragment: U16,
    pub hops_left: u8,
    pub protocol: u8,
    pub checksum: U16,
    pub source: Address,
    pub destination: Address,
}

const _: () = assert!(size_of::<Header>() == 20);

impl Header {
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes of the header with its options, 0 … 60; below 20 it is malformed.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.version_ihl & 0x0F) * 4
    }

    /// Whether the packet is a piece of a larger one.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK) != 0
    }

    /// Writes the checksum of this header and `options`.
    pub fn seal(&mut self, options: &[u8]) {
        self.checksum = 0.into();
        self.checksum = checksum::Sum::default().with(self.as_bytes()).with(options).checksum().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_read_back_from_its_bytes(bytes: [u8; 20], options: [u8; 4]) {
            let mut header = Header::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(header.as_bytes(), &bytes);
            prop_assert_eq!(header.version(), bytes[0] >> 4);
            prop_assert_eq!(header.total_length.get(), u16::from_be_bytes([bytes[2], bytes[3]]));
            prop_assert_eq!(header.is_fragment(), bytes[6] & 0x3F != 0 || bytes[7] != 0);
            prop_assert_eq!(Ipv4Addr::from(header.source).octets(), &bytes[12..16]);
            prop_assert_eq!(Address::from(Ipv4Addr::from(header.destination)), header.destination);
            header.seal(&options);
            prop_assert!(checksum::is_intact(&[header.as_bytes(), &options].concat()));
        }
    }
}
