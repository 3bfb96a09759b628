//! A chunk: a run of the log, encoded.

use super::response;
use crate::node::Node;
use crate::service::rows;
use bytes::{Bytes, BytesMut};
use dataplane::cache::reader::{Cursor, Next};
use dataplane::cache::tick::{INSTRUMENT_NONE, Kind, Tick};

/// Ticks of one chunk at most.
const TICKS_MAX: u64 = 512;

/// Ticks at consecutive positions, each as one field of a `SubscribeResponse`. States are judged, and names looked up, when
/// it is encoded.
#[derive(Debug)]
pub struct Chunk {
    /// Of the region: positions mean nothing in another one.
    pub generation: u64,
    /// The position of the first piece.
    pub from: u64,
    pub has_definitions: bool,
    /// Pieces that are updates.
    pub updates: u64,
    bytes: Bytes,
    pieces: Vec<Piece>,
}

/// One tick. It has no bytes if it is of an earlier session, or of an instrument without a name.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where its bytes end, and the next one's begin.
    end: u32,
    /// Or [`INSTRUMENT_NONE`]: an event of the feed.
    pub instrument: u32,
    pub feed: u16,
    pub kind: u8,
}

impl Chunk {
    /// Encodes the log from position `from` on, up to `upto` or a chunk's worth; `None` = the log is not there (any more).
    pub fn encode(node: &Node, from: u64, upto: u64, now_ns: u64) -> Option<Chunk> {
        let generation = node.reader.generation();
        let mut cursor = Cursor::at(from);
        let upto = upto.min(from + TICKS_MAX);
        let mut bytes = BytesMut::new();
        let (mut pieces, mut updates, mut has_definitions) = (Vec::new(), 0, false);
        while cursor.position() < upto {
            let (position, tick) = match cursor.next(&node.reader) {
                Next::Tick { position, tick } => (position, tick),
                Next::CaughtUp | Next::Lapped { .. } => break,
            };
            updates += u64::from(encode(node, position, tick, now_ns, &mut bytes));
            has_definitions |= tick.kind == Kind::Definition as u8;
            let Tick { instrument, feed, kind, .. } = tick;
            pieces.push(Piece { end: bytes.len() as u32, instrument, feed, kind });
        }
        let is_there = !pieces.is_empty() && node.reader.generation() == generation;
        let bytes = bytes.freeze();
        is_there.then_some(Chunk { generation, from, has_definitions, updates, bytes, pieces })
    }

    /// The position behind the last piece.
    pub fn upto(&self) -> u64 {
        self.from + self.pieces.len() as u64
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The pieces from position `from` on, each with its position and where its bytes are.
    pub fn pieces(&self, from: u64) -> impl Iterator<Item = (u64, Piece, std::ops::Range<usize>)> + '_ {
        let first = from.saturating_sub(self.from) as usize;
        (first..self.pieces.len()).map(move |index| {
            let begin = if index == 0 { 0 } else { self.pieces[index - 1].end as usize };
            let piece = self.pieces[index];
            (self.from + index as u64, piece, begin..piece.end as usize)
        })
    }
}

/// True = it is an update.
fn encode(node: &Node, position: u64, tick: Tick, now_ns: u64, bytes: &mut BytesMut) -> bool {
    if tick.instrument == INSTRUMENT_NONE {
        response::put_event(&rows::feed_event(node, position, &tick), bytes);
        return false;
    }
    let judged = node.reader.judge(position, tick, now_ns);
    let named = judged.zip(rows::symbol(node, tick.instrument, now_ns));
    match named.and_then(|(row, symbol)| rows::update(node, &symbol, &row)) {
        Some(update) => {
            response::put_update(&update, bytes);
            true
        }
        None => false,
    }
}
