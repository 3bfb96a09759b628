//! How far a replay is: a bar on a terminal, else a line a second.

use dataplane::time::{NS_PER_MS, NS_PER_S};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Steps of the bar.
const STEPS: u64 = 1_000;
const DRAW_INTERVAL_NS: u64 = 100 * NS_PER_MS;
/// Rates are those of about a second.
const RATE_INTERVAL_NS: u64 = NS_PER_S;

/// What has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Debug)]
enum Display {
    None,
    Lines,
    Bar(ProgressBar),
}

#[derive(Debug)]
pub struct Progress {
    display: Display,
    draw_ns: u64,
    rate_ns: u64,
    before: Sent,
}

impl Progress {
    /// `ends`: whether there is an end to get near to.
    pub fn new(quiet: bool, ends: bool, now_ns: u64) -> Progress {
        let display = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Display::None,
            (false, false) => Display::Lines,
            (false, true) => Display::Bar(bar(ends)),
        };
        Progress { display, draw_ns: now_ns, rate_ns: now_ns, before: Sent::default() }
    }

    /// Shows where it is, now and then; `done` (0.0 … 1.0) is asked for only when it is shown.
    pub fn show(&mut self, now_ns: u64, sent: Sent, done: impl FnOnce() -> Option<f64>) {
        if now_ns < self.draw_ns + DRAW_INTERVAL_NS || matches!(self.display, Display::None) {
            return;
        }
        self.draw_ns = now_ns;
        let elapsed_ns = now_ns - self.rate_ns;
        let message = (elapsed_ns >= RATE_INTERVAL_NS).then(|| {
            let seconds = elapsed_ns as f64 / NS_PER_S as f64;
            let packets_per_s = (sent.packets - self.before.packets) as f64 / seconds;
            let mbit_per_s = (sent.bytes - self.before.bytes) as f64 * 8.0 / 1e6 / seconds;
            (self.rate_ns, self.before) = (now_ns, sent);
            format!("{} packets, {packets_per_s:.0}/s, {mbit_per_s:.1} Mbit/s", sent.packets)
        });
        match &self.display {
            Display::None => {}
            Display::Lines => {
                if let Some(message) = message {
                    let done = done().map_or(String::new(), |done| format!("{:3.0} %  ", done * 100.0));
                    eprintln!("{done}{message}");
                }
            }
            Display::Bar(bar) => {
                if let Some(message) = message {
                    bar.set_message(message);
                }
                match done() {
                    Some(done) => bar.set_position((done * STEPS as f64) as u64),
                    None => bar.tick(),
                }
            }
        }
    }

    /// Makes room for the summary.
    pub fn finish(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(ends: bool) -> ProgressBar {
    let template = match ends {
        true => "{bar:30} {percent:>3} %  {elapsed_precise}  {msg}",
        false => "{spinner} {elapsed_precise}  {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("a constant template");
    let target = ProgressDrawTarget::stderr();
    ProgressBar::with_draw_target(ends.then_some(STEPS), target).with_style(style)
}
