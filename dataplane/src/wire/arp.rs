//! ARP for IPv4 over Ethernet (RFC 826). All integers are big-endian.

use crate::wire::ethernet::{ETHERTYPE_IPV4, MacAddress};
use crate::wire::ipv4::Address;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const OPERATION_REQUEST: u16 = 1;
pub const OPERATION_REPLY: u16 = 2;
const HARDWARE_ETHERNET: u16 = 1;

/// Packet.
///
/// | offset | bytes | field              | meaning                                           |
/// |-------:|------:|--------------------|---------------------------------------------------|
/// |      0 |     2 | `hardware`         | kind of hardware address, 1 = Ethernet            |
/// |      2 |     2 | `protocol`         | ethertype of the protocol address, 0x0800         |
/// |      4 |     1 | `hardware_bytes`   | 6                                                 |
/// |      5 |     1 | `protocol_bytes`   | 4                                                 |
/// |      6 |     2 | `operation`        | 1 = request, 2 = reply                            |
/// |      8 |     6 | `sender_mac`       | sender's hardware address                         |
/// |     14 |     4 | `sender`           | sender's IPv4 address; 0.0.0.0 in a probe         |
/// |     18 |     6 | `target_mac`       | 0 in a request                                    |
/// |     24 |     4 | `target`           | the address asked for                             |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Packet {
    pub hardware: U16,
    pub protocol: U16,
    pub hardware_bytes: u8,
    pub protocol_bytes: u8,
    pub operation: U16,
    pub sender_mac: MacAddress,
    pub sender: Address,
    pub target_mac: MacAddress,
    pub target: Address,
}

const _: () = assert!(size_of::<Packet>() == 28);

impl Packet {
    pub fn new(
        operation: u16,
        (sender_mac, sender): (MacAddress, Address),
        (target_mac, target): (MacAddress, Address),
    ) -> Self {
        Packet {
            hardware: HARDWARE_ETHERNET.into(),
            protocol: ETHERTYPE_IPV4.into(),
            hardware_bytes: 6,
            protocol_bytes: 4,
            operation: operation.into(),
            sender_mac,
            sender,
            target_mac,
            target,
        }
    }

    /// The packet at the front of `bytes`, if it is one for IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Option<&Packet> {
        let (packet, _padding) = Packet::ref_from_prefix(bytes).ok()?;
        let is_ours = packet.hardware.get() == HARDWARE_ETHERNET
            && packet.protocol.get() == ETHERTYPE_IPV4
            && packet.hardware_bytes == 6
            && packet.protocol_bytes == 4;
        is_ours.then_some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_packet_is_read_back_from_its_bytes(
            operation: u16, macs: [[u8; 6]; 2], addresses: [[u8; 4]; 2], padding: Vec<u8>,
        ) {
            let [sender, target] = [0, 1].map(|side| (MacAddress(macs[side]), Address(addresses[side])));
            let packet = Packet::new(operation, sender, target);
            let bytes = [packet.as_bytes(), &padding].concat();
            prop_assert_eq!(Packet::parse(&bytes), Some(&packet));
            prop_assert_eq!(&bytes[6..8], &operation.to_be_bytes());
            prop_assert_eq!(&bytes[24..28], &addresses[1]);
            prop_assert_eq!(Packet::parse(&bytes[..27]), None);
        }

        #[test]
        fn other_hardware_and_any_bytes_are_none_or_a_packet(mut bytes: [u8; 28], field in 0..6usize) {
            let _ = Packet::parse(&bytes);
            bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
            prop_assert!(Packet::parse(&bytes).is_some());
            bytes[field] ^= 0x10;
            prop_assert!(Packet::parse(&bytes).is_none());
        }
    }
}
