//! Sends Ethernet frames as they are, past the kernel's protocols: what a replay puts onto an interface byte by byte.

use crate::interface::Interface;
use crate::mmsg::{self, SEND_BATCH_MAX};
use crate::udp_sender::SenderError;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PRIVILEGE: &str = "; sending frames needs CAP_NET_RAW: run as root, or once `setcap cap_net_raw+ep` on the tickplane program";

/// A packet socket (packet(7)) that sends on one interface and receives nothing.
#[derive(Debug)]
pub struct FrameSender {
    fd: OwnedFd,
}

impl FrameSender {
    pub fn new(interface: &Interface) -> Result<Self, SenderError> {
        let error = |step| {
            move |cause: io::Error| {
                let cure = if cause.kind() == io::ErrorKind::PermissionDenied { PRIVILEGE } else { "" };
                SenderError { interface: interface.to_string(), step, cause, cure }
            }
        };
        // Protocol 0: no frame is received.
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(error("packet socket")(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made `fd`, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all-zero is valid for this plain struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_ifindex = interface.index as libc::c_int;
        let bytes = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a `sockaddr_ll` of that size.
        match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), bytes) } {
            0 => Ok(FrameSender { fd }),
            _ => Err(error("bind")(io::Error::last_os_error())),
        }
    }

    /// Sends `frames`, which begin with an Ethernet header and have no check sequence, in their order, waiting for room
    /// in the device's queue, and returns how many have gone: fewer than all if the next one can't go, which the next
    /// call then tells. An error is that of the first one.
    pub fn send(&mut self, frames: &[&[u8]]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < frames.len() {
            let end = frames.len().min(sent + SEND_BATCH_MAX);
            match self.send_batch(&frames[sent..end]) {
                Ok(count) => sent += count,
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn send_batch(&mut self, frames: &[&[u8]]) -> io::Result<usize> {
        // SAFETY: all-zero is valid for these plain structs.
        let mut headers: [libc::mmsghdr; SEND_BATCH_MAX] = unsafe { std::mem::zeroed() };
        let mut payloads = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_BATCH_MAX];
        for ((header, payload), frame) in headers.iter_mut().zip(&mut payloads).zip(frames) {
            // sendmmsg only reads through it.
            *payload = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            header.msg_hdr.msg_iov = payload;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each header points to a payload that lives through the call.
        unsafe { mmsg::send(&self.fd, &mut headers[..frames.len()]) }
    }
}
