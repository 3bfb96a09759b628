//! The running replay: one thread that reads ahead, waits until packets are due, and sends them in batches.

use super::ReplayError;
use super::args::ReplayArgs;
use super::lines::{Lines, Outgoing};
use super::output::Output;
use super::pace::{Pace, Tempo};
use super::progress::{Progress, Sent};
use super::source::{Source, content};
use super::summary::{LineSummary, Summary, reasons};
use dataplane::port::Medium;
use dataplane::time::{Clock, NS_PER_MS, NS_PER_S};
use dataplane::wire::datagram;
use drivers::clock::SystemClock;
use drivers::mmsg::{SEND_BATCH_MAX, SendFault};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to sleep at most, so that a stop is noticed.
const SLEEP_NS_MAX: u64 = 20 * NS_PER_MS;
/// A sleep takes about that much longer than asked for: it ends so long before a packet is due.
const AWAKE_NS: u64 = 100_000;
/// Up to then others may have the processor; they do not give it back at once.
const SPIN_NS: u64 = 20_000;
const LATENESS_NS_MAX: u64 = 3_600 * NS_PER_S;
const LATENESS_DIGITS: u8 = 3;

pub struct Session<'a> {
    args: &'a ReplayArgs,
    clock: SystemClock,
    source: Source<'a>,
    lines: Lines<'a>,
    output: Output,
    tempo: Tempo,
    pace: Pace,
    /// Read and not yet sent, in the order of their times.
    outbox: Vec<Outgoing>,
    /// Buffers that have been sent.
    spare: Vec<Vec<u8>>,
    is_read: bool,
    due_ns: u64,
    sent: Sent,
    /// When the last of them was due, and when it had gone.
    sent_due_ns: u64,
    sent_ns: u64,
    lateness: Histogram<u64>,
    planned: u64,
    other_frames: u64,
    not_sent: BTreeMap<&'static str, u64>,
    /// The first that the kernel refused, and why.
    refusal: Option<String>,
}

