//! The options of `tickplane replay`.

use super::pace::Tempo;
use crate::probability::Probability;
use clap::ValueEnum;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::str::FromStr;

const EXAMPLES: &str = "\
Examples:
  A capture to its own groups on loopback, as fast as it was recorded:
      tickplane replay capture.pcap.gz

  Ten times as fast out of a NIC, its lines A and B to other groups:
      tickplane replay capture.pcap --interface eth1 --speed 10 --to 239.1.1.1:5000 --to 239.1.1.2:5000

  50,000 packets a second, line A losing one in a hundred, both lines out of order, the same at each run:
      tickplane replay capture.pcap --rate 50000 --drop A=1% --reorder 0.1% --seed 7

  The very frames, VLAN tags and all, as fast as they go, until interrupted (needs CAP_NET_RAW):
      tickplane replay capture.pcap --frames --interface eth1 --flat-out --loop 0

A line is a destination (group and port). Lines are called A, B, … in the order of their first packets, or in that of
--line if it is given; where a line is to be named, GROUP:PORT does as well.";

/// Send a capture again, onto an interface
///
/// Reads packet captures (pcap, pcapng; Ethernet, VLAN tags) and ITCH files, gzipped or not, as they are sent. UDP
/// datagrams to multicast groups are sent by the kernel, from the interface's address; others only if --line or --map
/// names them. With --frames all frames are sent as they were recorded.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The recording
    pub file: PathBuf,

    /// Interface to send on, by name or by IPv4 address
    #[arg(short, long, value_name = "NAME|ADDRESS", default_value = "lo", help_heading = "Where to")]
    pub interface: String,

    /// Where lines go instead, in their order; what has no --to is not sent. May be repeated
    #[arg(long, value_name = "GROUP:PORT", value_delimiter = ',', value_parser = parse_destination)]
    #[arg(help_heading = "Where to")]
    pub to: Vec<SocketAddrV4>,

    /// A line and where it goes instead; the others stay. May be repeated
    #[arg(long = "map", value_name = "LINE=GROUP:PORT", value_delimiter = ',', conflicts_with = "to")]
    #[arg(help_heading = "Where to")]
    pub maps: Vec<Mapping>,

    /// Send whole Ethernet frames, byte by byte as they were, but for --to and --map. Needs CAP_NET_RAW
    #[arg(long, help_heading = "Where to")]
    pub frames: bool,

    /// Routers that the datagrams may pass (multicast TTL)
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "frames", help_heading = "Where to")]
    pub hops: u8,

    /// By the capture's stamps: the default
    #[arg(long, value_name = "PACE", value_enum, group = "tempo", help_heading = "Pace")]
    pub pace: Option<PaceName>,

    /// So many times as fast as the capture's stamps, fractions too
    #[arg(short = 'x', long, visible_alias = "multiplier", value_name = "X", value_parser = parse_positive)]
    #[arg(group = "tempo", help_heading = "Pace")]
    pub speed: Option<f64>,

    /// Packets a second
    #[arg(short = 'p', long, visible_alias = "pps", value_name = "N", value_parser = parse_positive)]
    #[arg(group = "tempo", help_heading = "Pace")]
    pub rate: Option<f64>,

    /// Megabits a second, of the frames as recorded
    #[arg(short = 'M', long, value_name = "N", value_parser = parse_positive)]
    #[arg(group = "tempo", help_heading = "Pace")]
    pub mbps: Option<f64>,

    /// As fast as they go
    #[arg(short = 't', long, visible_alias = "topspeed", group = "tempo", help_heading = "Pace")]
    pub flat_out: bool,

    /// Silences of the capture are cut to that, in milliseconds [default: kept]
    #[arg(long, visible_alias = "maxsleep", value_name = "MS", conflicts_with_all = ["rate", "mbps", "flat_out"])]
    #[arg(help_heading = "Pace")]
    pub silence_max_ms: Option<u64>,

    /// At --flat-out, give the kernel datagrams one by one, not those of one length together (UDP GSO)
    #[arg(long, help_heading = "Pace")]
    pub no_gso: bool,

    /// A line's group and port, to send only that; may be repeated [default: all]
    #[arg(long = "line", value_name = "GROUP:PORT", value_delimiter = ',', value_parser = parse_destination)]
    #[arg(help_heading = "What")]
    pub lines: Vec<SocketAddrV4>,

    /// Stop after so many packets of the file, heartbeats included (of an ITCH file: messages)
    #[arg(short = 'L', long, visible_alias = "limit", value_name = "N", help_heading = "What")]
    pub packets: Option<u64>,

    /// Send the file so many times, each pass right behind the other; 0 = until stopped
    #[arg(short = 'l', long = "loop", value_name = "N", default_value_t = 1, help_heading = "What")]
    pub passes: u64,

    /// Probability that a packet is left out: one for all lines, one each (A,B,…), or by name (A=1%)
    #[arg(long = "drop", visible_alias = "loss", value_name = "P|A,B|LINE=P", value_delimiter = ',')]
    #[arg(help_heading = "Impairments")]
    pub loss: Vec<LineProbability>,

    /// Probability that a packet is sent twice
    #[arg(long = "dup", visible_alias = "duplicate", value_name = "P|A,B|LINE=P", value_delimiter = ',')]
    #[arg(help_heading = "Impairments")]
    pub duplicate: Vec<LineProbability>,

    /// Probability that later packets of its line overtake a packet
    #[arg(long, value_name = "P|A,B|LINE=P", value_delimiter = ',', help_heading = "Impairments")]
    pub reorder: Vec<LineProbability>,

    /// How many later packets overtake it at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=100),
        help_heading = "Impairments"
    )]
    pub reorder_packets: u32,

    /// What the impairments are drawn from: the same seed, the same packets
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Impairments")]
    pub seed: u64,

    /// No progress
    #[arg(short, long)]
    pub quiet: bool,

    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// The paces that have a name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PaceName {
    /// By the capture's stamps
    Original,
}

