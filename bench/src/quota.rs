//! One check of a client's quota, for a random one of 10,000, against governor's keyed limiter with the same rates: its sharded store
//! (dashmap), with our hasher, keyed by a number and by the client's name. Both read the time as one load of an atomic, so no clock is
//! measured; ours also counts the call.
//!
//! Ours is in hand, as it is in the node: who calls was looked up before, by token or certificate, and the client that was found holds
//! its quota. A limiter for keys has to look its key up, whatever authentication has found: that is its way to be used by many
//! clients, and what it takes.

use crate::report::{Goal, Line};
use crate::sample::{Contender, Sample, take_turns};
use control::access::Role;
use control::quota::{ClientQuota, Limits, Quotas, RoleLimits};
use drivers::cpu::pin_to_core;
use foldhash::quality::RandomState;
use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const CLIENTS: usize = 10_000;
const CALLS_PER_MIN: u32 = 60_000;
/// Half of what the clients may do.
const CALL_NS: u64 = 200;
/// Calls between two steps of the time.
const STEP: usize = 64;
const GOAL: Goal = Goal::TimeAtMost(0.5);

/// The time, as whoever runs the bench sets it.
#[derive(Clone, Debug, Default)]
struct SetTime(Arc<AtomicU64>);

impl SetTime {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for SetTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.now_ns().into()
    }
}

type Keyed<K> =
    RateLimiter<K, DashMapStateStore<K, RandomState>, SetTime, governor::middleware::NoOpMiddleware<Nanos>>;

struct Contest {
    time: SetTime,
    names: Vec<String>,
    /// Whom each call is of.
    order: Vec<u32>,
    clients: Vec<Arc<ClientQuota>>,
    by_index: Keyed<u32>,
    by_name: Keyed<String>,
}

impl Contest {
    fn new(calls: usize) -> Contest {
        let time = SetTime::default();
        let burst_ms = 1_000;
        let limits = Limits { requests_per_min: Some(CALLS_PER_MIN.into()), burst_ms, ..Limits::default() };
        let quotas = Quotas::new(RoleLimits { reader: limits, ..RoleLimits::default() });
        let names: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
        let clients: Vec<_> = names.iter().map(|name| quotas.of(name, Role::Reader)).collect();
        let a_second = NonZeroU32::new(CALLS_PER_MIN / 60).expect("constant");
        let quota = Quota::per_second(a_second);
        let by_index =
            RateLimiter::dashmap_with_clock_and_hasher(quota, time.clone(), RandomState::default());
        let by_name = RateLimiter::dashmap_with_clock_and_hasher(quota, time.clone(), RandomState::default());
        for (index, name) in (0..).zip(&names) {
            assert!(by_index.check_key(&index).is_ok() && by_name.check_key(name).is_ok());
        }
        let order = (0..calls as u64).map(|call| {
            let mixed = (call + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) % CLIENTS as u64) as u32
        });
        Contest { order: order.collect(), time, names, clients, by_index, by_name }
    }

    /// ns a call; with a second core, two threads do the same calls at once, and it is what a call takes in one of them.
    fn timed(&self, cores: &[usize], call: impl Fn(usize) -> bool + Sync) -> f64 {
        let one = |thread: usize| {
            let mut passed = 0;
            for calls in self.order.chunks(STEP) {
                passed += calls.iter().filter(|index| call(**index as usize)).count();
                if thread == 0 {
                    let step_ns = STEP as u64 * CALL_NS * cores.len() as u64;
                    self.time.0.store(self.time.now_ns() + step_ns, Ordering::Relaxed);
                }
            }
            passed
        };
        let started = Instant::now();
        let passed: usize = match cores {
            [_] => one(0),
            _ => std::thread::scope(|scope| {
                let pinned = |(thread, core): (usize, &usize)| {
                    let core = *core;
                    scope.spawn(move || {
                        pin_to_core(core).unwrap_or_else(|error| panic!("{error}"));
                        one(thread)
                    })
                };
                let threads: Vec<_> = cores.iter().enumerate().map(pinned).collect();
                threads.into_iter().map(|thread| thread.join().expect("it ends well")).sum()
            }),
        };
        let elapsed_ns = started.elapsed().as_nanos() as f64;
        let calls = self.order.len();
        // Whoever lags behind the thread that sets the time may be refused a few.
        assert!(passed >= calls * cores.len() * 9 / 10, "{passed} of {calls} on {} cores", cores.len());
        elapsed_ns / calls as f64
    }
}

pub fn run(rounds: usize, calls: usize, core: usize) -> Vec<Line> {
    let contest = &Contest::new(calls);
    let other = if core == 0 { 1 } else { 0 };
    let mut lines = Vec::new();
    for (cores, how) in [(vec![core], "one thread"), (vec![core, other], "two threads at once")] {
        let cores = &cores;
        let contenders: Vec<Contender<'_>> = vec![
            (
                "in hand",
                Box::new(move || {
                    contest.timed(cores, |index| {
                        contest.clients[index].charge_request(contest.time.now_ns()).is_ok()
                    })
                }),
            ),
            (
                "governor by index",
                Box::new(move || {
                    contest.timed(cores, |index| contest.by_index.check_key(&(index as u32)).is_ok())
                }),
            ),
            (
                "governor by name",
                Box::new(move || {
                    contest.timed(cores, |index| contest.by_name.check_key(&contest.names[index]).is_ok())
                }),
            ),
        ];
        let [ours, by_index, by_name] =
            <[Sample; 3]>::try_from(take_turns(rounds, contenders)).expect("three contenders");
        for theirs in [by_index, by_name] {
            lines.push(Line {
                what: format!("quota, 10,000 clients, {how}"),
                ours: ours.clone(),
                theirs: Some((format!("{} 0.10", theirs.name), theirs.median_ns())),
                goal: Some(GOAL),
            });
        }
    }
    lines
}
