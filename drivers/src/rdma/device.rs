//! An opened device, with the protection domain in which everything made of it lives.

use super::RdmaError;
use rdma_sys as sys;
use std::ffi::CStr;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// `IBV_LINK_LAYER_ETHERNET` (infiniband/verbs.h).
const LINK_LAYER_ETHERNET: u8 = 2;
/// What an IPv4 address begins with as a GID (::ffff:a.b.c.d).
const IPV4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];

/// Which device, and how peers reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    pub name: String,
    /// From 1.
    pub port: u8,
    /// Which of the port's addresses; `None` = on Ethernet an IPv4 one of RoCE v2 if there is one, the first on InfiniBand.
    pub gid_index: Option<u8>,
}

impl DeviceConfig {
    pub fn new(name: &str) -> DeviceConfig {
        DeviceConfig { name: name.into(), port: 1, gid_index: None }
    }
}

/// What a peer has to know of the port, and what connecting takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub number: u8,
    pub gid: [u8; 16],
    pub gid_index: u8,
    pub lid: u16,
    pub mtu: sys::ibv_mtu::Type,
    pub message_bytes_max: u32,
    pub is_ethernet: bool,
}

/// An opened device and its protection domain: a key of one `Device` opens nothing of another, even on the same hardware.
#[derive(Debug)]
pub struct Device {
    name: String,
    pub(super) context: NonNull<sys::ibv_context>,
    pub(super) domain: NonNull<sys::ibv_pd>,
    pub(super) port: Port,
}

// SAFETY: verbs may be called by any thread; the pointers are the device's own until it is dropped.
unsafe impl Send for Device {}
// SAFETY: as above: the library and the drivers lock what they share.
unsafe impl Sync for Device {}

