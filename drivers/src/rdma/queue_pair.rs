//! The queue pair: one end of a reliable connection.

use super::completion_queue::Queue;
use super::write::Chain;
use super::{CompletionQueue, PostError, RdmaError, Write};
use rdma_sys as sys;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use sys::{ibv_qp_attr_mask as mask, ibv_qp_state as state};

/// Numbers of packets and queue pairs have 24 bits.
const BITS_24: u32 = 0xFF_FFFF;
/// 0.64 ms, as InfiniBand encodes it: how long a peer waits before it sends again what came before there was a receive
/// for it.
const RECEIVER_NOT_READY_TIMER: u8 = 12;
/// Hops that a packet may take, where it is routed.
const HOPS_MAX: u8 = 64;

/// The depths and patience of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairConfig {
    /// Writes under way at most.
    pub writes: u32,
    /// Receives posted at most.
    pub receives: u32,
    /// Writes up to so many bytes are handed to the device with their request; at least 8.
    pub inline_bytes: u32,
    /// What was not acknowledged is sent again after 4.096 µs × 2^this; 1 to 31.
    pub timeout_exponent: u8,
    /// How often, until the peer is given up; 0 to 7.
    pub retries: u8,
    /// How often a write with an immediate is tried while the peer has no receive for it; 7 = without end.
    pub receiver_retries: u8,
}

impl Default for QueuePairConfig {
    /// 67 ms, seven times: a peer that is gone is given up after half a second to two, as devices count.
    fn default() -> QueuePairConfig {
        QueuePairConfig {
            writes: 128,
            receives: 128,
            inline_bytes: 64,
            timeout_exponent: 14,
            retries: 7,
            receiver_retries: 7,
        }
    }
}

/// What one end has to know of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The queue pair's number, 24 bits.
    pub queue_pair: u32,
    /// The number of the first packet that it sends, 24 bits, random: packets of an earlier connection do not fit.
    pub packet_sequence: u32,
    /// The port's address: by Ethernet an IPv6 one, or an IPv4 one mapped into it.
    pub gid: [u8; 16],
    /// The port's address within an InfiniBand subnet.
    pub lid: u16,
    /// What the port's packets can carry: 256, 512, 1024, 2048 or 4096.
    pub mtu_bytes: u16,
}

/// One end of a reliable connection, to post writes to and take immediates from. Dropping it ends the connection: once that has
/// returned, nothing of the peer's is written any more by it.
pub struct QueuePair {
    pair: NonNull<sys::ibv_qp>,
    chain: Chain,
    packet_sequence: u32,
    config: QueuePairConfig,
    /// After the queue pair, which is destroyed by `drop`.
    queue: Arc<Queue>,
}

// SAFETY: verbs may be called by any thread; the pointers are the queue pair's own.
unsafe impl Send for QueuePair {}

impl std::fmt::Debug for QueuePair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("QueuePair").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}

impl QueuePair {
    /// A queue pair of the queue's device, which puts the completions of its writes and receives there. It takes receives, and
    /// no writes before it is connected.
    pub fn new(completions: &CompletionQueue, config: &QueuePairConfig) -> Result<QueuePair, RdmaError> {
        let queue = completions.queue().clone();
        let device = &queue.device;
        let inline_bytes = config.inline_bytes.max(8);
        // SAFETY: an all-zero attribute is a valid value of that plain struct.
        let mut attribute: sys::ibv_qp_init_attr = unsafe { std::mem::zeroed() };
        attribute.send_cq = queue.queue.as_ptr();
        attribute.recv_cq = queue.queue.as_ptr();
        attribute.qp_type = sys::ibv_qp_type::IBV_QPT_RC;
        attribute.cap = sys::ibv_qp_cap {
            max_send_wr: config.writes,
            max_recv_wr: config.receives,
            max_send_sge: 1,
            max_recv_sge: 1,
            max_inline_data: inline_bytes,
        };
        // SAFETY: domain and completion queue are alive, and of one device.
        let pair = unsafe { sys::ibv_create_qp(device.domain.as_ptr(), &mut attribute) };
        let pair = NonNull::new(pair).ok_or_else(|| {
            device.failed("making a queue pair (fewer writes, receives or inline bytes may be what it takes)")
        })?;
        let pair = QueuePair {
            pair,
            chain: Chain::new(inline_bytes as usize, device.port.message_bytes_max),
            packet_sequence: RandomState::new().hash_one(0) as u32 & BITS_24,
            config: *config,
            queue,
        };
        let mut attribute = zeroed(state::IBV_QPS_INIT);
        attribute.port_num = pair.queue.device.port.number;
        attribute.qp_access_flags = sys::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
            | sys::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;
        let which = mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_PORT | mask::IBV_QP_ACCESS_FLAGS;
        pair.modify(attribute, which, "initialising a queue pair")?;
        Ok(pair)
    }

    /// What to tell the peer.
    pub fn endpoint(&self) -> Endpoint {
        let port = &self.queue.device.port;
        Endpoint {
            // SAFETY: the queue pair is alive.
            queue_pair: unsafe { self.pair.as_ref().qp_num },
            packet_sequence: self.packet_sequence,
            gid: port.gid,
            lid: port.lid,
            mtu_bytes: 128 << port.mtu,
        }
    }

