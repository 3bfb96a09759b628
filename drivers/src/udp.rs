//! Multicast by the kernel's UDP sockets: the port that needs no driver, no huge page and no root.

use crate::interface::Interface;
use crate::udp_socket::{Setup, Socket};
use dataplane::limits::{BURST_MAX, FRAME_BYTES_MAX};
use dataplane::port::{Frame, Medium, Membership, Port, PortCounters};
use dataplane::time::NS_PER_S;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Sockets of one port: lines A and B of each feed, and some to spare.
pub const SOCKETS_MAX: usize = 64;

/// What a [`UdpPort`] receives: a UDP port of a group, or of one of the machine's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub membership: Membership,
    pub port: u16,
}

/// How a [`UdpPort`] is set up.
#[derive(Clone, Debug)]
pub struct UdpConfig {
    /// Where the groups are joined.
    pub interface: Interface,
    pub subscriptions: Vec<Subscription>,
    /// Datagrams of one burst, at most [`BURST_MAX`].
    pub burst: usize,
    /// The longest datagram received; a longer one is dropped and counted.
    pub datagram_bytes_max: usize,
    /// What each socket's receive buffer is asked to hold; [`UdpPort::receive_buffer_bytes`] tells what it got.
    pub receive_buffer_bytes: usize,
}

impl UdpConfig {
    /// Nothing subscribed yet; 64 datagrams a burst of any length a line has, 8 MiB of buffer.
    pub fn new(interface: Interface) -> Self {
        UdpConfig {
            interface,
            subscriptions: Vec::new(),
            burst: 64,
            datagram_bytes_max: FRAME_BYTES_MAX,
            receive_buffer_bytes: 8 << 20,
        }
    }
}

/// Why a UDP port was not set up.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    #[error("a UDP port needs 1 to {SOCKETS_MAX} subscriptions, not {count}")]
    Subscriptions { count: usize },
    #[error("a burst is 1 to {BURST_MAX} datagrams, not {burst}")]
    Burst { burst: usize },
    #[error("the longest datagram is 1 to 65507 bytes, not {bytes}")]
    DatagramBytes { bytes: usize },
    #[error(
        "interface {interface} has no IPv4 address, which joining {group} from one source needs: give it one"
    )]
    NoAddress { interface: String, group: Ipv4Addr },
    #[error("{destination} on {interface}: {step}: {cause}{cure}")]
    Socket {
        destination: SocketAddrV4,
        interface: String,
        step: &'static str,
        cause: io::Error,
        cure: &'static str,
    },
}

/// [`Medium::Udp`] by one kernel socket for each (group, port, source). A burst comes from one socket by one
/// `recvmmsg`; the sockets take turns.
#[derive(Debug)]
pub struct UdpPort {
    sockets: Vec<Socket>,
    /// The socket whose turn is next.
    turn: usize,
    batch: Batch,
    /// The last burst, and the socket that it came from.
    received: Vec<Received>,
    received_from: usize,
    counters: PortCounters,
    receive_errors: u64,
}

/// One datagram of the burst, in the batch's buffer `slot`.
#[derive(Clone, Copy, Debug)]
struct Received {
    slot: usize,
    bytes: usize,
    stamp_ns: u64,
    source: Ipv4Addr,
}

impl UdpPort {
    pub fn new(config: &UdpConfig) -> Result<Self, UdpError> {
        let count = config.subscriptions.len();
        if count == 0 || count > SOCKETS_MAX {
            return Err(UdpError::Subscriptions { count });
        }
        if config.burst == 0 || config.burst > BURST_MAX {
            return Err(UdpError::Burst { burst: config.burst });
        }
        if config.datagram_bytes_max == 0 || config.datagram_bytes_max > 65_507 {
            return Err(UdpError::DatagramBytes { bytes: config.datagram_bytes_max });
        }
        let mut sockets = Vec::with_capacity(count);
        for (index, subscription) in config.subscriptions.iter().enumerate() {
            if is_covered(subscription, index, &config.subscriptions) {
                continue;
            }
            sockets.push(Setup::new(config, *subscription)?.socket()?);
        }
        Ok(UdpPort {
            sockets,
            turn: 0,
            batch: Batch::new(config.burst, config.datagram_bytes_max),
            received: Vec::with_capacity(config.burst),
            received_from: 0,
            counters: PortCounters::default(),
            receive_errors: 0,
        })
    }

    /// What the smallest of the sockets' receive buffers holds, by the kernel's count of payload and its own
    /// overhead alike. Less than configured means that `net.core.rmem_max` is lower and that the process may not
    /// exceed it (CAP_NET_ADMIN).
    pub fn receive_buffer_bytes(&self) -> usize {
        self.sockets.iter().map(|socket| socket.receive_buffer_bytes).min().unwrap_or(0)
    }

