//! A device, from its name to its started queues.

use super::DpdkError;
use super::eal::error_text;
use dataplane::limits::{BURST_MAX, RX_QUEUES_MAX};
use dataplane::wire::ethernet::{MacAddress, multicast_mac};
use dpdk_sys as sys;
use std::ffi::{CStr, CString};
use std::net::Ipv4Addr;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

const TX_DESCRIPTORS: u16 = 256;
/// Packet buffers that each thread keeps for itself.
const MBUF_CACHE: u32 = 256;
/// Ethernet header, two VLAN tags and the check sequence.
const FRAME_OVERHEAD_BYTES: u32 = 14 + 8 + 4;
/// Every host is in this group; IGMP's queries go to it.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// DPDK sets devices up and takes them down one at a time.
static SET_UP: Mutex<()> = Mutex::new(());
/// Each pool has its own name, whatever became of the port that had this number before.
static POOLS: AtomicU32 = AtomicU32::new(0);

/// How a DPDK port is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkConfig {
    /// An EAL device string (`net_af_xdp0,iface=eth1`) or a PCI address.
    pub device: String,
    pub rx_queues: u16,
    /// Of each receive queue.
    pub rx_descriptors: u16,
    pub mbufs: u32,
    /// The longest IP packet; longer frames are dropped.
    pub mtu: u16,
    /// Frames of one burst.
    pub burst: usize,
    pub hardware_timestamp: bool,
    /// Multicast groups that the device's filter lets through.
    pub groups: Vec<Ipv4Addr>,
}

impl DpdkConfig {
    pub fn new(device: &str) -> DpdkConfig {
        DpdkConfig {
            device: device.to_owned(),
            rx_queues: 1,
            rx_descriptors: 1_024,
            mbufs: 16_383,
            mtu: 1_500,
            burst: 64,
            hardware_timestamp: false,
            groups: Vec::new(),
        }
    }
}

/// How the device lets multicast through: the narrowest way that it offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MulticastFilter {
    /// By the groups' MAC addresses.
    Groups,
    AllMulticast,
    Promiscuous,
    /// The device can't be told; a virtual one lets everything through.
    Unfiltered,
}

/// A started device. Dropping it stops and removes it, and frees its packet buffers.
#[derive(Debug)]
pub(super) struct Device {
    pub port_id: u16,
    pub pool: NonNull<sys::rte_mempool>,
    pub mac: MacAddress,
    pub filter: MulticastFilter,
    /// Where mbufs carry the device's stamps: offset and flag.
    pub timestamps: Option<(i32, u64)>,
    device: *mut sys::rte_device,
}

struct Setup<'c> {
    config: &'c DpdkConfig,
    port_id: u16,
}

impl Device {
    pub fn start(config: &DpdkConfig) -> Result<Device, DpdkError> {
        config.check()?;
        let set_up = SET_UP.lock().unwrap_or_else(PoisonError::into_inner);
        let port_id = probe(&config.device)?;
        let setup = Setup { config, port_id };
        let info = setup.info()?;
        let pool = setup.create_pool()?;
        let mut device = Device {
            port_id,
            pool,
            mac: MacAddress([0; 6]),
            filter: MulticastFilter::Unfiltered,
            timestamps: None,
            device: info.device,
        };
        let started = device.start_by(&setup, &info);
        // What is dropped from here on cleans up, and takes the lock for it.
        drop(set_up);
        started.map(|()| device)
    }

    fn start_by(&mut self, setup: &Setup<'_>, info: &sys::rte_eth_dev_info) -> Result<(), DpdkError> {
        self.timestamps = setup.configure(info)?;
        setup.start_queues(info, self.pool)?;
        self.mac = setup.mac()?;
        self.filter = setup.filter();
        Ok(())
    }
}

