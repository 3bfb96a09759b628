//! What `tickplane top` costs the worker: the ITCH path flat out on one core, while the other one serves its region as the
//! appliance does, and has a top on a terminal, or none, or one that looks at another node.

use crate::flow::Flow;
use crate::path::{INSTRUMENTS, ORDERS, Run, core_time, itch50, prepare, region};
use crate::report::{Goal, Line};
use crate::sample::{Sample, take_turns};
use control::client::{ServerArgs, block_on};
use control::config::Config;
use control::runner::GroupAccess;
use control::runner::{ServedCache, serve_cache};
use control::settings::Settings;
use control::top::{self, TopArgs};
use control::{server, stop};
use dataplane::cache::reader::Reader;
use dataplane::sim::memory_port::MemoryPort;
use drivers::cpu::pin_to_core;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// As the appliance would be configured that has this feed.
pub const CONFIG: &str = r#"
node = "bench"
[grpc]
listen = "127.0.0.1:0"
[[ports]]
name = "a"
kind = "udp"
interface = "lo"
[[feeds]]
name = "itch"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.1:26477"
"#;
/// What the other node takes in between two pictures, in bursts of 640 messages: nearly every instrument changes.
const OTHER_BURSTS: usize = 32;
const PICTURE_INTERVAL: Duration = Duration::from_millis(100);
/// A run lasts for some of top's pictures.
const LONGER: u64 = 10;
/// How long a top has to have every instrument's image, and its first second of rates.
const SETTLED: Duration = Duration::from_secs(2);

/// Top itself, until `q` is pressed: what [`AttachedTop`] starts.
pub fn top_once() {
    let server = std::env::var("TICKPLANE_SERVER").expect("whoever starts it names the node");
    let server = ServerArgs::at(server);
    let args = TopArgs { filter: "*".to_owned(), once: false, size: (120, 40), server };
    block_on(top::run(&args, &AtomicBool::new(false))).unwrap_or_else(|error| panic!("{error}"));
}

/// A top on a terminal of 120 by 40, whose every picture is read.
struct AttachedTop {
    keyboard: std::process::ChildStdin,
    /// Bytes that the terminal was sent.
    shown: Arc<AtomicU64>,
    screen: JoinHandle<()>,
}

impl AttachedTop {
    /// On `core`, which the terminal and top inherit of the thread that starts them. It has shown rows by then.
    fn start(server: String, core: usize) -> AttachedTop {
        let (started_sender, started) = mpsc::channel();
        let shown = Arc::new(AtomicU64::new(0));
        let counter = shown.clone();
        let screen = std::thread::spawn(move || {
            pin_to_core(core).unwrap_or_else(|error| panic!("{error}"));
            let top = std::env::current_exe().expect("this program has a path");
            // util-linux's `script` gives it the terminal.
            let mut process = Command::new("script")
                .args(["-qec", "stty cols 120 rows 40 && exec \"$TOP\" top-once", "/dev/null"])
                .envs([("SHELL", "/bin/sh"), ("TERM", "xterm-256color"), ("TICKPLANE_SERVER", &server)])
                .env("TOP", top)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("`script` is installed (Debian: apt-get install bsdutils)");
            let keyboard = process.stdin.take().expect("it is piped");
            let mut pictures = process.stdout.take().expect("it is piped");
            let (mut text, mut bytes) = (Some((String::new(), keyboard)), [0; 1 << 16]);
            while let Ok(count @ 1..) = pictures.read(&mut bytes) {
                counter.fetch_add(count as u64, Ordering::Relaxed);
                if let Some((seen, _)) = &mut text {
                    seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
                if let Some((_, keyboard)) = text.take_if(|(seen, _)| seen.contains("live")) {
                    started_sender.send(keyboard).expect("it is waited for");
                }
            }
            assert!(process.wait().is_ok_and(|status| status.success()), "{:?}", text.map(|(seen, _)| seen));
        });
        let keyboard = started.recv().expect("top shows rows that are live");
        std::thread::sleep(SETTLED);
        AttachedTop { keyboard, shown, screen }
    }

    fn end(mut self) {
        self.keyboard.write_all(b"q").expect("top reads its keys");
        self.screen.join().expect("top ends well");
    }
}

/// Serves the cache, tells its address, and goes on until `end`.
pub fn serve(config: &str, cache: ServedCache, address: &mpsc::Sender<String>, end: &AtomicBool) {
    let config =
        Config::parse(Path::new("the bench's own"), config).unwrap_or_else(|error| panic!("{error}"));
    let runtime = server::runtime(&config).expect("a runtime");
    runtime.block_on(async {
        let listeners = server::bind(&config).await.unwrap_or_else(|error| panic!("{error}"));
        address.send(format!("http://{}", listeners.grpc_address())).expect("it is waited for");
        let settings = Settings::new(Arc::new(config), None);
        let served = serve_cache(settings, listeners, cache, stop::requested(end));
        served.await.unwrap_or_else(|error| panic!("{error}"));
    });
}

/// Where a top is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Top {
    Nowhere,
    Here,
    /// At another node, of as many instruments.
    Elsewhere,
}

