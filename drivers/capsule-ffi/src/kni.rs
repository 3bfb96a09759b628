//! The kernel NIC interface, which Debian's DPDK 22.11 is built without, and later ones no longer have. A port that asks for it
//! gets an error at the start, so whatever needs one is never called.

#![allow(non_camel_case_types)]

use crate::bindings::{rte_mbuf, rte_mempool};
use std::ffi::{c_char, c_int, c_uint};
use std::ptr::null_mut;

/// There is none.
pub struct rte_kni {
    _private: [u8; 0],
}

#[derive(Default)]
pub struct rte_kni_conf {
    pub name: [c_char; 32],
    pub group_id: u16,
    pub mbuf_size: c_uint,
    pub mac_addr: [u8; 6],
}

#[derive(Default)]
pub struct rte_kni_ops {
    pub port_id: u16,
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

/// A negative errno: not supported.
///
/// # Safety
/// Touches nothing, as all here.
pub unsafe fn rte_kni_init(_max: c_uint) -> c_int {
    -libc::ENOTSUP
}

/// Null: there is none.
///
/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_alloc(
    _pool: *mut rte_mempool,
    _conf: *const rte_kni_conf,
    _ops: *mut rte_kni_ops,
) -> *mut rte_kni {
    null_mut()
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_get_name(_kni: *const rte_kni) -> *const c_char {
    c"".as_ptr()
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_handle_request(_kni: *mut rte_kni) -> c_int {
    -libc::ENOTSUP
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_rx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_tx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_release(_kni: *mut rte_kni) -> c_int {
    -libc::ENOTSUP
}

/// # Safety
/// Touches nothing.
pub unsafe fn rte_kni_close() {}
