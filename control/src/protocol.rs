//! The protocols by the names that the configuration and the command line have for them.

use crate::midnight::{DateError, midnight_before, midnight_of};
use dataplane::feed;
use dataplane::feed::itch50::Midnight;
use dataplane::feed::transport::{self, IexTp, Moldudp64, Transport};

/// What a feed speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Nasdaq TotalView-ITCH 5.0 over MoldUDP64
    Itch50,
    /// CME MDP 3.0, one channel
    Mdp3,
    /// IEX TOPS 1.6 over IEX-TP
    Tops16,
    /// Records of one's own over MoldUDP64
    Records,
}

/// Instruments of an MDP 3.0 channel. CME's largest have some ten thousand.
const CHANNEL_INSTRUMENTS_MAX: usize = 1 << 16;

/// Whether a datagram is of the transport, whole.
fn is_of<T: Transport>(datagram: &[u8]) -> bool {
    T::parse(datagram).is_some_and(|packet| T::is_whole(&packet))
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Itch50 => "itch50",
            Protocol::Mdp3 => "mdp3",
            Protocol::Tops16 => "tops16",
            Protocol::Records => "records",
        }
    }

    /// What carries it, for people.
    pub fn transport(self) -> &'static str {
        match self {
            Protocol::Itch50 | Protocol::Records => "MoldUDP64",
            Protocol::Mdp3 => "MDP 3.0",
            Protocol::Tops16 => "IEX-TP (TOPS)",
        }
    }

    /// Whether its books are made of single orders.
    pub fn keeps_orders(self) -> bool {
        matches!(self, Protocol::Itch50)
    }

    /// Whether a datagram is one of this protocol's.
    pub fn is_carried_by(self, datagram: &[u8]) -> bool {
        match self {
            Protocol::Itch50 | Protocol::Records => is_of::<Moldudp64>(datagram),
            Protocol::Mdp3 => is_of::<transport::Mdp3>(datagram),
            Protocol::Tops16 => is_of::<IexTp>(datagram),
        }
    }

    /// What a worker makes a feed of. `instruments_max` is what the region has room for; `date` is the exchange's day, without
    /// it that on which a session is first seen.
    pub fn setup(
        self,
        orders_max: usize,
        instruments_max: usize,
        date: Option<&str>,
    ) -> Result<feed::Protocol, DateError> {
        Ok(match self {
            Protocol::Itch50 => feed::Protocol::Itch50 { orders_max, midnight: midnight(date)? },
            Protocol::Mdp3 => feed::Protocol::Mdp3 { instruments_max: CHANNEL_INSTRUMENTS_MAX },
            Protocol::Tops16 => feed::Protocol::Tops16 { symbols_max: instruments_max },
            Protocol::Records => feed::Protocol::Records { instruments_max },
        })
    }
}

fn midnight(date: Option<&str>) -> Result<Midnight, DateError> {
    if let Some(date) = date {
        let midnight_ns = midnight_of(date)?;
        return Ok(Box::new(move |_| midnight_ns));
    }
    // A recording without stamps (an ITCH file) tells no day.
    Ok(Box::new(|received_ns| if received_ns == 0 { 0 } else { midnight_before(received_ns).unwrap_or(0) }))
}
