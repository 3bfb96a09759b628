//! The options of `tickplane exchange`.

use crate::probability::Probability;
use dataplane::sim::exchange::INSTRUMENTS_MAX;
use dataplane::sim::lines::{Impairment, LineImpairment};
use dataplane::sim::packetizer::PAYLOAD_BYTES_DEFAULT;
use dataplane::time::NS_PER_US;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::str::FromStr;

const EXAMPLES: &str = "\
Examples:
  A small exchange on loopback, 1,000 messages a second, until interrupted:
      tickplane exchange --instruments 100 --rate 1000

  Half a minute at full speed on a NIC, each line losing one packet in a thousand, never the same:
      tickplane exchange --interface eth1 --rate 0 --duration 30 --loss 0.001

  Line B late and out of order; the book is written when the flow ends, heartbeats go on until interrupted:
      tickplane exchange --duration 10 --delay-us 0,200 --reorder 0,0.01 --dump book.jsonl --linger

What is sent depends on --seed, --instruments, --resting-orders and --opening-orders only; when it is sent,
and so the messages' stamps, on the clock.";

/// Simulate an exchange: ITCH 5.0 over MoldUDP64 on two lines
///
/// Sends definitions, trading states and then an order flow that never crosses its books, each packet on both
/// lines, with losses, duplicates, reordering and delays as asked for. It keeps its own book, which --dump
/// writes: what everybody who has received all messages must have.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ExchangeArgs {
    /// Group and port of line A
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "239.255.0.1:26477", help_heading = "Lines")]
    pub line_a: SocketAddrV4,

    /// Group and port of line B
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "239.255.0.2:26477", help_heading = "Lines")]
    pub line_b: SocketAddrV4,

    /// Interface to send from, by name or by IPv4 address
    #[arg(long, value_name = "NAME|ADDRESS", default_value = "127.0.0.1", help_heading = "Lines")]
    pub interface: String,

    /// Routers that the packets may pass (multicast TTL)
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Lines")]
    pub hops: u8,

    /// Session name, up to 10 characters [default: the time of the start, so that each run is a new session]
    #[arg(long, value_name = "NAME", value_parser = parse_session, help_heading = "Lines")]
    pub session: Option<String>,

    /// Silence after which a heartbeat is sent, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000),
        help_heading = "Lines"
    )]
    pub heartbeat_ms: u64,

    /// Most messages of one packet
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        value_parser = clap::value_parser!(u16).range(1..=1_000),
        help_heading = "Lines"
    )]
    pub messages_per_packet: u16,

    /// Most bytes of one packet (UDP payload)
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = PAYLOAD_BYTES_DEFAULT as u16,
        value_parser = clap::value_parser!(u16).range(72..=8_972),
        help_heading = "Lines"
    )]
    pub payload_bytes: u16,

    /// What the flow is made from: the same seed, the same messages
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Flow")]
    pub seed: u64,

    /// Number of instruments
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8_000,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(INSTRUMENTS_MAX)),
        help_heading = "Flow"
    )]
    pub instruments: u32,

    /// Orders that each book gathers around
    #[arg(
        long,
        value_name = "N",
        default_value_t = 40,
        value_parser = clap::value_parser!(u32).range(0..=100_000),
        help_heading = "Flow"
    )]
    pub resting_orders: u32,

    /// Orders that each book gets before the market opens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=100_000),
        help_heading = "Flow"
    )]
    pub opening_orders: u32,

    /// Messages per second; 0 = flat out
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Flow")]
    pub rate: u64,

    /// Messages per second until the market opens, if that is more than --rate; 0 = flat out
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Flow")]
    pub opening_rate: u64,

    /// How long the flow lasts once the market is open, in seconds [default: until stopped]
    #[arg(long, value_name = "S", value_parser = parse_seconds, help_heading = "Flow")]
    pub duration: Option<f64>,

    /// Messages after which the flow ends, those before the market opens included [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Flow")]
    pub messages: Option<u64>,

    /// The exchange's day, YYYY-MM-DD [default: today in New York]
    #[arg(long, value_name = "DAY", help_heading = "Flow")]
    pub date: Option<String>,

    /// Wait before the first message, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Flow")]
    pub start_delay_ms: u64,

    /// Probability that a line loses a packet; never the same packet on both. One for both lines, or A,B
    #[arg(long, value_name = "P|A,B", default_value = "0", value_parser = parse_probabilities)]
    #[arg(help_heading = "Impairments")]
    pub loss: PerLine<f64>,

    /// Probability that both lines lose the same packet: a gap
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_probability)]
    #[arg(help_heading = "Impairments")]
    pub loss_both: f64,

    /// Probability that a line carries a packet twice
    #[arg(long, value_name = "P|A,B", default_value = "0", value_parser = parse_probabilities)]
    #[arg(help_heading = "Impairments")]
    pub duplicate: PerLine<f64>,

    /// Probability that later packets overtake a packet
    #[arg(long, value_name = "P|A,B", default_value = "0", value_parser = parse_probabilities)]
    #[arg(help_heading = "Impairments")]
    pub reorder: PerLine<f64>,

    /// How many later packets overtake it at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1_000),
        help_heading = "Impairments"
    )]
    pub reorder_packets: u32,

    /// How long a packet takes, in microseconds, up to 10 seconds
    #[arg(long, value_name = "US|A,B", default_value = "0", value_parser = parse_delays)]
    #[arg(help_heading = "Impairments")]
    pub delay_us: PerLine<u64>,

    /// Write the exchange's book there when the flow ends, a JSON object a line; - = standard output
    #[arg(long, value_name = "FILE", help_heading = "End")]
    pub dump: Option<PathBuf>,

    /// After the last message go on with heartbeats until stopped, and end the session then
    #[arg(long, help_heading = "End")]
    pub linger: bool,

    /// With --linger: end the session at once, and repeat its end until stopped
    #[arg(long, requires = "linger", help_heading = "End")]
    pub end: bool,

    /// Leave without ending the session, as an exchange that crashed
    #[arg(long, conflicts_with = "end", help_heading = "End")]
    pub no_end: bool,

    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

