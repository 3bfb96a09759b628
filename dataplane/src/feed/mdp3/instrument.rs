//! What is known of each of the feed's instruments, and where it is found by the exchange's number.

use super::book::{BookSide, DEPTH_MAX, Extent, Impossible, Update};
use crate::book::Full;
use crate::cache::tick::{Contract, PRICE_ABSENT, Quote};
use crate::feed::trades::Trades;
use crate::wire::mdp3::entry_type;
use bytemuck::{Pod, Zeroable};

/// Bits of [`Instrument::is`].
pub(super) mod state {
    /// The number of its last report is known: the next one can be told from a later one.
    pub const NUMBERED: u8 = 1 << 0;
    /// A report of it was missed, or could not be right: until the channel is reset.
    pub const SUSPECT: u8 = 1 << 1;
    /// It stands in the list of what the event at hand changed.
    pub const TOUCHED: u8 = 1 << 2;
    /// All its rows are to be published again when the event ends.
    pub const RENEWED: u8 = 1 << 3;
    /// It is chained into its security group.
    pub const GROUPED: u8 = 1 << 4;
    /// Its books were changed when their depth was not known: a level that fell out at their end may still be in them, and
    /// come up.
    pub const UNMEASURED: u8 = 1 << 5;
}

/// Every bit of [`Instrument::changed`].
const ALL_SIDES: u8 = 0b1111;

/// The two books of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Book {
    /// Of the instrument's own orders.
    Direct = 0,
    /// Of what follows from the books of others.
    Implied = 1,
}

/// All zero = never heard of. Its first cache line, and that of a side, is what most changes of a book need.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Instrument {
    pub security_id: i32,
    /// The region's own number of it, plus 1; 0 = it has none yet.
    row: u32,
    /// The number of its last report, if that is known.
    pub rpt_seq: u32,
    /// How many losses the feed had when a report last proved this instrument.
    pub losses: u32,
    /// Bits of [`state`].
    pub is: u8,
    /// Sides that may not be as they were published, one bit each.
    changed: u8,
    /// Levels of its books, by [`Book`]; 0 = not told.
    depths: [u8; 2],
    /// The next instrument of its security group, plus 1; 0 = none.
    pub next_in_group: u32,
    /// As published last, by [`Book`].
    quotes: [PackedQuote; 2],
    pub trades: Trades,
    pub security_group: [u8; 6],
    pub asset: [u8; 6],
    pub halt_reason: [u8; 4],
    /// A letter; 0 = not told.
    pub trading_state: u8,
    reserved: [u8; 7],
    /// As published last.
    pub contract: Contract,
    reserved2: [u64; 4],
    /// Bids, offers, implied bids, implied offers.
    sides: [BookSide; 4],
}

/// A quote whose absent prices are 0: all zero = empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct PackedQuote {
    prices: [i64; 2],
    sizes: [u32; 2],
}

const _: () = assert!(size_of::<Instrument>() == 768);

impl Instrument {
    #[inline(always)]
    pub fn row(&self) -> Option<u32> {
        self.row.checked_sub(1)
    }

    pub fn set_row(&mut self, row: Option<u32>) {
        self.row = row.map_or(0, |row| row + 1);
    }

    #[inline(always)]
    pub fn has(&self, state: u8) -> bool {
        self.is & state != 0
    }

    /// Does to a side what an entry of that type says; `complete` is what is so of the feed.
    #[inline(always)]
    pub fn apply(&mut self, entry_type: u8, update: &Update, complete: bool) -> Result<(), Impossible> {
        let (side, book) = match entry_type {
            entry_type::BID => (0, Book::Direct),
            entry_type::OFFER => (1, Book::Direct),
            entry_type::IMPLIED_BID => (2, Book::Implied),
            entry_type::IMPLIED_OFFER => (3, Book::Implied),
            _ => return Err(Impossible),
        };
        if self.depths[book as usize] == 0 {
            self.is |= state::UNMEASURED;
        }
        let extent = self.extent(book, complete);
        self.changed |= 1 << side;
        self.sides[side].apply(update, extent)
    }

    /// How far a book can be known.
    #[inline(always)]
    fn extent(&self, book: Book, complete: bool) -> Extent {
        let told = usize::from(self.depths[book as usize]);
        let depth = if told == 0 { DEPTH_MAX } else { told.min(DEPTH_MAX) };
        // Of a deeper book, what moves up from behind the last level is not seen.
        let certain = told <= DEPTH_MAX && !self.has(state::SUSPECT | state::UNMEASURED);
        Extent { depth: depth as u8, complete: complete && certain }
    }

    /// Takes the top of a book as it is now; `Some` = it is not the one that was published last.
    #[inline(always)]
    pub fn take_quote(&mut self, book: Book) -> Option<Quote> {
        let mut differs = false;
        for side in [0, 1] {
            let at = book as usize * 2 + side;
            if self.changed & 1 << at != 0 {
                let (price, size) = self.sides[at].best().unwrap_or((0, 0));
                let quote = &mut self.quotes[book as usize];
                differs |= (quote.prices[side], quote.sizes[side]) != (price, size);
                (quote.prices[side], quote.sizes[side]) = (price, size);
            }
        }
        self.changed &= !(0b11 << (book as usize * 2));
        differs.then(|| self.quote(book))
    }

    /// The top of a book as it was published last.
    pub fn quote(&self, book: Book) -> Quote {
        self.quotes[book as usize].quote()
    }

