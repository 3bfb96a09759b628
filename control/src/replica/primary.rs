//! The primary's side: takes connections of standbys, and serves each of them by itself.

use super::{ReplicaError, Round, SILENCE_MAX_NS, TermFile, VIEW_INTERVAL_NS, View, counters};
use crate::proto::{ClusterGetResponse, Peer as PeerView, Role};
use dataplane::cache::reader::Reader;
use dataplane::replica::{Lineage, Primary, PrimaryLimits, Refusal};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::tcp_link::{LinkError, PrimaryEnd};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Standbys of one primary.
pub const PEERS_MAX: usize = 8;

/// The present connection of a peer.
struct Connection {
    end: PrimaryEnd,
    heard_ns: u64,
}

impl Connection {
    fn round(&mut self, primary: &mut Primary<'static>) -> Result<usize, LinkError> {
        let received = self.end.fill()?;
        let now_ns = SystemClock.monotonic_ns();
        if received != 0 {
            self.heard_ns = now_ns;
        } else if now_ns.saturating_sub(self.heard_ns) > SILENCE_MAX_NS {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was heard for too long").into());
        }
        let work = primary.poll(&mut self.end, now_ns);
        Ok(received + work + self.end.flush()?)
    }
}

/// A standby, on one connection after the other. Which one it is, only its IP address says: of several on one machine, one
/// may take another's place, and its counters, when both have been gone.
struct Peer {
    address: SocketAddr,
    primary: Primary<'static>,
    connection: Option<Connection>,
    gone_ns: u64,
    failures: u64,
    error: String,
}

impl Peer {
    fn round(&mut self) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        match connection.round(&mut self.primary) {
            Ok(work) => work,
            Err(error) => {
                self.connection = None;
                self.gone_ns = SystemClock.monotonic_ns();
                self.end_of_connection(&error);
                1
            }
        }
    }

    fn end_of_connection(&mut self, error: &LinkError) {
        let status = self.primary.status();
        let cause = match status.refusal {
            Some(refusal) => format!("it was not taken: {refusal}"),
            None => {
                self.failures += 1;
                error.to_string()
            }
        };
        // The same again, as of a standby that is not taken and tries on, is not worth a line.
        if cause != self.error {
            tracing::warn!("standby {}: {cause}", self.address);
        }
        if cause != self.error && status.refusal == Some(Refusal::Term) {
            tracing::error!(
                "standby {} has heard of term {}: another node is the primary, and this one should be stopped; if this \
                 node's state was lost instead, write that number into the file `term` of its state folder, and start it \
                 again",
                self.address,
                status.later_term
            );
        }
        self.error = cause;
    }

    fn connect(&mut self, address: SocketAddr, end: PrimaryEnd) {
        self.address = address;
        self.primary.connected();
        self.connection = Some(Connection { end, heard_ns: SystemClock.monotonic_ns() });
    }

    fn view(&mut self, tail: u64) -> PeerView {
        let (status, counted) = (self.primary.status(), self.primary.counters());
        let connected = self.connection.is_some() && status.connected;
        if connected {
            self.error.clear();
        }
        PeerView {
            address: self.address.to_string(),
            connected,
            level: connected && status.level,
            acknowledged: status.acknowledged,
            lag_ticks: tail.saturating_sub(status.acknowledged),
            error: self.error.clone(),
            counters: counters([
                ("connections", counted.connections),
                ("refused", counted.refused),
                ("images", counted.images),
                ("lapped", counted.lapped),
                ("rows", counted.rows),
                ("ticks", counted.ticks),
                ("failures", self.failures),
            ]),
        }
    }
}

/// A primary's standbys.
pub struct PrimaryGroup {
    listener: TcpListener,
    reader: Reader<'static>,
    lineage: Lineage,
    limits: PrimaryLimits,
    peers: Vec<Peer>,
    /// Connections for which there was no place.
    turned_away: u64,
    /// Connections that the kernel did not hand over.
    not_accepted: u64,
    looked_ns: u64,
    view: View,
    /// Its lock says that no other node has this folder.
    _term: TermFile,
}

impl PrimaryGroup {
    /// The socket for standbys.
    pub fn bind(address: SocketAddr) -> Result<TcpListener, ReplicaError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|cause| ReplicaError::Bind { address, cause })
    }

    /// Begins a new term, which is written down; the region must have begun empty.
    pub fn new(
        listener: TcpListener,
        reader: Reader<'static>,
        mut term: TermFile,
        limits: PrimaryLimits,
        view: View,
    ) -> Result<PrimaryGroup, ReplicaError> {
        let lineage = Lineage::first(term.advance()?);
        tracing::info!("is the primary of term {}", lineage.term);
        let mut group = PrimaryGroup {
            listener,
            reader,
            lineage,
            limits,
            peers: Vec::with_capacity(PEERS_MAX),
            turned_away: 0,
            not_accepted: 0,
            looked_ns: 0,
            view,
            _term: term,
        };
        group.show();
        Ok(group)
    }

    fn accept(&mut self) {
        for _ in 0..PEERS_MAX {
            match self.listener.accept() {
                Ok((stream, address)) => self.take(stream, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Too many files, or a peer that is gone again: the next look may find better.
                Err(error) => {
                    self.not_accepted += 1;
                    return tracing::debug!("a standby's connection can't be taken: {error}");
                }
            }
        }
    }

    fn take(&mut self, stream: TcpStream, address: SocketAddr) {
        let Some(index) = self.place_for(address) else {
            self.turned_away += 1;
            tracing::warn!("{address} was turned away: {PEERS_MAX} standbys are connected");
            return;
        };
        match PrimaryEnd::new(stream) {
            Ok(end) => self.peers[index].connect(address, end),
            Err(error) => tracing::warn!("standby {address}: {error}"),
        }
    }

    /// The place of a peer of that address that is gone, a new one, or that of whoever has been gone for longest.
    fn place_for(&mut self, address: SocketAddr) -> Option<usize> {
        let gone = |peer: &Peer| peer.connection.is_none();
        let again = |peer: &Peer| gone(peer) && peer.address.ip() == address.ip();
        if let Some(index) = self.peers.iter().position(again) {
            return Some(index);
        }
        let primary = Primary::new(self.reader, self.lineage, self.limits);
        let fresh =
            Peer { address, primary, connection: None, gone_ns: 0, failures: 0, error: String::new() };
        if self.peers.len() < PEERS_MAX {
            self.peers.push(fresh);
            return Some(self.peers.len() - 1);
        }
        let all = self.peers.iter_mut().enumerate();
        let (index, peer) = all.filter(|(_, peer)| gone(peer)).min_by_key(|(_, peer)| peer.gone_ns)?;
        *peer = fresh;
        Some(index)
    }

    fn show(&mut self) {
        let tail = self.reader.tail();
        let later = self.peers.iter().map(|peer| peer.primary.status().later_term).max();
        self.view.set(ClusterGetResponse {
            role: Role::Primary.into(),
            term: self.lineage.term,
            later_term: later.unwrap_or(0),
            peers: self.peers.iter_mut().map(|peer| peer.view(tail)).collect(),
            counters: counters([("turned_away", self.turned_away), ("not_accepted", self.not_accepted)]),
            ..Default::default()
        });
    }
}

impl Round for PrimaryGroup {
    fn round(&mut self) -> usize {
        let now_ns = SystemClock.monotonic_ns();
        if now_ns.saturating_sub(self.looked_ns) >= VIEW_INTERVAL_NS {
            self.looked_ns = now_ns;
            self.accept();
            self.show();
        }
        self.peers.iter_mut().map(Peer::round).sum()
    }
}
