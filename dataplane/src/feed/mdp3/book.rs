//! One side of an instrument's book: up to ten levels, each at the place that the exchange gives it.
//!
//! The exchange says at which level something happens, so nothing is searched. Behind the last level there is none; in a
//! book that was joined late there may also be levels that were not told, and they look the same.

use crate::wire::mdp3::update_action;
use bytemuck::{Pod, Zeroable};

/// Levels of a side that are kept. CME's deepest books have as many.
pub const DEPTH_MAX: usize = 10;

/// All zero = empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct BookSide {
    /// 0 = no level, or none that is known. In front, so that the best levels lie in one cache line.
    sizes: [u32; DEPTH_MAX],
    prices: [i64; DEPTH_MAX],
    reserved: u64,
}

const _: () = assert!(size_of::<BookSide>() == 128);

/// What an entry says of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Update {
    /// An [`update_action`].
    pub action: u8,
    /// 1 = the best.
    pub level: u8,
    /// 10⁻⁹.
    pub price: Option<i64>,
    /// At least 1.
    pub size: Option<u32>,
}

/// What can't be right; the side is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impossible;

/// What is known of a book: how many of the exchange's levels are kept, and whether those that are not there don't exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// 1 … [`DEPTH_MAX`]; what happens behind it is of no concern.
    pub depth: u8,
    /// Everything was seen from the empty book on, so a level can only be next to another.
    pub complete: bool,
}

impl BookSide {
    /// Price and size of the best level; `None` = there is none, or it is not known.
    #[inline(always)]
    pub fn best(&self) -> Option<(i64, u32)> {
        (self.sizes[0] != 0).then_some((self.prices[0], self.sizes[0]))
    }

    #[inline(always)]
    pub fn apply(&mut self, update: &Update, extent: Extent) -> Result<(), Impossible> {
        let (level, depth) = (usize::from(update.level), usize::from(extent.depth));
        if level == 0 {
            return Err(Impossible);
        }
        match update.action {
            update_action::DELETE_THRU => {
                *self = BookSide::zeroed();
                return Ok(());
            }
            update_action::DELETE_FROM if level >= depth => {
                *self = BookSide::zeroed();
                return Ok(());
            }
            _ if level > depth => {
                return if update.action <= update_action::OVERLAY { Ok(()) } else { Err(Impossible) };
            }
            _ => {}
        }
        let at = level - 1;
        let exists = !extent.complete || self.sizes[at] != 0;
        let can_exist = !extent.complete || at == 0 || self.sizes[at - 1] != 0;
        match update.action {
            update_action::NEW if can_exist => {
                let (price, size) = update.level_told()?;
                self.prices.copy_within(at..depth - 1, level);
                self.sizes.copy_within(at..depth - 1, level);
                (self.prices[at], self.sizes[at]) = (price, size);
            }
            update_action::CHANGE if exists => (self.prices[at], self.sizes[at]) = update.level_told()?,
            update_action::OVERLAY if can_exist => (self.prices[at], self.sizes[at]) = update.level_told()?,
            update_action::DELETE if exists => self.close(at, 1, depth),
            update_action::DELETE_FROM if exists => self.close(0, level, depth),
            _ => return Err(Impossible),
        }
        Ok(())
    }

    /// Takes `count` levels out; those behind move up.
    #[inline(always)]
    fn close(&mut self, at: usize, count: usize, depth: usize) {
        self.prices.copy_within(at + count..depth, at);
        self.sizes.copy_within(at + count..depth, at);
        self.prices[depth - count..depth].fill(0);
        self.sizes[depth - count..depth].fill(0);
    }

    /// Forgets what lies behind `depth`.
    pub fn cut(&mut self, depth: u8) {
        self.prices[usize::from(depth)..].fill(0);
        self.sizes[usize::from(depth)..].fill(0);
    }

    /// All places, best first; `None` = no level, or none that is known.
    #[cfg(test)]
    pub fn levels(&self) -> Vec<Option<(i64, u32)>> {
        let level = |(price, size): (&i64, &u32)| (*size != 0).then_some((*price, *size));
        self.prices.iter().zip(&self.sizes).map(level).collect()
    }
}

