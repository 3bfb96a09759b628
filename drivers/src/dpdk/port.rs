//! The port: bursts of frames, in place in the device's packet buffers.

use super::DpdkError;
use super::device::{Device, DpdkConfig, MulticastFilter, name_of};
use super::eal::Eal;
use super::stamps::Stamps;
use dataplane::hint::Prefetch;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::wire::ethernet::MacAddress;
use dpdk_sys as sys;
use std::ptr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(super) struct PortId(pub u16);

/// [`Medium::Ethernet`] by a DPDK device of one to four receive queues, which take turns.
#[derive(Debug)]
pub struct DpdkPort {
    /// Before `device`: what was lent out goes back before the device goes.
    burst: Burst,
    stamps: Option<Stamps>,
    device: Device,
    queues: u16,
    /// The queue whose turn is next.
    turn: u16,
    rx_frames: u64,
    tx_frames: u64,
    tx_dropped: u64,
    /// After everything else: DPDK ends with its last port.
    _eal: Arc<Eal>,
}

/// The packet buffers of the last burst.
#[derive(Debug)]
struct Burst {
    mbufs: Box<[*mut sys::rte_mbuf]>,
    held: usize,
    /// Frames in several segments that were given back.
    oversized: u64,
}

// SAFETY: DPDK's queues may be used by any one thread at a time, and everything that the port points to is its own.
unsafe impl Send for DpdkPort {}

impl Burst {
    fn new(frames: usize) -> Burst {
        Burst { mbufs: vec![ptr::null_mut(); frames].into(), held: 0, oversized: 0 }
    }

    /// A field of the frame's packet buffer. Panics if there is no such frame.
    #[inline(always)]
    fn field<T: Copy>(&self, index: usize, offset: u32) -> T {
        let mbuf = self.mbufs[..self.held][index];
        // SAFETY: the mbuf came by the last burst and is held until the next one; the offset is that of an aligned
        // field of this type, by the headers of this very DPDK, or one that it registered.
        unsafe { mbuf.cast::<u8>().add(offset as usize).cast::<T>().read() }
    }

    /// The frame, or nothing if it lies in several segments.
    #[inline(always)]
    fn bytes(&self, index: usize) -> &[u8] {
        if self.field::<u16>(index, sys::TICKPLANE_MBUF_NB_SEGS) != 1 {
            return &[];
        }
        let buffer: *const u8 = self.field(index, sys::TICKPLANE_MBUF_BUF_ADDR);
        let offset: u16 = self.field(index, sys::TICKPLANE_MBUF_DATA_OFF);
        let length: u16 = self.field(index, sys::TICKPLANE_MBUF_DATA_LEN);
        // SAFETY: the driver has filled so much of the buffer, which is held until the next burst; the borrow
        // prevents that.
        unsafe { std::slice::from_raw_parts(buffer.add(usize::from(offset)), usize::from(length)) }
    }

    #[inline(always)]
    fn free(&mut self) {
        if self.held != 0 {
            // SAFETY: the first `held` pointers came by the last burst and were not freed since.
            let split = unsafe { sys::tickplane_free(self.mbufs.as_mut_ptr(), self.held as u16) };
            self.oversized += u64::from(split);
            self.held = 0;
        }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.free();
    }
}

impl DpdkPort {
    pub fn open(eal: &Arc<Eal>, config: &DpdkConfig) -> Result<DpdkPort, DpdkError> {
        let device = Device::start(config)?;
        let stamps = device.timestamps.and_then(|_| Stamps::new(PortId(device.port_id)));
        Ok(DpdkPort {
            burst: Burst::new(config.burst),
            stamps,
            device,
            queues: config.rx_queues,
            turn: 0,
            rx_frames: 0,
            tx_frames: 0,
            tx_dropped: 0,
            _eal: eal.clone(),
        })
    }

    pub fn mac(&self) -> MacAddress {
        self.device.mac
    }

    pub fn multicast_filter(&self) -> MulticastFilter {
        self.device.filter
    }

    /// Whether frames carry the device's own stamps.
    pub fn has_hardware_timestamps(&self) -> bool {
        self.stamps.is_some()
    }

    /// The name that DPDK knows the device by.
    pub fn name(&self) -> String {
        name_of(self.device.port_id)
    }

    /// Packet buffers that are neither lent out nor with the device.
    pub fn mbufs_free(&self) -> u32 {
        // SAFETY: the pool lives as long as the device.
        unsafe { sys::rte_mempool_avail_count(self.device.pool.as_ptr()) }
    }
}

impl Port for DpdkPort {
    fn medium(&self) -> Medium {
        Medium::Ethernet
    }

    #[inline(always)]
    fn rx_burst(&mut self) -> usize {
        self.burst.free();
        for _ in 0..self.queues {
            let queue = self.turn;
            self.turn = if queue + 1 == self.queues { 0 } else { queue + 1 };
            let mbufs = &mut self.burst.mbufs;
            // SAFETY: the device is started with this queue, and there is room for as many as are asked for.
            let received = unsafe {
                sys::tickplane_rx_burst(self.device.port_id, queue, mbufs.as_mut_ptr(), mbufs.len() as u16)
            };
            if received != 0 {
                self.burst.held = usize::from(received);
                self.rx_frames += u64::from(received);
                return self.burst.held;
            }
        }
        0
    }

    #[inline(always)]
    fn frame(&self, index: usize) -> Frame<'_> {
        let stamp_ns = match (&self.stamps, self.device.timestamps) {
            (Some(stamps), Some((offset, flag)))
                if self.burst.field::<u64>(index, sys::TICKPLANE_MBUF_OL_FLAGS) & flag != 0 =>
            {
                stamps.unix_ns(self.burst.field(index, offset as u32))
            }
            _ => 0,
        };
        Frame { stamp_ns, ..Frame::ethernet(self.burst.bytes(index)) }
    }

    #[inline(always)]
    fn prefetch<F: Prefetch>(&self, index: usize) {
        for line in self.burst.bytes(index).chunks(64).take(8) {
            F::prefetch(&line[0]);
        }
    }

    fn tx(&mut self, frame: &[u8]) -> bool {
        let sent = match u16::try_from(frame.len()) {
            // SAFETY: the device is started, the pool is its own, and the frame is copied.
            Ok(length) => unsafe {
                sys::tickplane_tx(self.device.port_id, self.device.pool.as_ptr(), frame.as_ptr(), length) == 1
            },
            Err(_) => false,
        };
        self.tx_frames += u64::from(sent);
        self.tx_dropped += u64::from(!sent);
        sent
    }

    fn counters(&self) -> PortCounters {
        if let Some(stamps) = &self.stamps {
            stamps.renew();
        }
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port exists, the place for the answer is valid; it stays zero where a driver has none.
        unsafe { sys::rte_eth_stats_get(self.device.port_id, &mut stats) };
        PortCounters {
            rx_frames: self.rx_frames,
            rx_bytes: stats.ibytes,
            missed: stats.imissed + stats.rx_nombuf,
            oversized: self.burst.oversized + stats.ierrors,
            tx_frames: self.tx_frames,
            tx_dropped: self.tx_dropped,
        }
    }
}
