//! The worker's loop once it is made: it allocates nothing, and calls the kernel for nothing.

use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::feed::{ArbiterConfig, Protocol};
use dataplane::port::Medium;
use dataplane::sim::exchange::{Config, Exchange};
use dataplane::sim::mdp3::{self, Channel};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::sim::packetizer::{IexTpPacketizer, Moldudp64Packetizer};
use dataplane::sim::tops::TopsMarket;
use dataplane::wire::moldudp64::Header;
use dataplane::wire::record::{Record, Trade};
use dataplane::worker::{FeedSetup, LineSetup, PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::cpu::Cpu;
use drivers::region::RegionMapping;
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::IntoBytes;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: it counts, and leaves everything else to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(memory) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, memory) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, memory: Memory, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, memory, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LINES: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 1), SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 2), 1)];
const CHANNEL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 3), 1);
const TOPS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 4), 1);
const RECORDS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 5), 1);
const LAYOUT: Layout = Layout { instruments: 4_096, feeds: 4, log_ticks: 1 << 14, bursts: 1 << 8 };

/// Two lines with losses of their own and in common, joined late at first, then a second session.
fn ports() -> [MemoryPort; 2] {
    let mut ports = LINES.map(|_| MemoryPort::new(Medium::Udp));
    for (seed, session) in [(1, "SESSION001"), (2, "SESSION002")] {
        let mut exchange = Exchange::new(Config { seed, instruments: 300, ..Config::default() });
        let mut packetizer = Moldudp64Packetizer::new(session, 1_400);
        let mut packet = Vec::new();
        for number in 0..20_000 {
            packetizer.fill(&mut exchange, 5, &mut packet);
            for (line, port) in ports.iter_mut().enumerate() {
                let lost = number % 97 == 13 * line || number % 1_009 == 500 || (seed == 1 && number < 2_000);
                if !lost {
                    port.push_udp(&packet, Ipv4Addr::LOCALHOST, LINES[line], 0);
                }
            }
        }
    }
    ports
}

/// A channel of MDP 3.0 by one line, with losses and resets.
fn channel(port: &mut MemoryPort) {
    let mut channel = Channel::new(mdp3::Config { instruments: 300, ..mdp3::Config::default() });
    let mut packet = Vec::new();
    for number in 0..20_000 {
        channel.next_packet(&mut packet);
        if number % 997 != 500 {
            port.push_udp(&packet, Ipv4Addr::LOCALHOST, CHANNEL, 0);
        }
    }
}

/// TOPS by one line, with losses, then a second session.
fn tops(port: &mut MemoryPort) {
    let (mut messages, mut packet) = (vec![Vec::new(); 5], Vec::new());
    for session in [1, 2] {
        let mut market = TopsMarket::new(session.into(), 300);
        let mut packetizer = IexTpPacketizer::new(session, 1_400);
        for number in 0..2_000 {
            messages.iter_mut().for_each(|message| _ = market.next_message(message));
            packetizer.fill(&messages, 0, &mut packet);
            if number % 97 != 50 {
                port.push_udp(&packet, Ipv4Addr::LOCALHOST, TOPS, 0);
            }
        }
    }
}

/// Records by one line, some of them of names that are new.
fn records(port: &mut MemoryPort) {
    for sequence in 1..2_000_u64 {
        let trade = Trade { price: 1.into(), size: sequence.into(), trade_id: sequence.into() };
        let record = Record::trade(&format!("counter {}", sequence % 50), 1, &trade).unwrap();
        let header = Header { session: [b'R'; 10], sequence: sequence.into(), message_count: 1.into() };
        let packet = [header.as_bytes(), &[0, size_of::<Record>() as u8], record.as_bytes()].concat();
        port.push_udp(&packet, Ipv4Addr::LOCALHOST, RECORDS, 0);
    }
}

type TestWorker<'m> = Worker<'m, MemoryPort, SystemClock, Cpu>;

