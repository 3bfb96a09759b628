//! The introduction: what the two ends tell each other before all else, in a message over the stream.

use crate::rdma::{Endpoint, RemoteMemory};
use dataplane::replica::Message;

/// One end: its queue pair, and the memory that the other may write (a standby's log, a primary's cell for acknowledgements).
///
/// | Word | Bits    | Meaning                                   |
/// |-----:|---------|-------------------------------------------|
/// |    0 | 0 – 31  | number of the queue pair                  |
/// |      | 32 – 63 | number of its first packet                |
/// | 1, 2 |         | GID, big-endian                           |
/// |    3 | 0 – 31  | key of the memory                         |
/// |      | 32 – 47 | LID                                       |
/// |      | 48 – 63 | MTU in bytes                              |
/// |    4 |         | address of the memory                     |
/// |    5 |         | its bytes                                 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub endpoint: Endpoint,
    pub memory: RemoteMemory,
}

impl Introduction {
    pub fn to_message(self) -> Message {
        let Introduction { endpoint, memory } = self;
        let gid = u128::from_be_bytes(endpoint.gid);
        Message::Link([
            u64::from(endpoint.queue_pair) | u64::from(endpoint.packet_sequence) << 32,
            (gid >> 64) as u64,
            gid as u64,
            u64::from(memory.key) | u64::from(endpoint.lid) << 32 | u64::from(endpoint.mtu_bytes) << 48,
            memory.address,
            memory.bytes,
        ])
    }

    /// Of whatever words: connecting checks them.
    pub fn from_words(words: [u64; 6]) -> Introduction {
        let [numbers, gid_high, gid_low, port, address, bytes] = words;
        Introduction {
            endpoint: Endpoint {
                queue_pair: numbers as u32,
                packet_sequence: (numbers >> 32) as u32,
                gid: (u128::from(gid_high) << 64 | u128::from(gid_low)).to_be_bytes(),
                lid: (port >> 32) as u16,
                mtu_bytes: (port >> 48) as u16,
            },
            memory: RemoteMemory { address, bytes, key: port as u32 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_as_it_went() {
        let introduction = Introduction {
            endpoint: Endpoint {
                queue_pair: 0xAB_CDEF,
                packet_sequence: 0x12_3456,
                gid: std::array::from_fn(|index| index as u8 * 17),
                lid: 0xFFFE,
                mtu_bytes: 4_096,
            },
            memory: RemoteMemory { address: u64::MAX - 1, bytes: 1 << 40, key: 0x8765_4321 },
        };
        let Message::Link(words) = introduction.to_message() else { panic!("another message") };
        assert_eq!(Introduction::from_words(words), introduction);
    }
}
