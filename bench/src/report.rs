//! The table: what was measured, against whom, and the ratio. All is ns an operation, unless a line says otherwise.

use crate::sample::Sample;
use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug)]
pub struct Line {
    pub what: String,
    pub ours: Sample,
    /// Whom it is compared with, and their ns an operation.
    pub theirs: Option<(String, f64)>,
    /// What the ratio must be.
    pub goal: Option<Goal>,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Our time is at most this many times theirs.
    TimeAtMost(f64),
    /// Our rate is at least this many times theirs.
    RateAtLeast(f64),
}

impl Line {
    /// The ratio in the sense of the goal, and whether it is reached.
    fn ratio(&self) -> Option<(f64, bool)> {
        let (_, theirs_ns) = self.theirs.as_ref()?;
        let time = self.ours.median_ns() / theirs_ns;
        Some(match self.goal {
            Some(Goal::RateAtLeast(least)) => (1.0 / time, 1.0 / time >= least),
            Some(Goal::TimeAtMost(most)) => (time, time <= most),
            None => (time, true),
        })
    }
}

pub fn print(lines: &[Line]) {
    println!("\n{:<44} {:>10} {:>7}  {:<34} {:>10} {:>7}  GOAL", "WHAT", "ns", "±", "AGAINST", "ns", "RATIO");
    for line in lines {
        let spread = format!("{:.0}%", line.ours.spread() * 50.0);
        let (against, ns) = match &line.theirs {
            Some((name, ns)) => (name.as_str(), format!("{ns:.1}")),
            None => ("", String::new()),
        };
        let (ratio, verdict) = match (line.ratio(), line.goal) {
            (Some((ratio, reached)), Some(goal)) => {
                let goal = match goal {
                    Goal::TimeAtMost(most) => format!("≤ {most}"),
                    Goal::RateAtLeast(least) => format!("≥ {least}"),
                };
                (format!("{ratio:.2}"), format!("{goal} {}", if reached { "reached" } else { "MISSED" }))
            }
            (Some((ratio, _)), None) => (format!("{ratio:.2}"), String::new()),
            _ => Default::default(),
        };
        println!(
            "{:<44} {:>10.1} {:>7}  {:<34} {:>10} {:>7}  {verdict}",
            line.what,
            line.ours.median_ns(),
            spread,
            against,
            ns,
            ratio
        );
    }
}

pub fn json(lines: &[Line], machine: &str) -> Value {
    let line = |line: &Line| {
        json!({
            "what": line.what, "ours": line.ours.name, "ns": line.ours.median_ns(), "spread": line.ours.spread(),
            "against": line.theirs.as_ref().map(|(name, _)| name), "against_ns": line.theirs.as_ref().map(|(_, ns)| ns),
            "ratio": line.ratio().map(|(ratio, _)| ratio), "reached": line.ratio().map(|(_, reached)| reached),
        })
    };
    json!({ "machine": machine, "lines": lines.iter().map(line).collect::<Vec<_>>() })
}

/// What machine this is.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores, Linux {}, load {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    )
}
