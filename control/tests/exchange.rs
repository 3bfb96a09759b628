//! `tickplane exchange` over loopback, to plain sockets: what arrives is what the exchange dumps.

use clap::Parser;
use control::exchange::{ExchangeArgs, run};
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::wire::moldudp64::{Packet, PacketKind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ExchangeArgs,
}

/// What one line brought.
#[derive(Default)]
struct Received {
    messages: BTreeMap<u64, Vec<u8>>,
    packets: u64,
    heartbeats: u64,
    /// The next message's number, as the end of the session gives it.
    end: Option<u64>,
    sessions: Vec<[u8; 10]>,
}

impl Received {
    fn take(&mut self, datagram: &[u8]) {
        let packet = Packet::parse(datagram).expect("a MoldUDP64 packet");
        packet.validate().expect("a whole packet");
        if !self.sessions.contains(packet.session()) {
            self.sessions.push(*packet.session());
        }
        self.packets += 1;
        match packet.kind() {
            PacketKind::Heartbeat => self.heartbeats += 1,
            PacketKind::EndOfSession => self.end = Some(packet.sequence()),
            PacketKind::Messages => {
                for (sequence, message) in (packet.sequence()..).zip(packet.messages()) {
                    self.messages.insert(sequence, message.to_vec());
                }
            }
        }
    }
}

struct Rig {
    sockets: [UdpSocket; 2],
    stop: AtomicBool,
}

impl Rig {
    fn new() -> Rig {
        let socket = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            socket
        };
        Rig { sockets: [0, 1].map(socket), stop: AtomicBool::new(false) }
    }

    fn args(&self, options: &str) -> ExchangeArgs {
        let [a, b] = self.sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
        let line = format!("exchange --line-a {a} --line-b {b} {options}");
        Command::parse_from(line.split_whitespace()).args
    }

    /// Runs the exchange and receives until `enough`, which may stop it, and it has ended.
    fn run(&self, options: &str, mut enough: impl FnMut(&[Received; 2]) -> bool) -> [Received; 2] {
        let args = self.args(options);
        let deadline = Instant::now() + PATIENCE;
        let mut received = [Received::default(), Received::default()];
        let mut datagram = [0; 2_048];
        std::thread::scope(|scope| {
            let exchange = scope.spawn(|| run(&args, &self.stop));
            let mut is_last_round = false;
            loop {
                for (socket, received) in self.sockets.iter().zip(&mut received) {
                    while let Ok(length) = socket.recv(&mut datagram) {
                        received.take(&datagram[..length]);
                        // The other line's buffer is not endless.
                        if received.packets.is_multiple_of(16) && !is_last_round {
                            break;
                        }
                    }
                }
                if is_last_round {
                    break;
                }
                let stopped = self.stop.load(Ordering::Relaxed);
                if !stopped && (enough(&received) || Instant::now() > deadline) {
                    self.stop.store(true, Ordering::Relaxed);
                }
                is_last_round = exchange.is_finished();
            }
            exchange.join().unwrap().unwrap();
        });
        assert!(Instant::now() < deadline, "it took too long");
        received
    }
}

/// The messages that an exchange of these options sends, and its rows; both without stamps.
fn expect(instruments: u32, messages: u64) -> (Vec<Vec<u8>>, Vec<Value>) {
    let mut exchange = Exchange::new(Config { seed: 3, instruments, ..Config::default() });
    let mut sent = Vec::new();
    let mut next = |exchange: &mut Exchange| {
        let mut message = Vec::new();
        let goes_on = exchange.next_message(&mut message);
        if goes_on {
            sent.push(without_stamp(&message));
        }
        goes_on
    };
    for _ in 0..messages {
        assert!(next(&mut exchange));
    }
    exchange.close();
    while next(&mut exchange) {}
    let mut rows: Vec<_> = exchange.dump().collect();
    rows.sort_by_key(|row| row.symbol);
    let price = |price: Option<u32>| price.map(|price| format!("{}.{:04}", price / 10_000, price % 10_000));
    let json = |row: &dataplane::sim::exchange::Row<'_>| {
        serde_json::json!({
            "instrument": String::from_utf8(row.symbol.to_vec()).unwrap(),
            "bid_price": price(row.bid_price_e4),
            "bid_size": row.bid_price_e4.map(|_| row.bid_size),
            "ask_price": price(row.ask_price_e4),
            "ask_size": row.ask_price_e4.map(|_| row.ask_size),
            "last_price": price(row.last_price_e4),
            "last_size": row.last_price_e4.map(|_| row.last_size),
            "state": "live",
            "sequence": row.sequence,
        })
    };
    (sent, rows.iter().map(json).collect())
}