    /// Failed system calls, other than for want of datagrams.
    pub fn receive_errors(&self) -> u64 {
        self.receive_errors
    }

    /// Sleeps until a datagram has arrived or `timeout` is over; false = nothing has. For the idle strategy
    /// that parks instead of spinning.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut polls = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; SOCKETS_MAX];
        for (poll, socket) in polls.iter_mut().zip(&self.sockets) {
            poll.fd = socket.raw();
        }
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = self.sockets.len() as libc::nfds_t;
        // SAFETY: the first `count` entries are initialised, and `timeout` lives through the call.
        unsafe { libc::ppoll(polls.as_mut_ptr(), count, &timeout, ptr::null()) > 0 }
    }

    /// One `recvmmsg` on the socket `index`: true if it gave anything, be it only an oversized datagram.
    fn receive(&mut self, index: usize) -> bool {
        let count = match self.batch.receive(self.sockets[index].raw()) {
            Ok(count) => count,
            Err(error) => {
                let idle = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR));
                self.receive_errors += u64::from(!idle);
                return false;
            }
        };
        self.received_from = index;
        for slot in 0..count {
            let datagram = self.batch.datagram(slot);
            if let Some(overflow) = datagram.overflow {
                let socket = &mut self.sockets[index];
                self.counters.missed += u64::from(overflow.wrapping_sub(socket.overflow));
                socket.overflow = overflow;
            }
            if datagram.truncated {
                self.counters.oversized += 1;
                continue;
            }
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += datagram.bytes as u64;
            self.received.push(Received {
                slot,
                bytes: datagram.bytes,
                stamp_ns: datagram.stamp_ns,
                source: datagram.source,
            });
        }
        count > 0
    }
}

/// True if an earlier subscription, or one from any source, already delivers what `subscription` asks for: a
/// second socket would deliver it twice.
fn is_covered(subscription: &Subscription, index: usize, all: &[Subscription]) -> bool {
    all[..index].contains(subscription)
        || (subscription.membership.source.is_some()
            && all.iter().any(|other| {
                other.membership == Membership { source: None, ..subscription.membership }
                    && other.port == subscription.port
            }))
}

impl Port for UdpPort {
    fn medium(&self) -> Medium {
        Medium::Udp
    }

    fn rx_burst(&mut self) -> usize {
        self.received.clear();
        for _ in 0..self.sockets.len() {
            let index = self.turn;
            self.turn = if index + 1 == self.sockets.len() { 0 } else { index + 1 };
            if self.receive(index) && !self.received.is_empty() {
                break;
            }
        }
        self.received.len()
    }