impl ExchangeArgs {
    pub(super) fn impairment(&self) -> Impairment {
        let line = |index: usize| LineImpairment {
            loss: self.loss.0[index],
            duplicate: self.duplicate.0[index],
            reorder: self.reorder.0[index],
            reorder_packets_max: self.reorder_packets,
            delay_ns: self.delay_us.0[index] * NS_PER_US,
        };
        Impairment { lines: [line(0), line(1)], loss_both: self.loss_both }
    }

    /// The dump goes where the summary would.
    pub(super) fn dumps_to_stdout(&self) -> bool {
        self.dump.as_ref().is_some_and(|file| file.as_os_str() == "-")
    }
}

/// A value of each line, A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerLine<T>(pub [T; 2]);

fn parse_per_line<T: FromStr + Copy>(text: &str) -> Result<PerLine<T>, String>
where
    T::Err: std::fmt::Display,
{
    let parse = |part: &str| part.trim().parse::<T>().map_err(|error| format!("\"{part}\": {error}"));
    match text.split_once(',') {
        None => parse(text).map(|value| PerLine([value; 2])),
        Some((a, b)) => Ok(PerLine([parse(a)?, parse(b)?])),
    }
}

fn parse_probability(text: &str) -> Result<f64, String> {
    text.parse().map(|Probability(probability)| probability)
}

fn parse_probabilities(text: &str) -> Result<PerLine<f64>, String> {
    let PerLine(lines) = parse_per_line(text)?;
    Ok(PerLine(lines.map(|Probability(probability)| probability)))
}

fn parse_delays(text: &str) -> Result<PerLine<u64>, String> {
    let delays: PerLine<u64> = parse_per_line(text)?;
    if delays.0.iter().any(|delay_us| *delay_us > 10_000_000) {
        return Err("a delay is at most 10 seconds (10000000)".to_owned());
    }
    Ok(delays)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("from 0 to 1000000000 seconds".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

fn parse_session(text: &str) -> Result<String, String> {
    if text.len() <= 10 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a session's name has 1 to 10 printable ASCII characters without blanks".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ExchangeArgs,
    }

    fn parse(line: &str) -> Result<ExchangeArgs, clap::Error> {
        let words = std::iter::once("exchange").chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args)
    }

    #[test]
    fn the_options_fit_together() {
        use clap::CommandFactory;
        Command::command().debug_assert();
    }

    #[test]
    fn a_line_has_its_own_value_or_that_of_both() {
        let args = parse("--loss 10% --reorder 0,0.5 --delay-us 0,200 --loss-both 0.01").unwrap();
        let impairment = args.impairment();
        assert_eq!((impairment.lines[0].loss, impairment.lines[1].loss), (0.1, 0.1));
        assert_eq!((impairment.lines[0].reorder, impairment.lines[1].reorder), (0.0, 0.5));
        assert_eq!((impairment.lines[0].delay_ns, impairment.lines[1].delay_ns), (0, 200_000));
        assert_eq!(impairment.loss_both, 0.01);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for line in [
            "--loss 1.5",
            "--loss 0.1,x",
            "--loss NaN",
            "--loss-both -1",
            "--delay-us 10000001",
            "--instruments 0",
            "--instruments 65001",
            "--messages-per-packet 0",
            "--payload-bytes 71",
            "--session 12345678901",
            "--duration -1",
            "--heartbeat-ms 0",
            "--end",
            "--linger --end --no-end",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
