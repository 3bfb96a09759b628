//! GCRA against a plain model, with any limits, costs, times and changes; and under callers that contend.

use dataplane::quota::{Gcra, Limit, LimitError, NEVER_NS};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;

/// A limit in plain numbers.
#[derive(Clone, Copy, Debug)]
struct Plain {
    units: u64,
    period_ns: u64,
    burst: u64,
}

impl Plain {
    fn limit(self) -> Limit {
        Limit::new(self.units, self.period_ns, self.burst).unwrap()
    }

    /// Whether that many units may pass within `time_ns`: burst + rate · (t + 1 ns), without any rounding.
    fn allows(self, passed: u128, time_ns: u64) -> bool {
        let over = passed.saturating_sub(self.burst.into());
        over * u128::from(self.period_ns) <= u128::from(self.units) * (u128::from(time_ns) + 1)
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let units = prop_oneof![1..100u64, 1..1_000_000u64, 1..20_000_000_000u64];
    let period_ns = prop_oneof![Just(SECOND_NS), Just(60 * SECOND_NS)];
    let burst = prop_oneof![1..5u64, 1..100_000u64, 1..10_000_000_000u64];
    let plain =
        (units, period_ns, burst).prop_map(|(units, period_ns, burst)| Plain { units, period_ns, burst });
    plain.prop_filter("4.5 years", |plain| Limit::new(plain.units, plain.period_ns, plain.burst).is_ok())
}

/// How much later, and a cost, both in parts of what the limit is about.
fn steps() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let part = || prop_oneof![Just(0.0), 0.0..0.01f64, 0.0..0.3f64, 0.0..1.5f64];
    prop::collection::vec((part(), part()), 1..200)
}

/// A token bucket in units of 1 / (2^27 · period), so that nothing is rounded; it is never above what is true.
struct Bucket {
    /// What a unit takes, in 2^-27 ns, as a plain division gives it, rounded up as the limit says.
    step: u128,
    burst: u64,
    /// In 2^-27 ns.
    tokens: u128,
    at_ns: u64,
}

impl Bucket {
    fn new(Plain { units, period_ns, burst }: Plain) -> Bucket {
        let mut step = (u128::from(period_ns) << 27).div_ceil(units.into());
        if step >= 1 << 47 {
            step = step.div_ceil(1 << 27) << 27;
        }
        Bucket { step, burst, tokens: step * u128::from(burst), at_ns: 0 }
    }

    fn advance(&mut self, now_ns: u64) {
        let full = self.step * u128::from(self.burst);
        self.tokens = (self.tokens + (u128::from(now_ns - self.at_ns) << 27)).min(full);
        self.at_ns = now_ns;
    }

    fn needs(&self, cost: u64) -> u128 {
        self.step * u128::from(cost)
    }
}

