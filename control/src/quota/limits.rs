//! What a client may use. `None` = as much as it likes.

use crate::access::Role;
use crate::proto::{ExcessPolicy, QuotaLimits};
use dataplane::quota::Limit;
use dataplane::time::{NS_PER_MS, NS_PER_S};
use serde::{Deserialize, Serialize};
use std::fmt;

const BURST_MS_DEFAULT: u32 = 1_000;
const BURST_MS_MAX: u32 = 600_000;
/// More than any machine does.
const VALUE_MAX: u64 = 1_000_000_000_000;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    Requests,
    Subscriptions,
    Instruments,
    Updates,
    Bytes,
}

impl Meter {
    pub const ALL: [Meter; 5] =
        [Meter::Requests, Meter::Subscriptions, Meter::Instruments, Meter::Updates, Meter::Bytes];

    /// The limit's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Meter::Requests => "requests_per_min",
            Meter::Subscriptions => "subscriptions",
            Meter::Instruments => "instruments",
            Meter::Updates => "updates_per_s",
            Meter::Bytes => "bytes_per_s",
        }
    }

    /// The time for which a rate is given, in ns; 0 = it is no rate, but what may be held at once.
    pub fn period_ns(self) -> u64 {
        match self {
            Meter::Requests => 60 * NS_PER_S,
            Meter::Updates | Meter::Bytes => NS_PER_S,
            Meter::Subscriptions | Meter::Instruments => 0,
        }
    }
}

/// What becomes of what is above the limits. Calls and new subscriptions above them are refused by any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// A subscription that is to be sent more ends, and is told when to come back.
    #[default]
    Refuse,
    /// It gets the latest values as often as the limits allow.
    Conflate,
    /// All subscriptions of the client end, whichever limit it is.
    Disconnect,
}

impl Policy {
    /// By their numbers.
    pub(super) const ALL: [Policy; 3] = [Policy::Refuse, Policy::Conflate, Policy::Disconnect];

    fn name(self) -> &'static str {
        match self {
            Policy::Refuse => "refuse",
            Policy::Conflate => "conflate",
            Policy::Disconnect => "disconnect",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub requests_per_min: Option<u64>,
    /// Streams that are open at once.
    pub subscriptions: Option<u64>,
    /// Instruments of all open subscriptions; one in two of them counts twice.
    pub instruments: Option<u64>,
    pub updates_per_s: Option<u64>,
    pub bytes_per_s: Option<u64>,
    /// For how long a rate may be taken at once. A time, not units: so one figure is right for all rates, and stays right when
    /// one of them is changed.
    pub burst_ms: u32,
    pub on_excess: Policy,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests_per_min: None,
            subscriptions: None,
            instruments: None,
            updates_per_s: None,
            bytes_per_s: None,
            burst_ms: BURST_MS_DEFAULT,
            on_excess: Policy::default(),
        }
    }
}

impl Limits {
    pub fn get(&self, meter: Meter) -> Option<u64> {
        match meter {
            Meter::Requests => self.requests_per_min,
            Meter::Subscriptions => self.subscriptions,
            Meter::Instruments => self.instruments,
            Meter::Updates => self.updates_per_s,
            Meter::Bytes => self.bytes_per_s,
        }
    }

    /// Why they can't be, with the limit's name.
    pub fn check(&self) -> Result<(), String> {
        for meter in Meter::ALL {
            if self.get(meter).is_some_and(|value| !(1..=VALUE_MAX).contains(&value)) {
                let name = meter.name();
                return Err(format!("{name}: must be 1 to {VALUE_MAX}; without a limit leave it out"));
            }
        }
        if !(1..=BURST_MS_MAX).contains(&self.burst_ms) {
            return Err(format!("burst_ms: must be 1 to {BURST_MS_MAX}"));
        }
        Ok(())
    }

    /// These limits where they are named, those of `others` else; by no name at all, all of these. An unknown name is an error.
    pub fn only(self, names: &[String], others: &Limits) -> Result<Limits, String> {
        if names.is_empty() {
            return Ok(self);
        }
        let mut limits = *others;
        for name in names {
            match name.as_str() {
                "requests_per_min" => limits.requests_per_min = self.requests_per_min,
                "subscriptions" => limits.subscriptions = self.subscriptions,
                "instruments" => limits.instruments = self.instruments,
                "updates_per_s" => limits.updates_per_s = self.updates_per_s,
                "bytes_per_s" => limits.bytes_per_s = self.bytes_per_s,
                "burst_ms" => limits.burst_ms = self.burst_ms,
                "on_excess" => limits.on_excess = self.on_excess,
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(format!("only: there is no {name:?} among the limits"));
                }
            }
        }
        Ok(limits)
    }

    /// A rate's limit; of a burst at least one unit. The limits were checked.
    pub(super) fn rate(&self, meter: Meter) -> Limit {
        let Some(units) = self.get(meter) else { return Limit::UNLIMITED };
        let burst_ns = u128::from(self.burst_ms) * u128::from(NS_PER_MS);
        let burst = (u128::from(units) * burst_ns).div_ceil(meter.period_ns().into()).max(1);
        let burst = u64::try_from(burst).unwrap_or(u64::MAX);
        Limit::new(units, meter.period_ns(), burst).expect("limits that were checked are within a meter's")
    }
}

/// `[quota]`: the limits of a client by its role, if it has none of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoleLimits {
    pub reader: Limits,
    pub operator: Limits,
    pub admin: Limits,
}

impl RoleLimits {
    pub fn of(&self, role: Role) -> &Limits {
        match role {
            Role::Reader => &self.reader,
            Role::Operator => &self.operator,
            Role::Admin => &self.admin,
        }
    }

