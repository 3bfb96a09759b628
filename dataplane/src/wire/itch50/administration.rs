//! What an exchange says about its day and its stocks: system events, the directory, trading status,
//! participants, price bands.
//! Each message begins with the 11 bytes of [`Head`]; the tables say what follows.

use super::{Head, message};
use zerocopy::byteorder::big_endian::{U32, U64};

message! {
    /// `S`: an event of the whole market's day. 12 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 1 | `event_code` | `O` start of messages, `S` system hours begin, `Q` market opens, `M` market closes, `E` system hours end, `C` end of messages |
    pub struct SystemEvent: b'S', 12 {
        pub event_code: u8,
    }
}

message! {
    /// `R`: what a stock is; sent for each one at the start of the day. 39 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol, padded with blanks |
    /// | 19 | 1 | `market_category` | listing market: `Q` `G` `S` Nasdaq tiers, `N` NYSE, `A` NYSE American, `P` Arca, `Z` BATS, `V` IEX, blank |
    /// | 20 | 1 | `financial_status` | `D` deficient, `E` delinquent, `Q` bankrupt, `S` suspended, …, `N` normal, blank |
    /// | 21 | 4 | `round_lot_size` | shares of a round lot |
    /// | 25 | 1 | `round_lots_only` | `Y` or `N` |
    /// | 26 | 1 | `issue_classification` | `A` ADR, `C` common stock, `Q` ETF/fund shares, `W` warrant, … |
    /// | 27 | 2 | `issue_sub_type` | finer class, blank-padded |
    /// | 29 | 1 | `authenticity` | `P` live, `T` test |
    /// | 30 | 1 | `short_sale_threshold` | `Y`, `N`, blank |
    /// | 31 | 1 | `ipo_flag` | `Y` a new issue, `N`, blank |
    /// | 32 | 1 | `luld_reference_price_tier` | `1`, `2`, blank |
    /// | 33 | 1 | `etp_flag` | `Y`, `N`, blank |
    /// | 34 | 4 | `etp_leverage_factor` | integral factor, rounded |
    /// | 38 | 1 | `inverse_indicator` | `Y` or `N` |
    pub struct StockDirectory: b'R', 39 {
        pub stock: [u8; 8],
        pub market_category: u8,
        pub financial_status: u8,
        pub round_lot_size: U32,
        pub round_lots_only: u8,
        pub issue_classification: u8,
        pub issue_sub_type: [u8; 2],
        pub authenticity: u8,
        pub short_sale_threshold: u8,
        pub ipo_flag: u8,
        pub luld_reference_price_tier: u8,
        pub etp_flag: u8,
        pub etp_leverage_factor: U32,
        pub inverse_indicator: u8,
    }
}

message! {
    /// `H`: a stock's trading state changed. 25 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 1 | `trading_state` | `H` halted, `P` paused, `Q` quotation only, `T` trading |
    /// | 20 | 1 | `reserved` |  |
    /// | 21 | 4 | `reason` | code of the reason, blank-padded |
    pub struct StockTradingAction: b'H', 25 {
        pub stock: [u8; 8],
        pub trading_state: u8,
        pub reserved: u8,
        pub reason: [u8; 4],
    }
}

message! {
    /// `Y`: the short sale price test (Reg SHO) of a stock. 20 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 1 | `action` | `0` none, `1` in effect after an intraday drop, `2` remains in effect |
    pub struct RegShoRestriction: b'Y', 20 {
        pub stock: [u8; 8],
        pub action: u8,
    }
}

message! {
    /// `L`: a market participant's standing in a stock. 26 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 4 | `mpid` | the participant |
    /// | 15 | 8 | `stock` | symbol |
    /// | 23 | 1 | `primary_market_maker` | `Y` or `N` |
    /// | 24 | 1 | `market_maker_mode` | `N` normal, `P` passive, `S` syndicate, `R` pre-syndicate, `L` penalty |
    /// | 25 | 1 | `participant_state` | `A` active, `E` excused, `W` withdrawn, `S` suspended, `D` deleted |
    pub struct MarketParticipantPosition: b'L', 26 {
        pub mpid: [u8; 4],
        pub stock: [u8; 8],
        pub primary_market_maker: u8,
        pub market_maker_mode: u8,
        pub participant_state: u8,
    }
}

message! {
    /// `V`: the day's market-wide circuit breaker levels. 35 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `level_1` | price with 8 decimals |
    /// | 19 | 8 | `level_2` | price with 8 decimals |
    /// | 27 | 8 | `level_3` | price with 8 decimals |
    pub struct MwcbDeclineLevel: b'V', 35 {
        pub level_1: U64,
        pub level_2: U64,
        pub level_3: U64,
    }
}

message! {
    /// `W`: a market-wide circuit breaker level was breached. 12 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 1 | `breached_level` | `1`, `2` or `3` |
    pub struct MwcbStatus: b'W', 12 {
        pub breached_level: u8,
    }
}

message! {
    /// `K`: when an IPO's quotation is released. 28 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 4 | `release_time_s` | seconds since midnight |
    /// | 23 | 1 | `release_qualifier` | `A` anticipated, `C` cancelled or postponed |
    /// | 24 | 4 | `ipo_price` | price with 4 decimals |
    pub struct IpoQuotingPeriod: b'K', 28 {
        pub stock: [u8; 8],
        pub release_time_s: U32,
        pub release_qualifier: u8,
        pub ipo_price: U32,
    }
}

message! {
    /// `J`: the price collar of a reopening auction after a limit-up-limit-down pause. 35 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 4 | `reference_price` | price with 4 decimals |
    /// | 23 | 4 | `upper_price` | price with 4 decimals |
    /// | 27 | 4 | `lower_price` | price with 4 decimals |
    /// | 31 | 4 | `extension` | number of the extensions so far |
    pub struct LuldAuctionCollar: b'J', 35 {
        pub stock: [u8; 8],
        pub reference_price: U32,
        pub upper_price: U32,
        pub lower_price: U32,
        pub extension: U32,
    }
}

message! {
    /// `h`: an operational halt of a stock on one market centre. 21 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 1 | `market_code` | `Q` Nasdaq, `B` BX, `X` PSX |
    /// | 20 | 1 | `action` | `H` halted, `T` halt lifted |
    pub struct OperationalHalt: b'h', 21 {
        pub stock: [u8; 8],
        pub market_code: u8,
        pub action: u8,
    }
}

message! {
    /// `O`: direct listing with a capital raise: prices of its discovery. 48 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `stock` | symbol |
    /// | 19 | 1 | `open_eligibility` | `Y` eligible for release, `N` not |
    /// | 20 | 4 | `minimum_price` | 20 % below the registration's lower price, 4 decimals |
    /// | 24 | 4 | `maximum_price` | 80 % above the registration's highest price, 4 decimals |
    /// | 28 | 4 | `near_execution_price` | the current reference price when the volatility test passed, 4 decimals |
    /// | 32 | 8 | `near_execution_time_ns` | when that price was set, in ns since midnight |
    /// | 40 | 4 | `lower_collar_price` | 4 decimals |
    /// | 44 | 4 | `upper_collar_price` | 4 decimals |
    pub struct DirectListingPriceDiscovery: b'O', 48 {
        pub stock: [u8; 8],
        pub open_eligibility: u8,
        pub minimum_price: U32,
        pub maximum_price: U32,
        pub near_execution_price: U32,
        pub near_execution_time_ns: U64,
        pub lower_collar_price: U32,
        pub upper_collar_price: U32,
    }
}
