//! A standby, as its primary serves it: on one connection after the other.

use super::link::{LinkError, PrimaryLink, silence};
use super::{SILENCE_MAX_NS, counters};
use crate::config::PeerConfig;
use crate::proto::Peer as PeerView;
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::Reader;
use dataplane::histogram::Histogram;
use dataplane::replica::{Lineage, Message, Primary, PrimaryLimits, Refusal, node_id};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::net::SocketAddr;
use std::sync::Arc;

/// The present connection of a peer.
struct Connection {
    end: PrimaryLink,
    heard_ns: u64,
}

impl Connection {
    /// Returns how much was done, and how many bytes were sent.
    fn round(&mut self, primary: &mut Primary<'static>) -> Result<(usize, u64), LinkError> {
        let received = self.end.fill()?;
        let now_ns = SystemClock.monotonic_ns();
        if received != 0 {
            self.heard_ns = now_ns;
        } else if now_ns.saturating_sub(self.heard_ns) > SILENCE_MAX_NS {
            return Err(silence("nothing was heard for too long"));
        }
        let before = primary.counters().ticks;
        let work = primary.poll(&mut self.end, now_ns);
        let flushed = self.end.flush()?;
        // What a device writes goes past the stream.
        let by_device = if self.end.kind() == "rdma" { primary.counters().ticks - before } else { 0 };
        Ok((received + work + flushed, flushed as u64 + by_device * size_of::<Cell>() as u64))
    }
}

pub struct Peer {
    pub config: PeerConfig,
    pub node: u64,
    /// Where its present or last connection comes from.
    from: Option<SocketAddr>,
    primary: Primary<'static>,
    reader: Reader<'static>,
    connection: Option<Connection>,
    failures: u64,
    bytes: u64,
    error: String,
    /// A tick can be read here → it is known to be readable there.
    acknowledged: Arc<Histogram>,
    measured: u64,
    hint: u64,
}

impl Peer {
    pub fn new(config: PeerConfig, reader: Reader<'static>, lineage: Lineage, limits: PrimaryLimits) -> Peer {
        Peer {
            node: node_id(&config.name),
            config,
            from: None,
            primary: Primary::new(reader, lineage, limits),
            reader,
            connection: None,
            failures: 0,
            bytes: 0,
            error: String::new(),
            acknowledged: Arc::default(),
            measured: 0,
            hint: 0,
        }
    }

    /// Takes a connection on which the peer has said who it is. One that is still there is thought to be broken.
    pub fn connect(&mut self, end: PrimaryLink, from: SocketAddr, hello: Message) {
        if self.connection.is_some() {
            tracing::warn!(
                "standby {} has connected again, from {from}: if that happens often, two nodes have the same name",
                self.config.name
            );
        }
        self.from = Some(from);
        self.primary.connected();
        self.primary.take(hello);
        self.connection = Some(Connection { end, heard_ns: SystemClock.monotonic_ns() });
    }

    pub fn round(&mut self) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        match connection.round(&mut self.primary) {
            Ok((work, bytes)) => {
                self.bytes += bytes;
                self.measure();
                work
            }
            Err(error) => {
                self.connection = None;
                self.end_of_connection(&error);
                1
            }
        }
    }

    /// Notes how long it took from a tick's being readable here to its acknowledgement: once for each of those, weighted by
    /// the ticks that it brings.
    fn measure(&mut self) {
        let acknowledged = self.primary.status().acknowledged;
        if !self.is_level() || acknowledged < self.measured {
            // What an image brings was not published just now.
            self.measured = acknowledged;
        } else if acknowledged > self.measured {
            let weight = acknowledged - self.measured;
            self.measured = acknowledged;
            if let Some(published_ns) = self.reader.published_ns(acknowledged - 1, &mut self.hint) {
                self.acknowledged.record_between(published_ns, SystemClock.monotonic_ns(), weight);
            }
        }
    }

    fn end_of_connection(&mut self, error: &LinkError) {
        let cause = match self.primary.status().refusal {
            Some(refusal) => format!("it was not taken: {refusal}"),
            None => {
                self.failures += 1;
                error.to_string()
            }
        };
        // The same again, as of a standby that is not taken and tries on, is not worth a line.
        if cause != self.error {
            tracing::warn!("standby {}: {cause}", self.config.name);
        }
        self.error = cause;
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some() && self.primary.status().connected
    }

    pub fn is_level(&self) -> bool {
        self.is_connected() && self.primary.status().level
    }

    /// A later term that the peer has heard of; 0 = none.
    pub fn later_term(&self) -> u64 {
        self.primary.status().later_term
    }

    /// Whether it has been heard since then, and has everything below `upto`.
    pub fn has_said(&self, upto: u64, since_ns: u64) -> bool {
        let is_heard = self.connection.as_ref().is_some_and(|connection| connection.heard_ns > since_ns);
        is_heard && self.primary.status().acknowledged >= upto
    }

    /// Makes the peer the primary of `term`; false = it lacks something still.
    pub fn hand_over(&mut self, term: u64) -> bool {
        self.connection.is_some() && self.primary.hand_over(term)
    }

    /// A peer that is no longer one.
    pub fn dismiss(&mut self) {
        self.primary.refuse(Refusal::Stranger);
        self.round();
    }

    pub fn latencies(&self) -> (String, Arc<Histogram>) {
        (self.config.name.clone(), self.acknowledged.clone())
    }

    /// For how long the oldest tick that is not acknowledged has been readable here.
    fn lag_ns(&self, acknowledged: u64, tail: u64) -> u64 {
        if acknowledged >= tail {
            return 0;
        }
        let published_ns = self.reader.published_ns(acknowledged, &mut self.hint.clone());
        published_ns.map_or(0, |published_ns| SystemClock.monotonic_ns().saturating_sub(published_ns))
    }

    pub fn view(&mut self, tail: u64) -> PeerView {
        let (status, counted) = (self.primary.status(), self.primary.counters());
        let connected = self.is_connected();
        if connected {
            self.error.clear();
        }
        PeerView {
            name: self.config.name.clone(),
            address: self.from.map(|from| from.to_string()).unwrap_or_default(),
            link: self.connection.as_ref().map_or("", |connection| connection.end.kind()).to_owned(),
            connected,
            level: connected && status.level,
            whole: connected && status.whole,
            acknowledged: status.acknowledged,
            lag_ticks: tail.saturating_sub(status.acknowledged),
            lag_ns: self.lag_ns(status.acknowledged, tail),
            headroom_ticks: (status.acknowledged + self.reader.layout().log_ticks).saturating_sub(tail),
            error: self.error.clone(),
            published_to_acknowledged: None,
            counters: counters([
                ("connections", counted.connections),
                ("refused", counted.refused),
                ("images", counted.images),
                ("lapped", counted.lapped),
                ("rows", counted.rows),
                ("ticks", counted.ticks),
                ("bytes", self.bytes),
                ("failures", self.failures),
            ]),
        }
    }
}
