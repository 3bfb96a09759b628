//! The entries of the incremental refreshes. The tables end where the fields do that every schema has and that are read;
//! a block on the wire is longer.

use super::{Block, UINT32_NULL};
use zerocopy::byteorder::little_endian::{I32, I64, U16, U32, U64};

/// What every entry of an incremental refresh says: about which instrument, and its number for that one.
pub trait Report {
    fn security_id(&self) -> i32;
    /// One above the one before, by instrument, through all templates.
    fn rpt_seq(&self) -> u32;
}

/// Declares an entry: the struct, its asserted length, what it reports.
macro_rules! entry {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: $bytes:literal { $(pub $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
        #[derive(zerocopy::KnownLayout, zerocopy::Unaligned)]
        #[repr(C)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);

        impl Report for $name {
            #[inline(always)]
            fn security_id(&self) -> i32 {
                self.security_id.get()
            }

            #[inline(always)]
            fn rpt_seq(&self) -> u32 {
                self.rpt_seq.get()
            }
        }
    };
}

/// Values of the field MDUpdateAction (tag 279).
pub mod update_action {
    /// A level comes in; the ones from there on move down.
    pub const NEW: u8 = 0;
    pub const CHANGE: u8 = 1;
    /// A level goes; the ones behind it move up.
    pub const DELETE: u8 = 2;
    /// All levels of the side go.
    pub const DELETE_THRU: u8 = 3;
    /// The levels from the top to this one go; the ones behind it move up.
    pub const DELETE_FROM: u8 = 4;
    /// A level gets another price.
    pub const OVERLAY: u8 = 5;
}

/// Values of the field MDEntryType (tag 269) in the entries of a book.
pub mod entry_type {
    pub const BID: u8 = b'0';
    pub const OFFER: u8 = b'1';
    pub const IMPLIED_BID: u8 = b'E';
    pub const IMPLIED_OFFER: u8 = b'F';
    pub const BOOK_RESET: u8 = b'J';
}

entry! {
    /// Templates 32 and 46: a level of a book. 32 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa, may be null |
    /// | 8 | 4 | `size` | contracts, may be null |
    /// | 12 | 4 | `security_id` | the instrument |
    /// | 16 | 4 | `rpt_seq` | its number for the instrument |
    /// | 20 | 4 | `orders` | orders at the level, may be null |
    /// | 24 | 1 | `level` | 1 = the best |
    /// | 25 | 1 | `action` | [`update_action`] |
    /// | 26 | 1 | `entry_type` | [`entry_type`] |
    pub struct BookEntry: 27 {
        pub price: I64,
        pub size: I32,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub orders: I32,
        pub level: u8,
        pub action: u8,
        pub entry_type: u8,
    }
}

entry! {
    /// Template 64: a level of a book whose sizes may be large. 32 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa, may be null |
    /// | 8 | 8 | `size` | notional, may be null |
    /// | 16 | 4 | `security_id` | the instrument |
    /// | 20 | 4 | `rpt_seq` | its number for the instrument |
    /// | 24 | 4 | `orders` | orders at the level, may be null |
    /// | 28 | 1 | `level` | 1 = the best |
    /// | 29 | 1 | `action` | [`update_action`] |
    /// | 30 | 1 | `entry_type` | [`entry_type`] |
    pub struct BookLongQtyEntry: 31 {
        pub price: I64,
        pub size: U64,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub orders: I32,
        pub level: u8,
        pub action: u8,
        pub entry_type: u8,
    }
}

entry! {
    /// Templates 42 and 48: a trade. 32 bytes on the wire; from schema 7 on, the trade's number follows.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa |
    /// | 8 | 4 | `size` | contracts |
    /// | 12 | 4 | `security_id` | the instrument |
    /// | 16 | 4 | `rpt_seq` | its number for the instrument |
    /// | 20 | 4 | `orders` | orders that took part, may be null |
    /// | 24 | 1 | `aggressor_side` | 0 none, 1 buy, 2 sell, 255 unknown |
    /// | 25 | 1 | `action` | new; change and delete correct and break the trade of that number |
    pub struct TradeEntry: 26 {
        pub price: I64,
        pub size: I32,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub orders: I32,
        pub aggressor_side: u8,
        pub action: u8,
    }
}

impl Block<'_, TradeEntry> {
    /// The trade's number (offset 26), where the schema has one.
    #[inline(always)]
    pub fn trade_id(&self) -> Option<u32> {
        self.field::<U32>(26).map(|id| id.get()).filter(|id| *id != UINT32_NULL)
    }
}

