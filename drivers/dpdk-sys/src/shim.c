#include "shim.h"
#include <string.h>

/* Brings the mbufs of one segment to the front, in their order, and returns how many there are. */
static __rte_noinline uint16_t whole_first(struct rte_mbuf **mbufs, uint16_t received)
{
    uint16_t whole = 0;
    for (uint16_t i = 0; i < received; i++) {
        struct rte_mbuf *mbuf = mbufs[i];
        if (mbuf->nb_segs == 1) {
            mbufs[i] = mbufs[whole];
            mbufs[whole++] = mbuf;
        }
    }
    return whole;
}

uint16_t tickplane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t burst, uint16_t *whole)
{
    uint16_t received = rte_eth_rx_burst(port, queue, mbufs, burst);
    uint16_t segments = 1;
    for (uint16_t i = 0; i < received; i++)
        segments |= mbufs[i]->nb_segs;
    *whole = likely(segments == 1) ? received : whole_first(mbufs, received);
    return received;
}

int tickplane_tx(uint16_t port, struct rte_mempool *pool, const uint8_t *frame, uint16_t length)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    if (mbuf == NULL)
        return 0;
    char *data = rte_pktmbuf_append(mbuf, length);
    if (data == NULL) {
        rte_pktmbuf_free(mbuf);
        return 0;
    }
    memcpy(data, frame, length);
    if (rte_eth_tx_burst(port, 0, &mbuf, 1) == 1)
        return 1;
    rte_pktmbuf_free(mbuf);
    return 0;
}

int tickplane_errno(void)
{
    return rte_errno;
}

uint64_t tickplane_rx_offload_timestamp(void)
{
    return RTE_ETH_RX_OFFLOAD_TIMESTAMP;
}
