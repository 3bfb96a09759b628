//! The plan of a subscription: what a client gets, and how.

use crate::proto::{BehindPolicy, DeliveryMode};
use crate::selection::Selection;
use dataplane::cache::tick::Kind;
use dataplane::replica::node_id as fnv1a;
use std::time::Duration;

/// Updates a second of a row that is conflated, at most.
const RATE_MAX_PER_S: u32 = 1_000;
/// A subscription tells within that time if the worker is gone.
const INTERVAL_MS_MAX: u32 = 1_000;
const NS_PER_S: u64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub wanted: Selection,
    /// What the client may see.
    pub allowed: Selection,
    pub mode: DeliveryMode,
    pub policy: BehindPolicy,
    /// Between two tellings of a row that is conflated; 0 = as often as the client takes it.
    pub period_ns: u64,
    /// Between two looks at the log; zero = it is looked at when there is something new.
    pub interval: Duration,
    pub is_paused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("interval_ms: at most {INTERVAL_MS_MAX}")]
    Interval,
    #[error("there is no delivery mode {0}")]
    Mode(i32),
    #[error("there is no policy {0}")]
    Policy(i32),
    #[error("a policy for who falls behind goes with mode TRADE_SAFE or EVERY_TICK: leave it out")]
    PolicyUnused,
    #[error("max_updates_per_s: at most {RATE_MAX_PER_S}, 0 = as often as the client takes them")]
    Rate,
    #[error("max_updates_per_s goes with mode CONFLATED or TRADE_SAFE: leave it out")]
    RateUnused,
}

impl Plan {
    /// Every change of what is wanted.
    pub fn new(wanted: Selection) -> Plan {
        Plan {
            wanted,
            allowed: Selection::everything(),
            mode: DeliveryMode::Unspecified,
            policy: BehindPolicy::Unspecified,
            period_ns: 0,
            interval: Duration::ZERO,
            is_paused: false,
        }
    }

    /// The same delivered otherwise, as a request says it.
    pub fn delivered(
        self,
        mode: i32,
        policy: i32,
        max_updates_per_s: u32,
        interval_ms: u32,
    ) -> Result<Plan, PlanError> {
        let mode = DeliveryMode::try_from(mode).map_err(|_| PlanError::Mode(mode))?;
        let policy = BehindPolicy::try_from(policy).map_err(|_| PlanError::Policy(policy))?;
        let is_bounded = matches!(mode, DeliveryMode::TradeSafe | DeliveryMode::EveryTick);
        let is_conflating = matches!(mode, DeliveryMode::TradeSafe | DeliveryMode::Conflated);
        if policy != BehindPolicy::Unspecified && !is_bounded {
            return Err(PlanError::PolicyUnused);
        }
        if max_updates_per_s > RATE_MAX_PER_S {
            return Err(PlanError::Rate);
        }
        if max_updates_per_s != 0 && !is_conflating {
            return Err(PlanError::RateUnused);
        }
        if interval_ms > INTERVAL_MS_MAX {
            return Err(PlanError::Interval);
        }
        let period_ns = NS_PER_S.checked_div(max_updates_per_s.into()).unwrap_or(0);
        let interval = Duration::from_millis(interval_ms.into());
        Ok(Plan { mode, policy, period_ns, interval, ..self })
    }

    pub fn has_symbol(&self, symbol: &[u8]) -> bool {
        self.wanted.has_symbol(symbol) && self.allowed.has_symbol(symbol)
    }

    pub fn has_feed(&self, feed: u16) -> bool {
        self.wanted.has_feed(feed) && self.allowed.has_feed(feed)
    }

    pub fn has_row(&self, feed: u16, kind: u8) -> bool {
        let has_kind = |kind| self.wanted.has_kind(kind) && self.allowed.has_kind(kind);
        self.has_feed(feed) && Kind::from_u8(kind).is_some_and(has_kind)
    }

    pub fn is_everything(&self) -> bool {
        self.wanted.is_everything() && self.allowed.is_everything()
    }

    /// Whether only the latest of these rows is wanted.
    pub fn conflates(&self, kind: u8) -> bool {
        match self.mode {
            DeliveryMode::Conflated => true,
            DeliveryMode::TradeSafe => kind == Kind::Quote as u8 || kind == Kind::ImpliedQuote as u8,
            DeliveryMode::Unspecified | DeliveryMode::EveryTick => false,
        }
    }

    /// A number that is another one for another selection or mode, the same on each node that is configured alike.
    pub fn fingerprint(&self) -> u64 {
        fnv1a(&format!("{:?}", (&self.wanted, &self.allowed, self.mode)))
    }

    /// Whether what can't be delivered is a gap, or else conflated.
    pub fn promises_updates(&self) -> bool {
        matches!(self.mode, DeliveryMode::TradeSafe | DeliveryMode::EveryTick)
    }
}