fn worker(mapping: &RegionMapping) -> TestWorker<'_> {
    let writer = Writer::format(mapping.cells(), LAYOUT, 1).unwrap();
    let mut others = MemoryPort::new(Medium::Udp);
    [channel, tops, records].iter().for_each(|push| push(&mut others));
    let ports = ports().into_iter().chain([others]);
    let ports = ports.map(|port| PortSetup { port, host: None, vlan: None }).collect();
    let lines = [0, 1].map(|port| LineSetup { port, destination: LINES[port], source: None }).into();
    let itch50 = FeedSetup {
        arbiter: ArbiterConfig::default(),
        lines,
        protocol: Protocol::Itch50 { orders_max: 100_000, midnight: Box::new(|_| 1_704_171_600_000_000_000) },
    };
    let other = |destination, protocol| FeedSetup {
        arbiter: ArbiterConfig::default(),
        lines: vec![LineSetup { port: 2, destination, source: None }],
        protocol,
    };
    let mdp3 = other(CHANNEL, Protocol::Mdp3 { instruments_max: 1_000 });
    let tops16 = other(TOPS, Protocol::Tops16 { symbols_max: 400 });
    let records = other(RECORDS, Protocol::Records { instruments_max: LAYOUT.instruments as usize });
    Worker::new(ports, vec![itch50, mdp3, tops16, records], writer, SystemClock, 1_000_000_000).unwrap()
}

fn run_out(worker: &mut TestWorker<'_>) -> usize {
    let mut frames = 0;
    loop {
        match worker.do_work() {
            0 => return frames,
            some => frames += some,
        }
    }
}

/// From here on any other system call kills this process. (The strict mode of seccomp would forbid reading the processor's
/// clock, too.)
fn allow_only_exit() {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut program = [
        // The call's number is the first word of what the filter sees.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_exit as u32,
        },
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW),
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is as long as told, and read during the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    assert_eq!(result, 0);
}

/// One test: the counter is the process's.
#[test]
fn the_loop_allocates_nothing_and_makes_no_system_call() {
    let mapping = RegionMapping::create_anonymous("hot-path", LAYOUT.cells()).unwrap();
    let mut first = worker(&mapping);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let frames = run_out(&mut first);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in {frames} frames");
    let feed = &first.telemetry().feeds[0];
    let seen = [
        &feed.lines.gaps,
        &feed.lines.held,
        &feed.lines.late_starts,
        &feed.decoder.quotes,
        &feed.decoder.definitions,
    ];
    assert!(frames > 50_000 && seen.iter().all(|counter| counter.get() > 0), "{frames}: {feed:?}");
    assert_eq!(feed.lines.sessions.get(), 2);
    let channel = &first.telemetry().feeds[1];
    let decoder = &channel.decoder;
    let seen =
        [&decoder.quotes, &decoder.trades, &decoder.statuses, &decoder.channel_resets, &decoder.report_gaps];
    assert!(channel.lines.gaps.get() > 0 && seen.iter().all(|counter| counter.get() > 0), "{channel:?}");
    let [tops16, records] = [2, 3].map(|index| &first.telemetry().feeds[index]);
    let decoder = &tops16.decoder;
    let seen = [&decoder.quotes, &decoder.trades, &decoder.statuses, &tops16.lines.gaps];
    assert!(seen.iter().all(|counter| counter.get() > 0), "{tops16:?}");
    assert_eq!(tops16.lines.sessions.get(), 2);
    assert_eq!((records.decoder.trades.get(), records.decoder.definitions.get()), (1_999, 50));

    let mapping = RegionMapping::create_anonymous("hot-path", LAYOUT.cells()).unwrap();
    let mut second = worker(&mapping);
    // The clock's page is there from the first look on.
    second.do_work();
    // SAFETY: the child has this thread alone; it touches its copy of the worker, and ends without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        allow_only_exit();
        let frames = run_out(&mut second);
        let status = if frames > 50_000 { 0 } else { 1 };
        // SAFETY: `exit` (not `exit_group`) is one of the calls that are left.
        unsafe { libc::syscall(libc::SYS_exit, status) };
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: our own child, and a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "killed by signal {}: it made a system call", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "it saw its frames");
}
