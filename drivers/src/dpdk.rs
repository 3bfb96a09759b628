//! DPDK: devices that are polled past the kernel.

mod device;
mod eal;
mod port;
mod stamps;

pub use device::{DpdkConfig, MulticastFilter};
pub use eal::{Eal, EalConfig, EalMemory, is_pci_address, register_thread};
pub use port::DpdkPort;

/// What went wrong while a device was set up, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    #[error("DPDK can be started once a process, and was")]
    Twice,
    #[error(
        "DPDK did not start ({cause}): it needs root, and free huge pages (echo 256 > \
         /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages) unless memory = \"no-huge\"; its own messages are above"
    )]
    Start { cause: String },
    #[error(
        "device `{device}`: {cause}: is it a DPDK device string (net_af_xdp0,iface=eth1) or the PCI address of a NIC \
             bound to vfio-pci, and not in use?"
    )]
    Probe { device: String, cause: String },
    #[error("device `{device}` started without a port: its driver gave up; its own messages are above")]
    NoPort { device: String },
    #[error("device `{device}`: {what} = {value}: the driver takes at most {max}")]
    Limit { device: String, what: &'static str, value: u64, max: u64 },
    #[error("device `{device}`: {step}: {cause}")]
    Setup { device: String, step: &'static str, cause: String },
    #[error(
        "device `{device}`: no memory for {mbufs} packet buffers ({cause}): reserve more huge pages, or set fewer mbufs"
    )]
    Mbufs { device: String, mbufs: u32, cause: String },
}
