//! Trades that no displayed order tells, crosses, and what leads to them.
//! Each message begins with the 11 bytes of [`Head`]; the tables say what follows.

use super::{Head, message};
use zerocopy::byteorder::big_endian::{U32, U64};

message! {
    /// `P`: a match against an order that was not displayed; the book is untouched. 44 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | 0 nowadays, of no use |
    /// | 19 | 1 | `side` | `B` nowadays, of no use |
    /// | 20 | 4 | `shares` | shares matched |
    /// | 24 | 8 | `stock` | symbol |
    /// | 32 | 4 | `price` | 4 decimals |
    /// | 36 | 8 | `match_number` | the trade's number |
    pub struct NonCrossTrade: b'P', 44 {
        pub order_reference: U64,
        pub side: u8,
        pub shares: U32,
        pub stock: [u8; 8],
        pub price: U32,
        pub match_number: U64,
    }
}

message! {
    /// `Q`: a cross was completed; with zero shares if nothing crossed. 40 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `shares` | shares matched, may be 0 |
    /// | 19 | 8 | `stock` | symbol |
    /// | 27 | 4 | `cross_price` | 4 decimals |
    /// | 31 | 8 | `match_number` | the trade's number |
    /// | 39 | 1 | `cross_type` | `O` opening, `C` closing, `H` IPO or halted, `I` intraday |
    pub struct CrossTrade: b'Q', 40 {
        pub shares: U64,
        pub stock: [u8; 8],
        pub cross_price: U32,
        pub match_number: U64,
        pub cross_type: u8,
    }
}

message! {
    /// `B`: a trade was broken; the book is untouched. 19 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `match_number` | the trade that no longer counts |
    pub struct BrokenTrade: b'B', 19 {
        pub match_number: U64,
    }
}

message! {
    /// `I`: how far a coming cross is from balance. 50 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `paired_shares` | shares that match at the reference price |
    /// | 19 | 8 | `imbalance_shares` | shares that do not |
    /// | 27 | 1 | `imbalance_direction` | `B` buy, `S` sell, `N` none, `O` too few orders, `P` paused |
    /// | 28 | 8 | `stock` | symbol |
    /// | 36 | 4 | `far_price` | 4 decimals, cross orders only |
    /// | 40 | 4 | `near_price` | 4 decimals, cross and continuous orders |
    /// | 44 | 4 | `reference_price` | 4 decimals |
    /// | 48 | 1 | `cross_type` | `O` opening, `C` closing, `H` IPO or halted, `A` extended trading close |
    /// | 49 | 1 | `price_variation` | deviation of near price from reference price, by letter |
    pub struct NetOrderImbalance: b'I', 50 {
        pub paired_shares: U64,
        pub imbalance_shares: U64,
        pub imbalance_direction: u8,
        pub stock: [u8; 8],
        pub far_price: U32,
        pub near_price: U32,
        pub reference_price: U32,
        pub cross_type: u8,
        pub price_variation: u8,
    }
}

message! {
    /// `N`: retail price improvement interest. 20 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 1 | `interest_flag` | `B` buy side, `S` sell side, `A` both, `N` none |
    pub struct RetailInterest: b'N', 20 {
        pub stock: [u8; 8],
        pub interest_flag: u8,
    }
}
