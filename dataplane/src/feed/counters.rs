//! What a decoder counted: one set for all protocols, of which each uses its part.

use crate::counters::Counter;

/// Written by the worker, read by telemetry. What is wrong with the feed itself makes it suspect as well.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct DecoderCounters {
    /// Messages that changed books or quotes, or told trades.
    pub actions: Counter,
    /// All other messages of the protocol.
    pub others: Counter,
    /// Messages of a type that the specification does not have.
    pub unknown_types: Counter,
    /// Messages whose length is not that of their type, or with values that can't be.
    pub malformed: Counter,
    /// Messages about orders that are not known: of a past that was not seen, as a rule.
    pub unknown_orders: Counter,
    /// Reports of an instrument whose number was not the next: some were missed (MDP 3.0).
    pub report_gaps: Counter,
    /// Reports whose number had come already.
    pub old_reports: Counter,
    /// Times that all books of the channel began anew.
    pub channel_resets: Counter,
    /// Events whose end did not come in time: what they had changed was published without it.
    pub events_cut: Counter,
    /// Trading statuses of security groups of which no instrument is known.
    pub statuses_unmatched: Counter,
    /// Orders that did not fit `orders_max`.
    pub orders_full: Counter,
    /// Instruments that did not fit the region.
    pub instruments_full: Counter,
    /// Orders alive now.
    pub orders: Counter,
    /// Updates published, in all and by kind.
    pub ticks: Counter,
    pub quotes: Counter,
    pub trades: Counter,
    pub statuses: Counter,
    pub definitions: Counter,
}

impl DecoderCounters {
    /// Every counter by name, for whoever shows them all.
    pub fn entries(&self) -> [(&'static str, u64); 18] {
        [
            ("actions", self.actions.get()),
            ("others", self.others.get()),
            ("unknown_types", self.unknown_types.get()),
            ("malformed", self.malformed.get()),
            ("unknown_orders", self.unknown_orders.get()),
            ("report_gaps", self.report_gaps.get()),
            ("old_reports", self.old_reports.get()),
            ("channel_resets", self.channel_resets.get()),
            ("events_cut", self.events_cut.get()),
            ("statuses_unmatched", self.statuses_unmatched.get()),
            ("orders_full", self.orders_full.get()),
            ("instruments_full", self.instruments_full.get()),
            ("orders", self.orders.get()),
            ("ticks", self.ticks.get()),
            ("quotes", self.quotes.get()),
            ("trades", self.trades.get()),
            ("statuses", self.statuses.get()),
            ("definitions", self.definitions.get()),
        ]
    }
}
