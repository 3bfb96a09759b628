//! The whole way: `tickplane replay` sends recorded days out of a network namespace, over a veth pair, into the DPDK port of a
//! `tickplane run`; what that serves over gRPC is the recordings' known answers. Needs root, and TICKPLANE_TEST_ROOT=1.

mod answers {
    #[path = "../../../dataplane/tests/capture/mod.rs"]
    pub mod capture;
    pub mod mdp3;
    pub mod tops16;
}
mod process;

use answers::capture::capture;
use control::client::get::list;
use control::client::status::{Overview, overview};
use control::client::{ServerArgs, block_on};
use control::proto::{Feed, Instrument, RowMark, RowState};
use control::row::Row;
use dataplane::cache::tick::{PRICE_ABSENT, Quote, Trade};
use process::{Process, start_appliance, tickplane};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// Two lines' worth of it fill the port's receive ring only if nobody polls it for a second.
const PACKETS_PER_S: &str = "2000";
const OURS: &str = "10.92.0.1";
const THEIRS: &str = "10.92.0.2";

/// A veth pair, its far end in a namespace; both go when it is dropped.
struct Link {
    netns: String,
    near: String,
}

impl Link {
    /// `None` where tests may not do that.
    fn new() -> Option<Link> {
        if std::env::var_os("TICKPLANE_TEST_ROOT").is_none_or(|value| value != "1") {
            eprintln!("skipped: laying a veth pair needs root, and TICKPLANE_TEST_ROOT=1");
            return None;
        }
        static LINKS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), LINKS.fetch_add(1, Ordering::Relaxed));
        let link = Link { netns: format!("tpr{name}"), near: format!("tpr{name}") };
        link.script(&["up", &link.netns, &link.near, THEIRS]);
        Some(link)
    }

    fn script(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts/netns");
        let output = Command::new(script).args(arguments).output().expect("the script is there");
        let said = String::from_utf8_lossy(&output.stderr);
        // While the test fails it must not fail again.
        assert!(output.status.success() || std::thread::panicking(), "netns {arguments:?}: {said}");
    }

    /// Frames that the kernel dropped at our end.
    fn dropped(&self) -> String {
        let counter = format!("/sys/class/net/{}/statistics/rx_dropped", self.near);
        std::fs::read_to_string(counter).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.script(&["down", &self.netns, &self.near]);
    }
}

/// An appliance with one feed, and a recording of that feed. It ends before its link goes.
struct Stage {
    _appliance: Process,
    server: ServerArgs,
    link: Link,
    _folder: tempfile::TempDir,
    file: PathBuf,
    protocol: &'static str,
}

impl Stage {
    /// `None` where the recording is not, or tests may not be root.
    fn set(recording: &str, protocol: &'static str, groups: &[&str]) -> Option<Stage> {
        let file = capture(recording)?;
        let link = Link::new()?;
        let folder = tempfile::tempdir().unwrap();
        let region = folder.path().join("region");
        let mut config = format!(
            "node = \"test\"\n[region]\npath = {region:?}\ninstruments_max = 16384\nlog_ticks = 65536\n\
             [[ports]]\nname = \"veth\"\nkind = \"dpdk\"\ninterface = \"{}\"\naddress = \"{OURS}\"\n\
             memory = \"no-huge\"\nmbufs = 8191\nrx_descriptors = 2048\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\n\
             [[feeds]]\nname = \"feed\"\nprotocol = \"{protocol}\"\nsilence_ms = 3000000\ngap_timeout_us = 60000000\n",
            link.near
        );
        for (name, group) in ["A", "B"].into_iter().zip(groups) {
            config += &format!("[[feeds.lines]]\nname = \"{name}\"\nport = \"veth\"\ngroup = \"{group}\"\n");
        }
        let (appliance, server) = start_appliance(folder.path(), &config);
        let server = ServerArgs::at(server);
        Some(Stage { _appliance: appliance, server, link, _folder: folder, file, protocol })
    }