impl ReplayArgs {
    pub(super) fn tempo(&self) -> Tempo {
        match (self.speed, self.rate, self.mbps, self.flat_out) {
            (_, _, _, true) => Tempo::FlatOut,
            (_, _, Some(mbps), _) => Tempo::Mbps(mbps),
            (_, Some(rate), _, _) => Tempo::Rate(rate),
            (speed, ..) => Tempo::Speed(speed.unwrap_or(1.0)),
        }
    }

    /// All options that may name lines, and the names.
    pub(super) fn line_names(&self) -> impl Iterator<Item = (&'static str, LineName)> {
        let chances = [("--drop", &self.loss), ("--dup", &self.duplicate), ("--reorder", &self.reorder)];
        let named = chances.into_iter().flat_map(|(option, chances)| {
            chances.iter().filter_map(move |chance| Some((option, chance.line?)))
        });
        let lines = self.lines.iter().map(|line| ("--line", LineName::Destination(*line)));
        named.chain(self.maps.iter().map(|map| ("--map", map.line))).chain(lines)
    }
}

/// A line by its letter or by its destination in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineName {
    /// 0 = A.
    Letter(u8),
    Destination(SocketAddrV4),
}

impl LineName {
    /// How the line is called that is the `index`th and has that destination.
    pub fn of(index: usize, destination: SocketAddrV4) -> LineName {
        match u8::try_from(index) {
            Ok(letter @ 0..26) => LineName::Letter(letter),
            _ => LineName::Destination(destination),
        }
    }

    pub fn is(self, index: usize, destination: SocketAddrV4) -> bool {
        match self {
            LineName::Letter(letter) => usize::from(letter) == index,
            LineName::Destination(named) => named == destination,
        }
    }
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineName::Letter(letter) => write!(f, "{}", char::from(b'A' + letter)),
            LineName::Destination(destination) => write!(f, "{destination}"),
        }
    }
}

impl FromStr for LineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [letter] if letter.is_ascii_alphabetic() => {
                Ok(LineName::Letter(letter.to_ascii_uppercase() - b'A'))
            }
            _ => parse_destination(text).map(LineName::Destination),
        }
    }
}

/// `LINE=GROUP:PORT`.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    pub line: LineName,
    pub to: SocketAddrV4,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (line, to) = text.split_once('=').ok_or("a line, =, and where it goes: A=239.1.1.1:5000")?;
        Ok(Mapping { line: line.parse()?, to: parse_destination(to)? })
    }
}

