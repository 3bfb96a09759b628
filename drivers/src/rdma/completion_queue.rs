//! The completion queue: what became of the work that was posted.

use super::{Device, RdmaError, Status};
use rdma_sys as sys;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Completions that are taken from the device at a time.
const BATCH: usize = 16;

/// One piece of work, done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The number that it was posted with.
    pub work: u64,
    /// The number of our queue pair.
    pub queue_pair: u32,
    pub result: Result<Completed, Status>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// A write, and all that were posted before it on the same queue pair. The peer's device has it; its processor may not see it
    /// yet.
    Write,
    /// A peer's write with an immediate: its bytes, and those of all its earlier writes, are in our memory.
    Immediate { immediate: u32, bytes: u32 },
    /// Something that was not asked for.
    Other,
}

/// The queue as queue pairs hold on to it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) queue: NonNull<sys::ibv_cq>,
    pub(super) device: Arc<Device>,
}

// SAFETY: verbs may be called by any thread; the pointer is the queue's own until it is dropped.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: its queue pairs held an `Arc` of it, and so are gone.
        unsafe { sys::ibv_destroy_cq(self.queue.as_ptr()) };
    }
}

/// Polled by its owner, filled by any number of queue pairs.
pub struct CompletionQueue {
    queue: Arc<Queue>,
    batch: Box<[sys::ibv_wc; BATCH]>,
    /// Of the batch: the next to be given out, and how many there are.
    next: usize,
    filled: usize,
}

// SAFETY: the batch is plain data.
unsafe impl Send for CompletionQueue {}

impl std::fmt::Debug for CompletionQueue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CompletionQueue").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl CompletionQueue {
    /// For so many completions that were not polled yet: all that its queue pairs can have under way, writes and receives, or
    /// it overflows, and they break.
    pub fn new(device: &Arc<Device>, completions: u32) -> Result<CompletionQueue, RdmaError> {
        let completions = i32::try_from(completions).unwrap_or(i32::MAX);
        // SAFETY: the context is open; no channel and no context pointer are asked for.
        let queue = unsafe {
            sys::ibv_create_cq(device.context.as_ptr(), completions, ptr::null_mut(), ptr::null_mut(), 0)
        };
        let queue = NonNull::new(queue).ok_or_else(|| device.failed("making a completion queue"))?;
        // SAFETY: all-zero completions are valid values of that plain struct.
        let batch = Box::new(unsafe { std::mem::zeroed() });
        Ok(CompletionQueue {
            queue: Arc::new(Queue { queue, device: device.clone() }),
            batch,
            next: 0,
            filled: 0,
        })
    }

    /// The next completion, if there is one.
    #[inline]
    pub fn poll(&mut self) -> Result<Option<Completion>, RdmaError> {
        if self.next == self.filled {
            self.next = 0;
            // SAFETY: there is room for as many as are asked for.
            let filled =
                unsafe { sys::ibv_poll_cq(self.queue.queue.as_ptr(), BATCH as i32, self.batch.as_mut_ptr()) };
            self.filled = filled.max(0) as usize;
            if filled < 0 {
                return Err(RdmaError::CompletionQueue { device: self.queue.device.name().into() });
            }
            if filled == 0 {
                return Ok(None);
            }
            // What the device wrote before a completion is not to be read before it.
            fence(Ordering::Acquire);
        }
        let completion = read(&self.batch[self.next]);
        self.next += 1;
        Ok(Some(completion))
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

fn read(entry: &sys::ibv_wc) -> Completion {
    // Of one that failed, the kind of work is not told.
    let result = match (Status::of(entry.status), entry.opcode) {
        (Some(status), _) => Err(status),
        (None, sys::ibv_wc_opcode::IBV_WC_RDMA_WRITE) => Ok(Completed::Write),
        (None, sys::ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM) => {
            // SAFETY: either field is 32 bits for which every value is valid.
            let immediate = u32::from_be(unsafe { entry.imm_data_invalidated_rkey_union.imm_data });
            Ok(Completed::Immediate { immediate, bytes: entry.byte_len })
        }
        (None, _) => Ok(Completed::Other),
    };
    Completion { work: entry.wr_id, queue_pair: entry.qp_num, result }
}
