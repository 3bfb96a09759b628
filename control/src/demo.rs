//! `tickplane demo`: an exchange and an appliance, each its own process, watched and compared.

mod children;
mod follower;

use crate::client::status::{Overview, duration, overview};
use crate::client::verify::{Comparison, compare, read_dump};
use crate::client::{ClientError, ServerArgs};
use crate::config::{Config, ConfigError};
use crate::stop;
use children::{Child, Commands};
use follower::Follower;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  Ten seconds over kernel UDP on loopback, no privileges needed:
      tickplane demo --duration 10

  An appliance as configured, the exchange in a network namespace (what `make run` does with DPDK):
      tickplane demo --config demo.toml --netns tickplane-exchange --interface veth0";

/// How long the appliance may take to answer: DPDK prepares its memory first.
const START_MAX: Duration = Duration::from_secs(60);
/// How long the exchange may take over its time, and the appliance to take in what was sent.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The exchange waits until the lines are joined, on the other side, too.
const START_DELAY_MS: u64 = 1_500;

/// Show it all: a simulated exchange, the appliance, and whether its cache is right
///
/// Starts an exchange and an appliance, prints a line a second, and ends by comparing every row of the cache, read over
/// gRPC, with the exchange's own book. Succeeds only if all are live and equal.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// How long the order flow lasts, in seconds
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub duration: u32,

    /// Instruments
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub instruments: u32,

    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub rate: u64,

    /// Part of the packets that each line loses, never both the same
    #[arg(long, value_name = "P", default_value_t = 0.01)]
    pub loss: f64,

    /// Part of the packets that both lines lose: the end of this demo will be that rows are suspect
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub loss_both: f64,

    /// Seed of the flow and of the losses
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// The appliance's configuration; its first feed's lines are sent to [default: kernel UDP on loopback]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Network namespace in which the exchange runs
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,

    /// Interface that the exchange sends from
    #[arg(long, value_name = "NAME|ADDRESS", default_value = "127.0.0.1")]
    pub interface: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("the {0} ended by itself ({1}): what it printed above says why")]
    Ended(&'static str, std::process::ExitStatus),
    #[error("{0} within {1:?}")]
    Late(&'static str, Duration),
    #[error("the cache is not the exchange's book: {0}")]
    Wrong(String),
    #[error("interrupted")]
    Interrupted,
}

pub fn run(args: &DemoArgs, stop: &Arc<AtomicBool>) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            result = Demo::play(args) => result,
            // The children end with this process's frame: they are asked to in `drop`.
            () = stop::requested(stop) => Err(DemoError::Interrupted),
        }
    })
}

struct Demo<'a> {
    args: &'a DemoArgs,
    server: ServerArgs,
    appliance: Child,
    exchange: Option<Child>,
    started: Instant,
}