    #[inline]
    fn frame(&self, index: usize) -> Frame<'_> {
        let received = self.received[index];
        Frame {
            bytes: self.batch.bytes(received.slot, received.bytes),
            stamp_ns: received.stamp_ns,
            source: received.source,
            destination: self.sockets[self.received_from].destination,
        }
    }

    fn tx(&mut self, _frame: &[u8]) -> bool {
        self.counters.tx_dropped += 1;
        false
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

/// The buffers of one `recvmmsg`. The headers hold pointers into slots and payload, so all three are kept as
/// raw allocations: no reference to them exists while the kernel writes.
#[derive(Debug)]
struct Batch {
    headers: NonNull<[libc::mmsghdr]>,
    slots: NonNull<[Slot]>,
    payload: NonNull<[u8]>,
    datagram_bytes: usize,
}

/// What the kernel tells of one datagram beside its payload.
#[derive(Debug)]
struct Slot {
    source: libc::sockaddr_in,
    payload: libc::iovec,
    /// Room for a `timespec` and a `u32`, each under its `cmsghdr`: 32 + 24 bytes.
    control: [u64; 8],
}

/// A received datagram without its payload.
struct Datagram {
    bytes: usize,
    truncated: bool,
    source: Ipv4Addr,
    stamp_ns: u64,
    /// Datagrams that the socket has dropped so far, modulo 2³².
    overflow: Option<u32>,
}

// SAFETY: the allocations belong to the batch alone; its pointers point to nothing but these.
unsafe impl Send for Batch {}

impl Batch {
    fn new(burst: usize, datagram_bytes: usize) -> Self {
        let payload = leak(vec![0; burst * datagram_bytes]);
        // SAFETY: all-zero is valid for these plain structs.
        let slots = leak((0..burst).map(|_| unsafe { std::mem::zeroed::<Slot>() }).collect());
        // SAFETY: as above.
        let headers = leak((0..burst).map(|_| unsafe { std::mem::zeroed::<libc::mmsghdr>() }).collect());
        let batch = Batch { headers, slots, payload, datagram_bytes };
        for index in 0..burst {
            let (header, slot) = (batch.header(index), batch.slot(index));
            // SAFETY: both pointers are to elements of live allocations, and nothing else refers to them.
            unsafe {
                (*slot).payload.iov_base = batch.payload_of(index).cast();
                (*slot).payload.iov_len = datagram_bytes;
                (*header).msg_hdr.msg_name = (&raw mut (*slot).source).cast();
                (*header).msg_hdr.msg_iov = &raw mut (*slot).payload;
                (*header).msg_hdr.msg_iovlen = 1;
                (*header).msg_hdr.msg_control = (&raw mut (*slot).control).cast();
            }
            batch.rearm(index);
        }
        batch
    }

    /// Sets what the kernel overwrites.
    fn rearm(&self, index: usize) {
        let header = self.header(index);
        // SAFETY: an element of a live allocation, to which nothing else refers.
        unsafe {
            (*header).msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            (*header).msg_hdr.msg_controllen = size_of::<[u64; 8]>() as _;
            (*header).msg_hdr.msg_flags = 0;
        }
    }

    /// Receives what there is, without waiting.
    fn receive(&mut self, socket: i32) -> io::Result<usize> {
        let (headers, burst) = (self.headers.as_ptr().cast::<libc::mmsghdr>(), self.headers.len() as u32);
        // SAFETY: all headers point to slots and payload of this batch, with their true lengths.
        let count =
            unsafe { libc::recvmmsg(socket, headers, burst, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    /// Reads the slot `index` of the last receive, and readies it for the next.
    fn datagram(&mut self, index: usize) -> Datagram {
        let header = self.header(index);
        // SAFETY: an element of a live allocation that the kernel has filled and writes no more.
        let (bytes, flags, source) =
            unsafe { ((*header).msg_len, (*header).msg_hdr.msg_flags, (*self.slot(index)).source) };
        let mut datagram = Datagram {
            bytes: bytes as usize,
            truncated: flags & libc::MSG_TRUNC != 0,
            source: Ipv4Addr::from(u32::from_be(source.sin_addr.s_addr)),
            stamp_ns: 0,
            overflow: None,
        };
        // SAFETY: the kernel has set the control buffer and its length; the CMSG functions stay within.
        unsafe {
            let message = &raw const (*header).msg_hdr;
            let mut control = libc::CMSG_FIRSTHDR(message);
            while !control.is_null() {
                if (*control).cmsg_level == libc::SOL_SOCKET {
                    let data = libc::CMSG_DATA(control);
                    match (*control).cmsg_type {
                        libc::SCM_TIMESTAMPNS => {
                            let stamp = data.cast::<libc::timespec>().read_unaligned();
                            datagram.stamp_ns = stamp.tv_sec as u64 * NS_PER_S + stamp.tv_nsec as u64;
                        }
                        libc::SO_RXQ_OVFL => datagram.overflow = Some(data.cast::<u32>().read_unaligned()),
                        _ => {}
                    }
                }
                control = libc::CMSG_NXTHDR(message, control);
            }
        }
        self.rearm(index);
        datagram
    }

    fn bytes(&self, index: usize, bytes: usize) -> &[u8] {
        assert!(index < self.slots.len() && bytes <= self.datagram_bytes);
        // SAFETY: within the payload of slot `index`, initialised since construction; the kernel writes it only in
        // `receive`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.payload_of(index), bytes) }
    }

    fn header(&self, index: usize) -> *mut libc::mmsghdr {
        assert!(index < self.headers.len());
        // SAFETY: within the allocation.
        unsafe { self.headers.as_ptr().cast::<libc::mmsghdr>().add(index) }
    }

    fn slot(&self, index: usize) -> *mut Slot {
        assert!(index < self.slots.len());
        // SAFETY: within the allocation.
        unsafe { self.slots.as_ptr().cast::<Slot>().add(index) }
    }

    fn payload_of(&self, index: usize) -> *mut u8 {
        assert!(index < self.slots.len());
        // SAFETY: within the allocation, which has `datagram_bytes` for each slot.
        unsafe { self.payload.as_ptr().cast::<u8>().add(index * self.datagram_bytes) }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: all three came from `leak`, and are given back once.
        unsafe {
            drop(Box::from_raw(self.headers.as_ptr()));
            drop(Box::from_raw(self.slots.as_ptr()));
            drop(Box::from_raw(self.payload.as_ptr()));
        }
    }
}

fn leak<T>(elements: Vec<T>) -> NonNull<[T]> {
    NonNull::from(Box::leak(elements.into_boxed_slice()))
}
