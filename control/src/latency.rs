//! Latencies: what was counted where, made readable as HdrHistograms.

use crate::node::Node;
use crate::proto::{self, Stage, scope};
use dataplane::histogram::{Histogram, VALUE_NS_MAX, value_ns_at};
use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The worker's histogram tells values apart to within 1/128, so two digits lose nothing.
const SIGNIFICANT_DIGITS: u8 = 2;
/// The name of a node's only worker.
pub const WORKER: &str = "0";

/// Whose latencies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody's.
    Node,
    Worker(String),
    Feed(String),
    /// A standby of this node's.
    Peer(String),
    Client(String),
    /// The clients of a role that have no histogram of their own.
    Role(String),
}

impl Scope {
    /// The part of the node that it is, and which of those: `feed nasdaq`.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Scope::Node => ("node", ""),
            Scope::Worker(name) => ("worker", name),
            Scope::Feed(name) => ("feed", name),
            Scope::Peer(name) => ("peer", name),
            Scope::Client(name) => ("client", name),
            Scope::Role(name) => ("role", name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(out, "{kind}{}{name}", if name.is_empty() { "" } else { " " })
    }
}

impl From<&proto::Scope> for Scope {
    fn from(scope: &proto::Scope) -> Scope {
        match scope.scope.clone() {
            None => Scope::Node,
            Some(scope::Scope::Worker(name)) => Scope::Worker(name),
            Some(scope::Scope::Feed(name)) => Scope::Feed(name),
            Some(scope::Scope::Peer(name)) => Scope::Peer(name),
            Some(scope::Scope::Client(name)) => Scope::Client(name),
            Some(scope::Scope::Role(name)) => Scope::Role(name),
        }
    }
}

impl From<&Scope> for proto::Scope {
    fn from(scope: &Scope) -> proto::Scope {
        let scope = match scope.clone() {
            Scope::Node => None,
            Scope::Worker(name) => Some(scope::Scope::Worker(name)),
            Scope::Feed(name) => Some(scope::Scope::Feed(name)),
            Scope::Peer(name) => Some(scope::Scope::Peer(name)),
            Scope::Client(name) => Some(scope::Scope::Client(name)),
            Scope::Role(name) => Some(scope::Scope::Role(name)),
        };
        proto::Scope { scope }
    }
}

/// What one histogram is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub scope: Scope,
    pub stage: Stage,
}

/// How often which durations were counted: up to some time, or between two times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The histogram's places that have a count, in their order.
    pub places: Vec<(u16, u64)>,
    pub negative: u64,
}

impl From<&Histogram> for Counts {
    fn from(histogram: &Histogram) -> Counts {
        Counts { places: histogram.places().collect(), negative: histogram.negative() }
    }
}

impl Counts {
    /// Counts all that `others` count, too.
    pub fn add(&mut self, others: impl IntoIterator<Item = (u16, u64)>, negative: u64) {
        let mut all: BTreeMap<u16, u64> = self.places.drain(..).collect();
        for (place, count) in others {
            *all.entry(place).or_default() += count;
        }
        self.places = all.into_iter().collect();
        self.negative += negative;
    }

    fn sum<'h>(histograms: impl IntoIterator<Item = &'h Histogram>) -> Counts {
        let mut sum = Counts::default();
        for histogram in histograms {
            sum.add(histogram.places(), histogram.negative());
        }
        sum
    }

    /// What came since `earlier`; everything, if this is not the same histogram any more.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let mut before = earlier.places.iter().copied().peekable();
        let mut places = Vec::new();
        for (place, count) in self.places.iter().copied() {
            let was = before.next_if(|(earlier, _)| *earlier <= place).unwrap_or((place, 0));
            match count.checked_sub(was.1).filter(|_| was.0 == place) {
                Some(0) => {}
                Some(count) => places.push((place, count)),
                None => return self.clone(),
            }
        }
        match self.negative.checked_sub(earlier.negative).filter(|_| before.peek().is_none()) {
            Some(negative) => Counts { places, negative },
            None => self.clone(),
        }
    }

    /// In ns.
    pub fn hdr(&self) -> Hdr<u64> {
        let mut hdr = Hdr::new_with_bounds(1, VALUE_NS_MAX, SIGNIFICANT_DIGITS).expect("constant bounds");
        for (place, count) in &self.places {
            hdr.saturating_record_n(value_ns_at(*place), *count);
        }
        hdr
    }
}