/// What every node takes in.
struct Feed {
    opening: MemoryPort,
    flow: MemoryPort,
    messages: u64,
}

impl Feed {
    fn new(messages: u64) -> Feed {
        let mut flow = Flow::new(INSTRUMENTS, ORDERS);
        Feed { opening: flow.opening(), flow: flow.port(messages, 10), messages }
    }

    /// A worker before its flow, and its cache for those who serve it.
    fn node(&self) -> (Run<'static>, ServedCache) {
        let mut mapping = region();
        let region_bytes = mapping.mapped_bytes();
        // Those who serve it want it for good.
        let cells = mapping.leak();
        let run = prepare(cells, self.opening.clone(), self.flow.clone(), self.messages, itch50());
        let reader = Reader::open(cells).expect("it is laid out");
        let (telemetry, group) = (run.telemetry(), GroupAccess::default());
        let cache = ServedCache { reader, telemetry, region_bytes, group };
        (run, cache)
    }
}

/// The other node's worker, which takes as much as there is to be seen in a picture.
fn work_elsewhere(mut run: Run<'_>, core: usize, end: &AtomicBool) {
    pin_to_core(core).unwrap_or_else(|error| panic!("{error}"));
    while !end.load(Ordering::Relaxed) {
        run.work(OTHER_BURSTS);
        std::thread::sleep(PICTURE_INTERVAL);
    }
}

/// ns of its core that a message takes a worker whose region is served on the other core.
fn served_run(feed: &Feed, core: usize, attached: Top) -> f64 {
    let (run, cache) = feed.node();
    let elsewhere = (attached == Top::Elsewhere).then(|| feed.node());
    let (other_core, end) = (usize::from(core == 0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let end = &end;
        let serve = |cache| {
            let (sender, address) = mpsc::channel();
            scope.spawn(move || {
                pin_to_core(other_core).unwrap_or_else(|error| panic!("{error}"));
                self::serve(CONFIG, cache, &sender, end);
            });
            address.recv().expect("it is served")
        };
        let mut address = serve(cache);
        if let Some((run, cache)) = elsewhere {
            address = serve(cache);
            scope.spawn(move || work_elsewhere(run, other_core, end));
        }
        let top = (attached != Top::Nowhere).then(|| AttachedTop::start(address, other_core));
        let shown = || top.as_ref().map_or(0, |top| top.shown.load(Ordering::Relaxed));
        let before = shown();
        let ns = core_time(run);
        assert!(attached == Top::Nowhere || shown() > before, "top shows nothing of it");
        if let Some(top) = top {
            top.end();
        }
        end.store(true, Ordering::Relaxed);
        ns
    })
}

pub fn run(rounds: usize, messages: u64, core: usize) -> Vec<Line> {
    let feed = &Feed::new(messages * LONGER);
    let contender = |top| Box::new(move || served_run(feed, core, top));
    let samples = take_turns(
        rounds,
        vec![
            ("top attached", contender(Top::Here)),
            ("the same without", contender(Top::Nowhere)),
            ("beside a top of another node", contender(Top::Elsewhere)),
        ],
    );
    let [here, without, elsewhere] = <[Sample; 3]>::try_from(samples).expect("three contenders");
    let line = |what: &str, ours: &Sample, theirs: &Sample, goal| Line {
        what: what.to_owned(),
        ours: ours.clone(),
        theirs: Some((theirs.name.clone(), theirs.median_ns())),
        goal,
    };
    let here_what = "worker, its region served, top attached";
    vec![
        line(here_what, &here, &without, Some(Goal::TimeAtMost(1.01))),
        line(here_what, &here, &elsewhere, Some(Goal::TimeAtMost(1.01))),
        // What two busy cores of this machine cost each other, whatever they do.
        line("the same beside a top of another node", &elsewhere, &without, None),
    ]
}
