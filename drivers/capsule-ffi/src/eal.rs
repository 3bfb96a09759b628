//! The environment's options, of which capsule gives two by names that are gone since DPDK 20.11.

use crate::bindings;
use std::ffi::{CStr, c_char, c_int};

/// # Safety
/// As DPDK's: `argv` are `argc` pointers to strings that end with NUL, and it is called once a process.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: the caller gives `argc` pointers there, which nobody else has during the call.
    let given = unsafe { std::slice::from_raw_parts(argv, count) };
    let renamed = |argument: &*mut c_char| {
        // SAFETY: the caller's pointers are to strings that end with NUL.
        let name = unsafe { CStr::from_ptr(*argument) };
        match name.to_bytes() {
            b"--master-lcore" => c"--main-lcore".as_ptr().cast_mut(),
            b"--pci-whitelist" => c"--allow".as_ptr().cast_mut(),
            _ => *argument,
        }
    };
    let mut arguments: Vec<*mut c_char> = given.iter().map(renamed).collect();
    // SAFETY: `argc` strings that live through the call; EAL may order the pointers anew, which are ours, and writes to no
    // string.
    unsafe { bindings::rte_eal_init(argc, arguments.as_mut_ptr()) }
}
