//! `tickplane decode`: a recording through the very same worker, in memory.

use crate::midnight::DateError;
use crate::protocol::Protocol;
use crate::row::Row;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, LineCounters};
use dataplane::limits::LINES_MAX;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::time::{Clock, NS_PER_S};
use dataplane::wire::datagram::{self, Parsed};
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker, WorkerError};
use drivers::capture::{CaptureError, CapturePort, open_capture};
use drivers::cpu::Cpu;
use drivers::region::{RegionError, RegionMapping};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddrV4;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  The final top of book of every instrument, as a table:
      tickplane decode capture.pcap.gz --feed itch50

  The same for programs, after the first 1,000 packets:
      tickplane decode capture.pcapng --feed itch50 --packets 1000 --json

  A day as Nasdaq publishes it (messages behind two bytes of length), stamped with its date:
      tickplane decode 01302019.NASDAQ_ITCH50.gz --feed itch50 --date 2019-01-30 --json

  IEX's top of book as it was after 3,255 packets:
      tickplane decode tops.pcap.gz --feed tops16 --packets 3255

Rows are sorted by name; an instrument whose definition was not seen is called by its number. The last line holds
the counters.";

/// Twice ITCH's locates: an instrument may have been called by its number before.
const LAYOUT: Layout = Layout { instruments: 1 << 17, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 4 };
const YEAR_NS: u64 = 365 * 86_400 * NS_PER_S;

/// Run a recording through the worker and print the resulting cache
///
/// Reads packet captures (pcap, pcapng; Ethernet, VLAN tags) and ITCH files, gzipped or not. Each multicast group in a
/// capture that carries the feed is one of its redundant lines.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DecodeArgs {
    /// The recording
    pub file: PathBuf,

    /// The protocol of the feed
    #[arg(long, value_enum)]
    pub feed: Protocol,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,

    /// Stop after so many packets of the file, heartbeats included (of an ITCH file: messages)
    #[arg(long, value_name = "N")]
    pub packets: Option<u64>,

    /// The exchange's day [default: that of the capture's first packet; an ITCH file's is unknown]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,

    /// A line's group and port; may be given up to four times [default: whatever carries the feed]
    #[arg(long = "line", value_name = "ADDRESS:PORT")]
    pub lines: Vec<SocketAddrV4>,

    /// Orders that may be alive at once
    #[arg(long, value_name = "N", default_value_t = 8_000_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub orders_max: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("{0}")]
    Capture(#[from] CaptureError),
    #[error("--date {0}")]
    Date(#[from] DateError),
    #[error(
        "{path}: no {transport} packet in {frames} frames ({datagrams} UDP datagrams): is it a recording of this feed?",
        path = path.display()
    )]
    NoFeed { path: PathBuf, transport: &'static str, frames: u64, datagrams: u64 },
    #[error("--line: {0} of them; a feed has at most {LINES_MAX}")]
    Lines(usize),
    #[error("{0}")]
    Region(#[from] RegionError),
    #[error("{0}")]
    Worker(#[from] WorkerError),
    #[error("the output can't be written: {0}")]
    Output(io::Error),
}

/// Time as the recording's stamps tell it.
#[derive(Debug, Default)]
struct CaptureClock {
    unix_ns: Cell<u64>,
}

impl Clock for &CaptureClock {
    fn monotonic_ns(&self) -> u64 {
        self.unix_ns.get()
    }
    fn unix_ns(&self) -> u64 {
        self.unix_ns.get()
    }
}

/// A recording, packet by packet, that sets the clock as it goes: timers run out between packets as they did then.
struct Replay<'c> {
    capture: CapturePort,
    clock: &'c CaptureClock,
    burst: usize,
    index: usize,
}

impl Port for Replay<'_> {
    fn medium(&self) -> Medium {
        self.capture.medium()
    }

    fn rx_burst(&mut self) -> usize {
        self.index += 1;
        if self.index >= self.burst {
            self.burst = self.capture.rx_burst();
            self.index = 0;
        }
        if self.burst == 0 {
            return 0;
        }
        let stamp_ns = self.capture.frame(self.index).stamp_ns;
        self.clock.unix_ns.set(self.clock.unix_ns.get().max(stamp_ns));
        1
    }

    fn frame(&self, _index: usize) -> Frame<'_> {
        self.capture.frame(self.index)
    }

    fn tx(&mut self, _frame: &[u8]) -> bool {
        false
    }

    fn counters(&self) -> PortCounters {
        self.capture.counters()
    }

    fn is_exhausted(&self) -> bool {
        self.index + 1 >= self.burst && self.capture.is_exhausted()
    }
}