    /// Both books are empty.
    pub fn clear_books(&mut self) {
        self.sides = Zeroable::zeroed();
        self.changed = ALL_SIDES;
        self.is &= !state::UNMEASURED;
    }

    /// The channel was reset: the books are empty, and the next report's number is 1.
    pub fn reset(&mut self) {
        self.clear_books();
        self.is = self.is & state::GROUPED | state::NUMBERED;
        (self.rpt_seq, self.losses) = (0, 0);
    }

    /// Takes the depth of a definition. An empty book can't hold too much.
    pub fn set_depth(&mut self, book: Book, levels: u8) {
        self.depths[book as usize] = levels;
        let depth = self.extent(book, true).depth;
        let first = book as usize * 2;
        self.changed = ALL_SIDES;
        self.sides[first..first + 2].iter_mut().for_each(|side| side.cut(depth));
        if self.sides.iter().all(|side| *side == BookSide::zeroed()) {
            self.is &= !state::UNMEASURED;
        }
    }
}

impl PackedQuote {
    #[inline(always)]
    fn quote(&self) -> Quote {
        let price = |side: usize| if self.sizes[side] == 0 { PRICE_ABSENT } else { self.prices[side] };
        Quote { bid_price: price(0), ask_price: price(1), bid_size: self.sizes[0], ask_size: self.sizes[1] }
    }
}

/// The feed's instruments by security id: an open-addressed table of fixed size.
pub(super) struct Instruments {
    /// Security id in the upper half, place plus 1 in the lower; 0 = free. A power of two of them, at least twice as
    /// many as there are instruments.
    slots: Box<[u64]>,
    shift: u32,
    instruments: Box<[Instrument]>,
    used: usize,
}

impl Instruments {
    pub fn new(instruments_max: usize) -> Instruments {
        let slots = (instruments_max.max(1) * 2).next_power_of_two();
        Instruments {
            slots: bytemuck::allocation::zeroed_slice_box(slots),
            shift: u32::BITS - slots.trailing_zeros(),
            instruments: bytemuck::allocation::zeroed_slice_box(instruments_max),
            used: 0,
        }
    }

    pub fn memory(&self) -> [&[u8]; 2] {
        [bytemuck::cast_slice(&self.slots), bytemuck::cast_slice(&self.instruments)]
    }

    pub fn len(&self) -> usize {
        self.used
    }

    #[inline(always)]
    fn slot(&self, security_id: i32) -> usize {
        ((security_id as u32).wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    /// The slot where the id is or would be, and the place that it names.
    #[inline(always)]
    fn probe(&self, security_id: i32) -> (usize, Option<usize>) {
        let mask = self.slots.len() - 1;
        let mut at = self.slot(security_id);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return (at, None);
            }
            if (slot >> 32) as u32 == security_id as u32 {
                return (at, Some((slot as u32 - 1) as usize));
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(always)]
    pub fn find(&self, security_id: i32) -> Option<usize> {
        self.probe(security_id).1
    }

    #[inline(always)]
    pub fn find_or_add(&mut self, security_id: i32) -> Result<usize, Full> {
        match self.probe(security_id) {
            (_, Some(place)) => Ok(place),
            (slot, None) => self.add(slot, security_id),
        }
    }

    #[cold]
    fn add(&mut self, slot: usize, security_id: i32) -> Result<usize, Full> {
        let place = self.used;
        self.instruments.get_mut(place).ok_or(Full)?.security_id = security_id;
        self.slots[slot] = u64::from(security_id as u32) << 32 | (place as u64 + 1);
        self.used += 1;
        Ok(place)
    }

    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.instruments[..self.used].fill(Instrument::zeroed());
        self.used = 0;
    }
}

impl std::ops::Index<usize> for Instruments {
    type Output = Instrument;

    #[inline(always)]
    fn index(&self, place: usize) -> &Instrument {
        &self.instruments[place]
    }
}

impl std::ops::IndexMut<usize> for Instruments {
    #[inline(always)]
    fn index_mut(&mut self, place: usize) -> &mut Instrument {
        &mut self.instruments[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_table_still_finds_and_adds_no_more() {
        let mut table = Instruments::new(3);
        let ids = [0, -1, i32::MIN];
        for (place, id) in ids.into_iter().enumerate() {
            assert_eq!(table.find(id), None);
            assert_eq!(table.find_or_add(id), Ok(place));
        }
        assert_eq!(table.find_or_add(7), Err(Full));
        assert_eq!(ids.map(|id| table.find(id)), [Some(0), Some(1), Some(2)]);
        assert_eq!((table.find(7), table.len(), table[2].security_id), (None, 3, i32::MIN));
        table.clear();
        assert_eq!((table.find(0), table.find_or_add(7), table[0].security_id), (None, Ok(0), 7));
        assert_eq!(Instruments::new(0).find_or_add(1), Err(Full));
    }

    proptest! {
        #[test]
        fn ids_lead_to_their_own_places(ids in prop::collection::vec(-40..40_i32, 0..200)) {
            let mut table = Instruments::new(100);
            let mut model = std::collections::HashMap::new();
            for id in ids.into_iter().map(|id| id.wrapping_mul(0x0101_0101)) {
                let next = model.len();
                let place = *model.entry(id).or_insert(next);
                prop_assert_eq!(table.find_or_add(id), Ok(place));
                prop_assert_eq!(table[place].security_id, id);
            }
        }
    }
}
