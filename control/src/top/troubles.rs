//! What is wrong, in words, the worst first.

use super::limits::{self, NEARLY_FULL};
use super::number::{compact, grouped};
use super::state::{Contact, Model, State};
use crate::client::status::{duration, stage_name};
use crate::proto::{Feed, FeedCondition, Port, RowReason};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Prices can't be believed.
    Bad,
    /// They can, but something is not as it should be.
    Warning,
    /// Good to know.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub severity: Severity,
    pub text: String,
}

fn bad(text: String) -> Trouble {
    Trouble { severity: Severity::Bad, text }
}

fn warning(text: String) -> Trouble {
    Trouble { severity: Severity::Warning, text }
}

fn note(text: String) -> Trouble {
    Trouble { severity: Severity::Note, text }
}

pub fn all(state: &State) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    troubles.extend(contact(state));
    let model = state.view();
    if !state.is_writer_alive() {
        troubles.push(bad("the worker is gone or stuck: every row is stale".to_owned()));
    }
    for feed in model.lines.feeds() {
        of_feed(feed, &mut troubles);
    }
    for port in model.node.iter().flat_map(|node| &node.ports) {
        of_port(port, &mut troubles);
    }
    of_limits(model, &mut troubles);
    of_clocks(model, &mut troubles);
    if model.instruments.skipped > 0 {
        let skipped = grouped(model.instruments.skipped);
        troubles
            .push(note(format!("this view was too slow for {skipped} updates: it got the latest instead")));
    }
    troubles.sort_by_key(|trouble| trouble.severity);
    troubles
}

fn contact(state: &State) -> Option<Trouble> {
    let since = |ns: u64| match ns {
        0 => String::new(),
        ns => format!("; prices are {} old", duration(ns)),
    };
    match state.contact() {
        Contact::Good => None,
        Contact::Connecting => Some(note(format!("connecting to {}", state.server))),
        Contact::Silent { heard_ns_ago } => {
            Some(bad(format!("the node does not answer{}", since(heard_ns_ago))))
        }
        Contact::Lost { cause, heard_ns_ago } => {
            Some(bad(format!("no connection, trying again{}: {cause}", since(heard_ns_ago))))
        }
    }
}

fn of_feed(feed: &Feed, troubles: &mut Vec<Trouble>) {
    let name = &feed.name;
    match feed.condition() {
        FeedCondition::Stale => troubles.push(bad(format!("{name}: no line speaks, its rows are stale"))),
        FeedCondition::Waiting | FeedCondition::Unspecified => {
            troubles.push(bad(format!("{name}: nothing was received yet")));
        }
        FeedCondition::Degraded => {
            let silent = feed.lines.iter().filter(|line| line.silent).map(|line| line.name.as_str());
            let silent: Vec<&str> = silent.collect();
            troubles.push(warning(format!("{name}: line {} is silent", silent.join(", "))));
        }
        FeedCondition::Ended => troubles.push(note(format!("{name}: the exchange ended the session"))),
        FeedCondition::Live => {}
    }
    match feed.reason() {
        RowReason::Gap => {
            let (missing, gaps) = (grouped(feed.missing), feed.gaps);
            let text =
                format!("{name}: {missing} messages lost on every line (gaps: {gaps}), rows are suspect");
            troubles.push(bad(text));
        }
        RowReason::LateStart => troubles.push(warning(format!("{name}: joined late, rows are partial"))),
        RowReason::Malformed => troubles.push(bad(format!("{name}: malformed messages, rows are suspect"))),
        RowReason::LimitFull => troubles.push(bad(format!("{name}: a limit was full, rows are suspect"))),
        RowReason::TakenOver => {
            let text = "another node took over: what it could not prove is suspect until it is told again";
            troubles.push(warning(format!("{name}: {text}")));
        }
        _ => {}
    }
    for (counter, text) in [
        ("orders_full", "orders did not fit orders_max"),
        ("instruments_full", "instruments did not fit instruments_max"),
        ("window_full", "gaps were declared because held_packets was full"),
        ("oversized", "packets were too long to be held"),
    ] {
        let count = feed.counters.get(counter).copied().unwrap_or(0);
        if count > 0 {
            troubles.push(warning(format!("{name}: {} {text}", grouped(count))));
        }
    }
}

fn of_port(port: &Port, troubles: &mut Vec<Trouble>) {
    let name = &port.name;
    if port.missed > 0 {
        let missed = grouped(port.missed);
        troubles.push(warning(format!("port {name}: {missed} frames were dropped since the start")));
    }
    if port.oversized > 0 {
        troubles.push(warning(format!(
            "port {name}: {} frames were too long since the start",
            grouped(port.oversized)
        )));
    }
}

fn of_limits(model: &Model, troubles: &mut Vec<Trouble>) {
    for limit in limits::all(model).into_iter().filter(|limit| limit.part() >= NEARLY_FULL) {
        let (used, max) = (compact(limit.used), compact(limit.max));
        troubles.push(warning(format!("{}: {used} of {max} are in use", limit.name)));
    }
}

fn of_clocks(model: &Model, troubles: &mut Vec<Trouble>) {
    for stage in model.latency.stages().iter().filter(|stage| stage.negative_count > 0) {
        let name = stage_name(stage.stage).replace("_to_", " → ");
        let negative = grouped(stage.negative_count);
        troubles.push(note(format!("{name}: {negative} updates took less than no time, clocks disagree")));
    }
}
