//! A standby with its connection: whatever later term it hears of, the connection goes first.

use super::LinkError;
use super::standby_end::StandbyEnd;
use crate::rdma::{Device, QueuePairConfig};
use crate::region::RegionMapping;
use crate::tcp_link::Channel;
use dataplane::cache::writer::Writer;
use dataplane::replica::{Lineage, Standby, StandbyError};
use std::sync::Arc;

/// A [`Standby`] that a primary's device may write to, on one connection after the other.
///
/// A primary can write until its connection is dropped. So the standby is only lent to be looked at: it hears of a later term,
/// and becomes a primary, by ways that drop the connection first.
#[derive(Debug)]
pub struct LinkedStandby<'m> {
    end: Option<StandbyEnd>,
    standby: Standby<'m>,
    device: Arc<Device>,
    mapping: Arc<RegionMapping>,
    patience: QueuePairConfig,
}

impl<'m> LinkedStandby<'m> {
    /// Without a connection. The region of `standby` is in `mapping`; of `patience` the timeouts and retries count, the depths
    /// are the link's own.
    pub fn new(
        standby: Standby<'m>,
        device: &Arc<Device>,
        mapping: &Arc<RegionMapping>,
        patience: &QueuePairConfig,
    ) -> LinkedStandby<'m> {
        let (device, mapping, patience) = (device.clone(), mapping.clone(), *patience);
        LinkedStandby { end: None, standby, device, mapping, patience }
    }

    pub fn standby(&self) -> &Standby<'m> {
        &self.standby
    }

    /// As [`Standby::set_whole`].
    pub fn set_whole(&mut self, whole: bool) {
        self.standby.set_whole(whole);
    }

    /// Begins a connection: the introduction and the Hello are on their way after the next [`LinkedStandby::poll`]. One that
    /// was before it is dropped.
    pub fn connect(&mut self, channel: impl Into<Channel>) -> Result<(), LinkError> {
        self.disconnect();
        let LinkedStandby { end, standby, device, mapping, patience } = self;
        *end = Some(StandbyEnd::new(channel, device, mapping, standby, patience)?);
        Ok(())
    }

    /// The fence: once this has returned, whoever was the primary writes nothing any more.
    pub fn disconnect(&mut self) {
        self.end = None;
    }

    pub fn is_connected(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the primary's device writes into this node's log; else ticks come by the stream.
    pub fn is_by_device(&self) -> bool {
        self.end.as_ref().is_some_and(StandbyEnd::is_connected)
    }

    /// One round: takes what has come, and sends what the standby has to say. Returns how much came; nothing without a
    /// connection. `now_ns` tells the time (`CLOCK_MONOTONIC`); `write_down` makes a term outlast a crash. After an error there
    /// is no connection; what came before is taken.
    pub fn poll(
        &mut self,
        now_ns: impl Fn() -> u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<usize, LinkError> {
        let Some(end) = &mut self.end else { return Ok(0) };
        let polled = end.poll(&mut self.standby, now_ns, write_down);
        if polled.is_err() {
            self.disconnect();
        }
        polled
    }

    /// As [`Standby::hear_of`], of a term that somebody else tells of: if it is a later one, the connection is dropped first.
    pub fn hear_of(
        &mut self,
        term: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StandbyError> {
        if term > self.standby.status().term {
            self.disconnect();
        }
        self.standby.hear_of(term, write_down)
    }

    /// As [`Standby::retire`], without a connection.
    pub fn retire(&mut self) {
        self.disconnect();
        self.standby.retire();
    }

    /// As [`Standby::into_primary`], of which the error, too, is without a connection.
    pub fn into_primary(self, term: u64) -> Result<(Writer<'m>, Lineage), Box<Standby<'m>>> {
        self.into_standby().into_primary(term)
    }

    /// The standby without a connection.
    pub fn into_standby(mut self) -> Standby<'m> {
        self.disconnect();
        self.standby
    }
}
