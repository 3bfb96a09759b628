//! Connections of which it is not known yet whose they are.

use super::link::{LinkError, PrimaryLink, silence};
use dataplane::replica::{Link, Message};
use std::net::SocketAddr;

/// Whoever has not said who it is after so long is sent away.
const HELLO_MAX_NS: u64 = 2_000_000_000;

/// A connection that has just been taken, or was told that it is not wanted.
pub struct Arrival {
    pub end: PrimaryLink,
    pub address: SocketAddr,
    arrived_ns: u64,
    is_refused: bool,
}

/// What has become of it.
pub enum Said {
    Nothing,
    /// Who it is; the connection is still to be told whether it is taken.
    Hello(Message),
    /// It is over, or was no connection of a standby.
    Gone(LinkError),
}

impl Arrival {
    pub fn new(end: PrimaryLink, address: SocketAddr, now_ns: u64) -> Arrival {
        Arrival { end, address, arrived_ns: now_ns, is_refused: false }
    }

    pub fn round(&mut self, now_ns: u64) -> Said {
        if let Err(error) = self.end.fill().and_then(|_| self.end.flush()) {
            return Said::Gone(error);
        }
        match self.end.receive() {
            Some(hello @ Message::Hello { .. }) if !self.is_refused => Said::Hello(hello),
            _ if now_ns.saturating_sub(self.arrived_ns) > HELLO_MAX_NS => {
                Said::Gone(silence("it did not say who it is"))
            }
            _ => Said::Nothing,
        }
    }

    /// Tells it why it is not taken. It has a while left to read that.
    pub fn refuse(&mut self, message: Message) {
        self.is_refused = true;
        self.end.send(message);
    }
}
