//! `tickplane latency`: how long updates take, stage by stage, and for whom.

use super::status::{duration, stage_name};
use super::{ClientError, Connection, ServerArgs, stalls};
use crate::latency::Scope;
use crate::proto::telemetry_client::TelemetryClient;
use crate::proto::{
    self, GetLatencyRequest, GetLatencyResponse, StageLatency, WatchLatencyRequest, Window, scope,
};
use crate::stop;
use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clears the terminal, and begins at its top (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// The log's column of the highest value is in ms, as HistogramLogProcessor has it.
const NS_PER_MS: f64 = 1e6;

const EXAMPLES: &str = "\
Examples:
  By stage, feed, worker, standby and client, since the start:
      tickplane latency

  One feed's last ten seconds, live:
      tickplane latency --feed nasdaq --window 10s --watch

  Ten minutes as an HdrHistogram interval log, for HistogramLogProcessor and the like:
      tickplane latency --histlog day.hlog --looks 600

  When the worker's loop was held up, and what it did then:
      tickplane latency --stalls

  The slowest client's p99 of the last minute:
      tickplane latency --window 1m --json | jq '[.latencies[] | select(.client)] | max_by(.p99_ns)'";

/// Show how long updates take
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LatencyArgs {
    /// The time that is looked at; what is older than a minute is told since the start only
    #[arg(long, value_enum, default_value_t, conflicts_with = "histlog")]
    pub window: WindowArg,

    /// Only this feed's; may be given again
    #[arg(long, value_name = "NAME")]
    pub feed: Vec<String>,

    /// Only this worker's
    #[arg(long, value_name = "NAME")]
    pub worker: Vec<String>,

    /// Only this standby's
    #[arg(long, value_name = "NAME")]
    pub peer: Vec<String>,

    /// Only this client's
    #[arg(long, value_name = "NAME")]
    pub client: Vec<String>,

    /// When the worker's loop took longer than [worker] stall_us, and at what
    #[arg(long, conflicts_with_all = ["window", "feed", "worker", "peer", "client", "watch", "histlog"])]
    pub stalls: bool,

    /// One JSON object a look
    #[arg(long)]
    pub json: bool,

    /// Look again every second, until ^C
    #[arg(long)]
    pub watch: bool,

    /// Write each second's histograms into an HdrHistogram interval log (V2, compressed), until ^C; tags are stages and names
    #[arg(long, value_name = "FILE")]
    pub histlog: Option<PathBuf>,

    /// With --watch or --histlog: end after so many looks
    #[arg(long, value_name = "N")]
    pub looks: Option<u64>,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WindowArg {
    #[value(name = "1s")]
    Second,
    #[value(name = "10s")]
    TenSeconds,
    #[value(name = "1m")]
    Minute,
    /// Since the node started
    #[default]
    Start,
}

impl From<WindowArg> for Window {
    fn from(window: WindowArg) -> Window {
        match window {
            WindowArg::Second => Window::Second,
            WindowArg::TenSeconds => Window::TenSeconds,
            WindowArg::Minute => Window::Minute,
            WindowArg::Start => Window::Start,
        }
    }
}

impl LatencyArgs {
    fn scopes(&self) -> Vec<proto::Scope> {
        let of = |names: &[String], make: fn(String) -> scope::Scope| {
            let scopes = names.iter().cloned().map(|name| proto::Scope { scope: Some(make(name)) });
            scopes.collect::<Vec<_>>()
        };
        [
            of(&self.feed, scope::Scope::Feed),
            of(&self.worker, scope::Scope::Worker),
            of(&self.peer, scope::Scope::Peer),
            of(&self.client, scope::Scope::Client),
        ]
        .concat()
    }
}

pub async fn run(args: &LatencyArgs, stop: &AtomicBool) -> Result<(), ClientError> {
    if args.stalls {
        return stalls::show(&args.server, args.json).await;
    }
    let client = TelemetryClient::new(args.server.connect().await?);
    match &args.histlog {
        Some(file) => {
            let created = File::create(file).map_err(|cause| {
                let text =
                    format!("{}: {cause}: name a file in a folder that you may write to", file.display());
                io::Error::new(cause.kind(), text)
            })?;
            write_log(args, client, BufWriter::new(created), stop).await
        }
        None => show(args, client, stop).await,
    }
}

async fn show(
    args: &LatencyArgs,
    mut client: TelemetryClient<Connection>,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let clear = if args.watch && stdout().is_terminal() { CLEAR } else { "" };
    let scopes = args.scopes();
    let request = GetLatencyRequest {
        window: Window::from(args.window).into(),
        all_scopes: scopes.is_empty(),
        scopes,
        ..GetLatencyRequest::default()
    };
    let mut looks = if args.watch { args.looks.unwrap_or(u64::MAX) } else { 1 };
    loop {
        let seen = client.get_latency(request.clone()).await?.into_inner();
        let mut out = BufWriter::new(stdout().lock());
        match args.json {
            true => writeln!(out, "{}", json_of(&seen))?,
            false => {
                write!(out, "{clear}")?;
                print(&seen, &mut out)?;
            }
        }
        out.flush()?;
        drop(out);
        looks = looks.saturating_sub(1);
        if looks == 0 {
            return Ok(());
        }
        tokio::select! {
            () = stop::requested(stop) => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Whose they are; the node's for want of a scope.
fn scope_of(stage: &StageLatency) -> Scope {
    stage.scope.as_ref().map_or(Scope::Node, Scope::from)
}

fn print(seen: &GetLatencyResponse, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<24} {:<26} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        format!("OF THE LAST {}", duration(seen.interval_ns)),
        "STAGE",
        "UPDATES",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "MAX"
    )?;
    for stage in &seen.stages {
        writeln!(
            out,
            "{:<24} {:<26} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            scope_of(stage).to_string(),
            stage_name(stage.stage).replace("_to_", " → "),
            stage.count,
            duration(stage.p50_ns),
            duration(stage.p90_ns),
            duration(stage.p99_ns),
            duration(stage.p99_9_ns),
            duration(stage.p99_99_ns),
            duration(stage.max_ns)
        )?;
    }
    Ok(())
}

fn json_of(seen: &GetLatencyResponse) -> Value {
    let latencies = seen.stages.iter().map(|stage| {
        let mut one = json!({
            "stage": stage_name(stage.stage), "count": stage.count, "negative_count": stage.negative_count,
            "p50_ns": stage.p50_ns, "p90_ns": stage.p90_ns, "p99_ns": stage.p99_ns, "p99_9_ns": stage.p99_9_ns,
            "p99_99_ns": stage.p99_99_ns, "max_ns": stage.max_ns, "min_ns": stage.min_ns, "mean_ns": stage.mean_ns,
        });
        let scope = scope_of(stage);
        let (kind, name) = scope.parts();
        if scope != Scope::Node {
            one[kind] = name.into();
        }
        one
    });
    json!({ "at_ns": seen.at_ns, "interval_ns": seen.interval_ns, "latencies": latencies.collect::<Vec<_>>() })
}

type LogWriter<'a> = IntervalLogWriter<'a, 'a, BufWriter<File>, V2DeflateSerializer>;

async fn write_log(
    args: &LatencyArgs,
    mut client: TelemetryClient<Connection>,
    mut file: BufWriter<File>,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let scopes = args.scopes();
    let request = WatchLatencyRequest {
        include_histogram: true,
        all_scopes: scopes.is_empty(),
        scopes,
        ..WatchLatencyRequest::default()
    };
    let started = SystemTime::now();
    let mut intervals = client.watch_latency(request).await?.into_inner();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("tickplane {}: ns, by stage and whose they are", env!("CARGO_PKG_VERSION")))
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut file, &mut serializer)?;
    let mut looks = args.looks.unwrap_or(u64::MAX);
    while looks != 0 {
        let interval = tokio::select! {
            () = stop::requested(stop) => break,
            interval = intervals.message() => interval?,
        };
        let Some(interval) = interval else { break };
        write_interval(&mut log, &interval, started)?;
        looks -= 1;
    }
    drop(log);
    Ok(file.flush()?)
}

/// One line for each stage and scope that has counts.
fn write_interval(
    log: &mut LogWriter<'_>,
    interval: &GetLatencyResponse,
    started: SystemTime,
) -> Result<(), ClientError> {
    let begun = UNIX_EPOCH + Duration::from_nanos(interval.at_ns.saturating_sub(interval.interval_ns));
    // The node's clock may be another machine's.
    let since = begun.duration_since(started).unwrap_or_default();
    for stage in interval.stages.iter().filter(|stage| stage.count != 0) {
        let histogram: Hdr<u64> = Deserializer::new()
            .deserialize(&mut stage.histogram_v2.as_slice())
            .map_err(|error| ClientError::Differs(format!("the node sent no histogram: {error:?}")))?;
        let scope = scope_of(stage);
        let tag = match scope.parts() {
            (_, "") => stage_name(stage.stage),
            (kind, name) => {
                format!("{}/{kind}/{name}", stage_name(stage.stage)).replace([',', ' ', '\n', '\r'], "_")
            }
        };
        let length = Duration::from_nanos(interval.interval_ns);
        log.write_histogram(&histogram, since, length, Tag::new(&tag))
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    Ok(())
}