fn without_stamp(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[5..11].fill(0);
    message
}

/// The rows of a dump without their stamps, which must be of that day, and its last line.
fn read_dump(file: &Path, day_ns: std::ops::Range<u64>) -> (Vec<Value>, Value) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counters = rows.pop().unwrap();
    for row in &mut rows {
        let stamp_ns = row.as_object_mut().unwrap().remove("exchange_ns").unwrap();
        assert!(stamp_ns.as_u64().is_some_and(|stamp_ns| day_ns.contains(&stamp_ns)), "{stamp_ns}");
    }
    (rows, counters)
}

/// 2024-01-02 in New York; a little longer, should it be around midnight there.
const DAY_NS: std::ops::Range<u64> = 1_704_171_600_000_000_000..1_704_271_600_000_000_000;

#[test]
fn what_arrives_is_what_is_dumped_whatever_each_line_loses() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("book.jsonl");
    let options = format!(
        "--seed 3 --instruments 20 --messages 1500 --rate 20000 --messages-per-packet 16 --date 2024-01-02 \
         --loss 0.2 --duplicate 0.05 --reorder 0.1,0.2 --delay-us 0,300 --session TEST --dump {}",
        dump.display()
    );
    let [a, b] = rig.run(&options, |_| false);
    let (sent, rows) = expect(20, 1_500);
    assert_eq!(sent.len(), 1_503);
    assert!(a.messages.len() < 1_450 && b.messages.len() < 1_450, "both lines did lose messages");
    let ends = [a.end, b.end];
    assert!(ends.contains(&Some(1_504)), "{ends:?}");
    assert_eq!(a.sessions, [*b"TEST      "]);
    let mut messages = a.messages;
    messages.extend(b.messages);
    assert!(messages.keys().copied().eq(1..=1_503), "nothing is missing");
    assert!(messages.values().map(|message| without_stamp(message)).eq(sent));
    let (dumped, counters) = read_dump(&dump, DAY_NS);
    assert_eq!(dumped, rows);
    assert_eq!(counters["counters"]["messages"], 1_503);
}

#[test]
fn a_stop_ends_the_session_and_writes_what_was_sent() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("book.jsonl");
    let options = format!(
        "--seed 3 --instruments 5 --rate 2000 --opening-rate 0 --date 2024-01-02 --linger --dump {}",
        dump.display()
    );
    let [a, b] = rig.run(&options, |received| received[0].messages.len() >= 200);
    let sent = a.messages.len() as u64;
    assert!(sent >= 200);
    assert_eq!((a.end, b.end), (Some(sent + 1), Some(sent + 1)));
    assert_eq!(a.messages, b.messages);
    let (_, rows) = expect(5, sent - 3);
    let (dumped, counters) = read_dump(&dump, DAY_NS);
    assert_eq!(dumped, rows);
    assert_eq!(counters["counters"]["sequence_next"], sent + 1);
}

#[test]
fn an_exchange_lingers_with_heartbeats_after_its_dump() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("book.jsonl");
    let options = format!(
        "--seed 3 --instruments 5 --rate 0 --messages 100 --heartbeat-ms 1 --linger --dump {}",
        dump.display()
    );
    let mut seen_at = None;
    let [a, _] = rig.run(&options, |received| {
        let heartbeats = received[0].heartbeats;
        if dump.exists() && seen_at.is_none() {
            seen_at = Some(heartbeats);
        }
        assert_eq!(received[0].end, None, "the session goes on");
        seen_at.is_some_and(|seen_at| heartbeats >= seen_at + 5) && received[0].messages.len() == 100
    });
    assert_eq!(a.end, Some(104));
}

#[test]
fn an_exchange_that_crashes_says_no_good_bye() {
    let rig = Rig::new();
    let [a, b] = rig.run("--seed 3 --instruments 5 --rate 0 --messages 50 --no-end", |_| false);
    assert_eq!((a.messages.len(), b.messages.len()), (50, 50));
    assert_eq!((a.end, b.end), (None, None));
}

#[test]
fn an_interface_that_is_not_there_is_named_with_those_that_are() {
    let rig = Rig::new();
    let error = run(&rig.args("--interface nowhere0"), &rig.stop).unwrap_err().to_string();
    assert!(error.contains("nowhere0") && error.contains("lo"), "{error}");
}
