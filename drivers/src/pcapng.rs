//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng).
//!
//! | offset | bytes | meaning                                            |
//! |-------:|------:|----------------------------------------------------|
//! |      0 |     4 | block type                                         |
//! |      4 |     4 | total length, a multiple of 4                      |
//! |      8 |     … | body, padded to a multiple of 4                    |
//! |      … |     4 | total length once more                             |

use crate::pcap::{Damage, Order, Packet, Piece, check_link_type};
use dataplane::time::NS_PER_S;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET_OBSOLETE: u32 = 2;
const PACKET_SIMPLE: u32 = 3;
const PACKET_ENHANCED: u32 = 6;

/// Options of an interface description: the unit of its stamps, and seconds to add to them.
const OPTION_END: u16 = 0;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// Type, length and length again.
const BLOCK_BYTES_MIN: usize = 12;
const BODY_OFFSET: usize = 8;
/// Interfaces of one section.
const INTERFACES_MAX: usize = 1024;

/// A section: its byte order and its interfaces, which the packets refer to.
#[derive(Debug)]
pub(crate) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    snap_bytes: usize,
    /// Stamps count `ns_numerator / ns_denominator` ns each, from `offset_s` on.
    ns_numerator: u64,
    ns_denominator: u64,
    offset_s: i64,
}

impl Section {
    pub(crate) fn recognises(front: &[u8]) -> bool {
        front.starts_with(&SECTION_HEADER.to_be_bytes())
    }

    /// Before its first block, which is a section header.
    pub(crate) fn new() -> Self {
        Section { order: Order::Little, interfaces: Vec::with_capacity(4) }
    }

