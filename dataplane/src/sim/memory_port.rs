//! A port of plain memory: frames that were put into it come out, in order.

use crate::hint::Prefetch;
use crate::limits::{BURST_MAX, FRAME_BYTES_MAX};
use crate::port::{Frame, Medium, Port, PortCounters};
use crate::wire::datagram::{self, Datagram};
use crate::wire::ethernet::{MacAddress, multicast_mac};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Room for control frames that the appliance sends, in bytes; what does not fit is dropped and counted.
const TX_BYTES_MAX: usize = 64 * 1024;
/// Room for the number of them.
const TX_FRAMES_MAX: usize = 1_024;

/// Whose frames those of [`MemoryPort::push_datagram`] are: a locally administered address.
const EXCHANGE_MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x01]);

/// Where a frame lies in the port's memory, and what a kernel would tell of it.
#[derive(Clone, Copy, Debug)]
struct Stored {
    offset: usize,
    length: usize,
    stamp_ns: u64,
    source: Ipv4Addr,
    destination: SocketAddrV4,
}

/// Frames in memory. Pushing allocates, receiving does not.
#[derive(Clone, Debug)]
pub struct MemoryPort {
    medium: Medium,
    burst_max: usize,
    bytes: Vec<u8>,
    frames: Vec<Stored>,
    /// The first frame of the last burst, and the first behind it.
    burst: std::ops::Range<usize>,
    closed: bool,
    tx_bytes: Vec<u8>,
    tx_lengths: Vec<usize>,
    counters: PortCounters,
}

impl MemoryPort {
    pub fn new(medium: Medium) -> MemoryPort {
        MemoryPort::with_burst(medium, 32)
    }

    /// `burst_max` is 1 ..= [`BURST_MAX`].
    pub fn with_burst(medium: Medium, burst_max: usize) -> MemoryPort {
        assert!((1..=BURST_MAX).contains(&burst_max));
        MemoryPort {
            medium,
            burst_max,
            bytes: Vec::new(),
            frames: Vec::new(),
            burst: 0..0,
            closed: false,
            tx_bytes: Vec::with_capacity(TX_BYTES_MAX),
            tx_lengths: Vec::with_capacity(TX_FRAMES_MAX),
            counters: PortCounters::default(),
        }
    }

    /// Puts a UDP payload behind what is there, as a kernel's socket would deliver it. For [`Medium::Udp`].
    pub fn push_udp(&mut self, payload: &[u8], source: Ipv4Addr, destination: SocketAddrV4, stamp_ns: u64) {
        assert_eq!(self.medium, Medium::Udp);
        let offset = self.append(payload);
        self.frames.push(Stored { offset, length: payload.len(), stamp_ns, source, destination });
    }

    /// Puts a whole frame behind what is there. For [`Medium::Ethernet`].
    pub fn push_ethernet(&mut self, frame: &[u8], stamp_ns: u64) {
        assert_eq!(self.medium, Medium::Ethernet);
        let offset = self.append(frame);
        let Frame { source, destination, .. } = Frame::ethernet(&[]);
        self.frames.push(Stored { offset, length: frame.len(), stamp_ns, source, destination });
    }

    /// Puts a datagram behind what is there, as the port's medium has it: in an Ethernet frame, tagged if it
    /// has a VLAN, or its payload alone. Panics if it is too long for a frame.
    pub fn push_datagram(&mut self, datagram: &Datagram<'_>, stamp_ns: u64) {
        let Datagram { source, destination, payload, .. } = *datagram;
        if self.medium == Medium::Udp {
            return self.push_udp(payload, *source.ip(), destination, stamp_ns);
        }
        let mut frame = [0; FRAME_BYTES_MAX];
        let addresses = (EXCHANGE_MAC, multicast_mac(*destination.ip()));
        let length = datagram::write(datagram, addresses, 1, &mut frame).expect("it fits into a frame");
        self.push_ethernet(&frame[..length], stamp_ns);
    }

    /// Ends the last burst; the memory is used again once everything has been received.
    fn append(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.closed, "nothing comes behind the end");
        self.burst.start = self.burst.end;
        if self.burst.end == self.frames.len() {
            self.frames.clear();
            self.bytes.clear();
            self.burst = 0..0;
        }
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        offset
    }

    /// Nothing will be pushed any more: the port is exhausted when all is received.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Receives everything again from the first frame that is still there.
    pub fn rewind(&mut self) {
        self.burst = 0..0;
    }

    /// Frames that have not been received yet.
    pub fn waiting(&self) -> usize {
        self.frames.len() - self.burst.end
    }

    /// The control frames that were sent since they were last asked for.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let mut rest = &self.tx_bytes[..];
        let mut sent = Vec::with_capacity(self.tx_lengths.len());
        for length in self.tx_lengths.drain(..) {
            let (frame, behind) = rest.split_at(length);
            sent.push(frame.to_vec());
            rest = behind;
        }
        self.tx_bytes.clear();
        sent
    }
}

