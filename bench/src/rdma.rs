//! Bare RDMA between two queue pairs: a ping of one tick, and a stream of writes, against perftest on the same devices. Then
//! replication over it, against the bare one.
//!
//! The devices are RDMA_DEVICE (`NAME`, or `NAME,NAME`), else rxe0 and rxe1.

mod link;

use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use drivers::rdma::{
    Access, Completed, CompletionQueue, Device, DeviceConfig, MemoryRegion, QueuePair, QueuePairConfig,
    RemoteMemory, Source, WRITES_PER_POST_MAX, Write,
};
use drivers::region::{CELL_BYTES, RegionMapping};
use std::net::Ipv6Addr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEMORY_BYTES: usize = 1 << 20;
const TICK_BYTES: usize = CELL_BYTES;
const BLOCK_BYTES: usize = 1 << 16;
const PINGS: usize = 2_000;
/// Writes of a stream under way at most, as perftest's.
const WINDOW: usize = 128;
/// Pieces of a round that are compared with a goal: in turns so short that both meet the same neighbours.
const PIECES_A_ROUND: usize = 5;
/// For a whole round; something is wrong after it.
const PATIENCE: Duration = Duration::from_secs(120);
const PERFTEST_PORT: &str = "18515";

/// One side of a connection.
struct Node {
    memory: MemoryRegion,
    pair: QueuePair,
    completions: CompletionQueue,
    started: Instant,
}

impl Node {
    fn new(device: &Arc<Device>) -> Node {
        let config = QueuePairConfig { writes: WINDOW as u32, ..QueuePairConfig::default() };
        let mapping = Arc::new(
            RegionMapping::create_anonymous("rdma-bench", MEMORY_BYTES / CELL_BYTES).expect("memory"),
        );
        let memory = MemoryRegion::register(device, &mapping, 0..MEMORY_BYTES, Access::RemoteWrite);
        let memory = memory.unwrap_or_else(|error| panic!("{error}"));
        let completions = CompletionQueue::new(device, config.writes + config.receives);
        let completions = completions.unwrap_or_else(|error| panic!("{error}"));
        let pair = QueuePair::new(&completions, &config).unwrap_or_else(|error| panic!("{error}"));
        Node { memory, pair, completions, started: Instant::now() }
    }

    fn pair(devices: &[Arc<Device>; 2]) -> [Node; 2] {
        let [mut a, mut b] = [Node::new(&devices[0]), Node::new(&devices[1])];
        a.pair.connect(&b.pair.endpoint()).unwrap_or_else(|error| panic!("{error}"));
        b.pair.connect(&a.pair.endpoint()).unwrap_or_else(|error| panic!("{error}"));
        [a, b]
    }

    fn poll(&mut self) -> Option<Completed> {
        let completion = self.completions.poll().unwrap_or_else(|error| panic!("{error}"))?;
        Some(completion.result.unwrap_or_else(|status| panic!("{status}")))
    }

    /// Waits for an immediate, with writes' completions among it.
    fn immediate(&mut self) -> u32 {
        loop {
            match self.poll() {
                Some(Completed::Immediate { immediate, .. }) => return immediate,
                Some(_) => {}
                None => {
                    assert!(self.started.elapsed() < PATIENCE, "no immediate came");
                    std::hint::spin_loop();
                }
            }
        }
    }

    fn announce(&mut self, number: u32, to: RemoteMemory) {
        let source = Source::Memory { region: &self.memory, offset: 0, bytes: TICK_BYTES };
        let signalled = number.is_multiple_of(WINDOW as u32 / 2);
        let write = Write { source, to, offset: 0, immediate: Some(number), work: 0, signalled };
        self.pair.post(&[write]).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A tick there, announced, and one back: half of the median time, in ns.
fn ping(devices: &[Arc<Device>; 2]) -> f64 {
    let [mut a, mut b] = Node::pair(devices);
    let (to_a, to_b) = (a.memory.remote(), b.memory.remote());
    a.pair.post_receives(WINDOW, 0).expect("room for receives");
    b.pair.post_receives(WINDOW, 0).expect("room for receives");
    let mut halves = Vec::with_capacity(PINGS);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..PINGS {
                let number = b.immediate();
                b.announce(number, to_a);
                b.pair.post_receives(1, 0).expect("room for a receive");
            }
        });
        for number in 0..PINGS as u32 {
            let sent = Instant::now();
            a.announce(number, to_b);
            assert_eq!(a.immediate(), number);
            halves.push(sent.elapsed().as_nanos() as f64 / 2.0);
            a.pair.post_receives(1, 0).expect("room for a receive");
        }
    });
    halves.sort_by(f64::total_cmp);
    halves[PINGS / 2]
}