impl Device {
    pub fn open(config: &DeviceConfig) -> Result<Arc<Device>, RdmaError> {
        let context = List::get()?.open(&config.name)?;
        let port = match Port::query(context, config) {
            Ok(port) => port,
            Err(error) => {
                // SAFETY: just opened, and nothing was made of it.
                unsafe { sys::ibv_close_device(context.as_ptr()) };
                return Err(error);
            }
        };
        // SAFETY: the context is open.
        let domain = NonNull::new(unsafe { sys::ibv_alloc_pd(context.as_ptr()) }).ok_or_else(|| {
            let cause = io::Error::last_os_error();
            // SAFETY: nothing was made of it.
            unsafe { sys::ibv_close_device(context.as_ptr()) };
            RdmaError::Setup { device: config.name.clone(), step: "making a protection domain", cause }
        })?;
        Ok(Arc::new(Device { name: config.name.clone(), context, domain, port }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port's address: on Ethernet an IPv6 address, or an IPv4 one mapped into it.
    pub fn gid(&self) -> [u8; 16] {
        self.port.gid
    }

    /// The error of a step that just failed by `errno`.
    pub(super) fn failed(&self, step: &'static str) -> RdmaError {
        RdmaError::Setup { device: self.name.clone(), step, cause: io::Error::last_os_error() }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: everything made of the device held an `Arc` of it, and so is gone.
        unsafe {
            sys::ibv_dealloc_pd(self.domain.as_ptr());
            sys::ibv_close_device(self.context.as_ptr());
        }
    }
}

impl Port {
    fn query(context: NonNull<sys::ibv_context>, config: &DeviceConfig) -> Result<Port, RdmaError> {
        let (device, port) = (&config.name, config.port);
        // SAFETY: an all-zero attribute is a valid value of that plain struct, and older drivers fill only a part of it.
        let mut attribute: sys::ibv_port_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open, the attribute a valid place for the answer.
        let result = unsafe { sys::___ibv_query_port(context.as_ptr(), port, &mut attribute) };
        if result != 0 {
            let cause = io::Error::from_raw_os_error(result);
            return Err(RdmaError::Port { device: device.clone(), port, cause });
        }
        if attribute.state != sys::ibv_port_state::IBV_PORT_ACTIVE {
            return Err(RdmaError::Down { device: device.clone(), port });
        }
        let is_ethernet = attribute.link_layer == LINK_LAYER_ETHERNET;
        let gids = Gids { context, device, port, count: attribute.gid_tbl_len.clamp(0, 256) as u16 };
        let index = match config.gid_index {
            Some(index) => Some(index),
            None if is_ethernet => gids.best(),
            None => Some(0),
        };
        let (gid_index, gid) = index
            .and_then(|index| Some((index, gids.get(index)?)))
            .ok_or_else(|| RdmaError::NoAddress { device: device.clone(), port })?;
        Ok(Port {
            number: port,
            gid,
            gid_index,
            lid: attribute.lid,
            mtu: attribute.active_mtu,
            message_bytes_max: attribute.max_msg_sz,
            is_ethernet,
        })
    }
}

/// The addresses of a port.
struct Gids<'d> {
    context: NonNull<sys::ibv_context>,
    device: &'d str,
    port: u8,
    count: u16,
}

impl Gids<'_> {
    fn get(&self, index: u8) -> Option<[u8; 16]> {
        let mut gid = sys::ibv_gid { raw: [0; 16] };
        // SAFETY: the context is open, the GID a valid place for the answer.
        let result =
            unsafe { sys::ibv_query_gid(self.context.as_ptr(), self.port, i32::from(index), &mut gid) };
        // SAFETY: every value of the bytes is valid.
        let raw = unsafe { gid.raw };
        (result == 0 && raw != [0; 16]).then_some(raw)
    }

    /// RoCE v2 is told apart from v1, which no router knows, by sysfs alone.
    fn is_v2(&self, index: u8) -> bool {
        let (device, port) = (self.device, self.port);
        let path = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/types/{index}");
        std::fs::read_to_string(path).is_ok_and(|kind| kind.trim() == "RoCE v2")
    }

    /// The first of IPv4 by RoCE v2; else the first by RoCE v2; else the first.
    fn best(&self) -> Option<u8> {
        let (mut first, mut first_v2) = (None, None);
        for index in 0..self.count {
            let index = index as u8; // below 256
            let Some(gid) = self.get(index) else { continue };
            first = first.or(Some(index));
            if self.is_v2(index) {
                if gid[..12] == IPV4_PREFIX {
                    return Some(index);
                }
                first_v2 = first_v2.or(Some(index));
            }
        }
        first_v2.or(first)
    }
}

/// The names of this machine's devices.
pub fn device_names() -> Result<Vec<String>, RdmaError> {
    Ok(List::get()?.devices().map(|(name, _)| name).collect())
}

/// This machine's devices, as the library lists them.
struct List {
    start: NonNull<*mut sys::ibv_device>,
    devices: usize,
}

impl List {
    /// At least one device.
    fn get() -> Result<List, RdmaError> {
        let mut devices = 0;
        // SAFETY: a valid place for the number.
        let start = unsafe { sys::ibv_get_device_list(&mut devices) };
        let Some(start) = NonNull::new(start) else {
            return Err(RdmaError::NoDevice { cause: io::Error::last_os_error().to_string() });
        };
        let list = List { start, devices: devices.max(0) as usize };
        if list.devices == 0 {
            return Err(RdmaError::NoDevice { cause: "the list is empty".into() });
        }
        Ok(list)
    }

    fn devices(&self) -> impl Iterator<Item = (String, *mut sys::ibv_device)> {
        (0..self.devices).map(|index| {
            // SAFETY: the list holds so many devices until it is freed; a name is NUL-terminated and lives as long.
            unsafe {
                let device = *self.start.as_ptr().add(index);
                let name = CStr::from_ptr(sys::ibv_get_device_name(device));
                (name.to_string_lossy().into_owned(), device)
            }
        })
    }

    fn open(&self, name: &str) -> Result<NonNull<sys::ibv_context>, RdmaError> {
        let Some((_, device)) = self.devices().find(|(present, _)| present == name) else {
            let present: Vec<String> = self.devices().map(|(name, _)| name).collect();
            return Err(RdmaError::Absent { device: name.into(), present: present.join(", ") });
        };
        // SAFETY: the device is in the list, which is not freed yet; the context outlives that.
        NonNull::new(unsafe { sys::ibv_open_device(device) })
            .ok_or_else(|| RdmaError::Open { device: name.into(), cause: io::Error::last_os_error() })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the library made it, and no pointer into it is kept.
        unsafe { sys::ibv_free_device_list(self.start.as_ptr()) };
    }
}