    /// Reads the block at the front of `bytes`. A section header or an interface description is also taken in
    /// here, so each of them must be read once, which is so because they come whole or not at all.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Result<Piece, Damage> {
        if bytes.len() < BLOCK_BYTES_MIN {
            return Ok(Piece::Incomplete(BLOCK_BYTES_MIN));
        }
        // The section header's type reads the same in both orders; its body begins with the order's magic.
        let is_header = Section::recognises(bytes);
        let order = if is_header { byte_order(&bytes[BODY_OFFSET..])? } else { self.order };
        let length = order.u32(bytes, 4) as usize;
        if length < BLOCK_BYTES_MIN || !length.is_multiple_of(4) {
            return Err(Damage::Bytes("a block's length is none that a block can have"));
        }
        if bytes.len() < length {
            return Ok(Piece::Incomplete(length));
        }
        if order.u32(bytes, length - 4) as usize != length {
            return Err(Damage::Bytes("the two lengths of a block differ"));
        }
        if is_header {
            self.order = order;
            self.interfaces.clear();
            return Ok(Piece::Other(length));
        }
        let body = &bytes[BODY_OFFSET..length - 4];
        let packet = match order.u32(bytes, 0) {
            INTERFACE_DESCRIPTION => {
                self.add_interface(body)?;
                return Ok(Piece::Other(length));
            }
            PACKET_ENHANCED | PACKET_OBSOLETE if body.len() < 20 => None,
            PACKET_ENHANCED => self.packet(body, order.u32(body, 0)),
            PACKET_OBSOLETE => self.packet(body, order.u16(body, 0).into()),
            PACKET_SIMPLE if body.len() < 4 => None,
            PACKET_SIMPLE => self.simple_packet(body),
            _ => return Ok(Piece::Other(length)),
        };
        let packet = packet.ok_or(Damage::Bytes("its block is shorter than it says, or of no interface"))?;
        Ok(Piece::Packet(Packet { piece_bytes: length, ..packet }))
    }

    /// | offset | bytes | interface description                     |
    /// |-------:|------:|-------------------------------------------|
    /// |      0 |     2 | link type                                 |
    /// |      2 |     2 | reserved                                  |
    /// |      4 |     4 | snap length, 0 = none                     |
    /// |      8 |     … | options: u16 code, u16 length, value, padding |
    fn add_interface(&mut self, body: &[u8]) -> Result<(), Damage> {
        if body.len() < 8 {
            return Err(Damage::Bytes("an interface's block is too short"));
        }
        check_link_type(self.order.u16(body, 0).into())?;
        if self.interfaces.len() == INTERFACES_MAX {
            return Err(Damage::Bytes("its section has more than 1024 interfaces"));
        }
        let snap_bytes = match self.order.u32(body, 4) {
            0 => usize::MAX,
            bytes => bytes as usize,
        };
        let mut interface = Interface { snap_bytes, ns_numerator: 1_000, ns_denominator: 1, offset_s: 0 };
        let mut options = &body[8..];
        while options.len() >= 4 {
            let (code, length) = (self.order.u16(options, 0), usize::from(self.order.u16(options, 2)));
            let Some(value) = options.get(4..4 + length) else { break };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_RESOLUTION, [resolution]) => interface.set_resolution(*resolution)?,
                (OPTION_OFFSET, [_, _, _, _, _, _, _, _]) => {
                    let halves = [self.order.u32(value, 0), self.order.u32(value, 4)].map(u64::from);
                    let [high, low] = match self.order {
                        Order::Big => halves,
                        Order::Little => [halves[1], halves[0]],
                    };
                    interface.offset_s = (high << 32 | low).cast_signed();
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or(&[]);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// | offset | bytes | enhanced packet                                       |
    /// |-------:|------:|-------------------------------------------------------|
    /// |      0 |     4 | interface (in the obsolete block: 2, then 2 of drops) |
    /// |      4 |     8 | stamp, its upper half first                           |
    /// |     12 |     4 | bytes captured                                        |
    /// |     16 |     4 | bytes on the wire                                     |
    /// |     20 |     … | the packet, padding, options                          |
    fn packet(&self, body: &[u8], interface: u32) -> Option<Packet> {
        let interface = self.interfaces.get(interface as usize)?;
        let word = |index: usize| u64::from(self.order.u32(body, index * 4));
        let data_bytes = word(3) as usize;
        if data_bytes > body.len() - 20 {
            return None;
        }
        let stamp_ns = interface.stamp_ns(word(1) << 32 | word(2));
        Some(Packet { data_offset: BODY_OFFSET + 20, data_bytes, piece_bytes: 0, stamp_ns })
    }

    /// | offset | bytes | simple packet, of the section's first interface |
    /// |-------:|------:|-------------------------------------------------|
    /// |      0 |     4 | bytes on the wire                               |
    /// |      4 |     … | the packet, cut at the snap length; padding     |
    fn simple_packet(&self, body: &[u8]) -> Option<Packet> {
        let interface = self.interfaces.first()?;
        let data_bytes = (self.order.u32(body, 0) as usize).min(interface.snap_bytes);
        if data_bytes > body.len() - 4 {
            return None;
        }
        Some(Packet { data_offset: BODY_OFFSET + 4, data_bytes, piece_bytes: 0, stamp_ns: 0 })
    }
}

impl Interface {
    /// The upper bit tells whether the other bits are a negative power of 2 or of 10 s.
    fn set_resolution(&mut self, resolution: u8) -> Result<(), Damage> {
        let exponent = u32::from(resolution & 0x7F);
        let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
        let per_s =
            base.checked_pow(exponent).ok_or(Damage::Bytes("the resolution of its stamps is too fine"))?;
        (self.ns_numerator, self.ns_denominator) = (NS_PER_S, per_s);
        Ok(())
    }

    /// In ns of Unix UTC; 0 (no stamp) if it lies outside of what 64 bits hold.
    fn stamp_ns(&self, count: u64) -> u64 {
        let since_offset_ns =
            u128::from(count) * u128::from(self.ns_numerator) / u128::from(self.ns_denominator);
        let offset_ns = i128::from(self.offset_s) * i128::from(NS_PER_S);
        (since_offset_ns as i128).checked_add(offset_ns).and_then(|ns| ns.try_into().ok()).unwrap_or(0)
    }
}

fn byte_order(magic: &[u8]) -> Result<Order, Damage> {
    match magic.first_chunk() {
        Some([0x1A, 0x2B, 0x3C, 0x4D]) => Ok(Order::Big),
        Some([0x4D, 0x3C, 0x2B, 0x1A]) => Ok(Order::Little),
        _ => Err(Damage::Bytes("a section's header has no byte order")),
    }
}