    /// Sends the first packets of the recording, and waits until each line has brought the last one.
    fn play(&self, packets: u64) {
        let packets = packets.to_string();
        let mut decode = tickplane();
        decode.arg("decode").arg(&self.file).args(["--feed", self.protocol, "--packets", &packets, "--json"]);
        let next_sequence = last_line(&mut decode)["counters"]["sequence_next"].as_u64().unwrap();

        let mut replay = Command::new("ip");
        replay.args(["netns", "exec", &self.link.netns]).arg(tickplane().get_program());
        replay.arg("replay").arg(&self.file).args(["--interface", "eth0", "--rate", PACKETS_PER_S]);
        let summary = last_line(replay.args(["--packets", &packets, "--quiet", "--json"]));
        assert_eq!(summary["packets"].to_string(), packets, "{summary}");

        let is_through = |feed: &Feed| {
            let mut lines = feed.lines.iter();
            feed.next_sequence == next_sequence && lines.all(|line| line.next_sequence == next_sequence)
        };
        let seen = self.wait_until(|seen| is_through(&seen.feeds[0]));
        let account = self.account(&seen, &summary);
        eprintln!("{account}");
        assert!(is_through(&seen.feeds[0]), "message {next_sequence} is not the next: {account}");
        let lost = (seen.feeds[0].gaps, seen.feeds[0].missing);
        assert_eq!(lost, (0, 0), "the kernel dropped packets: {account}");
        // What was counted can be read when the worker's round has ended.
        let begun = rounds(&self.overview());
        assert!(rounds(&self.wait_until(|seen| rounds(seen) > begun)) > begun);
    }

    /// What the node tells once it is so, or when patience ends.
    fn wait_until(&self, is_so: impl Fn(&Overview) -> bool) -> Overview {
        let started = Instant::now();
        loop {
            let seen = self.overview();
            if is_so(&seen) || started.elapsed() > PATIENCE {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn overview(&self) -> Overview {
        block_on(overview(&self.server)).unwrap()
    }

    /// Which packets went where.
    fn account(&self, seen: &Overview, summary: &Value) -> String {
        let (feed, port) = (&seen.feeds[0], &seen.node.ports[0]);
        let sent = summary["lines"].as_array().unwrap().iter();
        let lines = feed.lines.iter().zip(sent).map(|(line, sent)| {
            let sent = &sent["packets"];
            format!(
                "{}: {sent} packets sent, {} arrived, next message {}; ",
                line.name, line.packets, line.next_sequence
            )
        });
        format!(
            "{}{} gaps of {} messages; port: {} missed; interface: {} dropped",
            lines.collect::<String>(),
            feed.gaps,
            feed.missing,
            port.missed,
            self.link.dropped()
        )
    }

    fn instruments(&self) -> Vec<Instrument> {
        block_on(async { list(self.server.connect().await?, "*").await }).unwrap()
    }
}

fn rounds(seen: &Overview) -> u64 {
    seen.node.worker.as_ref().unwrap().counters["duty_cycles"]
}

/// The last line of what a command prints.
fn last_line(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap()
}

#[test]
fn a_cme_channel_over_both_lines_has_its_known_tops() {
    use answers::mdp3::{CAPTURE, answer, compare_all};
    let groups = ["224.0.31.11:14320", "224.0.32.11:15320"];
    let Some(stage) = Stage::set(CAPTURE, "mdp3", &groups) else { return };
    stage.play(10_000);
    let rows = stage.instruments().into_iter().map(|instrument| {
        let row = Row::from(&instrument);
        (instrument.symbol, serde_json::to_value(row).unwrap())
    });
    compare_all(&rows.collect(), &answer(&stage.file));
}

fn live(mark: Option<&RowMark>) -> u64 {
    let mark = mark.expect("each row has a mark");
    assert_eq!(mark.state(), RowState::Live, "{mark:?}");
    mark.exchange_ns
}

#[test]
fn an_iex_day_has_its_known_quotes_and_trades_at_its_last_checkpoint_but_one() {
    use answers::tops16::{CAPTURE, Held, checkpoints};
    let Some(stage) = Stage::set(CAPTURE, "tops16", &["224.67.0.199:16642"]) else { return };
    // At the last one all quotes are zero.
    let known = checkpoints(&stage.file).swap_remove(2);
    stage.play(known["packets"].as_u64().unwrap());
    let mut held = Held::default();
    for Instrument { symbol, quote, trade, .. } in stage.instruments() {
        if let Some(quote) = quote {
            let exchange_ns = live(quote.mark.as_ref());
            let size = |size: u64| u32::try_from(size).unwrap();
            let [bid_price, ask_price] =
                [quote.bid_price_e9, quote.ask_price_e9].map(|price| price.unwrap_or(PRICE_ABSENT));
            let quote = Quote {
                bid_price,
                ask_price,
                bid_size: size(quote.bid_size),
                ask_size: size(quote.ask_size),
            };
            held.quote(&symbol, &quote, exchange_ns);
        }
        if let Some(trade) = trade {
            let exchange_ns = live(trade.mark.as_ref());
            let price = trade.price_e9.expect("the last trade of no symbol was broken");
            held.trade(&symbol, &Trade { price, size: trade.size, trade_id: trade.trade_id }, exchange_ns);
        }
    }
    held.compare(&known);
}
