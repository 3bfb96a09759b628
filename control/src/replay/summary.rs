//! What a replay did.

use super::args::LineName;
use super::pace::Tempo;
use crate::client::status::duration;
use dataplane::sim::lines::LineCounters;
use dataplane::time::NS_PER_S;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddrV4;

#[derive(Clone, Debug)]
pub struct Summary {
    /// What was sent, duplicates included.
    pub packets: u64,
    /// UDP payloads, or frames.
    pub bytes: u64,
    /// From the first packet's time to the last one's.
    pub duration_ns: u64,
    pub tempo: Tempo,
    /// How long it should have taken.
    pub planned_ns: u64,
    /// By how much packets went later than they were due; none at flat out.
    pub lateness: Option<Histogram<u64>>,
    pub lines: Vec<LineSummary>,
    /// Frames that are of no line.
    pub other_frames: u64,
    /// Frames of the file, all passes.
    pub frames: u64,
    /// Frames that were not sent, by reason.
    pub not_sent: BTreeMap<&'static str, u64>,
    /// Datagrams that went to the kernel together with others.
    pub segments: u64,
    /// Stopped by a signal.
    pub stopped: bool,
    /// What else whoever started it should know.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct LineSummary {
    pub name: LineName,
    pub destination: SocketAddrV4,
    pub to: SocketAddrV4,
    pub sent: u64,
    pub counters: LineCounters,
}

impl Summary {
    pub fn packets_per_s(&self) -> f64 {
        self.per_s(self.packets as f64)
    }

    pub fn mbit_per_s(&self) -> f64 {
        self.per_s(self.bytes as f64 * 8.0 / 1e6)
    }

    fn per_s(&self, amount: f64) -> f64 {
        if self.duration_ns == 0 { 0.0 } else { amount * NS_PER_S as f64 / self.duration_ns as f64 }
    }

    /// In the unit of what was asked for. `None` at flat out, and if all packets were due at once.
    pub fn achieved(&self) -> Option<f64> {
        let is_paced = self.planned_ns > 0 && self.duration_ns > 0;
        let ratio = is_paced.then(|| self.planned_ns as f64 / self.duration_ns as f64)?;
        Some(self.tempo.asked()? * ratio)
    }

    /// p50, p99 and the maximum, in ns.
    fn late_ns(&self) -> Option<[u64; 3]> {
        let lateness = self.lateness.as_ref()?;
        Some([lateness.value_at_quantile(0.5), lateness.value_at_quantile(0.99), lateness.max()])
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} packets, {} bytes in {}: {:.0} packets/s, {:.1} Mbit/s",
            self.packets,
            self.bytes,
            duration(self.duration_ns),
            self.packets_per_s(),
            self.mbit_per_s(),
        );
        let mut line = |line: String| {
            let _ = write!(text, "\n{line}");
        };
        if self.stopped {
            line("stopped before the end".to_owned());
        }
        match self.achieved() {
            Some(achieved) => line(format!("asked {}, achieved {achieved:.4}", self.tempo)),
            None => line(format!("asked {}", self.tempo)),
        }
        if let Some([p50_ns, p99_ns, max_ns]) = self.late_ns() {
            let [p50, p99, max] = [p50_ns, p99_ns, max_ns].map(duration);
            line(format!("late p50 {p50}, p99 {p99}, max {max}"));
        }
        if self.segments > 0 {
            line(format!("{} packets went to the kernel together with others (GSO)", self.segments));
        }
        for LineSummary { name, destination, to, sent, counters } in &self.lines {
            let LineCounters { lost, duplicated, reordered, .. } = counters;
            let name = if let LineName::Letter(_) = name { format!("{name} ") } else { String::new() };
            let to = if to == destination { String::new() } else { format!(" → {to}") };
            line(format!(
                "line {name}{destination}{to}: {sent} packets, dropped {lost}, duplicated {duplicated}, \
                 reordered {reordered}"
            ));
        }
        if self.other_frames > 0 {
            line(format!("other frames: {}", self.other_frames));
        }
        if !self.not_sent.is_empty() {
            let total: u64 = self.not_sent.values().sum();
            line(format!("not sent: {total} of {} frames ({})", self.frames, reasons(&self.not_sent)));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let line = |line: &LineSummary| {
            let LineCounters { lost, duplicated, reordered, .. } = line.counters;
            json!({
                "line": line.name.to_string(), "group": line.destination.to_string(), "to": line.to.to_string(),
                "packets": line.sent, "dropped": lost, "duplicated": duplicated, "reordered": reordered,
            })
        };
        let late = self.late_ns().map(|[p50, p99, max]| json!({"p50_ns": p50, "p99_ns": p99, "max_ns": max}));
        json!({
            "packets": self.packets,
            "bytes": self.bytes,
            "seconds": self.duration_ns as f64 / NS_PER_S as f64,
            "packets_per_s": self.packets_per_s(),
            "mbit_per_s": self.mbit_per_s(),
            "pace": {"by": self.tempo.name(), "asked": self.tempo.asked(), "achieved": self.achieved()},
            "late": late,
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "other_frames": self.other_frames,
            "frames": self.frames,
            "not_sent": self.not_sent,
            "segments": self.segments,
            "stopped": self.stopped,
            "warnings": self.warnings,
        })
    }
}

/// `arp 3, igmp 2`.
pub(super) fn reasons(not_sent: &BTreeMap<&'static str, u64>) -> String {
    not_sent.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}
