//! The running exchange: one thread that makes packets when they are due and sends them on both lines.

use super::schedule::Schedule;
use super::{ExchangeArgs, ExchangeError, Summary, dump};
use crate::midnight::{midnight_before, midnight_of};
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::lines::{Line, Lines};
use dataplane::sim::packetizer::Moldudp64Packetizer;
use dataplane::time::{Clock, NS_PER_MS, NS_PER_S};
use drivers::clock::SystemClock;
use drivers::mmsg::SEND_BATCH_MAX;
use drivers::udp_sender::{Datagram, UdpSender};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Packets that are made before any of them is sent.
const BURST_PACKETS: usize = SEND_BATCH_MAX / 2;
/// How long to sleep at most, so that a stop is noticed.
const SLEEP_NS_MAX: u64 = 20 * NS_PER_MS;
/// A sleep takes about that much longer than asked for; anything shorter is not worth one.
const SLEEP_NS_MIN: u64 = 50_000;
/// How often the end of the session is said, so that one lost packet does not hide it.
const ENDS_OF_SESSION: u32 = 3;

pub struct Session<'a> {
    args: &'a ExchangeArgs,
    name: String,
    clock: SystemClock,
    sender: UdpSender,
    exchange: Exchange,
    packetizer: Moldudp64Packetizer,
    lines: Lines,
    /// Today's midnight in New York, whatever `--date` says: stamps tell the time of day.
    today_unix_ns: u64,
    packet: Vec<u8>,
    packets: u64,
    last_packet_ns: u64,
    dumped_sequence: Option<u64>,
}