/// `P` or `LINE=P`.
#[derive(Clone, Copy, Debug)]
pub struct LineProbability {
    pub line: Option<LineName>,
    pub probability: Probability,
}

impl LineProbability {
    /// That of a line: the last that names it; else its own of those without a name, which is that of all lines if it is
    /// the only one; else 0.
    pub fn of_line(all: &[LineProbability], index: usize, destination: SocketAddrV4) -> f64 {
        let is_named = |one: &&LineProbability| one.line.is_some_and(|name| name.is(index, destination));
        let mut nameless = all.iter().filter(|one| one.line.is_none());
        let of_all = nameless.clone().count() == 1;
        let found = all.iter().rfind(is_named).or_else(|| nameless.nth(if of_all { 0 } else { index }));
        found.map_or(0.0, |one| one.probability.0)
    }
}

impl FromStr for LineProbability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None => Ok(LineProbability { line: None, probability: text.parse()? }),
            Some((line, probability)) => {
                Ok(LineProbability { line: Some(line.parse()?), probability: probability.parse()? })
            }
        }
    }
}

fn parse_destination(text: &str) -> Result<SocketAddrV4, String> {
    match text.parse::<SocketAddrV4>() {
        Ok(destination) if destination.port() != 0 => Ok(destination),
        _ => Err(format!("\"{text}\" is no GROUP:PORT such as 239.1.1.1:5000")),
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (1e-6..=1e12).contains(&number) => Ok(number),
        Ok(_) => Err("from 0.000001 to 1000000000000; as fast as they go is --flat-out".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn parse(line: &str) -> Result<ReplayArgs, clap::Error> {
        let words = ["replay", "file"].into_iter().chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args)
    }

    #[test]
    fn the_options_fit_together() {
        Command::command().debug_assert();
    }

    #[test]
    fn a_replay_has_one_pace() {
        assert_eq!(parse("").unwrap().tempo(), Tempo::Speed(1.0));
        assert_eq!(parse("--pace original").unwrap().tempo(), Tempo::Speed(1.0));
        assert_eq!(parse("--speed 0.5").unwrap().tempo(), Tempo::Speed(0.5));
        assert_eq!(parse("--multiplier 10").unwrap().tempo(), Tempo::Speed(10.0));
        assert_eq!(parse("--pps 7").unwrap().tempo(), Tempo::Rate(7.0));
        assert_eq!(parse("-M 2.5").unwrap().tempo(), Tempo::Mbps(2.5));
        assert_eq!(parse("--topspeed").unwrap().tempo(), Tempo::FlatOut);
        let options = ["--pace original", "--speed 2", "--rate 5", "--mbps 1", "--flat-out"];
        for (index, one) in options.iter().enumerate() {
            for other in &options[index + 1..] {
                assert!(parse(&format!("{one} {other}")).is_err(), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_line_has_its_own_probability_or_that_of_all() {
        let destination = |index: usize| SocketAddrV4::new([239, 0, 0, 1].into(), 1 + index as u16);
        let of = |line: &str| {
            let loss = parse(line).unwrap().loss;
            [0, 1, 2].map(|index| LineProbability::of_line(&loss, index, destination(index)))
        };
        assert_eq!(of(""), [0.0; 3]);
        assert_eq!(of("--drop 10%"), [0.1; 3]);
        assert_eq!(of("--drop 0,0.5"), [0.0, 0.5, 0.0], "as the exchange has them");
        assert_eq!(of("--drop A=1%"), [0.01, 0.0, 0.0]);
        assert_eq!(of("--drop 0.2,b=50% --loss 239.0.0.1:3=1"), [0.2, 0.5, 1.0]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for line in [
            "--drop 1.5",
            "--drop A=101%",
            "--drop AB=1%",
            "--dup x",
            "--to 239.1.1.1",
            "--to 239.1.1.1:0",
            "--map 239.1.1.1:5",
            "--map A=239.1.1.1:5 --to 239.1.1.1:5",
            "--speed 0",
            "--rate -1",
            "--rate NaN",
            "--reorder-packets 0",
            "--reorder-packets 101",
            "--frames --hops 3",
            "--flat-out --silence-max-ms 5",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
