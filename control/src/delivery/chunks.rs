//! The chunks that were encoded last, for whoever comes by the same place.

use super::Chunk;
use crate::node::Node;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Positions of the log that the chunks reach over at most.
const TICKS_MAX: u64 = 16_384;

/// The last chunks, one behind the other without a hole. The lock is held while a chunk is looked up or encoded, never while
/// anybody waits for a client.
#[derive(Debug, Default)]
pub struct Chunks(Mutex<VecDeque<Arc<Chunk>>>);

impl Chunks {
    /// The chunk that has `position`, which is below the log's tail; encoded now if it is not there. `None` = the log does
    /// not have the position any more, or the region has begun anew.
    pub fn at(&self, node: &Node, position: u64, now_ns: u64) -> Option<Arc<Chunk>> {
        let mut chunks = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let generation = node.reader.generation();
        if chunks.front().is_some_and(|chunk| chunk.generation != generation) {
            chunks.clear();
        }
        let range = chunks.front().zip(chunks.back()).map(|(front, back)| front.from..back.upto());
        let (from, upto) = range.map_or((position, position), |range| (range.start, range.end));
        if position < from {
            drop(chunks);
            // Far behind all others: what it needs, nobody else does.
            return Chunk::encode(node, position, from, now_ns).map(Arc::new);
        }
        if position < upto {
            let index = chunks.partition_point(|chunk| chunk.upto() <= position);
            return Some(chunks[index].clone());
        }
        // Who begins at the log's end may come before all others, who need what lies between.
        let mut next = if position - upto > TICKS_MAX { position } else { upto };
        if next != upto {
            chunks.clear();
        }
        loop {
            let end = if next < position { position } else { u64::MAX };
            let Some(chunk) = Chunk::encode(node, next, end, now_ns) else {
                chunks.clear();
                next = if next < position { position } else { return None };
                continue;
            };
            let chunk = Arc::new(chunk);
            while chunks.front().is_some_and(|front| chunk.upto() - front.from > TICKS_MAX) {
                chunks.pop_front();
            }
            chunks.push_back(chunk.clone());
            if next == position {
                return Some(chunk);
            }
            next = chunk.upto();
        }
    }
}
