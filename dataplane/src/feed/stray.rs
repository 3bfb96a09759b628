//! The stray: one packet that does not belong to what is being followed, until another one confirms it.
//!
//! A new session, a jump far ahead, or a session that began again under its old name: each would throw away
//! what the feed has, so no single packet can bring it about.

use super::transport::SESSION_BYTES;

/// Messages within which packets belong together: one further ahead waits for a second one.
pub(super) const JUMP_MESSAGES: u64 = 1 << 20;

/// Messages that a line has announced before its beginning again at 1 can be a new session: fewer may be a repetition.
pub(super) const RESTART_MESSAGES: u64 = 1_024;

/// The memory of one packet.
#[derive(Debug)]
pub(super) struct Stray {
    packet: Option<StrayPacket>,
    /// Of the packet in `memory`; `None` = it was too long to be kept, and its messages are a hole.
    bytes: Option<usize>,
    memory: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct StrayPacket {
    pub session: [u8; SESSION_BYTES],
    pub sequence: u64,
    pub next: u64,
    pub ends_session: bool,
    pub line: usize,
    pub received_ns: u64,
}

impl Stray {
    pub fn new(slot_bytes: usize) -> Stray {
        Stray { packet: None, bytes: None, memory: vec![0; slot_bytes].into() }
    }

    pub fn is_none(&self) -> bool {
        self.packet.is_none()
    }

    pub fn keep(&mut self, packet: StrayPacket, blocks: &[u8]) {
        self.packet = Some(packet);
        self.bytes = self.memory.get_mut(..blocks.len()).map(|memory| {
            memory.copy_from_slice(blocks);
            blocks.len()
        });
    }

    /// A packet near the stray's, on another line or not the same again (a heartbeat may be). `front` is the number that
    /// comes next in that session, if it is the one that is followed, else 0.
    pub fn is_confirmed_by(
        &self,
        line: usize,
        session: &[u8; SESSION_BYTES],
        sequence: u64,
        next: u64,
        front: u64,
    ) -> bool {
        self.packet.is_some_and(|stray| {
            // A session that begins again is confirmed by its beginning, not by what goes on at the front, or repeats it.
            let continues = sequence < front && sequence <= stray.next + RESTART_MESSAGES / 2;
            let begins = stray.sequence >= front || sequence <= stray.next || continues;
            stray.session == *session
                && stray.sequence.abs_diff(sequence) <= JUMP_MESSAGES
                && (stray.line != line || stray.sequence != sequence || sequence == next)
                && begins
        })
    }

    /// The stray's line went on as before.
    pub fn forget(&mut self, line: usize) {
        self.packet = self.packet.filter(|stray| stray.line != line);
    }

    pub fn clear(&mut self) {
        self.packet = None;
    }

    /// The packet, and the bytes of its blocks in the memory, which [`Stray::put_back`] wants again.
    pub fn take(&mut self) -> Option<(StrayPacket, Option<usize>, Box<[u8]>)> {
        let packet = self.packet.take()?;
        Some((packet, self.bytes, std::mem::take(&mut self.memory)))
    }

    pub fn put_back(&mut self, memory: Box<[u8]>) {
        self.memory = memory;
    }
}
