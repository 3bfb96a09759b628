//! Raw bindings to the system's DPDK by the names that capsule 0.1.5 knows, which are those of DPDK 19.11.
//!
//! It stands in for crates.io's capsule-ffi, which can't be built against today's DPDK, so that capsule can be measured
//! beside the port here. Nothing here is safe by itself: capsule is.

mod bindings;
mod eal;
mod kni;

pub use bindings::*;
pub use eal::rte_eal_init;
pub use kni::*;

pub use bindings::{
    CAPSULE_RSS_IP as ETH_RSS_IP, CAPSULE_RSS_SCTP as ETH_RSS_SCTP, CAPSULE_RSS_TCP as ETH_RSS_TCP,
    CAPSULE_RSS_UDP as ETH_RSS_UDP, CAPSULE_TX_MBUF_FAST_FREE as DEV_TX_OFFLOAD_MBUF_FAST_FREE,
    rte_eth_rx_burst as _rte_eth_rx_burst, rte_eth_tx_burst as _rte_eth_tx_burst,
    rte_mempool_put_bulk as _rte_mempool_put_bulk, rte_pktmbuf_alloc as _rte_pktmbuf_alloc,
    rte_pktmbuf_alloc_bulk as _rte_pktmbuf_alloc_bulk, rte_pktmbuf_free as _rte_pktmbuf_free,
};
pub use dpdk_sys::tickplane_errno as _rte_errno;

/// How a port spreads frames over its queues.
#[allow(non_camel_case_types)]
pub mod rte_eth_rx_mq_mode {
    pub use crate::bindings::rte_eth_rx_mq_mode::{RTE_ETH_MQ_RX_RSS as ETH_MQ_RX_RSS, Type};
}
