//! The log of a region as a device sees it: nothing else of the region is registered.

use crate::rdma::{Access, Device, MemoryRegion, RdmaError, RemoteMemory};
use crate::region::{CELL_BYTES, RegionMapping};
use dataplane::cache::reader::Reader;
use dataplane::cache::region::RegionError;
use std::ops::Range;
use std::sync::Arc;

/// A registered log. A primary has one for all of its peers, a standby a new one for each connection.
#[derive(Debug)]
pub struct LogMemory {
    memory: MemoryRegion,
    /// The region's cells that are the log; a power of two.
    cells: Range<usize>,
}

impl LogMemory {
    /// What a primary's device may read, and nobody write.
    pub fn local(device: &Arc<Device>, mapping: &Arc<RegionMapping>) -> Result<LogMemory, RdmaError> {
        LogMemory::register(device, mapping, Access::Local)
    }

    /// What one peer's device may write.
    pub(super) fn writable(
        device: &Arc<Device>,
        mapping: &Arc<RegionMapping>,
    ) -> Result<LogMemory, RdmaError> {
        LogMemory::register(device, mapping, Access::RemoteWrite)
    }

    fn register(
        device: &Arc<Device>,
        mapping: &Arc<RegionMapping>,
        access: Access,
    ) -> Result<LogMemory, RdmaError> {
        let cells = Reader::open(mapping.cells())?.layout().log_cells();
        if cells.end > mapping.cells().len() {
            return Err(RegionError::TooSmall { cells: mapping.cells().len(), needed: cells.end }.into());
        }
        let bytes = cells.start * CELL_BYTES..cells.end * CELL_BYTES;
        Ok(LogMemory { memory: MemoryRegion::register(device, mapping, bytes, access)?, cells })
    }

    pub(super) fn memory(&self) -> &MemoryRegion {
        &self.memory
    }

    pub(super) fn remote(&self) -> RemoteMemory {
        self.memory.remote()
    }

    /// Ticks that it holds.
    pub(super) fn ticks(&self) -> u64 {
        self.cells.len() as u64
    }

    /// The index in the ring of the tick at `position`.
    pub(super) fn index(&self, position: u64) -> u64 {
        position & (self.ticks() - 1)
    }

    /// Bytes from the start of the memory to the tick at `position`.
    pub(super) fn offset(&self, position: u64) -> usize {
        self.index(position) as usize * CELL_BYTES
    }

    /// Whether the tick at `position` is still whole in its cell: then so are all newer ones.
    pub(super) fn holds(&self, position: u64) -> bool {
        let cell = self.cells.start + self.index(position) as usize;
        self.memory.mapping().cells()[cell].load_at(position).is_some()
    }
}
