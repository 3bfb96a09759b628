/* What the bindings are made of: DPDK's headers, and values under one name whose macros bindgen can't follow. */
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <numa.h>

static const uint64_t CAPSULE_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t CAPSULE_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t CAPSULE_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t CAPSULE_RSS_SCTP = RTE_ETH_RSS_SCTP;
static const uint64_t CAPSULE_TX_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
