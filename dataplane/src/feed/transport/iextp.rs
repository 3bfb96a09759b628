//! IEX-TP: numbered messages of a numbered session.

use super::{Packet, Transport};
use crate::wire::iextp::{self, PROTOCOL_TOPS, Segment};
use zerocopy::transmute;

/// The segments of TOPS. A session's name is its stream: protocol, channel and session as they stand in the header.
#[derive(Clone, Copy, Debug)]
pub struct IexTp;

impl Transport for IexTp {
    const RESTARTS: bool = true;

    #[inline(always)]
    fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
        let segment = Segment::parse(datagram).ok()?;
        let stream = segment.header().stream;
        if stream.protocol.get() != PROTOCOL_TOPS {
            return None;
        }
        Some(Packet {
            session: transmute!(stream),
            sequence: segment.sequence(),
            count: segment.message_count(),
            ends_session: false,
            blocks: segment.blocks(),
        })
    }

    #[inline(always)]
    fn is_whole(packet: &Packet<'_>) -> bool {
        iextp::validate(packet.sequence, packet.count, packet.blocks).is_ok()
    }

    #[inline(always)]
    fn split(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
        iextp::split_block(blocks)
    }
}
