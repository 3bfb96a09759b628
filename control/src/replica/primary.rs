//! The primary's side: takes connections of standbys, and serves each of them by itself.

use super::arrival::{Arrival, Said};
use super::link::LinkSetup;
use super::peer::Peer;
use super::{View, counters};
use crate::config::{PEERS_MAX, PeerConfig};
use crate::proto::{ClusterGetResponse, Role};
use dataplane::cache::reader::Reader;
use dataplane::replica::{Lineage, Message, PROTOCOL, PrimaryLimits, Refusal};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

/// How often new connections are looked for, which takes a system call.
const ACCEPT_INTERVAL_NS: u64 = 1_000_000;

/// A primary's standbys.
pub struct PrimaryGroup {
    reader: Reader<'static>,
    lineage: Lineage,
    limits: PrimaryLimits,
    links: LinkSetup,
    peers: Vec<Peer>,
    arrivals: Vec<Arrival>,
    /// Connections for which there was no place, or that were not those of a peer.
    turned_away: u64,
    strangers: u64,
    /// Addresses of strangers that were told of in the log.
    told: HashSet<IpAddr>,
    /// Connections that the kernel did not hand over.
    not_accepted: u64,
    looked_ns: u64,
}

impl PrimaryGroup {
    /// The log of `lineage` is the region of `reader`.
    pub fn new(
        reader: Reader<'static>,
        lineage: Lineage,
        limits: PrimaryLimits,
        links: LinkSetup,
        peers: &[PeerConfig],
    ) -> PrimaryGroup {
        let peers = peers.iter().map(|peer| Peer::new(peer.clone(), reader, lineage, limits)).collect();
        PrimaryGroup {
            reader,
            lineage,
            limits,
            links,
            peers,
            arrivals: Vec::with_capacity(PEERS_MAX),
            turned_away: 0,
            strangers: 0,
            told: HashSet::new(),
            not_accepted: 0,
            looked_ns: 0,
        }
    }

    pub fn term(&self) -> u64 {
        self.lineage.term
    }

    /// Everything below can be read.
    pub fn tail(&self) -> u64 {
        self.reader.tail()
    }

    pub fn peer(&mut self, name: &str) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.config.name == name)
    }

    /// The latest term that a peer has heard of, if there is one later than this.
    pub fn later_term(&self) -> u64 {
        self.peers.iter().map(Peer::later_term).max().unwrap_or(0)
    }

    /// Keeps to these peers from now on.
    pub fn set_peers(&mut self, wanted: &[PeerConfig]) {
        self.peers.retain_mut(|peer| {
            let config = wanted.iter().find(|config| config.name == peer.config.name);
            match config {
                Some(config) => peer.config = config.clone(),
                None => peer.dismiss(),
            }
            config.is_some()
        });
        for config in wanted {
            if self.peer(&config.name).is_none() {
                self.peers.push(Peer::new(config.clone(), self.reader, self.lineage, self.limits));
            }
        }
    }

    pub fn round(&mut self, listener: &TcpListener) -> usize {
        let now_ns = SystemClock.monotonic_ns();
        if now_ns.saturating_sub(self.looked_ns) >= ACCEPT_INTERVAL_NS {
            self.looked_ns = now_ns;
            self.accept(listener, now_ns);
        }
        self.greet(now_ns) + self.peers.iter_mut().map(Peer::round).sum::<usize>()
    }

    fn accept(&mut self, listener: &TcpListener, now_ns: u64) {
        for _ in 0..PEERS_MAX {
            match listener.accept() {
                Ok((stream, address)) => self.arrive(stream, address, now_ns),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Too many files, or a peer that is gone again: the next look may find better.
                Err(error) => {
                    self.not_accepted += 1;
                    return tracing::debug!("a standby's connection can't be taken: {error}");
                }
            }
        }
    }

    fn arrive(&mut self, stream: TcpStream, address: SocketAddr, now_ns: u64) {
        if self.arrivals.len() == PEERS_MAX {
            self.turned_away += 1;
            return tracing::warn!(
                "{address} was turned away: {PEERS_MAX} others have not said who they are"
            );
        }
        match self.links.accept(stream) {
            Ok(end) => self.arrivals.push(Arrival::new(end, address, now_ns)),
            Err(error) => tracing::warn!("standby {address}: {error}"),
        }
    }

    /// Finds out whose connections they are.
    fn greet(&mut self, now_ns: u64) -> usize {
        let mut work = 0;
        for index in (0..self.arrivals.len()).rev() {
            match self.arrivals[index].round(now_ns) {
                Said::Nothing => continue,
                Said::Hello(hello) => self.introduce(index, hello),
                Said::Gone(error) => {
                    let gone = self.arrivals.swap_remove(index);
                    self.strangers += 1;
                    tracing::debug!("{}: {error}", gone.address);
                }
            }
            work += 1;
        }
        work
    }

    fn introduce(&mut self, index: usize, hello: Message) {
        let Message::Hello { protocol, node, .. } = hello else { unreachable!("asked for") };
        let arrival = &mut self.arrivals[index];
        let peer = self.peers.iter_mut().find(|peer| peer.node == node);
        if let Some(peer) = peer.filter(|peer| arrival.end.is_from(&peer.config.name)) {
            let Arrival { end, address, .. } = self.arrivals.swap_remove(index);
            return peer.connect(end, address, hello);
        }
        // Another version may have no name, or another way to tell it.
        let refusal = if protocol == PROTOCOL { Refusal::Stranger } else { Refusal::Protocol };
        arrival.refuse(Message::Refuse { refusal, term: self.lineage.term });
        if self.told.len() < PEERS_MAX && self.told.insert(arrival.address.ip()) {
            tracing::warn!(
                "{} is none of this node's peers, or has not their certificate, and was sent away: add it to [replica] \
                 peers, or by `tickplane peer add`",
                arrival.address
            );
        }
    }

    pub fn show(&mut self, view: &View, seen: ClusterGetResponse) {
        let tail = self.reader.tail();
        let latencies = self.peers.iter().map(Peer::latencies).collect();
        let seen = ClusterGetResponse {
            role: Role::Primary.into(),
            term: self.lineage.term,
            later_term: self.later_term(),
            peers: self.peers.iter_mut().map(|peer| peer.view(tail)).collect(),
            counters: seen
                .counters
                .into_iter()
                .chain(counters([
                    ("turned_away", self.turned_away),
                    ("strangers", self.strangers),
                    ("not_accepted", self.not_accepted),
                ]))
                .collect(),
            ..seen
        };
        view.set(seen, latencies);
    }
}
