//! An exchange's order flow in memory: the same bytes for everyone.

use dataplane::port::Medium;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::sim::packetizer::Moldudp64Packetizer;
use dataplane::wire::datagram::Datagram;
use std::net::{Ipv4Addr, SocketAddrV4};

pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 26_477);
pub const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 26_477);
const PAYLOAD_BYTES: usize = 1_472;

/// A day's opening, then its flow.
pub struct Flow {
    exchange: Exchange,
    packetizer: Moldudp64Packetizer,
}

impl Flow {
    /// `orders` are alive when the market opens, spread over all instruments, and about as many stay alive.
    pub fn new(instruments: u32, orders: u32) -> Flow {
        let per_instrument = orders / instruments;
        let config = Config {
            instruments,
            resting_orders: per_instrument,
            opening_orders: per_instrument,
            skewed: false,
            ..Config::default()
        };
        Flow { exchange: Exchange::new(config), packetizer: Moldudp64Packetizer::new("BENCH", PAYLOAD_BYTES) }
    }

    pub fn orders(&self) -> usize {
        self.exchange.orders()
    }

    /// Messages up to the open market.
    pub fn opening_messages(&self) -> u64 {
        self.exchange.opening_messages()
    }

    /// Everything up to the open market.
    pub fn opening(&mut self) -> MemoryPort {
        let messages = self.exchange.opening_messages();
        self.port(messages, 32)
    }

    /// The next `messages` messages as Ethernet frames.
    pub fn port(&mut self, messages: u64, messages_per_packet: u16) -> MemoryPort {
        let mut port = MemoryPort::with_burst(Medium::Ethernet, 64);
        let until = self.exchange.sequence() + messages;
        let mut payload = Vec::new();
        while self.exchange.sequence() < until {
            let left = (until - self.exchange.sequence()).min(u64::from(messages_per_packet)) as u16;
            if self.packetizer.fill(&mut self.exchange, left, &mut payload) == 0 {
                break;
            }
            let datagram = Datagram { vlan: None, source: SOURCE, destination: GROUP, payload: &payload };
            port.push_datagram(&datagram, 0);
        }
        port
    }

    /// The next `messages` messages, each behind its length.
    pub fn file(&mut self, messages: usize) -> Vec<u8> {
        let (mut file, mut message) = (Vec::new(), Vec::new());
        for _ in 0..messages {
            message.clear();
            if !self.exchange.next_message(&mut message) {
                break;
            }
            file.extend_from_slice(&(message.len() as u16).to_be_bytes());
            file.extend_from_slice(&message);
        }
        file
    }
}