impl Port for MemoryPort {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn rx_burst(&mut self) -> usize {
        let start = self.burst.end;
        let end = self.frames.len().min(start + self.burst_max);
        self.burst = start..end;
        let bytes: usize = self.frames[start..end].iter().map(|frame| frame.length).sum();
        self.counters.rx_frames += (end - start) as u64;
        self.counters.rx_bytes += bytes as u64;
        end - start
    }

    #[inline(always)]
    fn frame(&self, index: usize) -> Frame<'_> {
        assert!(index < self.burst.len(), "frame {index} of a burst of {}", self.burst.len());
        let Stored { offset, length, stamp_ns, source, destination } = self.frames[self.burst.start + index];
        Frame { bytes: &self.bytes[offset..offset + length], stamp_ns, source, destination }
    }

    #[inline(always)]
    fn prefetch<F: Prefetch>(&self, index: usize) {
        let Stored { offset, length, .. } = self.frames[self.burst.start + index];
        for line in self.bytes[offset..offset + length].chunks(64).take(8) {
            F::prefetch(&line[0]);
        }
    }

    fn tx(&mut self, frame: &[u8]) -> bool {
        let fits = self.medium == Medium::Ethernet
            && self.tx_bytes.len() + frame.len() <= TX_BYTES_MAX
            && self.tx_lengths.len() < TX_FRAMES_MAX;
        if fits {
            self.tx_bytes.extend_from_slice(frame);
            self.tx_lengths.push(frame.len());
            self.counters.tx_frames += 1;
        } else {
            self.counters.tx_dropped += 1;
        }
        fits
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn is_exhausted(&self) -> bool {
        self.closed && self.waiting() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 0, 1), 26_477);

    fn receive(port: &mut MemoryPort) -> Vec<Vec<u8>> {
        let count = port.rx_burst();
        (0..count).map(|index| port.frame(index).bytes.to_vec()).collect()
    }

    #[test]
    fn frames_come_in_bursts_and_in_order() {
        let mut port = MemoryPort::with_burst(Medium::Udp, 2);
        for payload in [&b"one"[..], b"", b"three"] {
            port.push_udp(payload, Ipv4Addr::LOCALHOST, GROUP, 7);
        }
        assert_eq!(receive(&mut port), [&b"one"[..], b""]);
        assert_eq!((port.frame(0).stamp_ns, port.frame(1).destination), (7, GROUP));
        port.push_udp(b"four", Ipv4Addr::LOCALHOST, GROUP, 8);
        assert_eq!(receive(&mut port), [&b"three"[..], b"four"]);
        assert!(receive(&mut port).is_empty() && !port.is_exhausted());
        port.push_udp(b"five", Ipv4Addr::LOCALHOST, GROUP, 9);
        port.close();
        assert!(!port.is_exhausted());
        assert_eq!(receive(&mut port), [b"five"]);
        assert!(port.is_exhausted());
        assert_eq!((port.counters().rx_frames, port.counters().rx_bytes), (5, 16));
        port.rewind();
        assert_eq!(receive(&mut port), [b"five"]);
    }

    #[test]
    fn a_datagram_comes_as_its_medium_has_it() {
        let source = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5_000);
        for vlan in [None, Some(7)] {
            let datagram = Datagram { vlan, source, destination: GROUP, payload: b"payload" };
            let mut port = MemoryPort::new(Medium::Ethernet);
            port.push_datagram(&datagram, 3);
            assert_eq!(port.rx_burst(), 1);
            assert_eq!(datagram::parse(port.frame(0).bytes), Ok(datagram::Parsed::Udp(datagram)));
            let mut port = MemoryPort::new(Medium::Udp);
            port.push_datagram(&datagram, 3);
            assert_eq!(port.rx_burst(), 1);
            let frame = port.frame(0);
            assert_eq!((frame.bytes, frame.stamp_ns), (&b"payload"[..], 3));
            assert_eq!((frame.source, frame.destination), (*source.ip(), GROUP));
        }
    }

    #[test]
    fn control_frames_are_kept_until_asked_for_within_a_limit() {
        let mut port = MemoryPort::new(Medium::Ethernet);
        assert!(port.tx(b"one") && port.tx(b"two"));
        assert_eq!(port.take_sent(), [b"one", b"two"]);
        assert!(!port.tx(&[0; TX_BYTES_MAX + 1]));
        assert!(!MemoryPort::new(Medium::Udp).tx(b"one"));
        assert_eq!((port.counters().tx_frames, port.counters().tx_dropped), (2, 1));
    }
}
