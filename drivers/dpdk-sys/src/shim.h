/* What the bindings are made of: DPDK's headers, and the few things that exist only as inline functions there. */
#include <stddef.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Where an mbuf has what a frame needs: in every version of DPDK where that version has it. */
enum {
    TICKPLANE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
    TICKPLANE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
    TICKPLANE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
    TICKPLANE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
    TICKPLANE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
};

/* Receives up to `burst` mbufs. Returns their number. */
uint16_t tickplane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t burst);

/*
 * Gives back the mbufs of a burst (at least one), and returns how many of its frames were in several segments. What
 * rte_pktmbuf_free_bulk does, but the mbufs of a queue are of one pool, and so need no list of their own on the way.
 */
uint16_t tickplane_free(struct rte_mbuf **mbufs, uint16_t count);

/* Sends a copy of one frame; 1 = the device took it. */
int tickplane_tx(uint16_t port, struct rte_mempool *pool, const uint8_t *frame, uint16_t length);

/* The calling thread's rte_errno. */
int tickplane_errno(void);

/* A bit that is a macro over a macro there. */
uint64_t tickplane_rx_offload_timestamp(void);
