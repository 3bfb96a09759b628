//! Ethernet II headers (IEEE 802.3) and VLAN tags (IEEE 802.1Q). All integers are big-endian.

use std::fmt;
use std::net::Ipv4Addr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Ethertypes (IEEE's registry). What is below 0x0600 in their place is a length: a frame that is not IP.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// A customer's tag, or the only one.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// A provider's tag, in front of a customer's (802.1ad).
pub const ETHERTYPE_VLAN_PROVIDER: u16 = 0x88A8;

/// A frame without its check sequence is at least that long; shorter contents are padded.
pub const FRAME_BYTES_MIN: usize = 60;
/// Tags that a frame may have here.
pub const VLAN_TAGS_MAX: usize = 2;

/// An interface's address. The lowest bit of the first byte marks a group's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    pub const BROADCAST: MacAddress = MacAddress([0xFF; 6]);

    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where frames for a multicast group go: 01:00:5e and the group's lower 23 bits (RFC 1112 §6.4), so 32
/// groups share each address.
pub fn multicast_mac(group: Ipv4Addr) -> MacAddress {
    let [_, b, c, d] = group.octets();
    MacAddress([0x01, 0x00, 0x5E, b & 0x7F, c, d])
}

/// Frame header.
///
/// | offset | bytes | field         | meaning                                              |
/// |-------:|------:|---------------|------------------------------------------------------|
/// |      0 |     6 | `destination` | an interface's, a group's or everyone's address      |
/// |      6 |     6 | `source`      | the sender's address                                 |
/// |     12 |     2 | `ethertype`   | what follows: a protocol, or a VLAN tag's other half |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub destination: MacAddress,
    pub source: MacAddress,
    pub ethertype: U16,
}

const _: () = assert!(size_of::<Header>() == 14);

/// What follows an ethertype that announces a tag. (The standard counts that ethertype to the tag; seen
/// from the front, each tag is these four bytes behind it.)
///
/// | offset | bytes | field       | meaning                                                              |
/// |-------:|------:|-------------|----------------------------------------------------------------------|
/// |      0 |     2 | `control`   | priority (3 bits), drop eligible (1), VLAN id (12; 0 = priority only) |
/// |      2 |     2 | `ethertype` | what follows                                                         |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VlanTag {
    pub control: U16,
    pub ethertype: U16,
}

const _: () = assert!(size_of::<VlanTag>() == 4);

impl VlanTag {
    /// The VLAN's id; `None` for a tag that tells a priority alone.
    #[inline]
    pub fn id(&self) -> Option<u16> {
        match self.control.get() & 0x0FFF {
            0 => None,
            id => Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_map_to_their_lower_23_bits() {
        let mac = |a, b, c, d| multicast_mac(Ipv4Addr::new(a, b, c, d)).to_string();
        assert_eq!(mac(233, 54, 12, 111), "01:00:5e:36:0c:6f");
        assert_eq!(mac(239, 255, 255, 255), "01:00:5e:7f:ff:ff");
        assert_eq!(mac(224, 128, 0, 1), mac(224, 0, 0, 1));
        assert!(multicast_mac(Ipv4Addr::new(224, 0, 0, 1)).is_multicast());
    }

    proptest! {
        #[test]
        fn headers_are_read_back_from_their_bytes(
            destination: [u8; 6], source: [u8; 6], ethertype: u16, control: u16, behind: Vec<u8>,
        ) {
            let header = Header {
                destination: MacAddress(destination),
                source: MacAddress(source),
                ethertype: ethertype.into(),
            };
            let tag = VlanTag { control: control.into(), ethertype: ethertype.into() };
            let bytes = [header.as_bytes(), tag.as_bytes(), &behind].concat();
            let (read, rest) = Header::ref_from_prefix(&bytes).unwrap();
            prop_assert_eq!(read, &header);
            prop_assert_eq!(&bytes[12..14], &ethertype.to_be_bytes());
            let (read, rest) = VlanTag::ref_from_prefix(rest).unwrap();
            prop_assert_eq!(read, &tag);
            prop_assert_eq!(read.id().unwrap_or(0), control & 0xFFF);
            prop_assert_eq!(rest, &behind[..]);
        }
    }
}
