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
        let mut next = upto;
        while next < position {
            let is_near = position - upto <= TICKS_MAX;
            match is_near.then(|| Chunk::encode(node, next, position, now_ns)).flatten() {
                Some(chunk) => next = push(&mut chunks, chunk).upto(),
                None => {
                    chunks.clear();
                    next = position;
                }
            }
        }
        Some(push(&mut chunks, Chunk::encode(node, position, u64::MAX, now_ns)?))
    }
}

/// Behind the last one; what is too far back goes.
fn push(chunks: &mut VecDeque<Arc<Chunk>>, chunk: Chunk) -> Arc<Chunk> {
    while chunks.front().is_some_and(|front| chunk.upto() - front.from > TICKS_MAX) {
        chunks.pop_front();
    }
    let chunk = Arc::new(chunk);
    chunks.push_back(chunk.clone());
    chunk
}
