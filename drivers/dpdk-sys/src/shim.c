#include "shim.h"
#include <string.h>

/* Frames whose data is asked for ahead of the one at hand. */
#define AHEAD 4

uint16_t tickplane_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t burst,
                            struct tickplane_frame *frames, uint16_t *described, int timestamp_offset,
                            uint64_t timestamp_flag)
{
    uint16_t received = rte_eth_rx_burst(port, queue, mbufs, burst);
    uint16_t count = 0;
    for (uint16_t i = 0; i < received && i < AHEAD; i++)
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], const void *));
    for (uint16_t i = 0; i < received; i++) {
        struct rte_mbuf *mbuf = mbufs[i];
        if (i + AHEAD < received)
            rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + AHEAD], const void *));
        if (unlikely(mbuf->nb_segs != 1))
            continue;
        struct tickplane_frame *frame = &frames[count++];
        frame->data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
        frame->length = mbuf->data_len;
        frame->timestamp = timestamp_offset >= 0 && (mbuf->ol_flags & timestamp_flag)
                               ? *RTE_MBUF_DYNFIELD(mbuf, timestamp_offset, rte_mbuf_timestamp_t *)
                               : 0;
    }
    *described = count;
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
