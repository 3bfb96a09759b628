//! Whether a subscription can go on where an earlier one ended, also on another node.

use crate::proto::{ImageReason, Place};
use dataplane::cache::reader::Reader;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The log from there on is what comes next; the generation is that of the region.
    Here {
        generation: u64,
    },
    /// This is the right log, but it does not reach that far yet.
    NotYet,
    Nowhere(ImageReason),
}

/// A place of the region's log. It means something to other nodes only if the lineage says whose log it is.
pub fn of(reader: &Reader<'_>, position: u64, subscribed: u64) -> Place {
    let log = reader.lineage().map_or(0, |lineage| lineage.log);
    Place { generation: reader.generation(), log, position, subscribed }
}

/// Looks for a place in the log.
///
/// It is one of this log if this is the region that it was given for, or if its log below it is a beginning of the region's: then
/// every tick below it is the same here. What the region does not know (a log further back than the one before the present) is
/// not taken for granted.
pub fn find(reader: &Reader<'_>, place: &Place, subscribed: u64) -> Found {
    if place.subscribed != subscribed {
        return Found::Nowhere(ImageReason::Changed);
    }
    let (generation, lineage) = (reader.generation(), reader.lineage());
    let continues = lineage.is_some_and(|lineage| lineage.continues(place.log, place.position));
    if place.generation != generation && !continues {
        return Found::Nowhere(ImageReason::OtherLog);
    }
    let tail = reader.tail();
    let is_there = place.position < tail && reader.log_tick(place.position).is_some();
    // The tail belongs to the lineage only if that is still the same behind it.
    if reader.generation() != generation || reader.lineage() != lineage {
        return Found::NotYet;
    }
    match place.position {
        position if position > tail => Found::NotYet,
        position if position == tail || is_there => Found::Here { generation },
        _ => Found::Nowhere(ImageReason::Overwritten),
    }
}