impl Update {
    #[inline(always)]
    fn level_told(&self) -> Result<(i64, u32), Impossible> {
        match (self.price, self.size) {
            (Some(price), Some(size)) if size != 0 => Ok((price, size)),
            _ => Err(Impossible),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use update_action::*;

    const WHOLE: Extent = Extent { depth: 10, complete: true };
    const LATE: Extent = Extent { depth: 10, complete: false };

    fn update(action: u8, level: u8, price: i64, size: u32) -> Update {
        Update { action, level, price: Some(price), size: Some(size) }
    }

    fn side(prices: &[i64]) -> BookSide {
        let mut side = BookSide::zeroed();
        for (level, price) in (1..).zip(prices) {
            side.apply(&update(NEW, level, *price, 5), WHOLE).unwrap();
        }
        side
    }

    fn prices(side: &BookSide) -> Vec<i64> {
        side.levels().iter().map_while(|level| level.map(|(price, _)| price)).collect()
    }

    #[test]
    fn each_action_does_what_the_exchange_means() {
        let changed = |action, level| {
            let mut side = side(&[9, 8, 7, 6]);
            side.apply(&update(action, level, 1, 2), WHOLE).map(|()| prices(&side))
        };
        assert_eq!(changed(NEW, 1), Ok(vec![1, 9, 8, 7, 6]));
        assert_eq!(changed(NEW, 5), Ok(vec![9, 8, 7, 6, 1]));
        assert_eq!(changed(CHANGE, 2), Ok(vec![9, 1, 7, 6]));
        assert_eq!(changed(OVERLAY, 4), Ok(vec![9, 8, 7, 1]));
        assert_eq!(changed(DELETE, 2), Ok(vec![9, 7, 6]));
        assert_eq!(changed(DELETE_THRU, 3), Ok(vec![]));
        assert_eq!(changed(DELETE_FROM, 3), Ok(vec![6]));
        assert_eq!(changed(DELETE_FROM, 4), Ok(vec![]));
        for (action, level) in
            [(NEW, 0), (NEW, 6), (CHANGE, 5), (DELETE, 5), (DELETE_FROM, 5), (OVERLAY, 6), (6, 1)]
        {
            assert_eq!(changed(action, level), Err(Impossible), "{action} {level}");
        }
    }

    #[test]
    fn a_level_needs_a_price_and_a_size_but_its_end_does_not() {
        let mut side = side(&[9, 8]);
        let before = side;
        for action in [NEW, CHANGE, OVERLAY] {
            for (price, size) in [(None, Some(1)), (Some(1), None), (Some(1), Some(0))] {
                assert_eq!(side.apply(&Update { action, level: 1, price, size }, WHOLE), Err(Impossible));
            }
        }
        assert_eq!(side, before);
        side.apply(&Update { action: DELETE, level: 1, price: None, size: None }, WHOLE).unwrap();
        assert_eq!(prices(&side), [8]);
    }

    #[test]
    fn a_book_ends_at_its_depth() {
        let five = Extent { depth: 5, complete: true };
        let mut side = side(&[9, 8, 7, 6, 5]);
        side.apply(&update(NEW, 2, 85, 1), five).unwrap();
        assert_eq!(prices(&side), [9, 85, 8, 7, 6]);
        for action in [NEW, CHANGE, DELETE, OVERLAY] {
            side.apply(&update(action, 6, 1, 1), five).unwrap();
        }
        assert_eq!(prices(&side), [9, 85, 8, 7, 6]);
        assert_eq!(side.apply(&update(6, 6, 1, 1), five), Err(Impossible));
        side.apply(&update(DELETE, 5, 1, 1), five).unwrap();
        side.apply(&update(NEW, 5, 4, 1), five).unwrap();
        assert_eq!(prices(&side), [9, 85, 8, 7, 4]);
        side.cut(2);
        assert_eq!(prices(&side), [9, 85]);
        side.apply(&update(DELETE_FROM, 9, 0, 0), Extent { depth: 2, complete: true }).unwrap();
        assert_eq!(prices(&side), []);
    }

    #[test]
    fn a_book_joined_late_knows_what_it_was_told() {
        let mut side = BookSide::zeroed();
        side.apply(&update(CHANGE, 3, 70, 1), LATE).unwrap();
        side.apply(&update(NEW, 10, 10, 1), LATE).unwrap();
        assert_eq!(side.best(), None);
        side.apply(&update(DELETE, 1, 0, 1), LATE).unwrap();
        side.apply(&update(DELETE, 1, 0, 1), LATE).unwrap();
        assert_eq!(side.best(), Some((70, 1)));
        assert_eq!(side.levels()[7], Some((10, 1)));
        assert_eq!(side.apply(&update(NEW, 0, 1, 1), LATE), Err(Impossible));
    }

    proptest! {
        /// Against a list, where a level that is not known is `None`.
        #[test]
        fn a_side_is_a_list_of_levels(
            depth in 1..=DEPTH_MAX as u8,
            complete in any::<bool>(),
            steps in prop::collection::vec((0..7_u8, 0..13_u8, -3..50_i64, 0..4_u32), 0..200),
        ) {
            let extent = Extent { depth, complete };
            let mut side = BookSide::zeroed();
            let mut model: Vec<Option<(i64, u32)>> = vec![None; usize::from(depth)];
            for (action, level, price, size) in steps {
                let done = side.apply(&update(action, level, price, size), extent);
                let known = model.iter().flatten().count();
                let deep = usize::from(level);
                let told = size != 0;
                let possible = level != 0 && match action {
                    3 => true,
                    4 => deep >= model.len() || !complete || deep <= known,
                    0..=5 if deep > model.len() => true,
                    0 | 5 => told && (!complete || deep <= known + 1),
                    1 => told && (!complete || deep <= known),
                    2 => !complete || deep <= known,
                    _ => false,
                };
                prop_assert_eq!(done.is_ok(), possible);
                if possible {
                    match action {
                        3 => model.fill(None),
                        4 => model.drain(..deep.min(usize::from(depth))).for_each(drop),
                        _ if deep > model.len() => {}
                        0 => model.insert(deep - 1, Some((price, size))),
                        2 => drop(model.remove(deep - 1)),
                        _ => model[deep - 1] = Some((price, size)),
                    }
                    model.resize(usize::from(depth), None);
                }
                let mut padded = model.clone();
                padded.resize(DEPTH_MAX, None);
                prop_assert_eq!(side.levels(), padded);
                prop_assert_eq!(side.best(), model[0]);
            }
        }
    }
}
