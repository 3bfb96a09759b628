//! A simulated MDP 3.0 channel: definitions, then books that change by all of the exchange's actions, trades, statistics,
//! statuses, resets, and what a later schema may bring. It keeps its own plain books, and so knows at every packet what a
//! cache that has seen this far must hold.
//!
//! What is sent is a function of the configuration alone.

mod contract;
mod encode;

pub use contract::{Contract, Level, Trade};

use crate::sim::random::Random;
use crate::wire::mdp3::{PacketHeader, event_bit};
use encode::{Encoder, Form};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U64};

/// What a channel is made of.
#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    /// At least 1; their security ids are of no order.
    pub instruments: usize,
    /// Instruments of each security group.
    pub group: usize,
    /// The number of the first packet: 1, unless the channel has been running.
    pub first_sequence: u32,
    /// Messages of an event, at most.
    pub event_messages: u32,
    /// Entries of a message, at most.
    pub entries: u32,
    /// Messages of a packet, at most.
    pub packet_messages: u32,
    /// Events in 1,000 that are channel resets.
    pub resets_per_mille: u64,
    /// What is sent besides books and trades, and in which forms.
    pub variety: Variety,
    /// Stamp of the first packet, ns of Unix UTC.
    pub start_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Template 46 alone, by new, change and delete: what a quiet book mostly sees.
    Plain,
    /// All templates and actions, longer blocks, messages of unknown templates.
    All,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 1,
            instruments: 10,
            group: 4,
            first_sequence: 1,
            event_messages: 3,
            entries: 4,
            packet_messages: 3,
            resets_per_mille: 2,
            variety: Variety::All,
            start_ns: 1_475_013_570_000_000_000,
        }
    }
}

/// The channel.
#[derive(Clone, Debug)]
pub struct Channel {
    config: Config,
    random: Random,
    contracts: Vec<Contract>,
    sequence: u32,
    now_ns: u64,
    /// The start of the event at hand.
    event_ns: u64,
    /// Messages that the event at hand has still to send; 0 = the next one begins another.
    event_left: u32,
    /// Contracts that have still to be defined, from the last down.
    undefined: usize,
    trade_id: u32,
    has_reset: bool,
}

impl Channel {
    pub fn new(config: Config) -> Channel {
        assert!(config.instruments > 0 && config.group > 0);
        let mut random = Random::new(config.seed);
        let contracts =
            (0..config.instruments).map(|index| Contract::new(index, config.group, &mut random)).collect();
        Channel {
            random,
            contracts,
            sequence: config.first_sequence,
            now_ns: config.start_ns,
            event_ns: config.start_ns,
            event_left: 0,
            undefined: config.instruments,
            trade_id: 0,
            has_reset: false,
            config,
        }
    }

    /// What everybody who has seen all packets must know, once [`Channel::is_between_events`].
    pub fn contracts(&self) -> &[Contract] {
        &self.contracts
    }

    /// The exchange has ended its event: what it changed may be shown.
    pub fn is_between_events(&self) -> bool {
        self.event_left == 0
    }

    /// The number of the next packet.
    pub fn sequence_next(&self) -> u32 {
        self.sequence
    }

    /// The last packet reset the channel.
    pub fn has_reset(&self) -> bool {
        self.has_reset
    }

    /// Replaces `packet` by the next one.
    pub fn next_packet(&mut self, packet: &mut Vec<u8>) {
        self.now_ns += 1_000 + self.random.below(1_000_000);
        self.has_reset = false;
        packet.clear();
        let header = PacketHeader { sequence: U32::new(self.sequence), sending_time: U64::new(self.now_ns) };
        packet.extend_from_slice(header.as_bytes());
        for _ in 0..self.random.between(1, self.config.packet_messages) {
            self.message(packet);
        }
        self.sequence += 1;
    }