/// Decodes and prints; what went wrong with the recording itself, but only after its beginning, is a warning.
pub fn run(args: &DecodeArgs) -> Result<(), DecodeError> {
    let lines = lines(args)?;
    let protocol =
        args.feed.setup(args.orders_max as usize, LAYOUT.instruments as usize, args.date.as_deref())?;
    let mapping = RegionMapping::create_anonymous("tickplane-decode", LAYOUT.cells())?;
    let cells = mapping.cells();
    let writer = Writer::format(cells, LAYOUT, 1).expect("the layout is within its limits");
    let clock = CaptureClock::default();
    let capture = open_capture(&args.file, args.packets)?;
    let replay = Replay { capture, clock: &clock, burst: 0, index: 0 };
    let arbiter = ArbiterConfig { silence_ns: YEAR_NS, ..ArbiterConfig::default() };
    let line_setup =
        |destination: &SocketAddrV4| LineSetup { port: 0, destination: *destination, source: None };
    let feed = FeedSetup { arbiter, lines: lines.iter().map(line_setup).collect(), protocol };
    let port = PortSetup { port: replay, host: None, vlan: None };
    let mut worker = Worker::<_, _, Cpu>::new(vec![port], vec![feed], writer, &clock, YEAR_NS)?;
    while !worker.is_exhausted() {
        worker.do_work();
    }
    worker.finish();

    let warning = worker.ports().find_map(|port| port.capture.error()).map(|error| error.to_string());
    if let Some(warning) = &warning {
        eprintln!("tickplane decode: {}: {warning}; what comes before it was decoded", args.file.display());
    }
    let reader = Reader::open(cells).expect("it was laid out above");
    let rows = Row::read_all(&reader, clock.unix_ns.get());
    let counters = counters(&worker, &lines, warning);
    match write(args.json, &rows, &counters) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(DecodeError::Output),
    }
}

/// The groups that carry the feed, in the order of their first packets.
fn lines(args: &DecodeArgs) -> Result<Vec<SocketAddrV4>, DecodeError> {
    if args.lines.len() > LINES_MAX {
        return Err(DecodeError::Lines(args.lines.len()));
    }
    if !args.lines.is_empty() {
        return Ok(args.lines.clone());
    }
    let mut capture = open_capture(&args.file, args.packets)?;
    let mut lines = Vec::new();
    let (mut frames, mut datagrams) = (0, 0);
    while !capture.is_exhausted() && lines.len() < LINES_MAX {
        for index in 0..capture.rx_burst() {
            frames += 1;
            let frame = capture.frame(index);
            let Some((destination, payload)) = destination(capture.medium(), &frame) else { continue };
            datagrams += 1;
            let is_feed = args.feed.is_carried_by(payload);
            if is_feed && !lines.contains(&destination) && lines.len() < LINES_MAX {
                lines.push(destination);
            }
        }
    }
    if lines.is_empty() {
        let transport = args.feed.transport();
        return Err(DecodeError::NoFeed { path: args.file.clone(), transport, frames, datagrams });
    }
    Ok(lines)
}

fn destination<'f>(medium: Medium, frame: &Frame<'f>) -> Option<(SocketAddrV4, &'f [u8])> {
    match medium {
        Medium::Udp => Some((frame.destination, frame.bytes)),
        Medium::Ethernet => match datagram::parse(frame.bytes) {
            Ok(Parsed::Udp(datagram)) => Some((datagram.destination, datagram.payload)),
            _ => None,
        },
    }
}

fn counters<C: Clock, F: dataplane::hint::Prefetch>(
    worker: &Worker<'_, Replay<'_>, C, F>,
    lines: &[SocketAddrV4],
    warning: Option<String>,
) -> Value {
    let telemetry = worker.telemetry();
    let (feed, port) = (&telemetry.feeds[0], &telemetry.ports[0]);
    let arbiter = &feed.lines;
    let device = worker.ports().next().map(Port::counters).unwrap_or_default();
    let mut counters = Map::new();
    let mut set = |name: &str, value: u64| counters.insert(name.to_owned(), value.into());
    set("packets", device.rx_frames);
    set("messages", arbiter.messages.get());
    set("sequence_next", arbiter.next_sequence.get());
    set("gaps", arbiter.gaps.get());
    set("missing", arbiter.missing.get());
    set("sessions", arbiter.sessions.get());
    set("late_starts", arbiter.late_starts.get());
    for (name, value) in feed.decoder.entries() {
        set(name, value);
    }
    for (name, value) in port.entries().filter(|(name, value)| *value != 0 && !name.starts_with("rx_")) {
        set(name, value);
    }
    let line = |(index, destination): (usize, &SocketAddrV4)| {
        let LineCounters { packets, won, duplicates, late, heartbeats, malformed, gaps, .. } =
            &arbiter.lines[index];
        json!({
            "group": destination.to_string(), "packets": packets.get(), "won": won.get(),
            "duplicates": duplicates.get(), "late": late.get(), "heartbeats": heartbeats.get(),
            "malformed": malformed.get(), "gaps": gaps.get(),
        })
    };
    counters.insert("lines".to_owned(), lines.iter().enumerate().map(line).collect());
    if let Some(warning) = warning {
        counters.insert("error".to_owned(), warning.into());
    }
    json!({ "counters": counters })
}

fn write(json: bool, rows: &[Row], counters: &Value) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        for row in rows {
            writeln!(out, "{}", row.json())?;
        }
        writeln!(out, "{counters}")?;
        return out.flush();
    }
    writeln!(out, "{}", Row::heading())?;
    for row in rows {
        writeln!(out, "{}", row.line())?;
    }
    let Value::Object(counters) = &counters["counters"] else { return out.flush() };
    writeln!(out)?;
    for (name, value) in counters {
        match value {
            Value::Array(lines) => lines.iter().try_for_each(|line| writeln!(out, "{name:<20} {line}"))?,
            Value::String(text) => writeln!(out, "{name:<20} {text}")?,
            value => writeln!(out, "{name:<20} {value:>14}")?,
        }
    }
    out.flush()
}
