//! What an exchange did, in one line.

use super::{ExchangeArgs, ExchangeError};
use dataplane::sim::lines::LineCounters;
use serde_json::json;
use std::io::Write;

#[derive(Clone, Debug)]
pub struct Summary {
    pub session: String,
    pub messages: u64,
    /// From the first message to the last.
    pub seconds: f64,
    /// Packets of the session, heartbeats and its end included.
    pub packets: u64,
    pub lines: [LineCounters; 2],
    /// Packets that no receiver can have seen.
    pub lost_on_both: u64,
    /// Orders that rest in the books at the end.
    pub orders: usize,
}

impl Summary {
    pub fn messages_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.messages as f64 / self.seconds } else { 0.0 }
    }

    /// To the standard output, or beside it if the dump goes there.
    pub(super) fn print(&self, args: &ExchangeArgs) -> Result<(), ExchangeError> {
        let line = if args.json { self.json() } else { self.text() };
        let written = if args.dumps_to_stdout() {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
        written.map_err(ExchangeError::Output)
    }

    fn text(&self) -> String {
        let line = |name: char, line: LineCounters| {
            let LineCounters { lost, duplicated, reordered, .. } = line;
            format!("{name} lost {lost}, duplicated {duplicated}, reordered {reordered}")
        };
        let [a, b] = self.lines;
        format!(
            "session {}: {} messages in {:.1} s ({:.0}/s), {} packets ({}; {}; both lost {}), {} orders rest",
            self.session,
            self.messages,
            self.seconds,
            self.messages_per_s(),
            self.packets,
            line('A', a),
            line('B', b),
            self.lost_on_both,
            self.orders
        )
    }

    fn json(&self) -> String {
        let line = |line: LineCounters| json!({"lost": line.lost, "duplicated": line.duplicated, "reordered": line.reordered});
        json!({
            "session": self.session,
            "messages": self.messages,
            "seconds": self.seconds,
            "messages_per_s": self.messages_per_s(),
            "packets": self.packets,
            "line_a": line(self.lines[0]),
            "line_b": line(self.lines[1]),
            "lost_on_both": self.lost_on_both,
            "orders": self.orders,
        })
        .to_string()
    }
}
