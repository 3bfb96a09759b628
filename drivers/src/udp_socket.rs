//! One kernel socket that receives one (group, port) from any source or from one.

use crate::udp::{Subscription, UdpConfig, UdpError};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    pub(crate) destination: SocketAddrV4,
    pub(crate) receive_buffer_bytes: usize,
    /// The kernel's count of drops (SO_RXQ_OVFL) as last told.
    pub(crate) overflow: u32,
}

impl Socket {
    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// A socket on its way.
pub(crate) struct Setup<'c> {
    config: &'c UdpConfig,
    subscription: Subscription,
    fd: OwnedFd,
}

impl<'c> Setup<'c> {
    pub(crate) fn new(config: &'c UdpConfig, subscription: Subscription) -> Result<Self, UdpError> {
        let fd = udp_socket().map_err(|cause| UdpError::Socket {
            destination: SocketAddrV4::new(subscription.membership.group, subscription.port),
            interface: config.interface.to_string(),
            step: "socket",
            cause,
            cure: "",
        })?;
        Ok(Setup { config, subscription, fd })
    }

    pub(crate) fn socket(self) -> Result<Socket, UdpError> {
        let (on, off): (libc::c_int, libc::c_int) = (1, 0);
        // Lines of several feeds, and several appliances on one machine, may share a group.
        self.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, &on, "SO_REUSEADDR", "")?;
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on, "SO_TIMESTAMPNS", "")?;
        self.set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &on, "SO_RXQ_OVFL", "")?;
        let receive_buffer_bytes = self.receive_buffer()?;
        // Only what this socket has joined, not what any process of the machine has.
        self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &off, "IP_MULTICAST_ALL", "")?;
        let destination = self.destination();
        bind(&self.fd, destination).map_err(|cause| {
            self.error(
                "bind",
                cause,
                "; is another program bound to the same port, alone or on all addresses?",
            )
        })?;
        if destination.ip().is_multicast() {
            self.join()?;
        }
        let port = local_port(&self.fd).map_err(|cause| self.error("getsockname", cause, ""))?;
        let destination = SocketAddrV4::new(*destination.ip(), port);
        Ok(Socket { fd: self.fd, destination, receive_buffer_bytes, overflow: 0 })
    }

    fn join(&self) -> Result<(), UdpError> {
        let cure =
            "; is the interface up? (ip link); are too many groups joined? (net.ipv4.igmp_max_memberships)";
        let interface = &self.config.interface;
        let group = in_addr(self.subscription.membership.group);
        match self.subscription.membership.source {
            None => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: group,
                    imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
                    imr_ifindex: interface.index as libc::c_int,
                };
                self.set(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request, "IP_ADD_MEMBERSHIP", cure)
            }
            Some(source) => {
                let Some(address) = interface.address else {
                    let group = self.subscription.membership.group;
                    return Err(UdpError::NoAddress { interface: interface.name.clone(), group });
                };
                let request = libc::ip_mreq_source {
                    imr_multiaddr: group,
                    imr_interface: in_addr(address),
                    imr_sourceaddr: in_addr(source),
                };
                let option = libc::IP_ADD_SOURCE_MEMBERSHIP;
                self.set(libc::IPPROTO_IP, option, &request, "IP_ADD_SOURCE_MEMBERSHIP", cure)
            }
        }
    }

    /// Past `net.core.rmem_max` where the process may, else up to it; returns what was reached.
    fn receive_buffer(&self) -> Result<usize, UdpError> {
        let wanted = self.config.receive_buffer_bytes.min(libc::c_int::MAX as usize / 2) as libc::c_int;
        if set(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &wanted).is_err() {
            self.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &wanted, "SO_RCVBUF", "")?;
        }
        let mut doubled: libc::c_int = 0;
        let mut length = size_of_val(&doubled) as libc::socklen_t;
        let target = (&raw mut doubled).cast();
        // SAFETY: `doubled` is valid for a write of `length` bytes.
        let result = unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, target, &mut length)
        };
        if result != 0 {
            return Err(self.error("SO_RCVBUF", io::Error::last_os_error(), ""));
        }
        // The kernel doubles what it is asked for, to allow for its own overhead (socket(7)).
        Ok(doubled as usize / 2)
    }

    fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.subscription.membership.group, self.subscription.port)
    }

    fn set<T>(
        &self,
        level: i32,
        option: i32,
        value: &T,
        step: &'static str,
        cure: &'static str,
    ) -> Result<(), UdpError> {
        set(&self.fd, level, option, value).map_err(|cause| self.error(step, cause, cure))
    }

    fn error(&self, step: &'static str, cause: io::Error, cure: &'static str) -> UdpError {
        let interface = self.config.interface.to_string();
        UdpError::Socket { destination: self.destination(), interface, step, cause, cure }
    }
}

/// A UDP socket without an address yet.
pub(crate) fn udp_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd`, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt` with a plain C value.
pub(crate) fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for its own size; the kernel checks that against the option.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), bytes) }
    {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn bind(fd: &OwnedFd, address: SocketAddrV4) -> io::Result<()> {
    let address = sockaddr(address);
    let bytes = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a `sockaddr_in` of that size.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn local_port(fd: &OwnedFd) -> io::Result<u16> {
    let mut address = sockaddr(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut bytes = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is valid for a write of `bytes` bytes.
    match unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &mut bytes) } {
        0 => Ok(u16::from_be(address.sin_port)),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: in_addr(*address.ip()),
        sin_zero: [0; 8],
    }
}

pub(crate) fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(address).to_be() }
}
