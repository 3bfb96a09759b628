//! The displayed orders' lives: added, executed, reduced, deleted, replaced.
//! Each message begins with the 11 bytes of [`Head`]; the tables say what follows.

use super::{Head, message};
use zerocopy::byteorder::big_endian::{U32, U64};

message! {
    /// `A`: a displayed order without attribution entered the book. 36 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | unique within the day |
    /// | 19 | 1 | `side` | `B` buy, `S` sell |
    /// | 20 | 4 | `shares` | displayed shares |
    /// | 24 | 8 | `stock` | symbol |
    /// | 32 | 4 | `price` | 4 decimals |
    pub struct AddOrder: b'A', 36 {
        pub order_reference: U64,
        pub side: u8,
        pub shares: U32,
        pub stock: [u8; 8],
        pub price: U32,
    }
}

message! {
    /// `F`: a displayed order with attribution entered the book. 40 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | unique within the day |
    /// | 19 | 1 | `side` | `B` buy, `S` sell |
    /// | 20 | 4 | `shares` | displayed shares |
    /// | 24 | 8 | `stock` | symbol |
    /// | 32 | 4 | `price` | 4 decimals |
    /// | 36 | 4 | `attribution` | the participant who entered it |
    pub struct AddOrderAttributed: b'F', 40 {
        pub order_reference: U64,
        pub side: u8,
        pub shares: U32,
        pub stock: [u8; 8],
        pub price: U32,
        pub attribution: [u8; 4],
    }
}

message! {
    /// `E`: an order was executed, in part or in whole, at its own price. 31 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | the order |
    /// | 19 | 4 | `executed_shares` | shares to take off |
    /// | 23 | 8 | `match_number` | the trade's number |
    pub struct OrderExecuted: b'E', 31 {
        pub order_reference: U64,
        pub executed_shares: U32,
        pub match_number: U64,
    }
}

message! {
    /// `C`: an order was executed, in part or in whole, at another price than its own. 36 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | the order |
    /// | 19 | 4 | `executed_shares` | shares to take off |
    /// | 23 | 8 | `match_number` | the trade's number |
    /// | 31 | 1 | `printable` | `Y`, or `N` if the trade is (or will be) told by another message, such as a cross |
    /// | 32 | 4 | `execution_price` | 4 decimals |
    pub struct OrderExecutedWithPrice: b'C', 36 {
        pub order_reference: U64,
        pub executed_shares: U32,
        pub match_number: U64,
        pub printable: u8,
        pub execution_price: U32,
    }
}

message! {
    /// `X`: a part of an order was cancelled. 23 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | the order |
    /// | 19 | 4 | `cancelled_shares` | shares to take off |
    pub struct OrderCancel: b'X', 23 {
        pub order_reference: U64,
        pub cancelled_shares: U32,
    }
}

message! {
    /// `D`: an order left the book. 19 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `order_reference` | the order |
    pub struct OrderDelete: b'D', 19 {
        pub order_reference: U64,
    }
}

message! {
    /// `U`: an order gave way to another of the same stock and side, with a new priority. 35 bytes.
    ///
    /// | offset | bytes | field | meaning |
    /// |-------:|------:|-------|---------|
    /// | 11 | 8 | `original_order_reference` | the order that left |
    /// | 19 | 8 | `new_order_reference` | the order that came |
    /// | 27 | 4 | `shares` | displayed shares of the new one |
    /// | 31 | 4 | `price` | 4 decimals, of the new one |
    pub struct OrderReplace: b'U', 35 {
        pub original_order_reference: U64,
        pub new_order_reference: U64,
        pub shares: U32,
        pub price: U32,
    }
}
