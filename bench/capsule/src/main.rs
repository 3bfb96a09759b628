//! One round of capsule 0.1.5 receiving and counting on a virtual device, by its executor or by a plain loop over its port:
//! prints ns a frame. A process of its own, since DPDK starts once.

use capsule::batch::{Batch, PacketRx, Pipeline, Poll};
use capsule::config::RuntimeConfig;
use capsule::{PortQueue, Runtime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const USAGE: &str = "\
One round of capsule receiving: what `bench --capsule` starts.

  bench-capsule executor|loop CORE DEVICE MBUFS SECONDS

Example:
  bench-capsule executor 1 net_null0,size=64,copy=0 16384 2";
/// As DPDK's own applications have it; capsule's default is none, which is slower.
const CACHED_MBUFS: u32 = 256;
const PORT: &str = "port";
/// How often the executor's frames are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, core, device, mbufs, seconds] = &arguments[..] else { usage() };
    let (Ok(core), Ok(mbufs), Ok(seconds)) = (core.parse(), mbufs.parse(), seconds.parse()) else { usage() };
    let other_core = usize::from(core == 0);
    let ns_per_frame = match mode.as_str() {
        // Each where it is faster: the main core's executor asks the kernel for events in every round, but only its thread
        // has a cache of packet buffers. The first look at the executor is no measurement yet.
        "executor" => by_executor(start(other_core, core, device, mbufs, seconds + 2), core),
        // The loop is over when the executor sees that its time is.
        "loop" => by_loop(start(core, core, device, mbufs, 1), Duration::from_secs(seconds)),
        _ => usage(),
    };
    println!("{ns_per_frame}");
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(1);
}

/// `main_core` is that of the thread that calls this; on another one capsule starts a thread of its own.
fn start(main_core: usize, core: usize, device: &str, mbufs: u32, seconds: u64) -> Runtime {
    let (device, args) = device.split_once(',').unwrap_or((device, ""));
    let config = format!(
        r#"
        app_name = "bench"
        master_core = {main_core}
        duration = {seconds}
        dpdk_args = "--in-memory --no-pci --no-telemetry --log-level=error"
        [mempool]
        capacity = {mbufs}
        cache_size = {CACHED_MBUFS}
        [[ports]]
        name = "{PORT}"
        device = "{device}"
        args = "{args}"
        cores = [{core}]
        "#
    );
    let config: RuntimeConfig = toml::from_str(&config).unwrap_or_else(|error| panic!("{error}"));
    Runtime::build(config).unwrap_or_else(|error| panic!("capsule: {error}: are huge pages free?"))
}

/// A pipeline that counts and drops: dropped packets it gives back together.
fn pipeline(queue: PortQueue, frames: Arc<AtomicU64>) -> impl Pipeline {
    let count = move |_: &capsule::Mbuf| {
        // One thread counts, so nothing has to be locked.
        frames.store(frames.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        false
    };
    Poll::new(queue.clone()).filter(count).send(queue)
}

fn by_executor(mut runtime: Runtime, core: usize) -> f64 {
    let frames = Arc::new(AtomicU64::new(0));
    let looks = Arc::new(Mutex::new(Vec::new()));
    let (counted, seen, looked) = (frames.clone(), frames, looks.clone());
    let look = move || {
        looked.lock().expect("nobody panics").push((Instant::now(), seen.load(Ordering::Relaxed)));
    };
    runtime
        .add_pipeline_to_port(PORT, move |queue| pipeline(queue, counted.clone()))
        .and_then(|runtime| runtime.add_periodic_task_to_core(core, look, LOOK_INTERVAL))
        .and_then(Runtime::execute)
        .unwrap_or_else(|error| panic!("capsule: {error}"));
    let looks = looks.lock().expect("nobody panics");
    let [(first, before), .., (last, after)] = looks[..] else { panic!("{} looks", looks.len()) };
    (last - first).as_nanos() as f64 / (after - before) as f64
}

/// A port is to be had on its core only, from within the executor, which then waits for the loop.
fn by_loop(mut runtime: Runtime, duration: Duration) -> f64 {
    let result = Arc::new(Mutex::new(None));
    let measured = result.clone();
    let measure = move |mut queue: PortQueue| {
        let (mut frames, started) = (0, Instant::now());
        while started.elapsed() < duration {
            for _ in 0..10_000 {
                frames += PacketRx::receive(&mut queue).len();
            }
        }
        *measured.lock().expect("nobody panics") = Some(started.elapsed().as_nanos() as f64 / frames as f64);
        pipeline(queue, Arc::default())
    };
    runtime
        .add_pipeline_to_port(PORT, measure)
        .and_then(Runtime::execute)
        .unwrap_or_else(|error| panic!("capsule: {error}"));
    result.lock().expect("nobody panics").expect("it was measured")
}