/// Writes of so many bytes one behind another, in chains: ns a write.
fn stream(devices: &[Arc<Device>; 2], bytes: usize, writes: usize) -> f64 {
    let [mut a, b] = Node::pair(devices);
    let to = b.memory.remote();
    let chains = writes / WRITES_PER_POST_MAX;
    let (mut posted, mut done) = (0, 0);
    let started = Instant::now();
    while done < chains {
        if posted < chains && posted - done < WINDOW / WRITES_PER_POST_MAX {
            let chain: [Write<'_>; WRITES_PER_POST_MAX] = std::array::from_fn(|index| {
                let offset = index * bytes % MEMORY_BYTES;
                let source = Source::Memory { region: &a.memory, offset, bytes };
                let signalled = index + 1 == WRITES_PER_POST_MAX;
                Write { source, to, offset, immediate: None, work: 0, signalled }
            });
            a.pair.post(&chain).unwrap_or_else(|error| panic!("{error}"));
            posted += 1;
        }
        while a.poll().is_some() {
            done += 1;
        }
        assert!(started.elapsed() < PATIENCE, "{done} of {chains} chains were done");
    }
    started.elapsed().as_nanos() as f64 / (chains * WRITES_PER_POST_MAX) as f64
}

/// A number from perftest's line of results, by its column.
fn perftest(devices: &[Arc<Device>; 2], tool: &str, arguments: &[String], column: usize) -> f64 {
    let address = Ipv6Addr::from(devices[0].gid());
    let address = address.to_ipv4_mapped().map_or(address.to_string(), |address| address.to_string());
    let command = |device: &Device| {
        let mut command = Command::new(tool);
        command.args(["-F", "-p", PERFTEST_PORT, "-d", device.name()]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let spawn = |mut command: Command| -> Child {
        command.spawn().unwrap_or_else(|error| panic!("{tool}: {error}: apt-get install perftest"))
    };
    let mut server = spawn(command(&devices[0]));
    let started = Instant::now();
    // The server says nowhere that it listens.
    let client: Output = loop {
        let mut client = command(&devices[1]);
        client.arg(&address);
        let output = spawn(client).wait_with_output().expect("it ends");
        if output.status.success() || started.elapsed() > PATIENCE {
            break output;
        }
        if server.try_wait().expect("it is ours").is_some() {
            break output;
        }
    };
    if !client.status.success() {
        server.kill().ok();
    }
    let server = server.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&client.stdout);
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    let number = rows
        .filter(|row| row.len() > column && row.iter().all(|cell| cell.parse::<f64>().is_ok()))
        .find_map(|row| row[column].parse().ok());
    number.unwrap_or_else(|| {
        let errors =
            [&client.stderr, &server.stderr, &server.stdout].map(|text| String::from_utf8_lossy(text));
        panic!("{tool} gave no result: {text}{}", errors.join("\n"))
    })
}

pub fn run(rounds: usize) -> Vec<Line> {
    let names = std::env::var("RDMA_DEVICE").unwrap_or("rxe0,rxe1".to_owned());
    let names: Vec<&str> = names.split(',').collect();
    let open = |name: &str| Device::open(&DeviceConfig::new(name)).unwrap_or_else(|error| panic!("{error}"));
    let devices = &[open(names[0]), open(names[names.len() - 1])];
    let arguments = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<String>>();

    let latency = arguments(format!("-s {TICK_BYTES} -n {PINGS}"));
    let mut lines = vec![line(
        "RDMA: 64 B and an immediate, one way",
        "ib_write_lat, no immediate",
        rounds,
        || ping(devices),
        // t_typical, µs.
        || perftest(devices, "ib_write_lat", &latency, 4) * 1e3,
        None,
    )];
    for (what, bytes, writes) in [
        ("RDMA: a stream of 64 B, ns a write", TICK_BYTES, 16_000),
        ("RDMA: a stream of 64 KiB, ns a write", BLOCK_BYTES, 640),
    ] {
        let bandwidth = arguments(format!(
            "-s {bytes} -n {writes} -t {WINDOW} -l {WRITES_PER_POST_MAX} -Q {WRITES_PER_POST_MAX}"
        ));
        lines.push(line(
            what,
            "ib_write_bw",
            rounds,
            || stream(devices, bytes, writes),
            // Million messages a second.
            || 1e3 / perftest(devices, "ib_write_bw", &bandwidth, 4),
            None,
        ));
    }
    let pieces = rounds * PIECES_A_ROUND;
    lines.push(line(
        "RDMA link: published → in the standby's table",
        "64 B and an immediate, one way",
        pieces,
        || link::latency(devices, PINGS / 2),
        || ping(devices),
        Some(Goal::TimeAtMost(1.25)),
    ));
    lines.push(line(
        "RDMA link: published → acknowledged",
        "64 B and an immediate, there and back",
        pieces,
        || link::acknowledgement(devices, PINGS / 4),
        || 2.0 * ping(devices),
        None,
    ));
    lines.push(line(
        "RDMA link: a log that is behind, ns a tick",
        "a stream of 64 KiB",
        pieces,
        || link::bulk(devices, 2),
        || stream(devices, BLOCK_BYTES, 128) / (BLOCK_BYTES / TICK_BYTES) as f64,
        Some(Goal::RateAtLeast(0.9)),
    ));
    lines
}

fn line(
    what: &str,
    theirs: &str,
    rounds: usize,
    our_round: impl FnMut() -> f64,
    their_round: impl FnMut() -> f64,
    goal: Option<Goal>,
) -> Line {
    let samples = take_turns(rounds, vec![("ours", Box::new(our_round)), (theirs, Box::new(their_round))]);
    let [ours, theirs] = <[Sample; 2]>::try_from(samples).expect("two contenders");
    Line { what: what.to_owned(), theirs: Some((theirs.name.clone(), theirs.median_ns())), ours, goal }
}
