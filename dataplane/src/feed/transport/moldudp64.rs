//! MoldUDP64: numbered messages of a named session.

use super::{Packet, Transport};
use crate::wire::moldudp64::{self, PacketKind};

#[derive(Clone, Copy, Debug)]
pub struct Moldudp64;

impl Transport for Moldudp64 {
    const RESTARTS: bool = false;

    #[inline(always)]
    fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
        let packet = moldudp64::Packet::parse(datagram).ok()?;
        Some(Packet {
            session: *packet.session(),
            sequence: packet.sequence(),
            count: packet.message_count(),
            ends_session: packet.kind() == PacketKind::EndOfSession,
            blocks: packet.blocks(),
        })
    }

    #[inline(always)]
    fn is_whole(packet: &Packet<'_>) -> bool {
        moldudp64::validate(packet.sequence, packet.count, packet.blocks).is_ok()
    }

    #[inline(always)]
    fn split(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
        moldudp64::split_block(blocks)
    }
}