    pub fn check(&self) -> Result<(), String> {
        let all = [("reader", &self.reader), ("operator", &self.operator), ("admin", &self.admin)];
        all.iter()
            .try_for_each(|(role, limits)| limits.check().map_err(|error| format!("[quota.{role}] {error}")))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for meter in Meter::ALL {
            match self.get(meter) {
                Some(limit) => write!(out, "{} {limit}, ", meter.name())?,
                None => write!(out, "{} none, ", meter.name())?,
            }
        }
        write!(out, "burst_ms {}, on_excess {}", self.burst_ms, self.on_excess.name())
    }
}

impl From<Limits> for QuotaLimits {
    fn from(limits: Limits) -> QuotaLimits {
        let on_excess = match limits.on_excess {
            Policy::Refuse => ExcessPolicy::Refuse,
            Policy::Conflate => ExcessPolicy::Conflate,
            Policy::Disconnect => ExcessPolicy::Disconnect,
        };
        QuotaLimits {
            requests_per_min: limits.requests_per_min,
            subscriptions: limits.subscriptions,
            instruments: limits.instruments,
            updates_per_s: limits.updates_per_s,
            bytes_per_s: limits.bytes_per_s,
            burst_ms: limits.burst_ms,
            on_excess: on_excess.into(),
        }
    }
}

impl TryFrom<&QuotaLimits> for Limits {
    type Error = String;

    fn try_from(limits: &QuotaLimits) -> Result<Limits, String> {
        let on_excess = match ExcessPolicy::try_from(limits.on_excess) {
            Ok(ExcessPolicy::Unspecified | ExcessPolicy::Refuse) => Policy::Refuse,
            Ok(ExcessPolicy::Conflate) => Policy::Conflate,
            Ok(ExcessPolicy::Disconnect) => Policy::Disconnect,
            Err(_) => return Err(format!("on_excess: there is no policy {}", limits.on_excess)),
        };
        let limits = Limits {
            requests_per_min: limits.requests_per_min,
            subscriptions: limits.subscriptions,
            instruments: limits.instruments,
            updates_per_s: limits.updates_per_s,
            bytes_per_s: limits.bytes_per_s,
            burst_ms: if limits.burst_ms == 0 { BURST_MS_DEFAULT } else { limits.burst_ms },
            on_excess,
        };
        limits.check().map(|()| limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_passes_the_check_makes_a_meter() {
        let mut made = 0;
        for value in [1, 7, 1_000, VALUE_MAX] {
            for burst_ms in [1, BURST_MS_DEFAULT, BURST_MS_MAX] {
                let value = Some(value);
                let limits = Limits {
                    requests_per_min: value,
                    updates_per_s: value,
                    bytes_per_s: value,
                    burst_ms,
                    ..Limits::default()
                };
                limits.check().unwrap();
                for meter in [Meter::Requests, Meter::Updates, Meter::Bytes] {
                    assert!(limits.rate(meter).burst() >= 1);
                    made += 1;
                }
                assert_eq!(Limits::try_from(&QuotaLimits::from(limits)), Ok(limits));
            }
        }
        assert_eq!(made, 36);
        let thousand = Limits { requests_per_min: Some(1_000), ..Limits::default() };
        assert_eq!(thousand.rate(Meter::Requests).burst(), 17, "a second's worth of 16.7 a second");
    }

    #[test]
    fn only_what_is_named_changes_and_whatever_can_be_changed_has_a_name() {
        let own = Limits {
            requests_per_min: Some(1),
            subscriptions: Some(2),
            instruments: Some(3),
            updates_per_s: Some(4),
            bytes_per_s: Some(5),
            burst_ms: 6,
            on_excess: Policy::Conflate,
        };
        let others = Limits { bytes_per_s: Some(7), ..Limits::default() };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(own.only(&[], &others), Ok(own));
        let changed = Limits { updates_per_s: Some(4), on_excess: Policy::Conflate, ..others };
        assert_eq!(own.only(&names(&["updates_per_s", "on_excess"]), &others), Ok(changed));
        let lifted = Limits { bytes_per_s: None, ..others };
        assert_eq!(Limits::default().only(&names(&["bytes_per_s"]), &others), Ok(lifted));
        let keys: Vec<String> = toml::Table::try_from(own).unwrap().keys().cloned().collect();
        assert_eq!((keys.len(), own.only(&keys, &others)), (7, Ok(own)));
        assert!(own.only(&names(&["updates_per_min"]), &others).unwrap_err().contains("updates_per_min"));
        assert_eq!(
            others.to_string(),
            "requests_per_min none, subscriptions none, instruments none, updates_per_s none, bytes_per_s 7, burst_ms 1000, \
             on_excess refuse"
        );
    }

    #[test]
    fn a_limit_that_can_not_be_is_named_with_its_cure() {
        let reader = |text: &str| toml::from_str::<RoleLimits>(&format!("[reader]\n{text}"));
        let error_of = |text: &str| reader(text).unwrap().check().unwrap_err();
        let error = error_of("requests_per_min = 0");
        assert!(
            error.contains("[quota.reader] requests_per_min") && error.contains("leave it out"),
            "{error}"
        );
        assert!(error_of("bytes_per_s = 1000000000001").contains("bytes_per_s: must be 1 to 1000000000000"));
        assert!(error_of("burst_ms = 0").contains("burst_ms: must be 1 to 600000"));
        assert!(reader("updates_per_min = 1").is_err() && reader("on_excess = \"drop\"").is_err());
        assert!(reader("requests_per_min = -1").is_err());
        let good = reader("on_excess = \"conflate\"").unwrap();
        assert_eq!((good.check(), good.reader.on_excess), (Ok(()), Policy::Conflate));
    }
}