proptest! {
    /// Never more than burst + rate · t in any window, and nothing refused that a bucket without rounding has, but for 1 ns a check.
    #[test]
    fn it_is_a_token_bucket(plain in plain(), steps in steps()) {
        let gcra = Gcra::new(plain.limit());
        let mut bucket = Bucket::new(plain);
        let earned_ns = (u128::from(plain.burst) * u128::from(plain.period_ns) / u128::from(plain.units)) as f64;
        let (mut now_ns, mut lost_ns) = (0u64, 0u128);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (later, part) in steps {
            now_ns = (now_ns + (later * earned_ns) as u64).min(1 << 58);
            let cost = (part * plain.burst as f64) as u64;
            bucket.advance(now_ns);
            match gcra.check(now_ns, cost) {
                Ok(()) => {
                    passed.push((now_ns, cost));
                    // The bucket, which has lost nothing, has it as well, to within the 1 ns that is promised.
                    prop_assert!(bucket.tokens + (1 << 27) >= bucket.needs(cost));
                    bucket.tokens = bucket.tokens.saturating_sub(bucket.needs(cost));
                    lost_ns += 1;
                }
                Err(NEVER_NS) => prop_assert!(cost > plain.burst),
                Err(wait_ns) => {
                    let lost = (lost_ns + 1) << 27;
                    prop_assert!(bucket.tokens < bucket.needs(cost) + lost, "refused what there was");
                    // What is told is true, and the shortest.
                    prop_assert_eq!(gcra.look_whole(now_ns + wait_ns, cost), Ok(()));
                    prop_assert_eq!(gcra.look_whole(now_ns + wait_ns - 1, cost), Err(1));
                }
            }
        }
        prop_assert_eq!(gcra.taken(), passed.iter().map(|(_, cost)| cost).sum::<u64>());
        for from in 0..passed.len() {
            let mut sum = 0u128;
            for (at_ns, cost) in &passed[from..] {
                sum += u128::from(*cost);
                prop_assert!(plain.allows(sum, at_ns - passed[from].0));
            }
        }
    }

    /// Any number is good for something, nothing overflows, and what passes is counted through any changes.
    #[test]
    fn no_number_breaks_it(
        units in any::<u64>(), period_ns in any::<u64>(), burst in any::<u64>(),
        calls in prop::collection::vec(
            (any::<u64>(), prop_oneof![0..20u64, any::<u64>()], any::<bool>()), 1..50,
        ),
        other in plain(),
    ) {
        let Ok(limit) = Limit::new(units, period_ns, burst) else { return Ok(()) };
        let gcra = Gcra::new(limit);
        let mut taken = 0u64;
        for (now_ns, cost, whole) in calls {
            let told = if whole { gcra.check_whole(now_ns, cost) } else { gcra.check(now_ns, cost) };
            prop_assert!(told != Err(0));
            taken = taken.wrapping_add(if told.is_ok() { cost } else { 0 });
            prop_assert_eq!(gcra.taken(), taken);
            prop_assert!(gcra.credit(now_ns) <= burst || gcra.limit().is_unlimited());
            gcra.set(if whole { other.limit() } else { limit }, now_ns);
            gcra.set(if cost % 3 == 0 { Limit::UNLIMITED } else { limit }, now_ns);
            prop_assert_eq!(gcra.taken(), taken);
        }
    }

    /// Units used stay used through a change of the rate, and units left stay left.
    #[test]
    fn a_change_of_the_rate_neither_loses_nor_invents(
        from in plain(), units in 1..10_000_000u64, part in 0.0..1.0f64, later in 0.0..2.0f64,
    ) {
        let to = Plain { units, ..from };
        prop_assume!(Limit::new(to.units, to.period_ns, to.burst + 10).is_ok());
        let gcra = Gcra::new(from.limit());
        gcra.check(0, (part * from.burst as f64) as u64).unwrap();
        let now_ns = (later * from.burst as f64 * from.period_ns as f64 / from.units as f64) as u64;
        let before = gcra.credit(now_ns);
        gcra.set(to.limit(), now_ns);
        let after = gcra.credit(now_ns);
        // A ns of either rate, rounded up.
        let bound = |plain: Plain| plain.units / plain.period_ns + 1;
        prop_assert!(after <= before && before - after <= bound(from).max(bound(to)), "{before} {after}");
        // Another burst gives or takes its difference, no more.
        let larger = Plain { burst: from.burst + 10, ..to };
        gcra.set(larger.limit(), now_ns);
        let grown = gcra.credit(now_ns);
        // Below nothing there is a debt that is not seen.
        prop_assert!(grown == after + 10 || (after == 0 && grown < 10), "{after} {grown}");
    }
}

proptest! {
    /// What a delivery took that did not pass after all, whatever others take between.
    #[test]
    fn what_is_given_back_was_never_taken(plain in plain(), costs in prop::collection::vec((0..40u64, 0..40u64), 1..50)) {
        let (gcra, other) = (Gcra::new(plain.limit()), Gcra::new(plain.limit()));
        let mut now_ns = 7 * SECOND_NS;
        for (kept, given_back) in costs {
            now_ns += 11 * u64::from(given_back % 3 == 0);
            if gcra.check_whole(now_ns, given_back).is_ok() {
                gcra.give_back(given_back);
            }
            prop_assert_eq!(gcra.check(now_ns, kept), other.check(now_ns, kept));
            prop_assert_eq!(gcra.credit(now_ns), other.credit(now_ns));
            prop_assert_eq!(gcra.taken(), other.taken());
        }
        let unlimited = Gcra::default();
        unlimited.check_whole(0, 9).unwrap();
        unlimited.give_back(9);
        prop_assert_eq!(unlimited.taken(), 0);
    }
}

#[test]
fn at_time_zero_the_whole_burst_is_there_unit_by_unit() {
    for (units, period_ns) in
        [(7, SECOND_NS), (1_000, 60 * SECOND_NS), (1_000, SECOND_NS), (1_000_000_000, SECOND_NS)]
    {
        let gcra = Gcra::new(Limit::new(units, period_ns, 50).unwrap());
        let passed = (0..100).filter(|_| gcra.check(0, 1).is_ok()).count();
        assert_eq!(passed, 50, "{units} in {period_ns} ns");
    }
}