impl DpdkConfig {
    fn check(&self) -> Result<(), DpdkError> {
        let limits = [
            ("rx_queues", u64::from(self.rx_queues), RX_QUEUES_MAX as u64),
            ("burst", self.burst as u64, BURST_MAX as u64),
            ("mtu", u64::from(self.mtu), 9_190),
        ];
        for (what, value, max) in limits {
            if !(1..=max).contains(&value) {
                return Err(DpdkError::Limit { device: self.device.clone(), what, value, max });
            }
        }
        Ok(())
    }
}

/// The port of a device, which is made if it is not there yet.
fn probe(device: &str) -> Result<u16, DpdkError> {
    let failed = |cause: String| DpdkError::Probe { device: device.to_owned(), cause };
    let text = CString::new(device).map_err(|_| failed("it holds a NUL".to_owned()))?;
    let name = device.split(',').next().unwrap_or_default();
    if let Some(port_id) = port_of(name) {
        return Ok(port_id);
    }
    // SAFETY: a NUL-terminated text, which DPDK copies.
    let result = unsafe { sys::rte_dev_probe(text.as_ptr()) };
    if result < 0 {
        return Err(failed(error_text(result)));
    }
    port_of(name).ok_or_else(|| DpdkError::NoPort { device: device.to_owned() })
}

fn port_of(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut port_id = 0;
    // SAFETY: a NUL-terminated text, and a valid place for the answer.
    let result = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port_id) };
    (result == 0).then_some(port_id)
}