/// HdrHistogram's V2 encoding, uncompressed.
pub fn v2(histogram: &Hdr<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("a vector takes it all");
    bytes
}

/// All that the node has counted since its start.
pub fn counts(node: &Node) -> BTreeMap<Series, Counts> {
    let mut all = BTreeMap::new();
    let mut put = |scope: Scope, stage: Stage, counts: Counts| {
        all.insert(Series { scope, stage }, counts);
    };
    let feeds = &node.telemetry.feeds;
    for (feed, counted) in node.config.feeds.iter().zip(feeds) {
        let scope = Scope::Feed(feed.name.clone());
        put(scope.clone(), Stage::ExchangeToReceived, Counts::from(&counted.exchange_to_received));
        put(scope, Stage::ReceivedToPublished, Counts::from(&counted.received_to_published));
    }
    let stages = [
        (Stage::ExchangeToReceived, Counts::sum(feeds.iter().map(|feed| &feed.exchange_to_received))),
        (Stage::ReceivedToPublished, Counts::sum(feeds.iter().map(|feed| &feed.received_to_published))),
    ];
    for (stage, sum) in stages {
        // A copy has no worker.
        if !node.telemetry.ports.is_empty() {
            put(Scope::Worker(WORKER.to_owned()), stage, sum.clone());
        }
        put(Scope::Node, stage, sum);
    }
    put(Scope::Node, Stage::PublishedToDelivered, Counts::from(&node.delivery.published_to_delivered));
    for (scope, histogram) in node.delivery.by_client() {
        put(scope, Stage::PublishedToDelivered, Counts::from(&*histogram));
    }
    if node.config.replica.is_some() {
        let (_, peers) = node.group.view.get();
        let sum = Counts::sum(peers.iter().map(|(_, histogram)| &**histogram));
        put(Scope::Node, Stage::PublishedToAcknowledged, sum);
        for (name, histogram) in peers {
            put(Scope::Peer(name), Stage::PublishedToAcknowledged, Counts::from(&*histogram));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn counts_come_back_from_the_encoding_and_differences_are_exact() {
        let counted = Histogram::default();
        counted.record(1_000, 5);
        let earlier = Counts::from(&counted);
        counted.record(2_000_000, 3);
        counted.record(u64::MAX, 1);
        counted.record_between(2, 1, 7);
        let later = Counts::from(&counted);
        let decoded: Hdr<u64> = Deserializer::new().deserialize(&mut v2(&later.hdr()).as_slice()).unwrap();
        assert_eq!(decoded, later.hdr());
        let since = later.since(&earlier);
        assert_eq!((since.hdr().len(), since.negative, since.hdr().count_between(0, 1_100)), (4, 7, 0));
        let p50_ns = since.hdr().value_at_quantile(0.5);
        assert!((2_000_000..2_020_000).contains(&p50_ns), "{p50_ns}");
        let mut again = earlier.clone();
        again.add(since.places.iter().copied(), since.negative);
        assert_eq!(again, later);
    }

    #[test]
    fn what_begins_anew_is_not_taken_for_less_than_nothing() {
        let (old, new) = (Histogram::default(), Histogram::default());
        old.record(1_000, 5);
        old.record(2_000, 5);
        new.record(2_000, 3);
        assert_eq!(Counts::from(&new).since(&Counts::from(&old)), Counts::from(&new));
        new.record(1_000, 9);
        assert_eq!(Counts::from(&new).since(&Counts::from(&old)), Counts::from(&new));
        new.record(1_000_000, 9);
        assert_eq!(Counts::default().since(&Counts::from(&new)), Counts::default());
    }
}