    fn message(&mut self, packet: &mut Vec<u8>) {
        let plain = self.config.variety == Variety::Plain;
        let form = if plain { Form::PLAIN } else { Form::any(&mut self.random) };
        if !plain && self.random.percent(5) {
            // What tells no event's end can't be the one that ends it.
            let mut aside = Encoder { packet, form, event_ns: self.now_ns, indicator: 0 };
            if self.random.percent(50) { aside.heartbeat() } else { aside.unknown(&mut self.random) }
        }
        if self.event_left == 0 {
            self.event_left = self.random.between(1, self.config.event_messages);
            self.event_ns = self.now_ns;
        }
        self.event_left -= 1;
        let indicator = if self.event_left == 0 { event_bit::END_OF_EVENT } else { event_bit::LAST_QUOTE };
        let mut encoder = Encoder { packet, form, event_ns: self.event_ns, indicator };
        if self.undefined != 0 {
            self.undefined -= 1;
            return encoder.definition(&self.contracts[self.undefined], b'A');
        }
        if self.random.below(1_000) < self.config.resets_per_mille {
            self.contracts.iter_mut().for_each(Contract::reset);
            self.has_reset = true;
            return encoder.channel_reset();
        }
        match if plain { 99 } else { self.random.below(100) } {
            0..2 => encoder.order_book(&mut self.random),
            2..12 => self.statistics(&mut encoder),
            12..16 => self.status(&mut encoder),
            16..18 => {
                let index = self.any();
                encoder.definition(&self.contracts[index], b'M');
            }
            18..30 => self.trades(&mut encoder),
            _ => self.books(&mut encoder),
        }
    }

    fn any(&mut self) -> usize {
        self.random.below(self.contracts.len() as u64) as usize
    }

    /// A contract of which the message at hand reports, and the report's number.
    fn report(&mut self) -> (usize, u32) {
        let index = self.any();
        let contract = &mut self.contracts[index];
        contract.rpt_seq += 1;
        (index, contract.rpt_seq)
    }

    fn books(&mut self, encoder: &mut Encoder<'_>) {
        let plain = self.config.variety == Variety::Plain;
        let count = self.random.between(u32::from(plain), self.config.entries);
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (index, rpt_seq) = self.report();
            let contract = &mut self.contracts[index];
            entries.push((contract.security_id, rpt_seq, contract.change(&mut self.random, plain)));
        }
        encoder.books(&entries);
    }

    fn trades(&mut self, encoder: &mut Encoder<'_>) {
        let count = self.random.between(1, self.config.entries);
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (index, rpt_seq) = self.report();
            self.trade_id += 1;
            let contract = &mut self.contracts[index];
            let (trade, action) = contract.trade(self.trade_id, &mut self.random);
            entries.push((contract.security_id, rpt_seq, trade, action));
        }
        encoder.trades(&entries);
    }

    fn statistics(&mut self, encoder: &mut Encoder<'_>) {
        let count = self.random.between(1, self.config.entries);
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (index, rpt_seq) = self.report();
            entries.push((self.contracts[index].security_id, rpt_seq));
        }
        encoder.statistics(&entries, &mut self.random);
    }

    /// Of one contract, of a group, or of an asset of a group.
    fn status(&mut self, encoder: &mut Encoder<'_>) {
        let (index, status) = (self.any(), *[2, 4, 15, 17, 18, 21, 24, 25, 26, 103].choose(&mut self.random));
        let one = self.contracts[index].clone();
        let of = self.random.below(3);
        for contract in &mut self.contracts {
            let is_meant = match of {
                0 => contract.security_id == one.security_id,
                1 => contract.group == one.group,
                _ => contract.group == one.group && contract.asset == one.asset,
            };
            if is_meant && status != 103 {
                contract.trading_status = status;
            }
        }
        encoder.status(
            (of == 0).then_some(one.security_id),
            one.group,
            (of == 2).then_some(one.asset),
            status,
        );
    }
}

/// One of some.
trait Choose<T> {
    fn choose(&self, random: &mut Random) -> &T;
}

impl<T> Choose<T> for [T] {
    fn choose(&self, random: &mut Random) -> &T {
        &self[random.below(self.len() as u64) as usize]
    }
}