impl<'a> Session<'a> {
    pub fn new(args: &'a ReplayArgs) -> Result<Session<'a>, ReplayError> {
        let source = Source::open(args)?;
        let tempo = args.tempo();
        if source.medium() == Medium::Udp {
            match (args.frames, tempo) {
                (true, _) => return Err(ReplayError::NoFrames(args.file.clone())),
                (_, Tempo::Speed(_) | Tempo::Mbps(_)) => {
                    return Err(ReplayError::NoStamps(args.file.clone()));
                }
                _ => {}
            }
        }
        Ok(Session {
            args,
            clock: SystemClock,
            source,
            lines: Lines::new(args),
            output: Output::open(args)?,
            tempo,
            pace: Pace::new(tempo, args.silence_max_ms),
            outbox: Vec::with_capacity(2 * SEND_BATCH_MAX),
            spare: Vec::new(),
            is_read: false,
            due_ns: 0,
            sent: Sent::default(),
            sent_due_ns: 0,
            sent_ns: 0,
            lateness: Histogram::new_with_bounds(1, LATENESS_NS_MAX, LATENESS_DIGITS)
                .expect("constant bounds"),
            planned: 0,
            other_frames: 0,
            not_sent: BTreeMap::new(),
            refusal: None,
        })
    }

    pub fn run(mut self, stop: &AtomicBool) -> Result<Summary, ReplayError> {
        let mut progress = Progress::new(self.args.quiet, self.args.passes != 0, self.clock.monotonic_ns());
        while !stop.load(Ordering::Relaxed) {
            if self.outbox.len() < SEND_BATCH_MAX && !self.is_read {
                self.read_ahead()?;
            }
            let now_ns = self.clock.monotonic_ns();
            progress.show(now_ns, self.sent, || self.source.progress());
            let due = self.outbox.partition_point(|packet| packet.due_ns <= now_ns).min(SEND_BATCH_MAX);
            if due > 0 {
                self.send(due, now_ns)?;
            } else if self.outbox.len() >= SEND_BATCH_MAX || self.is_read {
                let Some(next) = self.outbox.first() else { break };
                self.wait_until(next.due_ns);
            }
        }
        progress.finish();
        let stopped = !(self.is_read && self.outbox.is_empty());
        self.summary(stopped)
    }

    /// Reads some frames, not more, however few of them are sent: what is due does not wait for them.
    fn read_ahead(&mut self) -> Result<(), ReplayError> {
        for _ in 0..SEND_BATCH_MAX {
            if self.outbox.len() >= SEND_BATCH_MAX {
                break;
            }
            if !self.source.advance()? {
                self.is_read = true;
                self.lines.release(self.due_ns, &mut self.outbox);
                break;
            }
            self.plan();
        }
        Ok(())
    }

    /// Puts the source's frame into the outbox, if it is sent.
    fn plan(&mut self) {
        let frame = self.source.frame();
        let content = content(self.source.medium(), &frame);
        let line = content.and_then(|(destination, _)| self.lines.find(destination));
        let others_go = self.args.frames && self.args.lines.is_empty() && self.args.to.is_empty();
        if let (Err(reason), false) = (line, others_go) {
            *self.not_sent.entry(reason).or_default() += 1;
            return;
        }
        self.planned += 1;
        let now_ns = self.clock.monotonic_ns();
        let due_ns = self.pace.due_ns(self.source.pass(), frame.stamp_ns, frame.bytes.len(), now_ns);
        self.due_ns = due_ns;
        let bytes = match content {
            Ok((_, payload)) if !self.args.frames => payload,
            _ => frame.bytes,
        };
        let spare = &mut self.spare;
        let mut copy = || {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(bytes);
            buffer
        };
        match line {
            Ok(index) => {
                let line = self.lines.get(index);
                let readdress = (self.args.frames && line.to != line.destination).then_some(line.to);
                let buffer = || {
                    let mut buffer = copy();
                    if let Some(to) = readdress {
                        datagram::readdress(&mut buffer, to).expect("it was parsed as a datagram");
                    }
                    buffer
                };
                self.lines.send(index, due_ns, buffer, &mut self.outbox);
            }
            Err(_) => {
                let destination = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                self.outbox.push(Outgoing { due_ns, line: None, destination, bytes: copy() });
            }
        }
        self.source.use_frame();
    }

    /// Sends the first `count` packets of the outbox; those that the kernel refuses are counted.
    fn send(&mut self, count: usize, now_ns: u64) -> Result<(), ReplayError> {
        let mut done = 0;
        while done < count {
            match self.output.send(&self.outbox[done..count]) {
                Ok(gone) => {
                    for index in done..done + gone {
                        self.count_sent(index, now_ns);
                    }
                    done += gone;
                }
                Err(error) if SendFault::of(&error) == SendFault::Packet => {
                    let Outgoing { line, destination, bytes, .. } = &self.outbox[done];
                    let to = line.map_or(String::new(), |_| format!(" to {destination}"));
                    let refused = || format!("{} bytes{to}: {error}", bytes.len());
                    self.refusal.get_or_insert_with(refused);
                    *self.not_sent.entry("refused").or_default() += 1;
                    done += 1;
                }
                Err(cause) => return Err(ReplayError::Send { packets: self.sent.packets, cause }),
            }
        }
        self.sent_ns = self.clock.monotonic_ns();
        self.spare.extend(self.outbox.drain(..count).map(|packet| packet.bytes));
        Ok(())
    }

    fn count_sent(&mut self, index: usize, now_ns: u64) {
        let Outgoing { due_ns, line, bytes, .. } = &self.outbox[index];
        self.sent.packets += 1;
        self.sent.bytes += bytes.len() as u64;
        self.sent_due_ns = *due_ns;
        match line {
            Some(line) => self.lines.count_sent(*line),
            None => self.other_frames += 1,
        }
        if self.tempo != Tempo::FlatOut {
            self.lateness.saturating_record(now_ns - due_ns);
        }
    }

    /// Returns when that is due, or earlier, to look at other things meanwhile.
    fn wait_until(&self, due_ns: u64) {
        loop {
            let wait_ns = due_ns.saturating_sub(self.clock.monotonic_ns());
            match wait_ns {
                0 => return,
                1..SPIN_NS => std::hint::spin_loop(),
                SPIN_NS..AWAKE_NS => std::thread::yield_now(),
                _ => {
                    return std::thread::sleep(Duration::from_nanos((wait_ns - AWAKE_NS).min(SLEEP_NS_MAX)));
                }
            }
        }
    }

    fn summary(mut self, stopped: bool) -> Result<Summary, ReplayError> {
        let oversized = self.source.oversized();
        if oversized > 0 {
            self.not_sent.insert("oversized", oversized);
        }
        let frames = self.source.frames() + oversized;
        if self.planned == 0 && !stopped {
            let (path, reasons) = (self.args.file.clone(), reasons(&self.not_sent));
            return Err(ReplayError::Nothing { path, frames, reasons });
        }
        if let (0, Some(refusal)) = (self.sent.packets, &self.refusal) {
            return Err(ReplayError::Refused(refusal.clone()));
        }
        let start_ns = self.pace.start_ns().unwrap_or(0);
        let line = |line: &super::lines::Line| LineSummary {
            name: line.name,
            destination: line.destination,
            to: line.to,
            sent: line.sent_packets,
            counters: line.counters(),
        };
        Ok(Summary {
            packets: self.sent.packets,
            bytes: self.sent.bytes,
            duration_ns: self.sent_ns.saturating_sub(start_ns),
            tempo: self.tempo,
            planned_ns: self.sent_due_ns.saturating_sub(start_ns),
            lateness: (self.tempo != Tempo::FlatOut).then_some(self.lateness.clone()),
            lines: self.lines.iter().map(line).collect(),
            other_frames: self.other_frames,
            frames,
            segments: self.output.segments(),
            stopped,
            warnings: self.warnings(stopped),
            not_sent: self.not_sent,
        })
    }

    fn warnings(&self, stopped: bool) -> Vec<String> {
        let cut = self.source.warning().map(|warning| format!("{warning}; what comes before it was sent"));
        let refusal =
            self.refusal.as_ref().map(|refusal| format!("the kernel refused packets, the first: {refusal}"));
        let segmentation = self.output.segmentation_error();
        let segmentation = segmentation.map(|error| {
            format!("the kernel does not take datagrams together here ({error}): sent one by one")
        });
        let unmatched = if stopped { Vec::new() } else { self.lines.unmatched() };
        cut.into_iter().chain(refusal).chain(segmentation).chain(unmatched).collect()
    }
}
