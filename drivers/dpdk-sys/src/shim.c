#include "shim.h"
#include <string.h>

uint16_t tickplane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t burst)
{
    return rte_eth_rx_burst(port, queue, mbufs, burst);
}

uint16_t tickplane_free(struct rte_mbuf **mbufs, uint16_t count)
{
    struct rte_mempool *pool = mbufs[0]->pool;
    uint16_t freed = 0, split = 0;
    for (uint16_t i = 0; i < count; i++) {
        struct rte_mbuf *mbuf = mbufs[i];
        if (unlikely(mbuf->nb_segs != 1 || mbuf->pool != pool)) {
            split += mbuf->nb_segs != 1;
            rte_pktmbuf_free(mbuf);
        } else if (likely(rte_pktmbuf_prefree_seg(mbuf) != NULL)) {
            mbufs[freed++] = mbuf;
        }
    }
    if (likely(freed != 0))
        rte_mempool_put_bulk(pool, (void **)mbufs, freed);
    return split;
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