impl Demo<'_> {
    async fn play(args: &DemoArgs) -> Result<(), DemoError> {
        let folder = tempfile::tempdir()?;
        let dump = folder.path().join("book.jsonl");
        let path = match &args.config {
            Some(path) => path.clone(),
            None => loopback_config(folder.path())?,
        };
        let config = Config::read(&path)?;
        let server = ServerArgs::at(format!("http://{}", config.grpc.listen));
        println!("appliance: tickplane run --config {}", path.display());
        let appliance = Child::start("appliance", &mut Commands::appliance(&path)?)?;
        let mut demo = Demo { args, server, appliance, exchange: None, started: Instant::now() };
        demo.wait_for_appliance().await?;
        let mut follower = Follower::start(&demo.server).await?;

        let mut command = Commands::exchange(args, &config, &dump, START_DELAY_MS)?;
        println!("exchange:  {}", Commands::text(&command));
        demo.exchange = Some(Child::start("exchange", &mut command)?);
        demo.watch(&dump).await?;
        demo.wait_for_end(&dump).await?;
        let comparison = compare(&demo.server, &dump).await?;
        let followed = follower.compare(&read_dump(&dump)?, SETTLE_MAX).await;
        demo.report(&comparison, &followed)
    }

    async fn wait_for_appliance(&mut self) -> Result<(), DemoError> {
        while self.started.elapsed() < START_MAX {
            self.appliance.check()?;
            if overview(&self.server).await.is_ok() {
                self.started = Instant::now();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(DemoError::Late("the appliance did not answer", START_MAX))
    }

    /// A line a second until the exchange's book is there.
    async fn watch(&mut self, dump: &Path) -> Result<(), DemoError> {
        println!(
            "{:>5} {:>11} {:>10} {:>12} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "SEC",
            "MESSAGES/S",
            "UPDATES/S",
            "MESSAGES",
            "GAPS",
            "MISSING",
            "IN p50",
            "IN p99",
            "IN p99.9",
            "OUT p50",
            "OUT p99"
        );
        let most = Duration::from_secs(self.args.duration.into()) + SETTLE_MAX;
        let mut second = 1;
        while !dump.exists() {
            if self.started.elapsed() > most {
                return Err(DemoError::Late("the exchange did not end", most));
            }
            self.check()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.started.elapsed() >= Duration::from_secs(second) {
                println!("{}", line(second, &overview(&self.server).await?));
                std::io::stdout().flush()?;
                second += 1;
            }
        }
        Ok(())
    }

    /// Until the appliance has taken in, or given up, everything that was sent.
    async fn wait_for_end(&mut self, dump: &Path) -> Result<(), DemoError> {
        let text = std::fs::read_to_string(dump)?;
        let counters: serde_json::Value =
            text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let sequence_next = counters["counters"]["sequence_next"].as_u64().unwrap_or(u64::MAX);
        let started = Instant::now();
        while started.elapsed() < SETTLE_MAX {
            self.check()?;
            let feeds = overview(&self.server).await?.feeds;
            if feeds.first().is_some_and(|feed| feed.next_sequence >= sequence_next) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(DemoError::Late("the appliance did not take in everything", SETTLE_MAX))
    }

    fn check(&mut self) -> Result<(), DemoError> {
        self.appliance.check()?;
        self.exchange.as_mut().map_or(Ok(()), Child::check)
    }

    fn report(&self, comparison: &Comparison, followed: &Comparison) -> Result<(), DemoError> {
        println!("\ncache, read over gRPC:    {}", comparison.summary());
        println!("subscriber's own picture: {}", followed.summary());
        if comparison.is_good() && followed.is_good() {
            println!("the cache is right");
            return Ok(());
        }
        let bad = if comparison.is_good() { followed } else { comparison };
        let first =
            bad.different.iter().chain(&bad.doubtful).chain(&bad.missing).chain(&bad.unexpected).next();
        Err(DemoError::Wrong(first.cloned().unwrap_or_else(|| "nothing was compared".to_owned())))
    }
}

/// The embedded configuration under a name and on a port of its own: several demos can run at once.
fn loopback_config(folder: &Path) -> Result<PathBuf, DemoError> {
    let free = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let process = std::process::id();
    // Groups of its own, too: (process number) in the organisation's local scope.
    let groups =
        [0, 1].map(|line| format!("239.255.{}.{}:26477", process >> 7 & 0xff, (process & 0x7f) << 1 | line));
    let text = format!(
        "node = \"demo-{process}\"\n[worker]\nidle = \"park\"\n[[ports]]\nname = \"loopback\"\nkind = \"udp\"\n\
         interface = \"127.0.0.1\"\n[[feeds]]\nname = \"nasdaq\"\nvenue = \"XNAS\"\nprotocol = \"itch50\"\n\
         [[feeds.lines]]\nname = \"A\"\nport = \"loopback\"\ngroup = \"{}\"\n\
         [[feeds.lines]]\nname = \"B\"\nport = \"loopback\"\ngroup = \"{}\"\n\
         [grpc]\nlisten = \"{free}\"\n[log]\nlevel = \"warn\"\n",
        groups[0], groups[1]
    );
    let path = folder.join("demo.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn line(second: u64, overview: &Overview) -> String {
    let feed = overview.feeds.first().cloned().unwrap_or_default();
    let stage = |index: usize| overview.latencies.get(index).cloned().unwrap_or_default();
    let (inside, outside) = (stage(1), stage(2));
    format!(
        "{second:>5} {:>11.0} {:>10.0} {:>12} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        feed.messages_per_s,
        feed.ticks_per_s,
        feed.messages,
        feed.gaps,
        feed.missing,
        duration(inside.p50_ns),
        duration(inside.p99_ns),
        duration(inside.p99_9_ns),
        duration(outside.p50_ns),
        duration(outside.p99_ns)
    )
}

impl Drop for Demo<'_> {
    fn drop(&mut self) {
        // The exchange first: its end of session is still heard.
        self.exchange.take();
        self.appliance.end();
    }
}
