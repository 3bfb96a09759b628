//! sendmmsg(2): many packets by one system call, and what its errors mean.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Packets of one system call.
pub const SEND_BATCH_MAX: usize = 64;
/// How often sending is tried again when the device's queue is full, a millisecond apart.
const ATTEMPTS_MAX: u32 = 1_000;

/// What a failure to send says about the packets behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// This packet can't go: too long for the interface, no route, forbidden. The next one may.
    Packet,
    /// The interface or the socket is of no use any more, or its queue stays full.
    Interface,
}

impl SendFault {
    pub fn of(error: &io::Error) -> SendFault {
        match error.raw_os_error() {
            Some(
                libc::EMSGSIZE
                | libc::EINVAL
                | libc::EACCES
                | libc::EPERM
                | libc::ENETUNREACH
                | libc::EHOSTUNREACH,
            ) => SendFault::Packet,
            _ => SendFault::Interface,
        }
    }
}

/// Sends what `headers` point to, waits up to a second for room in the device's queue, and returns how many have gone:
/// fewer than all if the next one can't go, which the next call then tells. An error is that of the first one.
///
/// # Safety
/// Whatever each header points to is valid for reads through the call.
pub(crate) unsafe fn send(fd: &OwnedFd, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: the headers are writable, and what they point to is readable, as the caller promises.
        let count =
            unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), headers.len() as libc::c_uint, 0) };
        match count {
            1.. => return Ok(count as usize),
            0 => return Err(io::ErrorKind::WriteZero.into()),
            _ => {}
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ENOBUFS | libc::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            _ => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOBUFS))
}
