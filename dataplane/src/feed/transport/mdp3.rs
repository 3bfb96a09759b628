//! MDP 3.0: the packets of a channel are numbered, and begin again at 1 each week; there is no session's name.

use super::{Packet, SESSION_BYTES, Transport};
use crate::wire::mdp3;

#[derive(Clone, Copy, Debug)]
pub struct Mdp3;

impl Transport for Mdp3 {
    const RESTARTS: bool = true;

    #[inline(always)]
    fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
        let packet = mdp3::Packet::parse(datagram).ok()?;
        Some(Packet {
            session: [0; SESSION_BYTES],
            sequence: packet.header.sequence.get().into(),
            count: 1,
            ends_session: false,
            blocks: packet.messages,
        })
    }

    /// The sizes of the messages lead exactly to the packet's end.
    #[inline(always)]
    fn is_whole(packet: &Packet<'_>) -> bool {
        mdp3::Messages::new(packet.blocks).all(|message| message.is_ok())
    }

    /// A packet is not cut.
    #[inline(always)]
    fn split(blocks: &[u8]) -> Option<(&[u8], &[u8])> {
        Some((blocks, &[]))
    }
}
