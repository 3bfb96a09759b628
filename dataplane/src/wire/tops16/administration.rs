//! The day's course, and what the securities and their states are.
//! Each message begins with its letter, `message_type`; the tables say what follows.

use super::message;
use zerocopy::byteorder::little_endian::{I64, U32};

/// [`OperationalHaltStatus::status`]: halted on IEX alone.
pub const OPERATIONALLY_HALTED: u8 = b'O';
/// [`OperationalHaltStatus::status`]: not halted by IEX.
pub const OPERATIONALLY_OPEN: u8 = b'N';

message! {
    /// `S`: the day's course. 10 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `event` | `O` messages begin, `S` system hours, `R` regular hours, `M` their end, `E` end of system hours, `C` messages end |
    /// | 2 | 8 | `timestamp` | |
    pub struct SystemEvent: b'S', 10 {
        pub event: u8,
        pub timestamp: I64,
    }
}

message! {
    /// `D`: a security that is listed on IEX, before the day's opening. 31 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `flags` | 0x80 test security, 0x40 when issued, 0x20 exchange-traded product |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `round_lot_size` | shares |
    /// | 22 | 8 | `adjusted_close_price` | of the day before, corrected for corporate actions; 4 decimals |
    /// | 30 | 1 | `luld_tier` | 0 = none, 1, 2 |
    pub struct SecurityDirectory: b'D', 31 {
        pub flags: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub round_lot_size: U32,
        pub adjusted_close_price: I64,
        pub luld_tier: u8,
    }
}

message! {
    /// `H`: whether a security may be traded, by the rules of its listing market. 22 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `status` | `H` halted in all markets, `O` halt released into order acceptance, `P` paused, order acceptance, `T` trading |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 4 | `reason` | `T1`, `IPO1`, `NA`, …; blank where there is none |
    pub struct TradingStatus: b'H', 22 {
        pub status: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub reason: [u8; 4],
    }
}

message! {
    /// `I`: whether there is retail liquidity interest. 18 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `indicator` | blank = none, `A` to buy, `B` to sell, `C` both |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    pub struct RetailLiquidityIndicator: b'I', 18 {
        pub indicator: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
    }
}

message! {
    /// `O`: whether IEX alone has halted a security. 18 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `status` | [`OPERATIONALLY_HALTED`], [`OPERATIONALLY_OPEN`] |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    pub struct OperationalHaltStatus: b'O', 18 {
        pub status: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
    }
}

message! {
    /// `P`: whether a short sale price test restriction (Regulation SHO, Rule 201) is in effect. 19 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `status` | 0 = not in effect, 1 = in effect |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    /// | 18 | 1 | `detail` | blank = none, `A` activated, `C` continued, `D` deactivated, `N` not available |
    pub struct ShortSalePriceTestStatus: b'P', 19 {
        pub status: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
        pub detail: u8,
    }
}

message! {
    /// `E`: a step of a security's day. 18 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 1 | 1 | `event` | `O` opening process complete, `C` closing process complete |
    /// | 2 | 8 | `timestamp` | |
    /// | 10 | 8 | `symbol` | |
    pub struct SecurityEvent: b'E', 18 {
        pub event: u8,
        pub timestamp: I64,
        pub symbol: [u8; 8],
    }
}
