//! The standby's side: looks for its primary, follows it, and connects again.

use super::link::{LinkError, LinkSetup, StandbyLink, silence};
use super::{SILENCE_MAX_NS, TermFile, View, counters};
use crate::proto::{ClusterGetResponse, Role, Source};
use dataplane::replica::Standby;
use dataplane::time::{Clock, NS_PER_MS};
use drivers::clock::SystemClock;
use drivers::tcp_link::{Channel, Identity, LinkError as TcpLinkError};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

/// The time between two attempts to connect: it doubles from the least to the most.
const BACKOFF_MIN_NS: u64 = 10 * NS_PER_MS;
const BACKOFF_MAX_NS: u64 = 1_000 * NS_PER_MS;
/// A machine that is gone does not answer.
const CONNECT_MAX: Duration = Duration::from_millis(250);

/// A node that may be the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
}

impl Candidate {
    /// Connects to the first of its addresses that answers.
    pub fn connect(&self, identity: Option<&Identity>, most: Duration) -> io::Result<Channel> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in self.address.to_socket_addrs()? {
            match (TcpStream::connect_timeout(&address, most), identity) {
                (Ok(stream), Some(identity)) => return identity.connect(stream, &self.name),
                (Ok(stream), None) => return Ok(stream.into()),
                (Err(error), _) => last = error,
            }
        }
        Err(last)
    }
}

/// A standby, which fills its region with what its primary sends.
pub struct StandbySide {
    links: LinkSetup,
    linked: StandbyLink,
    heard_ns: u64,
    candidates: Vec<Candidate>,
    /// The attempt to connect that is under way.
    attempt: Option<Receiver<io::Result<Channel>>>,
    /// The one that is asked, or was asked last.
    asked: usize,
    /// Candidates that were asked in vain since the last connection on which a primary spoke.
    in_vain: usize,
    retry_ns: u64,
    backoff_ns: u64,
    failures: u64,
    error: String,
}

impl StandbySide {
    pub fn new(standby: Standby<'static>, links: LinkSetup, candidates: Vec<Candidate>) -> StandbySide {
        StandbySide {
            linked: links.standby(standby),
            links,
            heard_ns: 0,
            candidates,
            attempt: None,
            asked: 0,
            in_vain: 0,
            retry_ns: 0,
            backoff_ns: BACKOFF_MIN_NS,
            failures: 0,
            error: String::new(),
        }
    }

