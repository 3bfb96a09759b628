//! Objectives, as they are judged once a second.

use crate::config::ObjectiveConfig;
use crate::latency::{Scope, Series};
use crate::proto::{Objective, ObjectiveState, Stage};
use crate::window::Windows;
use std::sync::{Mutex, MutexGuard};

/// The name under which gRPC health tells of an objective is this and the objective's.
pub const HEALTH_PREFIX: &str = "tickplane.objective/";
const NS_PER_US: u64 = 1_000;

/// All of them, as they are configured now, and as they were judged last.
#[derive(Debug)]
pub struct Objectives(Mutex<Vec<(ObjectiveConfig, Objective)>>);

impl Objectives {
    pub fn new(configured: &[ObjectiveConfig]) -> Objectives {
        let objectives = Objectives(Mutex::default());
        objectives.change(configured);
        objectives
    }

    fn held(&self) -> MutexGuard<'_, Vec<(ObjectiveConfig, Objective)>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on there are these; one that is as it was is judged as it was.
    pub fn change(&self, configured: &[ObjectiveConfig]) {
        let mut held = self.held();
        let judged = |one: &ObjectiveConfig| {
            let before = held.iter().find(|(known, _)| known == one);
            before.map_or_else(|| one.unjudged(), |(_, judged)| judged.clone())
        };
        *held = configured.iter().map(|one| (one.clone(), judged(one))).collect();
    }

    pub fn judge(&self, windows: &Windows, unix_ns: u64) {
        self.held().iter_mut().for_each(|(one, judged)| one.judge(windows, unix_ns, judged));
    }

    /// In the order of the configuration.
    pub fn all(&self) -> Vec<Objective> {
        self.held().iter().map(|(_, judged)| judged.clone()).collect()
    }
}

impl ObjectiveConfig {
    fn series(&self) -> Series {
        let scope = self.feed.clone().map_or(Scope::Node, Scope::Feed);
        Series { scope, stage: Stage::from(self.stage) }
    }

    /// What it is before anything is measured.
    pub fn unjudged(&self) -> Objective {
        Objective {
            name: self.name.clone(),
            stage: Stage::from(self.stage).into(),
            feed: self.feed.clone().unwrap_or_default(),
            quantile: self.quantile,
            limit_ns: self.limit_us * NS_PER_US,
            over_s: self.over_s as u32,
            state: ObjectiveState::Idle.into(),
            ..Objective::default()
        }
    }

    /// Judges by the seconds before the last sample, and says so in the log if that is another judgement than `judged`,
    /// which becomes it.
    pub fn judge(&self, windows: &Windows, unix_ns: u64, judged: &mut Objective) {
        let histogram = windows.counts(&self.series(), self.over_s).unwrap_or_default().hdr();
        judged.count = histogram.len();
        judged.value_ns = if histogram.is_empty() { 0 } else { histogram.value_at_quantile(self.quantile) };
        let state = match judged.value_ns {
            _ if histogram.is_empty() => ObjectiveState::Idle,
            value_ns if value_ns > judged.limit_ns => ObjectiveState::Missed,
            _ => ObjectiveState::Met,
        };
        if state == judged.state() {
            return;
        }
        let before = std::mem::replace(&mut judged.state, state.into());
        judged.since_ns = unix_ns;
        let Objective { name, quantile, value_ns, limit_ns, over_s, count, .. } = judged;
        match state {
            ObjectiveState::Missed => tracing::warn!(
                "objective {name} is missed: quantile {quantile} of {count} updates in {over_s} s is {value_ns} ns, the limit {limit_ns} ns"
            ),
            _ if before == i32::from(ObjectiveState::Missed) => tracing::info!(
                "objective {name} is missed no more: quantile {quantile} of {count} updates in {over_s} s is {value_ns} ns"
            ),
            _ => tracing::info!("objective {name} is {}", state_name(state)),
        }
    }
}

/// idle, met or missed.
pub fn state_name(state: ObjectiveState) -> String {
    state.as_str_name().trim_start_matches("OBJECTIVE_STATE_").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StageName;
    use crate::latency::Counts;
    use dataplane::histogram::Histogram;

    #[test]
    fn an_objective_is_missed_while_its_seconds_say_so_and_idle_without_updates() {
        let objective = ObjectiveConfig {
            name: "fast".to_owned(),
            stage: StageName::ReceivedToPublished,
            feed: Some("f".to_owned()),
            quantile: 0.9,
            limit_us: 50,
            over_s: 2,
        };
        let (mut windows, counted, mut judged) =
            (Windows::default(), Histogram::default(), objective.unjudged());
        // Of each second: updates of 10 µs, and of 80 µs.
        let seconds = [(0, 0), (9, 1), (8, 2), (0, 0), (100, 0), (0, 0), (0, 0)];
        let mut states = Vec::new();
        for (second, (fast, slow)) in (0..).zip(seconds) {
            counted.record(10_000, fast);
            counted.record(80_000, slow);
            windows.sample(second * 1_000_000_000, [(objective.series(), Counts::from(&counted))].into());
            objective.judge(&windows, second, &mut judged);
            states.push((judged.state(), judged.count, judged.since_ns));
        }
        use ObjectiveState::{Idle, Met, Missed};
        let expected = [
            (Idle, 0, 0),
            (Met, 10, 1),
            (Missed, 20, 2),
            (Missed, 10, 2),
            (Met, 100, 4),
            (Met, 100, 4),
            (Idle, 0, 6),
        ];
        assert_eq!(states, expected);
        // One that is as it was keeps its judgement, another one begins anew.
        let objectives = Objectives::new(std::slice::from_ref(&objective));
        counted.record(80_000, 9);
        windows.sample(7_000_000_000, [(objective.series(), Counts::from(&counted))].into());
        objectives.judge(&windows, 7);
        let looser = ObjectiveConfig { limit_us: 100, ..objective.clone() };
        let other = ObjectiveConfig { name: "other".to_owned(), ..objective.clone() };
        objectives.change(&[other.clone(), objective]);
        let told = |objectives: &Objectives| -> Vec<_> {
            objectives.all().iter().map(|one| (one.name.clone(), one.state())).collect()
        };
        assert_eq!(told(&objectives), [("other".to_owned(), Idle), ("fast".to_owned(), Missed)]);
        objectives.change(&[looser, other]);
        assert_eq!(told(&objectives), [("fast".to_owned(), Idle), ("other".to_owned(), Idle)]);
        objectives.judge(&windows, 8);
        assert_eq!(told(&objectives), [("fast".to_owned(), Met), ("other".to_owned(), Missed)]);
    }
}
