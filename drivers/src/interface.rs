//! A network interface of the kernel, by its name or by one of its addresses.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;

/// A network interface; `address` is the one it was found by, or its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub address: Option<Ipv4Addr>,
}

#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    #[error(
        "no interface has the name or the IPv4 address \"{wanted}\"; this machine (in this network \
             namespace) has {present}"
    )]
    Unknown { wanted: String, present: String },
    #[error("the kernel did not list its interfaces: {0}")]
    List(io::Error),
}

impl Interface {
    /// Finds an interface by its name (`eth0`) or by its IPv4 address (`192.0.2.2`).
    pub fn find(name_or_address: &str) -> Result<Interface, InterfaceError> {
        let present = Interface::list().map_err(InterfaceError::List)?;
        let address: Option<Ipv4Addr> = name_or_address.parse().ok();
        let found = present.iter().find(|interface| match address {
            Some(_) => interface.address == address,
            None => interface.name == name_or_address,
        });
        match found {
            Some(found) => Ok(found.clone()),
            None => {
                let present: Vec<_> = present.iter().map(Interface::to_string).collect();
                let wanted = name_or_address.to_owned();
                Err(InterfaceError::Unknown { wanted, present: present.join(", ") })
            }
        }
    }

    /// Every interface, once for each of its IPv4 addresses; those without one come last.
    pub fn list() -> io::Result<Vec<Interface>> {
        let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
        // SAFETY: `head` is valid for the write.
        if unsafe { libc::getifaddrs(&mut head) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut interfaces: Vec<Interface> = Vec::new();
        let mut entry = head;
        // SAFETY: the list ends with NULL, and its entries live until `freeifaddrs`.
        while let Some(ifaddrs) = unsafe { entry.as_ref() } {
            entry = ifaddrs.ifa_next;
            // SAFETY: every entry has a NUL-terminated name.
            let name = unsafe { CStr::from_ptr(ifaddrs.ifa_name) };
            // SAFETY: `name` is NUL-terminated.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            // SAFETY: `ifa_addr` is NULL or an address of an entry that lives.
            let address = unsafe { ipv4(ifaddrs.ifa_addr) };
            interfaces.push(Interface { name: name.to_string_lossy().into_owned(), index, address });
        }
        // SAFETY: the list that `getifaddrs` made, freed once; nothing borrows from it any more.
        unsafe { libc::freeifaddrs(head) };
        let (mut with, without): (Vec<_>, Vec<_>) =
            interfaces.into_iter().partition(|interface| interface.address.is_some());
        for interface in without {
            if with.iter().all(|known| known.name != interface.name) {
                with.push(interface);
            }
        }
        Ok(with)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} ({address})", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// # Safety
/// `address` is NULL or points to an address of the family that it tells.
unsafe fn ipv4(address: *const libc::sockaddr) -> Option<Ipv4Addr> {
    // SAFETY: as the caller promises.
    let family = unsafe { address.as_ref() }?.sa_family;
    if i32::from(family) != libc::AF_INET {
        return None;
    }
    // SAFETY: of family AF_INET, so it is a `sockaddr_in`; it may lie unaligned behind the plain `sockaddr`.
    let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_by_name_and_by_address() {
        let by_address = Interface::find("127.0.0.1").unwrap();
        assert_eq!(Interface::find(&by_address.name).unwrap(), by_address);
        assert!(by_address.index > 0);
    }

    #[test]
    fn an_unknown_interface_is_told_with_those_that_exist() {
        for wanted in ["nowhere0", "198.51.100.77"] {
            let message = Interface::find(wanted).unwrap_err().to_string();
            assert!(message.contains(wanted) && message.contains("127.0.0.1"), "{message}");
        }
    }
}
