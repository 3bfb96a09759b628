//! The generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371, annex A; ATM Forum TM 4.0, 4.4.3), with costs.
//!
//! The state is one word: the theoretical arrival time (TAT), at which all that was taken would have been earned at the rate. What lies
//! between now and the TAT is the *backlog*. A unit is earned in T; a cost passes if the backlog is at most (burst − cost) · T,
//! and puts the TAT forward by cost · T. Nothing is ever filled up: time alone gives credit.

use crate::sync::{AtomicU64, Ordering};

/// Parts of a ns in which T is kept: 2^-27.
const STEP_BITS: u32 = 27;
/// From here on T is whole ns, so that a burst can be taken unit by unit without a loss: 2^20 ns, 953 units a second.
const WHOLE_STEP: u128 = 1 << (20 + STEP_BITS);
/// The longest T.
const STEP_MAX: u128 = 1 << 63;
/// What a burst takes to earn, and what may be owed, at most: 4.5 years.
const BACKLOG_NS_MAX: u64 = 1 << 57;
/// The end of time: 18 years. The TAT is at most two backlogs later, and fits 60 bits.
const TIME_NS_MAX: u64 = 1 << 59;

/// The state's lowest bit: which slot holds the limit.
const SLOT: u64 = 1;
/// The bits above: what was taken, modulo 8.
const COUNT_SHIFT: u32 = 1;
const COUNT_MAX: u64 = 7;
/// The rest: the TAT.
const TAT_SHIFT: u32 = 4;

/// To be waited before a cost above the burst passes.
pub const NEVER_NS: u64 = u64::MAX;

/// What may be taken: so many units a time, and so many at once.
///
/// T is rounded up: the rate is less than what was asked for by at most a part in 2^20 up to 10^8 units a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// T in 2^-27 ns; 0 = everything passes.
    step: u64,
    /// In units.
    burst: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("a limit of nothing: give 1 or more")]
    Nothing,
    #[error("a unit would take longer than 68 s to earn: give more units, or a shorter time")]
    TooSlow,
    #[error("the burst would take longer than 4 years to earn: give a smaller one")]
    BurstTooLong,
}

impl Limit {
    pub const UNLIMITED: Limit = Limit { step: 0, burst: 0 };

    /// `units` every `period_ns`, and `burst` units at once.
    pub fn new(units: u64, period_ns: u64, burst: u64) -> Result<Limit, LimitError> {
        if units == 0 || period_ns == 0 || burst == 0 {
            return Err(LimitError::Nothing);
        }
        let mut step = (u128::from(period_ns) << STEP_BITS).div_ceil(u128::from(units));
        if step >= WHOLE_STEP {
            step = step.next_multiple_of(1 << STEP_BITS);
        }
        if step > STEP_MAX {
            return Err(LimitError::TooSlow);
        }
        if (u128::from(burst) * step) >> STEP_BITS > u128::from(BACKLOG_NS_MAX) {
            return Err(LimitError::BurstTooLong);
        }
        Ok(Limit { step: step as u64, burst })
    }

    pub fn is_unlimited(self) -> bool {
        self.step == 0
    }

    /// The units that may be taken at once.
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// What `units` take to earn, rounded up to ns.
    #[inline(always)]
    fn earned_ns(self, units: u64) -> u64 {
        let ns = (u128::from(units) * u128::from(self.step)).div_ceil(1 << STEP_BITS);
        ns.min(u128::from(BACKLOG_NS_MAX)) as u64
    }

    /// The longest backlog at which so many units of the burst are left.
    #[inline(always)]
    fn backlog_with_ns(self, left: u64) -> u64 {
        ((u128::from(self.burst - left) * u128::from(self.step)) >> STEP_BITS) as u64
    }

    /// The TAT after `cost`; `needed` units of the burst, at most all of them, must be left. Else what is to be waited.
    #[inline(always)]
    fn next_tat(self, tat_ns: u64, now_ns: u64, cost: u64, needed: u64) -> Result<u64, u64> {
        let start_ns = tat_ns.max(now_ns);
        let latest_ns = now_ns + self.backlog_with_ns(needed);
        if start_ns > latest_ns { Err(start_ns - latest_ns) } else { Ok(start_ns + self.earned_ns(cost)) }
    }
}

#[derive(Debug, Default)]
struct Slot {
    step: AtomicU64,
    burst: AtomicU64,
}

impl Slot {
    #[inline(always)]
    fn get(&self) -> Limit {
        Limit { step: self.step.load(Ordering::Relaxed), burst: self.burst.load(Ordering::Relaxed) }
    }

    fn set(&self, limit: Limit) {
        self.step.store(limit.step, Ordering::Relaxed);
        self.burst.store(limit.burst, Ordering::Relaxed);
    }
}

/// One meter, which also counts what it let through; any number of threads take from it without a lock. It is 48 bytes.
///
/// The count's lowest bits are in the state, and change with the TAT: so a check of a unit is one locked instruction, and only each
/// eighth one has to carry into the word of the others.
///
/// In any time t at most burst + rate · (t + 1 ns) units pass, whoever asks, and exactly burst + rate · t at rates below 953
/// units a second. A check takes up to 1 ns of credit more than its cost, less than it takes to ask. Where the clock goes back,
/// nothing is earned until it is where it was.
#[derive(Debug, Default)]
pub struct Gcra {
    /// The TAT in ns, what was taken modulo 8, and which slot holds the limit: so all change at once.
    state: AtomicU64,
    slots: [Slot; 2],
    /// What was taken, but for what the state has of it.
    carried: AtomicU64,
}

impl Gcra {
    pub fn new(limit: Limit) -> Gcra {
        let gcra = Gcra::default();
        gcra.slots[0].set(limit);
        gcra
    }

