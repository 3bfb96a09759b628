//! Writes into a peer's memory, and chains of them that the device is told of at once.

use super::{MemoryRegion, RemoteMemory};
use rdma_sys as sys;
use std::io;
use std::ptr;

/// Writes that can be posted at once.
pub const WRITES_PER_POST_MAX: usize = 16;

const WORD_BYTES: usize = 8;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub enum Source<'m> {
    /// Bytes of registered memory, whole words of 8. So few that they are sent inline are read now, as atomic words; more are
    /// read by the device, any time until the write is complete.
    Memory { region: &'m MemoryRegion, offset: usize, bytes: usize },
    /// Words that are read now and sent inline, little-endian on a little-endian machine. A peer that polls one of them sees
    /// the old one or the new.
    Words(&'m [u64]),
}

/// One RDMA WRITE.
#[derive(Clone, Copy, Debug)]
pub struct Write<'m> {
    pub source: Source<'m>,
    pub to: RemoteMemory,
    /// Bytes from the start of the peer's memory.
    pub offset: usize,
    /// Announces the write, and all before it, by a completion at the peer, which takes one receive there.
    pub immediate: Option<u32>,
    /// The number in its completion.
    pub work: u64,
    /// Whether it has a completion if it succeeds. Its place in the queue is free again once it, or a later one of the queue pair,
    /// has had one that was polled; so some of them must.
    pub signalled: bool,
}

/// Why not all of the writes were posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("{writes} writes at once: at most {WRITES_PER_POST_MAX}")]
    TooMany { writes: usize },
    #[error(
        "write {index}: not whole words of 8 bytes within both memories, or longer than the device can send"
    )]
    Bounds { index: usize },
    #[error("the queue is full after {posted}: poll completions first, and see that some are signalled")]
    Full { posted: usize },
    #[error("refused after {posted}: {cause}: is the queue pair connected?", cause = io::Error::from_raw_os_error(*errno))]
    Refused { posted: usize, errno: i32 },
}

/// Room for the requests of one post, linked.
pub(super) struct Chain {
    requests: Box<[sys::ibv_send_wr]>,
    /// The one piece of local memory of each.
    pieces: Box<[sys::ibv_sge]>,
    /// What is sent inline, so many words for each.
    words: Box<[u64]>,
    inline_bytes: usize,
    message_bytes_max: u32,
}

// SAFETY: the pointers in it are set and used within one call.
unsafe impl Send for Chain {}

impl Chain {
    pub fn new(inline_bytes: usize, message_bytes_max: u32) -> Chain {
        // SAFETY: all-zero requests are valid values of that plain struct.
        let request = || unsafe { std::mem::zeroed() };
        Chain {
            requests: (0..WRITES_PER_POST_MAX).map(|_| request()).collect(),
            pieces: vec![sys::ibv_sge { addr: 0, length: 0, lkey: 0 }; WRITES_PER_POST_MAX].into(),
            words: vec![0; WRITES_PER_POST_MAX * inline_bytes.div_ceil(WORD_BYTES)].into(),
            inline_bytes,
            message_bytes_max,
        }
    }

    /// Tells the device of all writes at once. Those before one that fails are posted all the same.
    ///
    /// # Safety
    /// The queue pair must be alive, and take `inline_bytes` inline.
    pub unsafe fn post(&mut self, pair: *mut sys::ibv_qp, writes: &[Write<'_>]) -> Result<(), PostError> {
        if writes.len() > WRITES_PER_POST_MAX {
            return Err(PostError::TooMany { writes: writes.len() });
        }
        if let Some(index) = writes.iter().position(|write| !self.is_possible(write)) {
            return Err(PostError::Bounds { index });
        }
        let Some(last) = writes.len().checked_sub(1) else { return Ok(()) };
        for (index, write) in writes.iter().enumerate() {
            self.fill(index, write);
        }
        let first = self.requests.as_mut_ptr();
        for index in 0..=last {
            // SAFETY: both are within the requests, of which there are more than `last`.
            unsafe {
                (*first.add(index)).next = if index == last { ptr::null_mut() } else { first.add(index + 1) }
            };
        }
        let mut failed = ptr::null_mut();
        // SAFETY: the queue pair is alive (caller). The requests are linked up to a null; what they point to, pieces and words,
        // lives through the call, and the device is done with them by then: inline words are copied. Memory that it reads later
        // it finds by a key, which holds only while that is registered.
        let result = unsafe { sys::ibv_post_send(pair, first, &mut failed) };
        if result == 0 {
            return Ok(());
        }
        let posted = (failed as usize).saturating_sub(first as usize) / size_of::<sys::ibv_send_wr>();
        // Some drivers return it negated.
        Err(match result.abs() {
            libc::ENOMEM => PostError::Full { posted },
            errno => PostError::Refused { posted, errno },
        })
    }

    fn is_possible(&self, write: &Write<'_>) -> bool {
        let fits = |offset: usize, bytes: usize, whole: u64| {
            offset.is_multiple_of(WORD_BYTES)
                && bytes.is_multiple_of(WORD_BYTES)
                && offset.checked_add(bytes).is_some_and(|end| end as u64 <= whole)
        };
        let bytes = match write.source {
            Source::Words(words) if size_of_val(words) > self.inline_bytes => return false,
            Source::Words(words) => size_of_val(words),
            Source::Memory { region, offset, bytes } => {
                if !fits(offset, bytes, region.bytes() as u64)
                    || bytes as u64 > u64::from(self.message_bytes_max)
                {
                    return false;
                }
                bytes
            }
        };
        fits(write.offset, bytes, write.to.bytes)
    }

    fn fill(&mut self, index: usize, write: &Write<'_>) {
        let mut flags = 0;
        let piece = match write.source {
            Source::Words(words) => {
                flags |= sys::ibv_send_flags::IBV_SEND_INLINE.0;
                self.inline(index, words.iter().copied())
            }
            Source::Memory { region, offset, bytes } if bytes <= self.inline_bytes => {
                flags |= sys::ibv_send_flags::IBV_SEND_INLINE.0;
                self.inline(index, (offset..offset + bytes).step_by(WORD_BYTES).map(|at| region.word(at)))
            }
            Source::Memory { region, offset, bytes } => {
                sys::ibv_sge { addr: region.address(offset), length: bytes as u32, lkey: region.local_key() }
            }
        };
        if write.signalled {
            flags |= sys::ibv_send_flags::IBV_SEND_SIGNALED.0;
        }
        let request = &mut self.requests[index];
        request.wr_id = write.work;
        request.num_sge = i32::from(piece.length != 0);
        self.pieces[index] = piece;
        request.sg_list = &raw mut self.pieces[index];
        request.send_flags = flags;
        request.opcode = sys::ibv_wr_opcode::IBV_WR_RDMA_WRITE;
        if let Some(immediate) = write.immediate {
            request.opcode = sys::ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM;
            request.imm_data_invalidated_rkey_union.imm_data = immediate.to_be();
        }
        request.wr.rdma = sys::rdma_t {
            remote_addr: write.to.address.wrapping_add(write.offset as u64),
            rkey: write.to.key,
        };
    }

    /// Keeps words of a request until it is posted.
    fn inline(&mut self, index: usize, words: impl Iterator<Item = u64>) -> sys::ibv_sge {
        let each = self.words.len() / WRITES_PER_POST_MAX;
        let room = &mut self.words[index * each..][..each];
        let mut length = 0;
        for (place, word) in room.iter_mut().zip(words) {
            *place = word;
            length += WORD_BYTES as u32;
        }
        sys::ibv_sge { addr: room.as_ptr() as u64, length, lkey: 0 }
    }
}
