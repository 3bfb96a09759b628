//! Sends datagrams in batches: what the simulated exchange and a replay speak over kernel UDP.

use crate::interface::Interface;
use crate::mmsg::{self, SEND_BATCH_MAX};
use crate::udp_socket::{bind, in_addr, set, sockaddr, udp_socket};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

/// Datagrams that the kernel cuts one buffer into at most: UDP_MAX_SEGMENTS of Linux up to 6.8, later ones allow more.
const SEGMENTS_MAX: usize = 64;
/// And their bytes: with its headers the whole must be an IPv4 packet.
const SEGMENTED_BYTES_MAX: usize = dataplane::wire::udp::PAYLOAD_BYTES_MAX;
const CONTROL_BYTES: usize = size_of::<SegmentBytes>();

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'d> {
    pub destination: SocketAddrV4,
    pub bytes: &'d [u8],
}

/// Why a sender was not set up.
#[derive(Debug, thiserror::Error)]
#[error("sending on {interface}: {step}: {cause}{cure}")]
pub struct SenderError {
    pub(crate) interface: String,
    pub(crate) step: &'static str,
    pub(crate) cause: io::Error,
    pub(crate) cure: &'static str,
}

/// Whether datagrams of one length to one destination, one behind the other, go to the kernel as one buffer (UDP
/// generic segmentation offload).
#[derive(Debug)]
enum Segmentation {
    Off,
    On,
    /// The kernel or the interface can't: for this reason it is off now.
    Refused(io::Error),
}

/// A socket that sends multicast out of one interface, from that interface's address.
#[derive(Debug)]
pub struct UdpSender {
    fd: OwnedFd,
    segmentation: Segmentation,
    /// Datagrams that went in a common buffer.
    segments: u64,
}

/// The control message UDP_SEGMENT (udp(7)), padded as CMSG_SPACE wants it.
#[derive(Clone, Copy)]
#[repr(C)]
struct SegmentBytes {
    header: libc::cmsghdr,
    bytes: u16,
    padding: [u8; size_of::<usize>() - size_of::<u16>()],
}

// CMSG_LEN counts no padding behind the header, so there must be none.
const _: () = assert!(std::mem::offset_of!(SegmentBytes, bytes) == size_of::<libc::cmsghdr>());

impl SegmentBytes {
    fn new(bytes: u16) -> SegmentBytes {
        // SAFETY: all-zero is valid for this plain struct.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        SegmentBytes { header, bytes, padding: Default::default() }
    }
}

impl UdpSender {
    /// `hops_max` is the multicast TTL: 1 stays on the link. Receivers on this machine hear it, too.
    pub fn new(interface: &Interface, hops_max: u8) -> Result<Self, SenderError> {
        let error =
            |step| move |cause| SenderError { interface: interface.to_string(), step, cause, cure: "" };
        let fd = udp_socket().map_err(error("socket"))?;
        let route = libc::ip_mreqn {
            imr_multiaddr: in_addr(Ipv4Addr::UNSPECIFIED),
            imr_address: in_addr(interface.address.unwrap_or(Ipv4Addr::UNSPECIFIED)),
            imr_ifindex: interface.index as libc::c_int,
        };
        let (on, hops): (libc::c_int, libc::c_int) = (1, hops_max.into());
        set(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &route).map_err(error("IP_MULTICAST_IF"))?;
        set(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, &on).map_err(error("IP_MULTICAST_LOOP"))?;
        set(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, &hops).map_err(error("IP_MULTICAST_TTL"))?;
        if let Some(address) = interface.address {
            bind(&fd, SocketAddrV4::new(address, 0)).map_err(error("bind"))?;
        }
        Ok(UdpSender { fd, segmentation: Segmentation::Off, segments: 0 })
    }

    /// From now on datagrams that may go in a common buffer do, as long as the kernel takes such.
    pub fn segment(&mut self) {
        self.segmentation = Segmentation::On;
    }

    /// Datagrams that went in a common buffer.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Why the kernel did not take a common buffer, if it was given one.
    pub fn segmentation_error(&self) -> Option<&io::Error> {
        match &self.segmentation {
            Segmentation::Refused(error) => Some(error),
            Segmentation::Off | Segmentation::On => None,
        }
    }

    /// Sends `datagrams` in their order, waiting for room where there is none, and returns how many have gone: fewer
    /// than all if the next one can't go, which the next call then tells. An error is that of the first one.
    pub fn send(&mut self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        for batch in datagrams.chunks(SEND_BATCH_MAX) {
            let mut gone = 0;
            while gone < batch.len() {
                match self.send_batch(&batch[gone..]) {
                    Ok(count) => gone += count,
                    Err(_) if sent + gone > 0 => return Ok(sent + gone),
                    Err(error) => return Err(error),
                }
            }
            sent += gone;
        }
        Ok(sent)
    }

