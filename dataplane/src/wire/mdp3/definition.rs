//! Instrument definitions: templates 27, 29 and 41 (prices of 10⁻⁷), 54 to 58 and 63 (10⁻⁹).
//!
//! They begin alike; the fields behind lie elsewhere in each template, as [`Layout`] tells.

use super::{Block, Dimensions, Group, PRICE_NULL, UINT8_NULL, UNIT_7, UNIT_9, price};
use zerocopy::byteorder::little_endian::{I32, I64, U16, U32, U64};

/// What all definitions begin with.
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 1 | `match_event_indicator` | bits of [`event_bit`](super::event_bit) |
/// | 1 | 4 | `tot_num_reports` | instruments in the replay, may be null |
/// | 5 | 1 | `update_action` | `A` added, `D` deleted, `M` modified |
/// | 6 | 8 | `last_update_time` | ns of Unix UTC |
/// | 14 | 1 | `trading_status` | as in [`SecurityStatus`](super::SecurityStatus), replay only |
/// | 15 | 2 | `appl_id` | the channel |
/// | 17 | 1 | `market_segment` | |
/// | 18 | 1 | `underlying_product` | |
/// | 19 | 4 | `exchange` | |
/// | 23 | 6 | `security_group` | |
/// | 29 | 6 | `asset` | product code |
/// | 35 | 20 | `symbol` | the instrument's name |
/// | 55 | 4 | `security_id` | the instrument's number |
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct DefinitionHead {
    pub match_event_indicator: u8,
    pub tot_num_reports: U32,
    pub update_action: u8,
    pub last_update_time: U64,
    pub trading_status: u8,
    pub appl_id: U16,
    pub market_segment: u8,
    pub underlying_product: u8,
    pub exchange: [u8; 4],
    pub security_group: [u8; 6],
    pub asset: [u8; 6],
    pub symbol: [u8; 20],
    pub security_id: I32,
}

const _: () = assert!(size_of::<DefinitionHead>() == 59);

impl DefinitionHead {
    pub const ADDED: u8 = b'A';
    pub const DELETED: u8 = b'D';
    pub const MODIFIED: u8 = b'M';
}

/// Where a template has the fields that only some definitions share.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    pub template: u16,
    price_unit: i64,
    min_price_increment: usize,
    display_factor: usize,
    /// MainFraction; SubFraction is behind it. `None` = the template has neither.
    fractions: Option<usize>,
    display_format: Option<usize>,
}

/// Future, spread, option; each by schemas up to 8 and from 9 on. Then fixed income, repo, FX.
#[rustfmt::skip]
pub const LAYOUTS: [Layout; 9] = [
    layout(27, UNIT_7, 91, 99, Some(107), Some(109)),
    layout(54, UNIT_9, 91, 99, Some(107), Some(109)),
    layout(29, UNIT_7, 94, 102, Some(191), Some(110)),
    layout(56, UNIT_9, 94, 102, Some(191), Some(110)),
    layout(41, UNIT_7, 111, 127, Some(136), Some(138)),
    layout(55, UNIT_9, 111, 127, Some(136), Some(138)),
    layout(57, UNIT_9, 86, 94, Some(102), Some(104)),
    layout(58, UNIT_9, 86, 94, None, None),
    layout(63, UNIT_9, 89, 97, None, Some(105)),
];

const fn layout(
    template: u16,
    price_unit: i64,
    min_price_increment: usize,
    display_factor: usize,
    fractions: Option<usize>,
    display_format: Option<usize>,
) -> Layout {
    Layout { template, price_unit, min_price_increment, display_factor, fractions, display_format }
}

impl Layout {
    pub fn of(template: u16) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| layout.template == template)
    }
}

/// An entry of the group NoMDFeedTypes: how deep a book of the instrument is.
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 3 | `feed_type` | `GBX` the book of orders, `GBI` the implied one |
/// | 3 | 1 | `market_depth` | levels a side |
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct FeedTypeEntry {
    pub feed_type: [u8; 3],
    pub market_depth: i8,
}

const _: () = assert!(size_of::<FeedTypeEntry>() == 4);

impl FeedTypeEntry {
    pub const DIRECT: [u8; 3] = *b"GBX";
    pub const IMPLIED: [u8; 3] = *b"GBI";
}

/// A definition, in place.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    layout: &'static Layout,
    block: Block<'a, DefinitionHead>,
    groups: &'a [u8],
}

impl<'a> Definition<'a> {
    pub(super) fn new(
        layout: &'static Layout,
        block: Block<'a, DefinitionHead>,
        groups: &'a [u8],
    ) -> Definition<'a> {
        Definition { layout, block, groups }
    }

    pub fn head(&self) -> &'a DefinitionHead {
        self.block.known()
    }

    /// The constant tick, 10⁻⁹; `None` = it has none (a variable tick table), or is not told.
    pub fn min_price_increment(&self) -> Option<i64> {
        self.decimal(self.layout.min_price_increment)
    }

    /// What a price on the wire is multiplied with to become the conventional one, 10⁻⁹.
    pub fn display_factor(&self) -> Option<i64> {
        self.decimal(self.layout.display_factor)
    }

    /// The denominators of a fractional price's main and sub fraction.
    pub fn fractions(&self) -> (Option<u8>, Option<u8>) {
        match self.layout.fractions {
            Some(at) => (self.byte(at), self.byte(at + 1)),
            None => (None, None),
        }
    }

    /// Decimals of a fractional price as it is shown.
    pub fn display_format(&self) -> Option<u8> {
        self.layout.display_format.and_then(|at| self.byte(at))
    }

    /// How deep its books are. Empty if the groups are cut.
    pub fn feed_types(&self) -> Group<'a, FeedTypeEntry> {
        let events = Group::<[u8; 1]>::split(self.groups, Dimensions::Packed);
        let feed_types = events.and_then(|(_, rest)| Group::split(rest, Dimensions::Packed));
        feed_types.map_or(Group::EMPTY, |(group, _)| group)
    }

    fn decimal(&self, at: usize) -> Option<i64> {
        let mantissa = self.block.field::<I64>(at).map_or(PRICE_NULL, |mantissa| mantissa.get());
        price(mantissa, self.layout.price_unit)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.block.field::<u8>(at).copied().filter(|byte| *byte != UINT8_NULL)
    }
}
