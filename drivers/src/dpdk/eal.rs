//! The environment abstraction layer: DPDK's memory, started once a process.

use super::DpdkError;
use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where packet buffers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EalMemory {
    Hugepages,
    /// Ordinary pages, for tests and small machines: more TLB misses, and no physical NIC.
    NoHuge {
        megabytes: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    pub memory: EalMemory,
    /// The NICs that DPDK may take, by PCI address; all others are left alone.
    pub pci_addresses: Vec<String>,
}

/// DPDK, running. Ports hold it; it ends with the last of them.
#[derive(Debug)]
pub struct Eal {
    _ended_on_drop: (),
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// `0000:3b:00.0`, the domain may be left out.
pub fn is_pci_address(device: &str) -> bool {
    let parts: Vec<&str> = device.split([':', '.']).collect();
    let hex = |part: &&str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let widths: &[usize] = if parts.len() == 4 { &[4, 2, 2, 1] } else { &[2, 2, 1] };
    device.contains('.')
        && parts.len() == widths.len()
        && parts.iter().zip(widths).all(|(part, width)| hex(part, *width))
}

/// The text of an error number, as DPDK returns it: negative, or 0 for `rte_errno`.
pub(super) fn error_text(result: i32) -> String {
    // SAFETY: reads the calling thread's own variable.
    let number = if result < 0 { -result } else { unsafe { dpdk_sys::tickplane_errno() } };
    // SAFETY: rte_strerror returns a NUL-terminated text that lives until the thread's next call.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(number)) };
    text.to_string_lossy().into_owned()
}

impl Eal {
    /// Starts DPDK. The calling thread keeps the cores that it had.
    pub fn start(config: &EalConfig) -> Result<Arc<Eal>, DpdkError> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::Twice);
        }
        let cores = affinity();
        let arguments = arguments(config, cores.as_ref());
        let texts: Vec<CString> =
            arguments.into_iter().map(|text| CString::new(text).expect("no argument holds a NUL")).collect();
        // DPDK may reorder the pointers and keeps some of them.
        let pointers: Vec<*mut c_char> = texts.iter().map(|text| text.clone().into_raw()).collect();
        let pointers = Box::leak(pointers.into_boxed_slice());
        // SAFETY: as many pointers as told, to NUL-terminated texts that are never freed.
        let result = unsafe { dpdk_sys::rte_eal_init(pointers.len() as i32, pointers.as_mut_ptr()) };
        let cause = error_text(0);
        if let Some(cores) = cores {
            // SAFETY: sets the calling thread's own affinity to what it was before DPDK pinned it.
            unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &cores) };
        }
        if result < 0 {
            return Err(DpdkError::Start { cause });
        }
        Ok(Arc::new(Eal { _ended_on_drop: () }))
    }

    /// What DPDK this is.
    pub fn version(&self) -> String {
        // SAFETY: a constant, NUL-terminated text.
        unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: every port holds the Eal, so none is left, and nothing of DPDK is called after this.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

fn affinity() -> Option<libc::cpu_set_t> {
    // SAFETY: all zero is an empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for the write and as long as told.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cores) };
    (result == 0).then_some(cores)
}

fn arguments(config: &EalConfig, cores: Option<&libc::cpu_set_t>) -> Vec<String> {
    let first = cores.and_then(|cores| {
        // SAFETY: the index is below CPU_SETSIZE.
        (0..libc::CPU_SETSIZE as usize).find(|core| unsafe { libc::CPU_ISSET(*core, cores) })
    });
    let mut arguments: Vec<String> =
        ["tickplane", "--no-telemetry", "--log-level=warning", "-l"].map(str::to_owned).into();
    arguments.push(first.unwrap_or(0).to_string());
    match config.memory {
        // Nothing is left in the file system, whatever happens to the process, and others may run beside it.
        EalMemory::Hugepages => arguments.push("--in-memory".to_owned()),
        EalMemory::NoHuge { megabytes } => {
            let without = ["--no-huge", "--no-shconf", "-m"].map(str::to_owned);
            arguments.extend(without.into_iter().chain([megabytes.to_string()]));
        }
    }
    if config.pci_addresses.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    for address in &config.pci_addresses {
        arguments.extend(["-a".to_owned(), address.clone()]);
    }
    arguments
}

/// Gives the calling thread its own cache of packet buffers. To be called once by the thread that polls.
pub fn register_thread() -> Result<(), DpdkError> {
    // SAFETY: DPDK allows any thread to register; it fails if the thread already is, or no place is left.
    if unsafe { dpdk_sys::rte_thread_register() } == 0 {
        return Ok(());
    }
    Err(DpdkError::Start { cause: error_text(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_device_strings() {
        for address in ["0000:3b:00.0", "3b:02.7"] {
            assert!(is_pci_address(address), "{address}");
        }
        for other in ["net_null0", "net_af_xdp0,iface=eth0.100", "0000:3b:00", "zz:00.0", ""] {
            assert!(!is_pci_address(other), "{other}");
        }
    }
}