    pub fn limit(&self) -> Limit {
        self.slot(self.state.load(Ordering::Acquire)).get()
    }

    /// Takes `cost` units, or tells for how many ns to wait until they would pass if nobody else took any; [`NEVER_NS`] = the cost
    /// is above the burst.
    #[inline]
    pub fn check(&self, now_ns: u64, cost: u64) -> Result<(), u64> {
        self.take(now_ns, cost, |limit| if cost <= limit.burst { Ok(cost) } else { Err(NEVER_NS) })
    }

    /// As [`Gcra::check`], for what can't be cut: a cost above the burst passes when all of the burst is there, and the rest is owed (4.5
    /// years at most). In any time t at most rate · (t + 1 ns) and the larger of the burst and the largest cost pass then.
    #[inline]
    pub fn check_whole(&self, now_ns: u64, cost: u64) -> Result<(), u64> {
        self.take(now_ns, cost, |limit| Ok(cost.min(limit.burst)))
    }

    /// Undoes a check that has passed, since what it was for does not: so many units can be taken again, and are not counted. What was
    /// refused to others meanwhile stays so.
    pub fn give_back(&self, cost: u64) {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let limit = self.slot(state).get();
            if limit.is_unlimited() {
                return self.carry(cost.wrapping_neg());
            }
            let tat_ns = (state >> TAT_SHIFT).saturating_sub(limit.earned_ns(cost));
            let rest = count(state).wrapping_sub(cost);
            let given = (tat_ns << TAT_SHIFT) | ((rest & COUNT_MAX) << COUNT_SHIFT) | (state & SLOT);
            match self.state.compare_exchange_weak(state, given, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.carry(rest & !COUNT_MAX),
                Err(seen) => state = seen,
            }
        }
    }

    /// What [`Gcra::check_whole`] would say; nothing is taken.
    pub fn look_whole(&self, now_ns: u64, cost: u64) -> Result<(), u64> {
        let state = self.state.load(Ordering::Acquire);
        let limit = self.slot(state).get();
        let tat_ns = if limit.is_unlimited() { 0 } else { state >> TAT_SHIFT };
        limit.next_tat(tat_ns, now_ns.min(TIME_NS_MAX), cost, cost.min(limit.burst)).map(drop)
    }

    /// All that passed so far, modulo 2^64. While others take, it may be behind by what they are about to carry, never ahead.
    pub fn taken(&self) -> u64 {
        // What was carried first: what the state lacks of it is behind, the other way round it would count twice.
        let carried = self.carried.load(Ordering::Acquire);
        carried.wrapping_add(count(self.state.load(Ordering::Acquire)))
    }

    /// How many units would pass now.
    pub fn credit(&self, now_ns: u64) -> u64 {
        let state = self.state.load(Ordering::Acquire);
        let limit = self.slot(state).get();
        if limit.is_unlimited() {
            return u64::MAX;
        }
        let backlog_ns = (state >> TAT_SHIFT).saturating_sub(now_ns.min(TIME_NS_MAX));
        let used = (u128::from(backlog_ns) << STEP_BITS).div_ceil(u128::from(limit.step));
        limit.burst.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
    }

    /// Another limit from now on; one caller at a time.
    ///
    /// What was taken and not yet earned stays so, in units, to within 1 ns of the new rate; without a limit nothing is to be earned.
    /// A check goes by the old limit or by the new one. Only one that is under way through two changes may go by the
    /// rate of one and the burst of another.
    pub fn set(&self, limit: Limit, now_ns: u64) {
        let now_ns = now_ns.min(TIME_NS_MAX);
        let mut state = self.state.load(Ordering::Acquire);
        let old = self.slot(state).get();
        self.slots[other(state)].set(limit);
        loop {
            let backlog_ns = (state >> TAT_SHIFT).saturating_sub(now_ns);
            let backlog_ns = match old.step {
                0 => 0,
                old_step => (u128::from(backlog_ns) * u128::from(limit.step)).div_ceil(u128::from(old_step)),
            };
            let tat_ns = now_ns + backlog_ns.min(u128::from(BACKLOG_NS_MAX)) as u64;
            let changed = (tat_ns << TAT_SHIFT) | (count(state) << COUNT_SHIFT) | other(state) as u64;
            match self.state.compare_exchange_weak(state, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => state = seen,
            }
        }
    }

    fn slot(&self, state: u64) -> &Slot {
        &self.slots[(state & SLOT) as usize]
    }

    /// `needed` says how many units of the burst must be left.
    #[inline(always)]
    fn take(&self, now_ns: u64, cost: u64, needed: impl Fn(Limit) -> Result<u64, u64>) -> Result<(), u64> {
        let now_ns = now_ns.min(TIME_NS_MAX);
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let limit = self.slot(state).get();
            if limit.is_unlimited() {
                self.carry(cost);
                return Ok(());
            }
            let tat_ns = limit.next_tat(state >> TAT_SHIFT, now_ns, cost, needed(limit)?)?;
            let sum = count(state).wrapping_add(cost);
            let taken = (tat_ns << TAT_SHIFT) | ((sum & COUNT_MAX) << COUNT_SHIFT) | (state & SLOT);
            match self.state.compare_exchange_weak(state, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if sum > COUNT_MAX {
                        self.carry(sum & !COUNT_MAX);
                    }
                    return Ok(());
                }
                Err(seen) => state = seen,
            }
        }
    }

    fn carry(&self, units: u64) {
        self.carried.fetch_add(units, Ordering::Release);
    }
}

/// What was taken, modulo 8.
fn count(state: u64) -> u64 {
    state >> COUNT_SHIFT & COUNT_MAX
}

fn other(state: u64) -> usize {
    (state & SLOT ^ SLOT) as usize
}
