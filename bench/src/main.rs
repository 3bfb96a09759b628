//! What is measured, and against whom: one table with ratios, and the machine named.

mod abuse;
mod channel;
mod conflated;
mod decode;
mod fanout;
mod flow;
mod latencies;
mod memory;
mod naive;
mod node;
mod path;
mod quota;
#[cfg(feature = "rdma")]
mod rdma;
#[cfg(feature = "dpdk")]
mod receive;
mod replica;
mod report;
mod sample;
mod served;
mod server;
mod silence;
mod steady;
mod subscriber;
mod tops;
mod unary;

use clap::{Parser, ValueEnum};
use control::connection::raise_file_limit;
use drivers::cpu::pin_to_core;
use report::Line;

/// Measure Tickplane against others, side by side in one run
///
/// Contenders take turns; each line shows the median of all rounds, and how far the rounds lie apart.
#[derive(Parser)]
struct Args {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    what: Vec<What>,

    /// Rounds of each contender
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Messages of each round
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,

    /// The core to measure on
    #[arg(long, default_value_t = 1)]
    core: usize,

    /// For `receive`: capsule's program, which scripts/bench --capsule builds
    #[cfg(feature = "dpdk")]
    #[arg(long, value_name = "PROGRAM")]
    capsule: Option<std::path::PathBuf>,

    /// Write the day that `path` measures into an ITCH file, to measure another book builder on the same bytes, and end
    #[arg(long, value_name = "FILE")]
    write_day: Option<std::path::PathBuf>,

    /// Watch the log of a node's region for `--watch-ms`, print in ms for how long it stood still at most, and end
    #[arg(long, value_name = "FILE")]
    silence_of: Option<std::path::PathBuf>,

    /// For `serve-once` and `serve-bare`
    #[arg(long, value_name = "FILE", hide = true)]
    region: Option<std::path::PathBuf>,

    /// Subscribers of `fanout`
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    subscribers: Vec<usize>,

    /// Calls of each round of `unary`
    #[arg(long, default_value_t = 200_000)]
    calls: usize,

    /// Deliveries of each round of `fanout`
    #[arg(long, default_value_t = 8_000_000)]
    deliveries: u64,

    /// For `--silence-of`
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    watch_ms: u64,

    /// One JSON object behind the table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// ITCH decode alone, against the crates itch5 and itchy
    Decode,
    /// Frame in → book → log and table, against a book of the standard library's maps
    Path,
    /// MDP 3.0: the entries alone against a plain loop, and frame in → book → log and table
    Channel,
    /// TOPS: the messages alone against a plain loop, and frame in → log and table
    Tops,
    /// What a reader costs the writer, and the writer a reader
    Readers,
    /// What an attached top costs the worker
    Served,
    /// A check of a client's quota, against the crate governor
    Quota,
    /// What a standby costs its primary
    Replica,
    /// One stream of updates to 10, 100 and 1,000 subscribers, against nats-server and redis-server
    Fanout,
    /// 2,000 conflated subscriptions: how late an update is
    Conflated,
    /// What an idle subscription takes of the node's memory
    Memory,
    /// What calls and updates take beside clients that do harm, against the same without them
    Abuse,
    /// A call with all of the layers around it, against a bare tonic server
    Unary,
    /// A node apart: what several of these start
    #[value(hide = true)]
    ServeOnce,
    /// The same without any layer
    #[value(hide = true)]
    ServeBare,
    /// Top itself: what `served` starts
    #[value(hide = true)]
    TopOnce,
    /// The DPDK port, counting only, against dpdk-testpmd
    Receive,
    /// One round of the DPDK port alone: what `receive` starts
    #[value(hide = true)]
    ReceiveOnce,
    /// Bare RDMA against perftest, and replication against bare RDMA: what scripts/bench-rdma starts
    #[value(hide = true)]
    Rdma,
}

fn main() {
    let args = Args::parse();
    let machine = report::machine();
    let all = args.what.is_empty();
    let wanted = |what| all || args.what.contains(&what);
    #[cfg(feature = "dpdk")]
    if args.what.contains(&What::ReceiveOnce) {
        return receive::once(args.core);
    }
    if args.what.contains(&What::TopOnce) {
        return served::top_once();
    }
    let serves = |what| args.what.contains(&what).then_some(args.region.as_ref()).flatten();
    if let Some(region) = serves(What::ServeOnce) {
        return node::serve_once(region, false);
    }
    if let Some(region) = serves(What::ServeBare) {
        return node::serve_once(region, true);
    }
    if let Some(region) = &args.silence_of {
        match silence::pause_ns(region, args.watch_ms) {
            Ok(pause_ns) => println!("{:.3}", pause_ns as f64 / 1e6),
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        }
        return;
    }
    if let Some(file) = &args.write_day {
        match path::write_day(file, args.messages) {
            Ok(opening) => println!("{opening} messages of the opening, then {}", args.messages),
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                std::process::exit(1);
            }
        }
        return;
    }
    println!("{machine}");
    // For this process and those that it starts: a subscriber is a file of its own, and one of the server's.
    raise_file_limit(memory::SUBSCRIPTIONS as usize);
    let mut lines: Vec<Line> = Vec::new();
    #[cfg(feature = "rdma")]
    if args.what.contains(&What::Rdma) {
        eprintln!("rdma …");
        lines.extend(rdma::run(args.rounds));
    }
    #[cfg(feature = "dpdk")]
    if wanted(What::Receive) {
        eprintln!("receive …");
        lines.extend(receive::run(args.rounds, args.core, args.capsule.as_deref()));
    }
    // Not tied to a core, and neither are those whom it starts.
    if wanted(What::Conflated) {
        eprintln!("conflated …");
        lines.extend(conflated::run(args.rounds));
    }
    if wanted(What::Unary) {
        eprintln!("unary …");
        lines.extend(unary::run(args.rounds, args.calls));
    }
    if wanted(What::Abuse) {
        eprintln!("abuse …");
        lines.extend(abuse::run(args.rounds));
    }
    if wanted(What::Memory) {
        eprintln!("memory …");
        lines.extend(memory::run(args.rounds));
    }
    if wanted(What::Fanout) {
        eprintln!("fanout …");
        lines.extend(fanout::run(args.rounds, &args.subscribers, args.deliveries));
    }
    if let Err(error) = pin_to_core(args.core) {
        eprintln!("not pinned: {error}");
    }
    if wanted(What::Decode) {
        eprintln!("decode …");
        lines.extend(decode::run(args.rounds * 2, args.messages as usize));
    }
    if wanted(What::Path) {
        eprintln!("path …");
        lines.extend(path::run(args.rounds, args.messages));
    }
    if wanted(What::Channel) {
        eprintln!("channel …");
        lines.extend(channel::run(args.rounds, args.messages));
    }
    if wanted(What::Tops) {
        eprintln!("tops …");
        lines.extend(tops::run(args.rounds, args.messages));
    }
    if wanted(What::Readers) {
        eprintln!("readers …");
        lines.extend(path::readers(args.rounds, args.messages));
    }
    if wanted(What::Quota) {
        eprintln!("quota …");
        lines.extend(quota::run(args.rounds, args.messages as usize, args.core));
    }
    if wanted(What::Replica) {
        eprintln!("replica …");
        lines.extend(replica::lines(args.rounds, args.messages));
    }
    if wanted(What::Served) {
        eprintln!("served …");
        lines.extend(served::run(args.rounds * 2, args.messages, args.core));
    }
    report::print(&lines);
    if args.json {
        println!("{}", report::json(&lines, &machine));
    }
}