    pub fn standby(&self) -> &Standby<'static> {
        self.linked.standby()
    }

    /// As [`Standby::set_whole`].
    pub fn set_whole(&mut self, whole: bool) {
        self.linked.set_whole(whole);
    }

    /// The standby itself, whose connection is gone with this.
    pub fn into_standby(self) -> Standby<'static> {
        self.linked.into_standby()
    }

    /// The name of a primary that is connected and has spoken.
    pub fn primary(&self) -> Option<&str> {
        let speaks = self.linked.is_connected() && self.standby().status().connected;
        self.candidates.get(self.asked).filter(|_| speaks).map(|candidate| candidate.name.as_str())
    }

    /// None of the candidates is a primary, as far as could be found out.
    pub fn has_asked_all(&self) -> bool {
        self.in_vain >= self.candidates.len()
    }

    /// Looks for the primary among these from now on.
    pub fn set_candidates(&mut self, candidates: Vec<Candidate>) {
        if candidates != self.candidates {
            self.linked.disconnect();
            self.candidates = candidates;
            // It ends by itself, and nobody takes what comes of it.
            self.attempt = None;
            (self.asked, self.in_vain, self.retry_ns, self.backoff_ns) = (0, 0, 0, BACKOFF_MIN_NS);
            self.error.clear();
        }
    }

    pub fn round(&mut self, term: &mut TermFile) -> usize {
        let now_ns = SystemClock.monotonic_ns();
        if self.linked.is_connected() {
            return self.follow(term).unwrap_or_else(|error| {
                self.lose(error.to_string());
                1
            });
        }
        let attempted = match &self.attempt {
            None if now_ns < self.retry_ns || self.candidates.is_empty() => return 0,
            None => self.attempt(),
            Some(attempt) => match attempt.try_recv() {
                Err(TryRecvError::Empty) => return 0,
                Err(TryRecvError::Disconnected) => {
                    self.take(Err(io::Error::other("the attempt ended by itself")))
                }
                Ok(connected) => self.take(connected),
            },
        };
        if let Err(error) = attempted {
            self.attempt = None;
            self.lose(format!("no connection: {error}"));
        }
        1
    }

    fn follow(&mut self, term: &mut TermFile) -> Result<usize, LinkError> {
        let mut write_down = |accepted| match term.write(accepted) {
            Ok(()) => {
                tracing::info!("follows the primary of term {accepted}");
                true
            }
            Err(error) => {
                tracing::error!("{error}");
                false
            }
        };
        let received = self.linked.poll(&mut write_down)?;
        let now_ns = SystemClock.monotonic_ns();
        if received != 0 {
            self.heard_ns = now_ns;
            if self.standby().status().connected {
                (self.in_vain, self.backoff_ns) = (0, BACKOFF_MIN_NS);
            }
        } else if now_ns.saturating_sub(self.heard_ns) > SILENCE_MAX_NS {
            return Err(silence("nothing was heard for too long"));
        }
        Ok(received)
    }

    /// Begins to connect, in a thread of its own: a name that no server resolves, or a machine that is gone, takes its time.
    fn attempt(&mut self) -> Result<(), LinkError> {
        let (sender, attempt) = mpsc::channel();
        let (candidate, identity) = (self.candidates[self.asked].clone(), self.links.identity().cloned());
        let connect = move || {
            // Whoever wanted it may look elsewhere by now.
            let _ = sender.send(candidate.connect(identity.as_ref(), CONNECT_MAX));
        };
        let thread = std::thread::Builder::new().name("connect".to_owned()).spawn(connect);
        thread.map_err(TcpLinkError::from)?;
        self.attempt = Some(attempt);
        Ok(())
    }

    fn take(&mut self, connected: io::Result<Channel>) -> Result<(), LinkError> {
        self.attempt = None;
        self.linked.connect(connected.map_err(TcpLinkError::from)?)?;
        self.heard_ns = SystemClock.monotonic_ns();
        Ok(())
    }

    /// Goes on with the next candidate: at once, until all were asked.
    fn lose(&mut self, cause: String) {
        let Candidate { name, address } = &self.candidates[self.asked];
        let cause = format!("{name} at {address}: {cause}");
        self.linked.disconnect();
        self.failures += 1;
        self.in_vain += 1;
        // The same again is not worth a line.
        if cause != self.error && self.in_vain <= self.candidates.len() {
            tracing::warn!("{cause}");
        }
        self.error = cause;
        self.asked = (self.asked + 1) % self.candidates.len();
        if self.asked == 0 {
            self.retry_ns = SystemClock.monotonic_ns() + self.backoff_ns;
            self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_MAX_NS);
        }
    }

    pub fn show(&mut self, view: &View, seen: ClusterGetResponse) {
        let (status, counted) = (self.standby().status(), self.standby().counters());
        let connected = self.linked.is_connected() && status.connected;
        if connected {
            self.error.clear();
        }
        let lag_ticks = status.primary_tail.saturating_sub(status.position);
        let candidate = self.candidates.get(self.asked);
        let source = Source {
            name: candidate.map(|candidate| candidate.name.clone()).unwrap_or_default(),
            address: candidate.map(|candidate| candidate.address.clone()).unwrap_or_default(),
            link: self.linked.kind().to_owned(),
            connected,
            tail: status.primary_tail,
            lag_ticks,
            lag_ns: match status.complete_ns {
                0 => 0,
                complete_ns => SystemClock.monotonic_ns().saturating_sub(complete_ns).max(1),
            },
            error: self.error.clone(),
            counters: counters([
                ("connections", counted.connections),
                ("images", counted.images),
                ("rows", counted.rows),
                ("ticks", counted.ticks),
                ("fenced", counted.fenced),
                ("failures", self.failures),
            ]),
        };
        let seen = ClusterGetResponse {
            role: Role::Standby.into(),
            term: status.term,
            tail: status.primary_tail,
            level: status.level,
            source: Some(source),
            ..seen
        };
        view.set(seen, Vec::new());
    }

    pub fn retire(&mut self) {
        self.linked.retire();
    }
}