    fn send_batch(&mut self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        let segments_max = if matches!(self.segmentation, Segmentation::On) { SEGMENTS_MAX } else { 1 };
        let (result, first_run) = send_runs(&self.fd, datagrams, segments_max, &mut self.segments);
        match result {
            Err(error) if first_run > 1 && is_refusal(&error) => {
                let singly = send_runs(&self.fd, datagrams, 1, &mut self.segments).0;
                // If they can't go one by one either, it is not for the common buffer.
                if singly.is_ok() {
                    self.segmentation = Segmentation::Refused(error);
                }
                singly
            }
            result => result,
        }
    }
}

/// Sends one message for each run of datagrams that may go together, and returns how many datagrams have gone, and
/// how many the first run has.
fn send_runs(
    fd: &OwnedFd,
    datagrams: &[Datagram<'_>],
    segments_max: usize,
    segments: &mut u64,
) -> (io::Result<usize>, usize) {
    assert!((1..=SEND_BATCH_MAX).contains(&datagrams.len()));
    // SAFETY: all-zero is valid for these plain structs.
    let mut headers: [libc::mmsghdr; SEND_BATCH_MAX] = unsafe { std::mem::zeroed() };
    let mut addresses = [sockaddr(datagrams[0].destination); SEND_BATCH_MAX];
    let mut payloads = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_BATCH_MAX];
    let mut controls = [SegmentBytes::new(0); SEND_BATCH_MAX];
    for (payload, datagram) in payloads.iter_mut().zip(datagrams) {
        // sendmmsg only reads through it.
        *payload = libc::iovec {
            iov_base: datagram.bytes.as_ptr().cast_mut().cast(),
            iov_len: datagram.bytes.len(),
        };
    }
    let payloads = payloads;
    let mut lengths = [0; SEND_BATCH_MAX];
    let (mut runs, mut first) = (0, 0);
    let pieces = addresses.iter_mut().zip(&mut controls).zip(&mut headers);
    for ((address, control), header) in pieces {
        if first == datagrams.len() {
            break;
        }
        let length = run_length(&datagrams[first..], segments_max);
        *address = sockaddr(datagrams[first].destination);
        let header = &mut header.msg_hdr;
        header.msg_name = std::ptr::from_mut(address).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = payloads[first..first + length].as_ptr().cast_mut();
        header.msg_iovlen = length as _;
        if length > 1 {
            *control = SegmentBytes::new(datagrams[first].bytes.len() as u16);
            header.msg_control = std::ptr::from_mut(control).cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        (lengths[runs], runs, first) = (length, runs + 1, first + length);
    }
    // SAFETY: each header points to an address, payloads and a control message that live through the call.
    let result = unsafe { mmsg::send(fd, &mut headers[..runs]) };
    let gone = result.map(|count| {
        let together = lengths[..count].iter().filter(|length| **length > 1);
        *segments += together.map(|length| *length as u64).sum::<u64>();
        lengths[..count].iter().sum()
    });
    (gone, lengths[0])
}

/// How many of the first `datagrams` may go in a common buffer: all of one length but the last, which may be shorter.
fn run_length(datagrams: &[Datagram<'_>], segments_max: usize) -> usize {
    let Datagram { destination, bytes } = datagrams[0];
    let (mut length, mut total_bytes) = (1, bytes.len());
    for next in datagrams[1..].iter().take(segments_max - 1) {
        total_bytes += next.bytes.len();
        let is_fit = next.destination == destination
            && (1..=bytes.len()).contains(&next.bytes.len())
            && total_bytes <= SEGMENTED_BYTES_MAX;
        if !is_fit {
            break;
        }
        length += 1;
        if next.bytes.len() < bytes.len() {
            break;
        }
    }
    length
}

/// What kernels say that can't segment at all, or not on this interface, or not into pieces of this length.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_one_length_and_destination_and_fit_a_packet() {
        let bytes = [0; 2_000];
        let run = |parts: &[(u16, usize)], segments_max| {
            let datagram = |(port, length): &(u16, usize)| Datagram {
                destination: SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port),
                bytes: &bytes[..*length],
            };
            run_length(&parts.iter().map(datagram).collect::<Vec<_>>(), segments_max)
        };
        assert_eq!(run(&[(1, 10), (1, 10), (1, 10)], 64), 3);
        assert_eq!(run(&[(1, 10), (1, 10), (1, 10)], 2), 2);
        assert_eq!(run(&[(1, 10), (1, 10)], 1), 1, "switched off");
        assert_eq!(run(&[(1, 10), (1, 10), (1, 9), (1, 9)], 64), 3, "the last may be shorter");
        assert_eq!(run(&[(1, 10), (1, 11)], 64), 1);
        assert_eq!(run(&[(1, 10), (2, 10)], 64), 1);
        assert_eq!(run(&[(1, 0), (1, 0)], 64), 1, "nothing is cut into pieces of 0");
        assert_eq!(run(&[(1, 10), (1, 0)], 64), 1, "an empty datagram would be lost in another");
        assert_eq!(run(&[(1, 2_000); 64], 64), 32, "65,507 bytes");
        assert_eq!(run(&[(1, 2); 64], 64), 64);
    }
}
