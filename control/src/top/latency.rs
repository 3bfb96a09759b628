//! Latencies by stage: the last interval, and the last minute's p99.

use crate::proto::{GetLatencyResponse, StageLatency};
use std::collections::VecDeque;

/// Intervals that are kept: one a second.
pub const INTERVALS_MAX: usize = 60;
/// Stages that a node tells at most.
const STAGES_MAX: usize = 8;

#[derive(Clone, Debug, Default)]
pub struct Latency {
    stages: Vec<StageLatency>,
    /// p99 in ns by stage, as in `stages`, of each interval, oldest first; `None` = nothing was measured.
    p99_ns: VecDeque<Vec<Option<u64>>>,
    /// Intervals taken in so far.
    taken: usize,
}

impl Latency {
    pub fn take(&mut self, mut response: GetLatencyResponse) {
        response.stages.truncate(STAGES_MAX);
        if self.p99_ns.len() == INTERVALS_MAX {
            self.p99_ns.pop_front();
        }
        let p99_ns = response.stages.iter().map(|stage| (stage.count > 0).then_some(stage.p99_ns));
        self.p99_ns.push_back(p99_ns.collect());
        self.stages = response.stages;
        self.taken += 1;
    }

    /// The last interval.
    pub fn stages(&self) -> &[StageLatency] {
        &self.stages
    }

    /// The last minute's p99 in ns of a stage in at most `cells` cells, oldest first, each the highest of its intervals.
    pub fn minute(&self, stage: usize, cells: usize) -> Vec<Option<u64>> {
        if cells == 0 {
            return Vec::new();
        }
        // Cells begin at fixed intervals, so that a value does not change its neighbours as it moves.
        let mut width = INTERVALS_MAX.div_ceil(cells);
        if width > 1 && INTERVALS_MAX / width + 1 > cells {
            width += 1;
        }
        let first = self.taken - self.p99_ns.len();
        let mut minute: Vec<(usize, Option<u64>)> = Vec::new();
        for (index, stages) in self.p99_ns.iter().enumerate() {
            let value = stages.get(stage).copied().flatten();
            let cell = (first + index) / width;
            match minute.last_mut() {
                Some((last, highest)) if *last == cell => *highest = (*highest).max(value),
                _ => minute.push((cell, value)),
            }
        }
        let too_many = minute.len().saturating_sub(cells);
        minute.into_iter().skip(too_many).map(|(_, value)| value).collect()
    }
}