#[test]
fn a_clock_that_goes_back_earns_nothing_until_it_is_where_it_was() {
    let gcra = Gcra::new(Limit::new(1, SECOND_NS, 2).unwrap());
    assert_eq!(gcra.check(100 * SECOND_NS, 2), Ok(()));
    for now_ns in [0, 50 * SECOND_NS, 100 * SECOND_NS] {
        assert_eq!(gcra.check(now_ns, 1), Err(101 * SECOND_NS - now_ns));
    }
    assert_eq!(gcra.check(101 * SECOND_NS, 1), Ok(()));
    assert_eq!(gcra.check(101 * SECOND_NS, 1), Err(SECOND_NS));
}

#[test]
fn a_cost_above_the_burst_passes_when_all_is_there_and_is_paid_for_after() {
    let gcra = Gcra::new(Limit::new(10, SECOND_NS, 10).unwrap());
    assert_eq!(gcra.check(0, 11), Err(NEVER_NS));
    assert_eq!(gcra.check_whole(0, 40), Ok(()));
    assert_eq!(gcra.credit(0), 0);
    // 40 taken, 10 are the burst: 30 are owed, so one passes when 31 were earned.
    assert_eq!(gcra.check(0, 1), Err(31 * SECOND_NS / 10));
    assert_eq!(gcra.look_whole(0, 40), Err(4 * SECOND_NS));
    assert_eq!(gcra.check_whole(4 * SECOND_NS, 40), Ok(()));
}

#[test]
fn without_a_limit_all_passes_and_nothing_is_to_be_earned() {
    let gcra = Gcra::new(Limit::UNLIMITED);
    for now_ns in [u64::MAX, 0, 5] {
        assert_eq!(gcra.check(now_ns, u64::MAX), Ok(()));
        assert_eq!((gcra.look_whole(now_ns, u64::MAX), gcra.credit(now_ns)), (Ok(()), u64::MAX));
    }
    gcra.set(Limit::new(1, SECOND_NS, 3).unwrap(), 5);
    assert_eq!((gcra.credit(5), gcra.check(5, 3)), (3, Ok(())));
    assert_eq!(gcra.check(5, 1), Err(SECOND_NS));
    assert_eq!(gcra.taken(), 0, "three times u64::MAX, and 3, modulo 2^64");
}

#[test]
fn limits_that_can_not_be_are_told_why() {
    assert_eq!(Limit::new(0, SECOND_NS, 1), Err(LimitError::Nothing));
    assert_eq!(Limit::new(1, SECOND_NS, 0), Err(LimitError::Nothing));
    assert_eq!(Limit::new(1, 69 * SECOND_NS, 1), Err(LimitError::TooSlow));
    assert_eq!(Limit::new(1, SECOND_NS, u64::MAX), Err(LimitError::BurstTooLong));
    assert!(Limit::new(u64::MAX, 1, u64::MAX).is_ok());
}

/// The state changes hands between threads; the time is one that all of them push forward.
#[test]
fn callers_that_contend_get_no_more_than_one_would() {
    let plain = Plain { units: 1_000, period_ns: SECOND_NS, burst: 1_000 };
    let (gcra, clock_ns) = (Gcra::new(plain.limit()), AtomicU64::new(0));
    let passed: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let caller = |number: u64| {
            let (gcra, clock_ns) = (&gcra, &clock_ns);
            move || {
                let mut passed = Vec::new();
                for call in 0..100_000 {
                    let cost = 1 + (call + number) % 3;
                    let now_ns = clock_ns.fetch_add(200_000, Ordering::Relaxed);
                    if gcra.check(now_ns, cost).is_ok() {
                        passed.push((now_ns, cost));
                    }
                }
                passed
            }
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(caller(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let end_ns = clock_ns.load(Ordering::Relaxed);
    let sum: u128 = passed.iter().map(|(_, cost)| u128::from(*cost)).sum();
    assert_eq!(u128::from(gcra.taken()), sum);
    assert!(plain.allows(sum, end_ns), "{sum} in {end_ns} ns");
    // 400,000 calls ask for ten times what there is.
    assert!(sum * 10 >= 9 * u128::from(end_ns / 1_000_000), "{sum} in {end_ns} ns");
}

/// Every unit that passes while the burst is changed to and fro is one of the larger burst's.
#[test]
fn changes_among_callers_invent_nothing() {
    let limit = |burst| Limit::new(1, 60 * SECOND_NS, burst).unwrap();
    let gcra = Gcra::new(limit(5_000));
    let passed: usize = std::thread::scope(|scope| {
        let caller = || (0..20_000).filter(|_| gcra.check(0, 1).is_ok()).count();
        let threads = [scope.spawn(caller), scope.spawn(caller)];
        (0..2_000).for_each(|change| gcra.set(limit(5_000 - change % 2), 0));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    gcra.set(limit(5_000), 0);
    let left = gcra.credit(0) as usize;
    assert_eq!((passed + left, gcra.taken() as usize), (5_000, passed));
}
