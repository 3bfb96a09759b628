//! How full it is: what has a limit, and how much of it is in use.

use super::state::Model;
use crate::proto::Feed;

/// From here on an operator should know.
pub const NEARLY_FULL: f64 = 0.9;

/// Something that has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: &'static str,
    pub used: u64,
    pub max: u64,
}

impl Limit {
    pub fn part(&self) -> f64 {
        self.used as f64 / self.max as f64
    }
}

/// The limits of the node and, of those that each feed has, of the fullest.
pub fn all(model: &Model) -> Vec<Limit> {
    let mut limits = Vec::new();
    if let Some(region) = model.node.as_ref().and_then(|node| node.region.as_ref()) {
        limits.push(Limit { name: "instruments", used: region.instruments, max: region.instruments_max });
    }
    let counter = |feed: &Feed, name: &str| feed.counters.get(name).copied().unwrap_or(0);
    let fullest = |name, used: &dyn Fn(&Feed) -> u64, max: &dyn Fn(&Feed) -> u64| {
        let feeds = model.lines.feeds().iter();
        let limits = feeds.map(|feed| Limit { name, used: used(feed), max: max(feed) });
        limits.filter(|limit| limit.max > 0).max_by(|one, other| one.part().total_cmp(&other.part()))
    };
    limits.extend(fullest("orders", &|feed| counter(feed, "orders"), &|feed| feed.orders_max));
    limits.extend(fullest("held", &|feed| counter(feed, "held_now"), &|feed| feed.held_packets_max));
    if let Some(node) = &model.node {
        let (used, max) = (node.subscriptions.into(), node.subscriptions_max.into());
        limits.push(Limit { name: "subscriptions", used, max });
    }
    limits.retain(|limit| limit.max > 0);
    limits
}

/// For how long the log holds an update at the present rate, in ns: who reads later than that was lapped. `None` = there
/// are no updates.
pub fn log_ns(model: &Model) -> Option<u64> {
    let ticks = model.node.as_ref()?.region.as_ref()?.log_ticks as f64;
    let per_s = model.ticks_per_s();
    (per_s > 0.0).then(|| (ticks / per_s * 1e9) as u64)
}
