//! Memory that a device may touch: a range of a region's bytes, pinned, with keys.

use super::{Device, RdmaError};
use crate::region::RegionMapping;
use rdma_sys as sys;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What peers may do with registered memory. Our own queue pairs may write from any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Local,
    RemoteRead,
    /// Write; not read. The processor must leave the same bytes alone meanwhile, or see both in any order.
    RemoteWrite,
}

/// Registered memory, as its owner tells it to those who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMemory {
    /// In the owner's address space.
    pub address: u64,
    pub bytes: u64,
    /// Whoever has it and a queue pair of the same device can use the memory: to be sent encrypted.
    pub key: u32,
}

/// A registered range of a region. Dropping it takes the keys back: once that has returned, no device touches the memory by
/// them any more. The mapping lives as long.
#[derive(Debug)]
pub struct MemoryRegion {
    region: NonNull<sys::ibv_mr>,
    start: NonNull<u8>,
    bytes: usize,
    mapping: Arc<RegionMapping>,
    device: Arc<Device>,
}

// SAFETY: the memory is the process's, seen as atomics only; verbs may be called by any thread.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above; shared, it is only read.
unsafe impl Sync for MemoryRegion {}

impl MemoryRegion {
    /// Registers bytes of a region: whole words of 8, at least one.
    pub fn register(
        device: &Arc<Device>,
        mapping: &Arc<RegionMapping>,
        range: Range<usize>,
        access: Access,
    ) -> Result<MemoryRegion, RdmaError> {
        let whole = mapping.mapped_bytes();
        let in_words = range.start.is_multiple_of(8) && range.end.is_multiple_of(8);
        if range.is_empty() || range.end > whole || !in_words {
            let (from, upto) = (range.start, range.end);
            return Err(RdmaError::Range { device: device.name().into(), from, upto, bytes: whole });
        }
        // SAFETY: within the mapping, as just checked.
        let start = unsafe { mapping.start().add(range.start) };
        let flags = match access {
            Access::Local => 0,
            Access::RemoteRead => sys::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0,
            // The standard asks for the first wherever there is the second.
            Access::RemoteWrite => {
                sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
                    | sys::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
            }
        };
        let bytes = range.len();
        // SAFETY: the range is mapped, and stays so until it is deregistered, since the mapping is held. What a device writes
        // there is valid, whatever it is: everybody sees the memory as atomic words. A mapping that may only be read is refused
        // by the kernel if peers are to write it.
        let region =
            unsafe { sys::ibv_reg_mr(device.domain.as_ptr(), start.as_ptr().cast(), bytes, flags as i32) };
        let region = NonNull::new(region).ok_or_else(|| RdmaError::Register {
            device: device.name().into(),
            bytes,
            cause: io::Error::last_os_error(),
        })?;
        Ok(MemoryRegion { region, start, bytes, mapping: mapping.clone(), device: device.clone() })
    }

    /// What to tell the peers.
    pub fn remote(&self) -> RemoteMemory {
        // SAFETY: registered until it is dropped.
        let key = unsafe { self.region.as_ref().rkey };
        RemoteMemory { address: self.address(0), bytes: self.bytes as u64, key }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn mapping(&self) -> &Arc<RegionMapping> {
        &self.mapping
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(super) fn local_key(&self) -> u32 {
        // SAFETY: registered until it is dropped.
        unsafe { self.region.as_ref().lkey }
    }

    /// The address of the byte at `offset`, for a device.
    pub(super) fn address(&self, offset: usize) -> u64 {
        self.start.as_ptr() as u64 + offset as u64
    }

    /// The word at `offset` bytes from the start: what a peer wrote there by [`super::Source::Words`], say. Panics if that is
    /// beyond the end, or not a whole word's place.
    #[inline]
    pub fn word(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8) && offset < self.bytes, "word at {offset} of {} bytes", self.bytes);
        // SAFETY: within the mapping, which is held, and aligned: the start is, and so is the offset. Processes and devices
        // alike treat it as atomic words.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }.load(Ordering::Acquire)
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: registered by us, and not deregistered before.
        if unsafe { sys::ibv_dereg_mr(self.region.as_ptr()) } != 0 {
            // A device may still write there: the memory must never be anything else.
            std::mem::forget(self.mapping.clone());
        }
    }
}