impl Setup<'_> {
    fn failed(&self, step: &'static str, result: i32) -> DpdkError {
        DpdkError::Setup { device: self.config.device.clone(), step, cause: error_text(result) }
    }

    fn done(&self, step: &'static str, result: i32) -> Result<(), DpdkError> {
        if result < 0 { Err(self.failed(step, result)) } else { Ok(()) }
    }

    fn info(&self) -> Result<sys::rte_eth_dev_info, DpdkError> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port was just found, the place for the answer is valid.
        self.done("asking what it can do", unsafe { sys::rte_eth_dev_info_get(self.port_id, &mut info) })?;
        let (value, max) = (u64::from(self.config.rx_queues), u64::from(info.max_rx_queues));
        if value > max {
            return Err(DpdkError::Limit {
                device: self.config.device.clone(),
                what: "rx_queues",
                value,
                max,
            });
        }
        Ok(info)
    }

    fn create_pool(&self) -> Result<NonNull<sys::rte_mempool>, DpdkError> {
        let name =
            CString::new(format!("tickplane-{}", POOLS.fetch_add(1, Ordering::Relaxed))).expect("digits");
        let frame_bytes = u32::from(self.config.mtu) + FRAME_OVERHEAD_BYTES + sys::RTE_PKTMBUF_HEADROOM;
        let room_bytes = frame_bytes.max(sys::RTE_MBUF_DEFAULT_BUF_SIZE) as u16;
        // SAFETY: plain values and a NUL-terminated name, which DPDK copies.
        let pool = unsafe {
            let socket = sys::rte_eth_dev_socket_id(self.port_id);
            sys::rte_pktmbuf_pool_create(name.as_ptr(), self.config.mbufs, MBUF_CACHE, 0, room_bytes, socket)
        };
        NonNull::new(pool).ok_or_else(|| DpdkError::Mbufs {
            device: self.config.device.clone(),
            mbufs: self.config.mbufs,
            cause: error_text(0),
        })
    }

    fn configure(&self, info: &sys::rte_eth_dev_info) -> Result<Option<(i32, u64)>, DpdkError> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(self.config.mtu);
        if self.config.rx_queues > 1 && info.flow_type_rss_offloads != 0 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads;
        }
        // SAFETY: returns a constant.
        let stamps = unsafe { sys::tickplane_rx_offload_timestamp() };
        let stamped = self.config.hardware_timestamp && info.rx_offload_capa & stamps != 0;
        if stamped {
            conf.rxmode.offloads |= stamps;
        }
        // SAFETY: the port exists and is stopped; the configuration is read during the call only.
        let result = unsafe { sys::rte_eth_dev_configure(self.port_id, self.config.rx_queues, 1, &conf) };
        self.done("configuring it", result)?;
        if !stamped {
            return Ok(None);
        }
        let (mut offset, mut flag) = (0, 0);
        // SAFETY: valid places for the answers.
        let result = unsafe { sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag) };
        self.done("registering its timestamps", result)?;
        Ok(Some((offset, flag)))
    }

    fn start_queues(
        &self,
        info: &sys::rte_eth_dev_info,
        pool: NonNull<sys::rte_mempool>,
    ) -> Result<(), DpdkError> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, TX_DESCRIPTORS);
        // SAFETY: valid places for the numbers, which the driver brings into its limits.
        let result = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.port_id, &mut rx, &mut tx) };
        self.done("sizing its queues", result)?;
        // SAFETY: the port exists; a negative socket means any.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.port_id) } as u32;
        for queue in 0..self.config.rx_queues {
            // SAFETY: the queue was configured; the pool outlives the device (see `Drop`).
            let result = unsafe {
                sys::rte_eth_rx_queue_setup(
                    self.port_id,
                    queue,
                    rx,
                    socket,
                    &info.default_rxconf,
                    pool.as_ptr(),
                )
            };
            self.done("setting up a receive queue", result)?;
        }
        // SAFETY: the queue was configured.
        let result =
            unsafe { sys::rte_eth_tx_queue_setup(self.port_id, 0, tx, socket, &info.default_txconf) };
        self.done("setting up the transmit queue", result)?;
        // SAFETY: every queue is set up.
        self.done("starting it", unsafe { sys::rte_eth_dev_start(self.port_id) })
    }

    fn mac(&self) -> Result<MacAddress, DpdkError> {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: a valid place for the answer.
        let result = unsafe { sys::rte_eth_macaddr_get(self.port_id, &mut address) };
        self.done("asking its MAC address", result)?;
        Ok(MacAddress(address.addr_bytes))
    }

    fn filter(&self) -> MulticastFilter {
        let groups = self.config.groups.iter().chain([&ALL_HOSTS]);
        let mut addresses: Vec<sys::rte_ether_addr> =
            groups.map(|group| sys::rte_ether_addr { addr_bytes: multicast_mac(*group).0 }).collect();
        // SAFETY: as many addresses as told, which the driver copies.
        let listed = unsafe {
            sys::rte_eth_dev_set_mc_addr_list(self.port_id, addresses.as_mut_ptr(), addresses.len() as u32)
        };
        if listed == 0 {
            return MulticastFilter::Groups;
        }
        // SAFETY: the port is started; drivers that can't say so.
        if unsafe { sys::rte_eth_allmulticast_enable(self.port_id) } == 0 {
            return MulticastFilter::AllMulticast;
        }
        // SAFETY: as above.
        if unsafe { sys::rte_eth_promiscuous_enable(self.port_id) } == 0 {
            return MulticastFilter::Promiscuous;
        }
        MulticastFilter::Unfiltered
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _set_up = SET_UP.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the port is ours and nobody polls it any more: the one who does owns this. Its packet buffers
        // go back to the pool with its queues; those that were lent out were given back by the port before.
        unsafe {
            sys::rte_eth_dev_stop(self.port_id);
            sys::rte_eth_dev_close(self.port_id);
            if !self.device.is_null() {
                sys::rte_dev_remove(self.device);
            }
            sys::rte_mempool_free(self.pool.as_ptr());
        }
    }
}

/// The name that DPDK gave to a port.
pub(super) fn name_of(port_id: u16) -> String {
    let mut name = [0; 64];
    // SAFETY: RTE_ETH_NAME_MAX_LEN is 64, and the name is NUL-terminated.
    let text = unsafe {
        ptr::write_bytes(name.as_mut_ptr(), 0, name.len());
        sys::rte_eth_dev_get_name_by_port(port_id, name.as_mut_ptr());
        CStr::from_ptr(name.as_ptr())
    };
    text.to_string_lossy().into_owned()
}
