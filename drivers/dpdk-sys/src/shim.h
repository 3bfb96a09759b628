/* What the bindings are made of: DPDK's headers, and the few things that exist only as inline functions there. */
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

/* One received frame, in place in its mbuf. */
struct tickplane_frame {
    const uint8_t *data;
    uint32_t length;
    /* The device's clock; 0 = no stamp. */
    uint64_t timestamp;
};

/* Receives up to `burst` mbufs into `mbufs` and describes those of one segment in `frames`. Returns the number of mbufs;
 * `*described` is the number of frames. `timestamp_offset` < 0 = the device stamps nothing. */
uint16_t tickplane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t burst,
                            struct tickplane_frame *frames, uint16_t *described, int timestamp_offset,
                            uint64_t timestamp_flag);

/* Sends a copy of one frame; 1 = the device took it. */
int tickplane_tx(uint16_t port, struct rte_mempool *pool, const uint8_t *frame, uint16_t length);

/* The calling thread's rte_errno. */
int tickplane_errno(void);

/* A bit that is a macro over a macro there. */
uint64_t tickplane_rx_offload_timestamp(void);
