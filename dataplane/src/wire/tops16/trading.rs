//! Quotes, trades, and what an auction is coming to.
//! Each message begins with its letter, `message_type`; the tables say what follows.

use super::message;
use zerocopy::byteorder::little_endian::{I64, U32};

/// Bit of [`QuoteUpdate::flags`]: the symbol is halted, paused or otherwise not available for trading on IEX.
pub const QUOTE_UNAVAILABLE: u8 = 1 << 7;
/// Bit of [`QuoteUpdate::flags`]: outside the regular market session.
pub const QUOTE_EXTENDED_HOURS: u8 = 1 << 6;

/// Bit of [`TradeReport::sale_conditions`]: an intermarket sweep order took the liquidity.
pub const SALE_INTERMARKET_SWEEP: u8 = 1 << 7;
/// Bit of [`TradeReport::sale_conditions`]: outside the regular market session (form T).
pub const SALE_EXTENDED_HOURS: u8 = 1 << 6;
/// Bit of [`TradeReport::sale_conditions`]: less than a round lot.
pub const SALE_ODD_LOT: u8 = 1 << 5;
/// Bit of [`TradeReport::sale_conditions`]: Rule 611 does not apply.
pub const SALE_TRADE_THROUGH_EXEMPT: u8 = 1 << 4;
/// Bit of [`TradeReport::sale_conditions`]: the single price of a cross.
pub const SALE_CROSS: u8 = 1 << 3;

message! {
    /// `Q`: the best bid and ask are now these, both sides in full. 42 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `flags` | [`QUOTE_UNAVAILABLE`], [`QUOTE_EXTENDED_HOURS`] |
    /// | 2 | 8 | `timestamp` | when it became so |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `bid_size` | shares; 0 = no bid |
    /// | 22 | 8 | `bid_price` | 4 decimals; 0 = no bid |
    /// | 30 | 8 | `ask_price` | 4 decimals; 0 = no ask |
    /// | 38 | 4 | `ask_size` | shares; 0 = no ask |
    pub struct QuoteUpdate: b'Q', 42 {
        pub flags: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub bid_size: U32,
        pub bid_price: I64,
        pub ask_price: I64,
        pub ask_size: U32,
    }
}

message! {
    /// `T`: an order on IEX was executed, one message for each fill. 38 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `sale_conditions` | [`SALE_ODD_LOT`], … |
    /// | 2 | 8 | `timestamp` | when it traded |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `size` | shares |
    /// | 22 | 8 | `price` | 4 decimals |
    /// | 30 | 8 | `trade_id` | the trade's number, unique within the day |
    pub struct TradeReport: b'T', 38 {
        pub sale_conditions: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub size: U32,
        pub price: I64,
        pub trade_id: I64,
    }
}

message! {
    /// `B`: a trade of the same day was broken; what the trade said is told again. 38 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `sale_conditions` | the trade's |
    /// | 2 | 8 | `timestamp` | when it was broken |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `size` | the trade's |
    /// | 22 | 8 | `price` | the trade's, 4 decimals |
    /// | 30 | 8 | `trade_id` | the trade that no longer counts |
    pub struct TradeBreak: b'B', 38 {
        pub sale_conditions: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub size: U32,
        pub price: I64,
        pub trade_id: I64,
    }
}

message! {
    /// `X`: the official opening or closing price of a security that is listed on IEX. 26 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `price_type` | `Q` opening, `M` closing |
    /// | 2 | 8 | `timestamp` | when it was determined |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 8 | `price` | 4 decimals |
    pub struct OfficialPrice: b'X', 26 {
        pub price_type: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub price: I64,
    }
}

message! {
    /// `A`: where a coming auction of a security that is listed on IEX stands, once a second. 80 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `auction_type` | `O` opening, `C` closing, `I` IPO, `H` halt, `V` volatility |
    /// | 2 | 8 | `timestamp` | of these figures |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `paired_shares` | shares that match at the reference price |
    /// | 22 | 8 | `reference_price` | 4 decimals |
    /// | 30 | 8 | `indicative_clearing_price` | 4 decimals |
    /// | 38 | 4 | `imbalance_shares` | shares that do not match |
    /// | 42 | 1 | `imbalance_side` | `B` buy, `S` sell, `N` none |
    /// | 43 | 1 | `extensions` | how often the auction was put off |
    /// | 44 | 4 | `scheduled_time` | seconds of Unix UTC |
    /// | 48 | 8 | `auction_book_clearing_price` | 4 decimals |
    /// | 56 | 8 | `collar_reference_price` | 4 decimals |
    /// | 64 | 8 | `lower_collar` | 4 decimals |
    /// | 72 | 8 | `upper_collar` | 4 decimals |
    pub struct AuctionInformation: b'A', 80 {
        pub auction_type: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub paired_shares: U32,
        pub reference_price: I64,
        pub indicative_clearing_price: I64,
        pub imbalance_shares: U32,
        pub imbalance_side: u8,
        pub extensions: u8,
        pub scheduled_time: U32,
        pub auction_book_clearing_price: I64,
        pub collar_reference_price: I64,
        pub lower_collar: I64,
        pub upper_collar: I64,
    }
}