entry! {
    /// Template 65: a trade whose size may be large. 40 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa |
    /// | 8 | 8 | `size` | notional |
    /// | 16 | 4 | `security_id` | the instrument |
    /// | 20 | 4 | `rpt_seq` | its number for the instrument |
    /// | 24 | 4 | `orders` | orders that took part |
    /// | 28 | 4 | `trade_id` | the trade's number |
    /// | 32 | 1 | `aggressor_side` | 0 none, 1 buy, 2 sell, 255 unknown |
    /// | 33 | 1 | `action` | as in [`TradeEntry`] |
    pub struct TradeLongQtyEntry: 34 {
        pub price: I64,
        pub size: U64,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub orders: I32,
        pub trade_id: U32,
        pub aggressor_side: u8,
        pub action: u8,
    }
}

entry! {
    /// Templates 33 and 49: settlement, cleared volume, open interest, fixing. 32 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa, may be null |
    /// | 8 | 4 | `size` | may be null |
    /// | 12 | 4 | `security_id` | the instrument |
    /// | 16 | 4 | `rpt_seq` | its number for the instrument |
    /// | 20 | 2 | `trading_reference_date` | days since 1970-01-01, may be null |
    /// | 22 | 1 | `settlement_type` | bits |
    /// | 23 | 1 | `action` | [`update_action`] |
    /// | 24 | 1 | `entry_type` | `6` settlement, `B` cleared volume, `C` open interest, `W` fixing |
    pub struct DailyStatisticsEntry: 25 {
        pub price: I64,
        pub size: I32,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub trading_reference_date: U16,
        pub settlement_type: u8,
        pub action: u8,
        pub entry_type: u8,
    }
}

entry! {
    /// Templates 34 and 50: within which prices the instrument may trade. 32 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `high_limit_price` | mantissa, may be null |
    /// | 8 | 8 | `low_limit_price` | mantissa, may be null |
    /// | 16 | 8 | `max_price_variation` | mantissa, may be null |
    /// | 24 | 4 | `security_id` | the instrument |
    /// | 28 | 4 | `rpt_seq` | its number for the instrument |
    pub struct LimitsBandingEntry: 32 {
        pub high_limit_price: I64,
        pub low_limit_price: I64,
        pub max_price_variation: I64,
        pub security_id: I32,
        pub rpt_seq: U32,
    }
}

entry! {
    /// Templates 35 and 51: open, high and low of the session. 24 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa |
    /// | 8 | 4 | `security_id` | the instrument |
    /// | 12 | 4 | `rpt_seq` | its number for the instrument |
    /// | 16 | 1 | `open_close_flag` | 0 daily, 5 indicative, 255 null |
    /// | 17 | 1 | `action` | [`update_action`] |
    /// | 18 | 1 | `entry_type` | `4` open, `7` high trade, `8` low trade, `N` highest bid, `O` lowest offer |
    pub struct SessionStatisticsEntry: 19 {
        pub price: I64,
        pub security_id: I32,
        pub rpt_seq: U32,
        pub open_close_flag: u8,
        pub action: u8,
        pub entry_type: u8,
    }
}

entry! {
    /// Template 67: as [`SessionStatisticsEntry`], with a size. 32 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `price` | mantissa |
    /// | 8 | 8 | `size` | notional, may be null |
    /// | 16 | 4 | `security_id` | the instrument |
    /// | 20 | 4 | `rpt_seq` | its number for the instrument |
    pub struct SessionStatisticsLongQtyEntry: 24 {
        pub price: I64,
        pub size: U64,
        pub security_id: I32,
        pub rpt_seq: U32,
    }
}

entry! {
    /// Template 37: the session's volume. 16 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 4 | `size` | contracts |
    /// | 4 | 4 | `security_id` | the instrument |
    /// | 8 | 4 | `rpt_seq` | its number for the instrument |
    pub struct VolumeEntry: 12 {
        pub size: I32,
        pub security_id: I32,
        pub rpt_seq: U32,
    }
}

entry! {
    /// Template 66: as [`VolumeEntry`], where it may be large. 24 bytes on the wire.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 0 | 8 | `size` | notional |
    /// | 8 | 4 | `security_id` | the instrument |
    /// | 12 | 4 | `rpt_seq` | its number for the instrument |
    pub struct VolumeLongQtyEntry: 16 {
        pub size: U64,
        pub security_id: I32,
        pub rpt_seq: U32,
    }
}
