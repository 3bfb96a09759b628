//! UDP headers (RFC 768). All integers are big-endian.

use crate::wire::checksum::Sum;
use crate::wire::ipv4::{Address, PROTOCOL_UDP};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest payload of one IPv4 packet.
pub const PAYLOAD_BYTES_MAX: usize = 65_535 - 20 - 8;

/// Datagram header.
///
/// | offset | bytes | field              | meaning                                                     |
/// |-------:|------:|--------------------|-------------------------------------------------------------|
/// |      0 |     2 | `source_port`      | sender's port                                               |
/// |      2 |     2 | `destination_port` | receiver's port                                             |
/// |      4 |     2 | `length`           | bytes of header and payload, ≥ 8                            |
/// |      6 |     2 | `checksum`         | over addresses, protocol, header and payload; 0 = none made |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub source_port: U16,
    pub destination_port: U16,
    pub length: U16,
    pub checksum: U16,
}

const _: () = assert!(size_of::<Header>() == 8);

impl Header {
    /// Writes the checksum over the pseudo header, this header and `payload`.
    pub fn seal(&mut self, source: Address, destination: Address, payload: &[u8]) {
        self.checksum = 0.into();
        let sum = Sum::default()
            .with(source.as_bytes())
            .with(destination.as_bytes())
            .with_u16(PROTOCOL_UDP.into())
            .with_u16(self.length.get())
            .with(self.as_bytes())
            .with(payload)
            .checksum();
        // 0 would say that there is none; its other form in one's complement says the same sum.
        self.checksum = if sum == 0 { 0xFFFF } else { sum }.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_read_back_from_its_bytes(bytes: [u8; 8], payload: Vec<u8>) {
            let mut header = Header::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(header.as_bytes(), &bytes);
            prop_assert_eq!(header.destination_port.get(), u16::from_be_bytes([bytes[2], bytes[3]]));
            prop_assert_eq!(header.length.get(), u16::from_be_bytes([bytes[4], bytes[5]]));
            header.seal(Address([10, 0, 0, 1]), Address([239, 1, 2, 3]), &payload);
            prop_assert!(header.checksum.get() != 0);
            let pseudo = [10, 0, 0, 1, 239, 1, 2, 3, 0, 17, bytes[4], bytes[5]];
            prop_assert!(Sum::default().with(&pseudo).with(header.as_bytes()).with(&payload).is_intact());
        }
    }
}
