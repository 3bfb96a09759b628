//! The standby's side: connects to its primary, follows it, and connects again.

use super::{Round, SILENCE_MAX_NS, TermFile, VIEW_INTERVAL_NS, View, counters};
use crate::proto::{ClusterGetResponse, Role, Source};
use dataplane::cache::follower::Follower;
use dataplane::replica::Standby;
use dataplane::time::{Clock, NS_PER_MS};
use drivers::clock::SystemClock;
use drivers::tcp_link::{LinkError, StandbyEnd};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The time between two attempts to connect: it doubles from the least to the most.
const BACKOFF_MIN_NS: u64 = 10 * NS_PER_MS;
const BACKOFF_MAX_NS: u64 = 1_000 * NS_PER_MS;
const CONNECT_MAX: Duration = Duration::from_secs(1);

struct Connection {
    end: StandbyEnd,
    heard_ns: u64,
}

impl Connection {
    fn round(&mut self, standby: &mut Standby<'static>, term: &mut TermFile) -> Result<usize, LinkError> {
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
        let received = self.end.poll(standby, || SystemClock.monotonic_ns(), &mut write_down)?;
        let now_ns = SystemClock.monotonic_ns();
        if received != 0 {
            self.heard_ns = now_ns;
        } else if now_ns.saturating_sub(self.heard_ns) > SILENCE_MAX_NS {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was heard for too long").into());
        }
        Ok(received)
    }
}

/// A standby, which fills its region with what its primary sends.
pub struct StandbyNode {
    /// `HOST:PORT`, as configured.
    primary: String,
    standby: Standby<'static>,
    term: TermFile,
    connection: Option<Connection>,
    retry_ns: u64,
    backoff_ns: u64,
    failures: u64,
    error: String,
    looked_ns: u64,
    view: View,
}

impl StandbyNode {
    pub fn new(primary: String, follower: Follower<'static>, term: TermFile, view: View) -> StandbyNode {
        let mut node = StandbyNode {
            primary,
            standby: Standby::new(follower, term.term()),
            term,
            connection: None,
            retry_ns: 0,
            backoff_ns: BACKOFF_MIN_NS,
            failures: 0,
            error: String::new(),
            looked_ns: 0,
            view,
        };
        node.show();
        node
    }

    /// Connects to the first loopback address of the primary's that takes it: nothing else is allowed without TLS.
    fn connect(&mut self) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no loopback address");
        for address in self.primary.to_socket_addrs()?.filter(|address| address.ip().is_loopback()) {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(stream) => {
                    let end = StandbyEnd::new(stream, &mut self.standby)?;
                    return Ok(Connection { end, heard_ns: SystemClock.monotonic_ns() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn lose(&mut self, cause: String) {
        self.connection = None;
        self.failures += 1;
        // The same again is not worth a line.
        if cause != self.error {
            tracing::warn!("primary {}: {cause}", self.primary);
        }
        self.error = cause;
        self.retry_ns = SystemClock.monotonic_ns() + self.backoff_ns;
        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_MAX_NS);
    }

    fn show(&mut self) {
        let (status, counted) = (self.standby.status(), self.standby.counters());
        let connected = self.connection.is_some() && status.connected;
        if connected {
            self.error.clear();
            self.backoff_ns = BACKOFF_MIN_NS;
        }
        let lag_ticks = status.primary_tail.saturating_sub(status.position);
        let source = Source {
            address: self.primary.clone(),
            connected,
            tail: status.primary_tail,
            lag_ticks,
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
        self.view.set(ClusterGetResponse {
            role: Role::Standby.into(),
            term: status.term,
            tail: status.primary_tail,
            level: status.level,
            source: Some(source),
            ..Default::default()
        });
    }
}

impl Round for StandbyNode {
    fn round(&mut self) -> usize {
        let now_ns = SystemClock.monotonic_ns();
        if now_ns.saturating_sub(self.looked_ns) >= VIEW_INTERVAL_NS {
            self.looked_ns = now_ns;
            self.show();
        }
        let StandbyNode { connection, standby, term, .. } = self;
        match connection.as_mut().map(|connection| connection.round(standby, term)) {
            Some(Ok(work)) => work,
            Some(Err(error)) => {
                self.lose(error.to_string());
                1
            }
            None if now_ns < self.retry_ns => 0,
            None => {
                match self.connect() {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => self.lose(format!("no connection: {error}")),
                }
                1
            }
        }
    }

    fn end(&mut self) {
        self.standby.retire();
    }
}