impl<'a> Session<'a> {
    pub fn new(args: &'a ExchangeArgs, sender: UdpSender) -> Result<Session<'a>, ExchangeError> {
        let clock = SystemClock;
        let today_unix_ns = midnight_before(clock.unix_ns())?;
        let midnight_unix_ns = args.date.as_deref().map_or(Ok(today_unix_ns), midnight_of)?;
        let name = args.session.clone().unwrap_or_else(|| format!("{:010}", clock.unix_ns() / NS_PER_S));
        let config = Config {
            seed: args.seed,
            instruments: args.instruments,
            resting_orders: args.resting_orders,
            opening_orders: args.opening_orders,
            midnight_unix_ns,
            start_ns: clock.unix_ns() - today_unix_ns,
            message_interval_ns: 0,
            ..Config::default()
        };
        Ok(Session {
            packetizer: Moldudp64Packetizer::new(&name, usize::from(args.payload_bytes)),
            name,
            sender,
            exchange: Exchange::new(config),
            // Not the flow's own numbers, or losses would follow orders.
            lines: Lines::new(!args.seed, &args.impairment()),
            today_unix_ns,
            packet: Vec::new(),
            packets: 0,
            last_packet_ns: 0,
            dumped_sequence: None,
            clock,
            args,
        })
    }

    pub fn run(mut self, stop: &AtomicBool) -> Result<Summary, ExchangeError> {
        self.wait_for_start(stop);
        let started_ns = self.clock.monotonic_ns();
        self.flow(stop)?;
        let ended_ns = self.clock.monotonic_ns();
        if self.args.linger && !self.args.end {
            // What the last packets on the lines are is told by a heartbeat behind them.
            self.send_heartbeat()?;
            self.drain()?;
            self.dump()?;
            self.linger(stop, Session::send_heartbeat)?;
        }
        if !self.args.no_end {
            self.send_close_of_day()?;
            for _ in 0..ENDS_OF_SESSION {
                self.send_end_of_session()?;
            }
        }
        self.drain()?;
        self.dump()?;
        if self.args.linger && self.args.end {
            self.linger(stop, Session::send_end_of_session)?;
            self.drain()?;
        }
        Ok(Summary {
            session: self.name,
            messages: self.exchange.sequence(),
            seconds: (ended_ns - started_ns) as f64 / NS_PER_S as f64,
            packets: self.packets,
            lines: Line::ALL.map(|line| self.lines.counters(line)),
            lost_on_both: self.lines.lost_on_both(),
            orders: self.exchange.orders(),
        })
    }

    fn wait_for_start(&self, stop: &AtomicBool) {
        let start_ns = self.clock.monotonic_ns() + self.args.start_delay_ms * NS_PER_MS;
        while self.clock.monotonic_ns() < start_ns && !stop.load(Ordering::Relaxed) {
            self.sleep_until(start_ns);
        }
    }

    fn flow(&mut self, stop: &AtomicBool) -> Result<(), ExchangeError> {
        let opening = self.exchange.opening_messages();
        let messages_max = self.args.messages.unwrap_or(u64::MAX);
        let mut schedule = Schedule::new(self.opening_rate(), self.clock.monotonic_ns());
        let mut is_open = false;
        let mut deadline_ns = u64::MAX;
        while !stop.load(Ordering::Relaxed) {
            let now_ns = self.clock.monotonic_ns();
            if !is_open && self.exchange.sequence() >= opening {
                is_open = true;
                schedule = Schedule::new(self.args.rate, now_ns);
                let duration_ns = self.args.duration.map(|seconds| (seconds * NS_PER_S as f64) as u64);
                deadline_ns = now_ns.saturating_add(duration_ns.unwrap_or(u64::MAX));
            }
            let sequence = self.exchange.sequence();
            if sequence >= messages_max || now_ns >= deadline_ns {
                break;
            }
            let phase_end = if is_open { messages_max } else { messages_max.min(opening) };
            let sent = self.send_messages(schedule.due(now_ns).min(phase_end - sequence), now_ns)?;
            schedule.use_up(sent);
            self.send_heartbeat_if_silent(now_ns)?;
            self.deliver(now_ns)?;
            if sent == 0 {
                self.sleep_until(schedule.next_due_ns().min(deadline_ns).min(self.next_event_ns()));
            }
        }
        Ok(())
    }

    fn opening_rate(&self) -> u64 {
        match (self.args.rate, self.args.opening_rate) {
            (0, _) | (_, 0) => 0,
            (rate, opening_rate) => rate.max(opening_rate),
        }
    }

    /// Puts up to that many messages on the lines, and not more than a burst of packets; returns how many.
    fn send_messages(&mut self, due: u64, now_ns: u64) -> Result<u64, ExchangeError> {
        let mut sent = 0;
        for _ in 0..BURST_PACKETS {
            if sent == due {
                break;
            }
            let messages_max = u64::from(self.args.messages_per_packet).min(due - sent) as u16;
            self.exchange.set_time_ns(self.clock.unix_ns().saturating_sub(self.today_unix_ns));
            sent += u64::from(self.packetizer.fill(&mut self.exchange, messages_max, &mut self.packet));
            self.send_packet(now_ns);
        }
        Ok(sent)
    }

    fn send_close_of_day(&mut self) -> Result<(), ExchangeError> {
        self.exchange.close();
        self.exchange.set_time_ns(self.clock.unix_ns().saturating_sub(self.today_unix_ns));
        while self.packetizer.fill(&mut self.exchange, self.args.messages_per_packet, &mut self.packet) > 0 {
            self.send_packet(self.clock.monotonic_ns());
        }
        self.deliver(self.clock.monotonic_ns())
    }

    fn send_heartbeat(&mut self) -> Result<(), ExchangeError> {
        self.packetizer.heartbeat(&mut self.packet);
        self.send_packet(self.clock.monotonic_ns());
        self.deliver(self.clock.monotonic_ns())
    }

    fn send_end_of_session(&mut self) -> Result<(), ExchangeError> {
        self.packetizer.end_of_session(&mut self.packet);
        self.send_packet(self.clock.monotonic_ns());
        self.deliver(self.clock.monotonic_ns())
    }

    fn send_heartbeat_if_silent(&mut self, now_ns: u64) -> Result<(), ExchangeError> {
        if now_ns.saturating_sub(self.last_packet_ns) >= self.heartbeat_ns() {
            self.send_heartbeat()
        } else {
            Ok(())
        }
    }

    fn heartbeat_ns(&self) -> u64 {
        self.args.heartbeat_ms * NS_PER_MS
    }

    /// Repeats a packet until stopped, as often as heartbeats are due.
    fn linger(
        &mut self,
        stop: &AtomicBool,
        mut send: impl FnMut(&mut Self) -> Result<(), ExchangeError>,
    ) -> Result<(), ExchangeError> {
        while !stop.load(Ordering::Relaxed) {
            let now_ns = self.clock.monotonic_ns();
            if now_ns.saturating_sub(self.last_packet_ns) >= self.heartbeat_ns() {
                send(self)?;
            }
            self.deliver(now_ns)?;
            self.sleep_until(self.next_event_ns());
        }
        Ok(())
    }

    /// The packet at hand goes onto both lines.
    fn send_packet(&mut self, now_ns: u64) {
        self.packets += 1;
        self.last_packet_ns = now_ns;
        self.lines.send(&self.packet, now_ns);
    }

    /// Sends what has arrived at the lines' ends, the lines by turns.
    fn deliver(&mut self, now_ns: u64) -> Result<(), ExchangeError> {
        let targets = [(Line::A, self.args.line_a), (Line::B, self.args.line_b)];
        loop {
            let mut due = Vec::with_capacity(SEND_BATCH_MAX);
            while due.len() + targets.len() <= SEND_BATCH_MAX {
                let before = due.len();
                for (line, destination) in targets {
                    due.extend(self.lines.pop_due(line, now_ns).map(|packet| (destination, packet)));
                }
                if due.len() == before {
                    break;
                }
            }
            if due.is_empty() {
                return Ok(());
            }
            self.send_batch(&due)?;
            due.into_iter().for_each(|(_, packet)| self.lines.recycle(packet));
        }
    }

    fn send_batch(&mut self, batch: &[(std::net::SocketAddrV4, Vec<u8>)]) -> Result<(), ExchangeError> {
        let datagrams: Vec<Datagram<'_>> =
            batch.iter().map(|(destination, bytes)| Datagram { destination: *destination, bytes }).collect();
        let mut sent = 0;
        while sent < datagrams.len() {
            sent += self.sender.send(&datagrams[sent..]).map_err(ExchangeError::Send)?;
        }
        Ok(())
    }

    /// Waits until everything that the lines delay has arrived.
    fn drain(&mut self) -> Result<(), ExchangeError> {
        self.lines.release(self.clock.monotonic_ns());
        loop {
            self.deliver(self.clock.monotonic_ns())?;
            if self.lines.is_empty() {
                return Ok(());
            }
            self.sleep_until(self.next_line_ns());
        }
    }

    /// Writes the book, unless nothing was sent since it was written.
    fn dump(&mut self) -> Result<(), ExchangeError> {
        let Some(file) = &self.args.dump else { return Ok(()) };
        let is_news = match self.dumped_sequence {
            None => true,
            Some(sequence) => sequence != self.exchange.sequence() && !self.args.dumps_to_stdout(),
        };
        if is_news {
            dump::write(&self.exchange, file)?;
            self.dumped_sequence = Some(self.exchange.sequence());
        }
        Ok(())
    }

    fn next_line_ns(&self) -> u64 {
        Line::ALL.iter().filter_map(|line| self.lines.next_due_ns(*line)).min().unwrap_or(u64::MAX)
    }

    fn next_event_ns(&self) -> u64 {
        self.next_line_ns().min(self.last_packet_ns.saturating_add(self.heartbeat_ns()))
    }

    fn sleep_until(&self, due_ns: u64) {
        let wait_ns = due_ns.saturating_sub(self.clock.monotonic_ns());
        std::thread::sleep(Duration::from_nanos(wait_ns.clamp(SLEEP_NS_MIN, SLEEP_NS_MAX)));
    }
}