    /// Connects to the peer, which has to connect to this one likewise. What either writes before the other has done so is
    /// sent again until then.
    pub fn connect(&mut self, peer: &Endpoint) -> Result<(), RdmaError> {
        let invalid = |what, value| Err(RdmaError::Endpoint { what, value: u64::from(value) });
        let peer_mtu = match peer.mtu_bytes {
            256 | 512 | 1024 | 2048 | 4096 => (peer.mtu_bytes / 128).trailing_zeros(),
            other => return invalid("MTU", u32::from(other)),
        };
        if peer.queue_pair > BITS_24 {
            return invalid("queue pair", peer.queue_pair);
        }
        if peer.packet_sequence > BITS_24 {
            return invalid("packet sequence", peer.packet_sequence);
        }
        let port = &self.queue.device.port;
        let mut attribute = zeroed(state::IBV_QPS_RTR);
        attribute.path_mtu = port.mtu.min(peer_mtu);
        attribute.dest_qp_num = peer.queue_pair;
        attribute.rq_psn = peer.packet_sequence;
        attribute.max_dest_rd_atomic = 1;
        attribute.min_rnr_timer = RECEIVER_NOT_READY_TIMER;
        let address = &mut attribute.ah_attr;
        address.port_num = port.number;
        address.dlid = peer.lid;
        address.is_global = u8::from(port.is_ethernet);
        address.grh.dgid.raw = peer.gid;
        address.grh.sgid_index = port.gid_index;
        address.grh.hop_limit = HOPS_MAX;
        let which = mask::IBV_QP_AV
            | mask::IBV_QP_PATH_MTU
            | mask::IBV_QP_DEST_QPN
            | mask::IBV_QP_RQ_PSN
            | mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | mask::IBV_QP_MIN_RNR_TIMER;
        self.modify(attribute, which, "connecting a queue pair to receive (is there a route to the peer?)")?;

        let mut attribute = zeroed(state::IBV_QPS_RTS);
        attribute.sq_psn = self.packet_sequence;
        attribute.timeout = self.config.timeout_exponent;
        attribute.retry_cnt = self.config.retries;
        attribute.rnr_retry = self.config.receiver_retries;
        attribute.max_rd_atomic = 1;
        let which = mask::IBV_QP_TIMEOUT
            | mask::IBV_QP_RETRY_CNT
            | mask::IBV_QP_RNR_RETRY
            | mask::IBV_QP_SQ_PSN
            | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(attribute, which, "connecting a queue pair to send")
    }

    /// Posts writes, in order, and tells the device of all of them at once.
    #[inline]
    pub fn post(&mut self, writes: &[Write<'_>]) -> Result<(), PostError> {
        // SAFETY: the queue pair is alive, and was made with the chain's inline bytes.
        unsafe { self.chain.post(self.pair.as_ptr(), writes) }
    }

    /// Makes room for so many immediates more, each with `work` in its completion.
    pub fn post_receives(&mut self, receives: usize, work: u64) -> Result<(), PostError> {
        let mut request =
            sys::ibv_recv_wr { wr_id: work, next: ptr::null_mut(), sg_list: ptr::null_mut(), num_sge: 0 };
        for posted in 0..receives {
            let mut failed = ptr::null_mut();
            // SAFETY: the queue pair is alive; the request, without any memory to fill, is copied by the call.
            let result = unsafe { sys::ibv_post_recv(self.pair.as_ptr(), &mut request, &mut failed) };
            match result.abs() {
                0 => {}
                libc::ENOMEM => return Err(PostError::Full { posted }),
                errno => return Err(PostError::Refused { posted, errno }),
            }
        }
        Ok(())
    }

    /// Ends the connection, but for the completions: all work that is under way gets one, [`super::Status::Flushed`]. The peer's
    /// packets are refused from now on; one that the device is at may still be written until this is dropped.
    pub fn fence(&mut self) -> Result<(), RdmaError> {
        self.modify(zeroed(state::IBV_QPS_ERR), mask(0), "ending a connection")
    }

    fn modify(
        &self,
        mut attribute: sys::ibv_qp_attr,
        which: mask,
        step: &'static str,
    ) -> Result<(), RdmaError> {
        let which = (which | mask::IBV_QP_STATE).0 as i32;
        // SAFETY: the queue pair is alive; the attribute is valid, and is copied.
        let result = unsafe { sys::ibv_modify_qp(self.pair.as_ptr(), &mut attribute, which) };
        if result == 0 {
            return Ok(());
        }
        let cause = io::Error::from_raw_os_error(result.abs());
        Err(RdmaError::Setup { device: self.queue.device.name().into(), step, cause })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: ours, and not destroyed before; its completion queue and its device are alive.
        unsafe { sys::ibv_destroy_qp(self.pair.as_ptr()) };
    }
}

/// An attribute that asks for nothing but a state.
fn zeroed(state: state::Type) -> sys::ibv_qp_attr {
    // SAFETY: an all-zero attribute is a valid value of that plain struct.
    let mut attribute: sys::ibv_qp_attr = unsafe { std::mem::zeroed() };
    attribute.qp_state = state;
    attribute
}
