//! The protocols, and a feed of any of them. A new protocol is a variant here, and a folder beside this file.

use std::sync::Arc;

use super::arbiter::Arbiter;
use super::config::{ArbiterConfig, ConfigError};
use super::decoder::Decoder;
use super::delivery::{Arrival, Delivery, Event, Sink};
use super::itch50::{Itch50, Midnight};
use super::mdp3::Mdp3;
use super::records::Records;
use super::tops16::Tops16;
use super::transfer::{Target, Transferred};
use crate::cache::reader::Reader;
use crate::cache::writer::Writer;
use crate::hint::Prefetch;
use crate::telemetry::FeedTelemetry;
use crate::times::FeedTimes;

/// What a feed speaks, with the sizes that its decoder is made with.
pub enum Protocol {
    /// Nasdaq TotalView-ITCH 5.0 over MoldUDP64.
    Itch50 {
        /// Orders that may be alive at once.
        orders_max: usize,
        midnight: Midnight,
    },
    /// CME MDP 3.0, one channel.
    Mdp3 {
        /// Instruments that are told apart; what is more is counted.
        instruments_max: usize,
    },
    /// IEX TOPS 1.6 over IEX-TP.
    Tops16 {
        /// Symbols of one session.
        symbols_max: usize,
    },
    /// Records of one's own over MoldUDP64.
    Records {
        /// Instruments that the region has room for.
        instruments_max: usize,
    },
}

/// One feed: its lines put together, and what they carry decoded.
// A worker has a few, in one vector, made once.
#[allow(clippy::large_enum_variant)]
pub enum Feed<F: Prefetch> {
    Itch50(Arbitrated<Itch50<F>>),
    Mdp3(Arbitrated<Mdp3<F>>),
    Tops16(Arbitrated<Tops16<F>>),
    Records(Arbitrated<Records>),
}

/// The arbiter and the decoder behind it.
pub struct Arbitrated<D: Decoder> {
    arbiter: Arbiter<D::Transport>,
    decoder: D,
}

/// Does the same with whichever feed it is.
macro_rules! each {
    ($self:ident, $feed:ident => $do:expr) => {
        match $self {
            Feed::Itch50($feed) => $do,
            Feed::Mdp3($feed) => $do,
            Feed::Tops16($feed) => $do,
            Feed::Records($feed) => $do,
        }
    };
}

impl<F: Prefetch> Feed<F> {
    pub fn new(
        index: u16,
        protocol: Protocol,
        config: ArbiterConfig,
        telemetry: &FeedTelemetry,
    ) -> Result<Feed<F>, ConfigError> {
        let decoder = telemetry.decoder.clone();
        let lines = &telemetry.lines;
        Ok(match protocol {
            Protocol::Itch50 { orders_max, midnight } => Feed::Itch50(Arbitrated::new(
                config,
                lines,
                Itch50::new(index, orders_max, midnight, decoder),
            )?),
            Protocol::Mdp3 { instruments_max } => {
                Feed::Mdp3(Arbitrated::new(config, lines, Mdp3::new(index, instruments_max, decoder))?)
            }
            Protocol::Tops16 { symbols_max } => {
                Feed::Tops16(Arbitrated::new(config, lines, Tops16::new(index, symbols_max, decoder))?)
            }
            Protocol::Records { instruments_max } => {
                Feed::Records(Arbitrated::new(config, lines, Records::new(index, instruments_max, decoder))?)
            }
        })
    }

    /// Takes a UDP payload that came by one of its lines.
    #[inline(always)]
    pub fn accept(&mut self, payload: &[u8], arrival: Arrival, writer: &mut Writer<'_>) {
        each!(self, feed => feed.accept(payload, arrival, writer));
    }

    /// Ends a burst: all that came is published. Returns the oldest of the exchange's stamps since the last call.
    #[inline(always)]
    pub fn flush(&mut self, writer: &mut Writer<'_>) -> Option<u64> {
        each!(self, feed => {
            feed.decoder.flush(writer);
            feed.decoder.publication().take_oldest()
        })
    }

    /// Sees to the timers; `now_ns` is monotonic.
    #[inline(always)]
    pub fn poll(&mut self, now_ns: u64, writer: &mut Writer<'_>) {
        each!(self, feed => {
            feed.decoder.poll(now_ns, writer);
            feed.arbiter.poll(now_ns, &mut Deliverer { decoder: &mut feed.decoder, writer });
        });
    }

    /// They hold from the next [`Feed::poll`] on.
    pub fn set_times(&mut self, times: FeedTimes) {
        each!(self, feed => feed.arbiter.set_times(times));
    }

    /// Whether a group's region already has what is yet to come here, if `own` is the region that the feed is published in.
    pub fn is_behind(&mut self, own: Reader<'_>, group: Reader<'_>) -> bool {
        each!(self, feed => feed.decoder.publication().is_behind(own, group))
    }

    /// Goes on in the region of `writer`; `before` is the one until now. Called between bursts: nothing waits to be published.
    pub fn transfer(&mut self, before: Reader<'_>, writer: &mut Writer<'_>, target: Target) -> Transferred {
        each!(self, feed => {
            let (transferred, numbers) = feed.decoder.publication().transfer(before, writer, target);
            feed.decoder.renumber(&numbers);
            transferred
        })
    }

    /// Gives up what is still missing: nothing will come any more.
    pub fn finish(&mut self, now_ns: u64, writer: &mut Writer<'_>) {
        each!(self, feed => {
            feed.arbiter.finish(now_ns, &mut Deliverer { decoder: &mut feed.decoder, writer });
            feed.decoder.finish(writer);
        });
    }

    /// The big tables' memory, for whoever wants to advise the kernel about it.
    pub fn memory(&self) -> Vec<&[u8]> {
        each!(self, feed => feed.decoder.memory())
    }
}

impl<D: Decoder> Arbitrated<D> {
    fn new(
        config: ArbiterConfig,
        counters: &Arc<super::FeedCounters>,
        decoder: D,
    ) -> Result<Self, ConfigError> {
        Ok(Arbitrated { arbiter: Arbiter::new(config, counters.clone())?, decoder })
    }

    #[inline(always)]
    fn accept(&mut self, payload: &[u8], arrival: Arrival, writer: &mut Writer<'_>) {
        self.decoder.publication().arrive(arrival.received_ns);
        self.arbiter.accept(payload, arrival, &mut Deliverer { decoder: &mut self.decoder, writer });
    }
}

/// A decoder and the writer to whom it publishes: what an arbiter delivers to.
struct Deliverer<'a, 'm, D> {
    decoder: &'a mut D,
    writer: &'a mut Writer<'m>,
}

impl<D: Decoder> Sink for Deliverer<'_, '_, D> {
    #[inline(always)]
    fn messages(&mut self, delivery: Delivery<'_>) {
        let next = delivery.sequence + u64::from(delivery.count);
        self.decoder.messages(delivery, self.writer);
        self.decoder.publication().sequence = next;
    }

    fn event(&mut self, event: Event) {
        self.decoder.flush(self.writer);
        self.decoder.event(event, self.writer);
    }
}
