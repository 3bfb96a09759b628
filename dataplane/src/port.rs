//! The port: where frames come from. Drivers implement it for DPDK, kernel UDP and capture files,
//! tests and the simulator for plain memory.

use crate::hint::Prefetch;
use std::net::{Ipv4Addr, SocketAddrV4};

/// What the bytes of a port's frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An Ethernet header: the appliance itself does VLAN, IPv4, UDP, ARP and IGMP.
    Ethernet,
    /// A UDP payload: a kernel has done all that; [`Frame::source`] and [`Frame::destination`] tell the rest.
    Udp,
}

/// One received frame, in place: it borrows the port's buffer until the next [`Port::rx_burst`].
#[derive(Clone, Copy, Debug)]
pub struct Frame<'p> {
    pub bytes: &'p [u8],
    /// When the frame arrived, by the hardware's or the capture's stamp, in ns of Unix UTC; 0 = no stamp.
    pub stamp_ns: u64,
    /// The sender, on [`Medium::Udp`]; unspecified on [`Medium::Ethernet`], where the frame itself says it.
    pub source: Ipv4Addr,
    /// The group and port that it was sent to, on [`Medium::Udp`]; unspecified on [`Medium::Ethernet`].
    pub destination: SocketAddrV4,
}

impl<'p> Frame<'p> {
    /// A frame of [`Medium::Ethernet`] without a stamp.
    pub fn ethernet(bytes: &'p [u8]) -> Self {
        Frame {
            bytes,
            stamp_ns: 0,
            source: Ipv4Addr::UNSPECIFIED,
            destination: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        }
    }
}

/// A multicast group to receive, from any source or from one (RFC 4607).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Membership {
    pub group: Ipv4Addr,
    pub source: Option<Ipv4Addr>,
}

/// What the port itself counted; on virtual devices `missed` often stays 0 while frames are lost, so gaps
/// are told by the feeds' sequence numbers alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    /// Frames that the device or the kernel says it dropped for want of buffers.
    pub missed: u64,
    /// Frames that can't be handed over whole: longer than the port's buffers, in several segments, or recorded
    /// without a byte.
    pub oversized: u64,
    pub tx_frames: u64,
    /// Control frames (IGMP, ARP) that the device did not take.
    pub tx_dropped: u64,
}

/// A source of frames that is polled. One thread uses it.
///
/// ```text
/// for index in 0..port.rx_burst() { let frame = port.frame(index); … }
/// ```
pub trait Port {
    fn medium(&self) -> Medium;

    /// Receives what has arrived, without waiting, and returns how many frames there are (0 … burst size).
    /// Ends the borrow of the burst before: its buffers go back to the device.
    fn rx_burst(&mut self) -> usize;

    /// The frame `index` of the last burst. On [`Medium::Ethernet`] a frame that the port can't hand over whole is
    /// empty, and counted by the port alone. Panics if `index` is not below what [`Port::rx_burst`] returned.
    fn frame(&self, index: usize) -> Frame<'_>;

    /// Asks for the bytes of the frame `index` of the last burst, ahead of [`Port::frame`].
    fn prefetch<F: Prefetch>(&self, index: usize)
    where
        Self: Sized,
    {
        let _ = index;
    }

    /// Sends one control frame (IGMP, ARP), on [`Medium::Ethernet`] only; false = not taken, and counted.
    fn tx(&mut self, frame: &[u8]) -> bool;

    fn counters(&self) -> PortCounters;

    /// True once nothing will ever come any more (the end of a capture file).
    fn is_exhausted(&self) -> bool {
        false
    }
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn medium(&self) -> Medium {
        (**self).medium()
    }
    fn rx_burst(&mut self) -> usize {
        (**self).rx_burst()
    }
    fn frame(&self, index: usize) -> Frame<'_> {
        (**self).frame(index)
    }
    fn tx(&mut self, frame: &[u8]) -> bool {
        (**self).tx(frame)
    }
    fn counters(&self) -> PortCounters {
        (**self).counters()
    }
    fn is_exhausted(&self) -> bool {
        (**self).is_exhausted()
    }
}
