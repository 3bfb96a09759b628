//! The renumbering: a feed's instruments, by their numbers in two regions.

use super::view::View;
use crate::cache::writer::Writer;

/// From the number of an instrument in the region where its feed was published before to that in another one, where it is
/// called the same, and back.
#[derive(Debug)]
pub struct Renumbering {
    after: Vec<Option<u32>>,
    before: Vec<Option<u32>>,
    /// Instruments for which the other region has no place.
    pub(super) without_place: u64,
}

impl Renumbering {
    /// Of the instruments that have a name in the feed's session; those that the other region does not know get a number
    /// there, and are still to be defined.
    pub(super) fn new(from: &View<'_>, writer: &mut Writer<'_>) -> Renumbering {
        let mut numbers = Renumbering {
            after: vec![None; from.instruments() as usize],
            before: vec![None; writer.layout().instruments as usize],
            without_place: 0,
        };
        for (instrument, definition) in from.named() {
            let found = writer.find(from.feed(), definition.name()).map(|(number, _)| number);
            match found.or_else(|| writer.allocate().ok()) {
                Some(number) => {
                    numbers.after[instrument as usize] = Some(number);
                    numbers.before[number as usize] = Some(instrument);
                }
                None => numbers.without_place += 1,
            }
        }
        numbers
    }

    /// The number that an instrument has now; `None` = it is not published any more.
    #[inline]
    pub fn row(&self, before: u32) -> Option<u32> {
        self.after.get(before as usize).copied().flatten()
    }

    /// The number that an instrument had before.
    pub(super) fn row_before(&self, after: u32) -> Option<u32> {
        self.before.get(after as usize).copied().flatten()
    }

    /// All instruments: the number of before, and that of now.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(&self.after).filter_map(|(before, after)| Some((before, (*after)?)))
    }
}
