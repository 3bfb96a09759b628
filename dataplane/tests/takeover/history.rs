//! The history: what a log says, by names and sessions instead of numbers and positions.

use dataplane::cache::tick::{Definition, FeedState, Kind, Session, Tick};
use std::collections::HashMap;

/// A row's tick, as it would be in every region of every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub name: Vec<u8>,
    pub kind: u8,
    pub sequence: u64,
    pub exchange_ns: u64,
    pub payload: [u64; 3],
}

/// What a tick of a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Row(Said),
    Session([u8; 10]),
    State(FeedState),
}

/// Follows a log from its beginning.
#[derive(Clone, Default)]
pub struct Names(HashMap<u32, Vec<u8>>);

impl Names {
    pub fn read(&mut self, tick: &Tick) -> Entry {
        if let Some(session) = tick.payload::<Session>() {
            return Entry::Session(session.session);
        }
        if let Some(state) = tick.payload::<FeedState>() {
            return Entry::State(*state);
        }
        if let Some(definition) = tick.payload::<Definition>() {
            self.0.insert(tick.instrument, definition.name().to_vec());
        }
        assert!(usize::from(tick.kind) < Kind::ROWS);
        let Tick { kind, sequence, exchange_ns, payload, .. } = *tick;
        let name = self.0.get(&tick.instrument).expect("it was defined before").clone();
        Entry::Row(Said { name, kind, sequence, exchange_ns, payload })
    }
}
