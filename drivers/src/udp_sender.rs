//! Sends datagrams in batches: what the simulated exchange speaks over kernel UDP.

use crate::interface::Interface;
use crate::udp_socket::{bind, in_addr, set, sockaddr, udp_socket};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

/// Datagrams of one system call.
pub const SEND_BATCH_MAX: usize = 64;

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'d> {
    pub destination: SocketAddrV4,
    pub bytes: &'d [u8],
}

/// Why a sender was not set up.
#[derive(Debug, thiserror::Error)]
#[error("sending on {interface}: {step}: {cause}")]
pub struct SenderError {
    interface: String,
    step: &'static str,
    cause: io::Error,
}

/// A socket that sends multicast out of one interface, from that interface's address.
#[derive(Debug)]
pub struct UdpSender {
    fd: OwnedFd,
}

impl UdpSender {
    /// `hops_max` is the multicast TTL: 1 stays on the link. Receivers on this machine hear it, too.
    pub fn new(interface: &Interface, hops_max: u8) -> Result<Self, SenderError> {
        let error = |step| move |cause| SenderError { interface: interface.to_string(), step, cause };
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
        Ok(UdpSender { fd })
    }

    /// Sends all `datagrams`, waiting for room in the socket's buffer where there is none. On an error some of them
    /// have been sent.
    pub fn send(&mut self, datagrams: &[Datagram<'_>]) -> io::Result<()> {
        for batch in datagrams.chunks(SEND_BATCH_MAX) {
            self.send_batch(batch)?;
        }
        Ok(())
    }

    fn send_batch(&mut self, datagrams: &[Datagram<'_>]) -> io::Result<()> {
        // SAFETY: all-zero is valid for these plain structs.
        let mut headers: [libc::mmsghdr; SEND_BATCH_MAX] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut addresses: [libc::sockaddr_in; SEND_BATCH_MAX] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut payloads: [libc::iovec; SEND_BATCH_MAX] = unsafe { std::mem::zeroed() };
        let (addresses, payloads) = (addresses.as_mut_ptr(), payloads.as_mut_ptr());
        for (index, datagram) in datagrams.iter().enumerate() {
            let header = &mut headers[index].msg_hdr;
            // SAFETY: `index` is below SEND_BATCH_MAX, as the indexing above has checked.
            let (address, payload) = unsafe { (addresses.add(index), payloads.add(index)) };
            // SAFETY: both point to elements of live arrays.
            unsafe {
                *address = sockaddr(datagram.destination);
                // sendmmsg only reads through it.
                (*payload).iov_base = datagram.bytes.as_ptr().cast_mut().cast();
                (*payload).iov_len = datagram.bytes.len();
            }
            header.msg_name = address.cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = payload;
            header.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < datagrams.len() {
            let rest = &mut headers[sent..datagrams.len()];
            // SAFETY: each header points to an address and a payload that live through the call.
            let count =
                unsafe { libc::sendmmsg(self.fd.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match count {
                1.. => sent += count as usize,
                0 => return Err(io::ErrorKind::WriteZero.into()),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}
