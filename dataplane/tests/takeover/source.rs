//! The source: what sends the packets of one feed, whatever it speaks.

use dataplane::feed::Protocol;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::mdp3::{self, Channel};
use dataplane::sim::packetizer::{IexTpPacketizer, Moldudp64Packetizer};
use dataplane::sim::random::Random;
use dataplane::sim::tops::TopsMarket;
use dataplane::wire::moldudp64::Header;
use dataplane::wire::record::{Quote, Record, Status, Trade};
use zerocopy::IntoBytes;

/// Instruments of a feed, at most.
const INSTRUMENTS: u64 = 12;
const PACKET_BYTES: usize = 1_400;

pub enum Source {
    Itch50 { exchange: Box<Exchange>, packetizer: Moldudp64Packetizer },
    Mdp3(Box<Channel>),
    Tops16 { market: Box<TopsMarket>, packetizer: IexTpPacketizer },
    Records { random: Random, sent: u64, session: [u8; 10] },
}

/// What a feed of the tests speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Itch50,
    Mdp3,
    Tops16,
    Records,
}

impl Speech {
    pub const ALL: [Speech; 4] = [Speech::Itch50, Speech::Mdp3, Speech::Tops16, Speech::Records];

    /// For a region of so many instruments.
    pub fn protocol(self, instruments_max: usize) -> Protocol {
        let midnight_unix_ns = Config::default().midnight_unix_ns;
        match self {
            Speech::Itch50 => {
                Protocol::Itch50 { orders_max: 8_192, midnight: Box::new(move |_| midnight_unix_ns) }
            }
            Speech::Mdp3 => Protocol::Mdp3 { instruments_max: 64 },
            Speech::Tops16 => Protocol::Tops16 { symbols_max: 64 },
            Speech::Records => Protocol::Records { instruments_max },
        }
    }

    /// The feed's next session of that number, from 0 on. A channel of MDP 3.0 does not name its sessions: it has but one.
    pub fn begin(self, session: u64, random: &mut Random) -> Source {
        let name = format!("S{session:03}");
        let instruments = 1 + random.below(INSTRUMENTS);
        let packetizer = Moldudp64Packetizer::new(&name, PACKET_BYTES);
        let seed = random.next_u64();
        match self {
            Speech::Itch50 => {
                let config = Config { seed, instruments: instruments as u32, ..Config::default() };
                Source::Itch50 { exchange: Box::new(Exchange::new(config)), packetizer }
            }
            Speech::Mdp3 => Source::Mdp3(Box::new(Channel::new(mdp3::Config {
                seed,
                instruments: instruments as usize,
                resets_per_mille: 10,
                // An event that stays open for long is cut by the time of day, not by its messages.
                event_messages: 1,
                ..mdp3::Config::default()
            }))),
            Speech::Tops16 => Source::Tops16 {
                market: Box::new(TopsMarket::new(seed, instruments as usize)),
                packetizer: IexTpPacketizer::new(1 + session as u32, PACKET_BYTES),
            },
            Speech::Records => {
                let session = *packetizer.session();
                Source::Records { random: Random::new(seed), sent: 0, session }
            }
        }
    }
}

impl Source {
    /// Replaces `packet` by the next one, of so many messages.
    pub fn next_packet(&mut self, messages: u16, packet: &mut Vec<u8>) {
        match self {
            Source::Itch50 { exchange, packetizer } => {
                packetizer.fill(exchange, messages, packet);
            }
            Source::Mdp3(channel) => channel.next_packet(packet),
            Source::Tops16 { market, packetizer } => {
                let mut batch = vec![Vec::new(); usize::from(messages)];
                batch.iter_mut().for_each(|message| {
                    market.next_message(message);
                });
                assert_eq!(packetizer.fill(&batch, 0, packet), batch.len());
            }
            Source::Records { random, sent, session } => {
                records_head(session, *sent + 1, messages, packet);
                for _ in 0..messages {
                    *sent += 1;
                    let record = a_record(random, *sent);
                    packet.extend_from_slice(&(size_of_val(&record) as u16).to_be_bytes());
                    packet.extend_from_slice(record.as_bytes());
                }
            }
        }
    }

    /// Replaces `packet` by one that only says what comes next; false = the protocol has none.
    pub fn heartbeat(&mut self, packet: &mut Vec<u8>) -> bool {
        match self {
            Source::Itch50 { packetizer, .. } => packetizer.heartbeat(packet),
            Source::Records { sent, session, .. } => records_head(session, *sent + 1, 0, packet),
            Source::Mdp3(_) => return false,
            Source::Tops16 { packetizer, .. } => {
                packetizer.fill(&[], 0, packet);
            }
        }
        true
    }
}

fn records_head(session: &[u8; 10], sequence: u64, messages: u16, packet: &mut Vec<u8>) {
    let header = Header { session: *session, sequence: sequence.into(), message_count: messages.into() };
    packet.clear();
    packet.extend_from_slice(header.as_bytes());
}

fn a_record(random: &mut Random, number: u64) -> Record {
    let name = format!("R{}", random.below(INSTRUMENTS));
    match random.below(4) {
        0 => {
            let (state, reason) = (b'A' + random.below(26) as u8, *b"    ");
            Record::status(&name, number, &Status { state, reason, reserved: [0; 19] })
        }
        1 => {
            let trade = Trade { price: 5.into(), size: number.into(), trade_id: number.into() };
            Record::trade(&name, number, &trade)
        }
        _ => {
            let (bid_price, ask_price) = ((number as i64).into(), (number as i64 + 1).into());
            let quote = Quote { bid_price, ask_price, bid_size: 1.into(), ask_size: 2.into() };
            Record::quote(&name, number, &quote)
        }
    }
    .expect("its name fits")
}
