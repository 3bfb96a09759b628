//! The action: what an order message does to a book, read off the wire but not yet done.

use crate::book::Side;
use crate::feed::Stamp;
use crate::wire::itch50::{ItchError, Message, SIDE_BUY};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Add {
        reference: u64,
        price: u32,
        shares: u32,
        side: Side,
    },
    /// Executed at the order's own price.
    Execute {
        reference: u64,
        shares: u32,
        trade_id: u64,
    },
    ExecuteAt {
        reference: u64,
        shares: u32,
        trade_id: u64,
        price: u32,
        printable: bool,
    },
    Cancel {
        reference: u64,
        shares: u32,
    },
    Delete {
        reference: u64,
    },
    Replace {
        reference: u64,
        new_reference: u64,
        price: u32,
        shares: u32,
    },
    /// A trade that no displayed order tells.
    Trade {
        price: u32,
        size: u64,
        trade_id: u64,
    },
}

/// An action with what its message began with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub stamp: Stamp,
    pub native_id: u16,
    pub action: Action,
}

impl Entry {
    pub const NONE: Entry = Entry {
        stamp: Stamp { sequence: 0, exchange_ns: 0, received_ns: 0 },
        native_id: 0,
        action: Action::Delete { reference: 0 },
    };
}

/// What a message asks for.
pub(super) enum Asked<'m> {
    Action(Action),
    /// Rare, and not for the book alone.
    Other(Message<'m>),
}

#[inline(always)]
fn side(letter: u8) -> Side {
    if letter == SIDE_BUY { Side::Bid } else { Side::Ask }
}

/// Reads a message of its specified length.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> Result<Asked<'_>, ItchError> {
    let action = match Message::parse(bytes)? {
        Message::AddOrder(add) => Action::Add {
            reference: add.order_reference.get(),
            price: add.price.get(),
            shares: add.shares.get(),
            side: side(add.side),
        },
        Message::AddOrderAttributed(add) => Action::Add {
            reference: add.order_reference.get(),
            price: add.price.get(),
            shares: add.shares.get(),
            side: side(add.side),
        },
        Message::OrderDelete(delete) => Action::Delete { reference: delete.order_reference.get() },
        Message::OrderExecuted(execution) => Action::Execute {
            reference: execution.order_reference.get(),
            shares: execution.executed_shares.get(),
            trade_id: execution.match_number.get(),
        },
        Message::OrderExecutedWithPrice(execution) => Action::ExecuteAt {
            reference: execution.order_reference.get(),
            shares: execution.executed_shares.get(),
            trade_id: execution.match_number.get(),
            price: execution.execution_price.get(),
            printable: execution.printable != b'N',
        },
        Message::OrderCancel(cancel) => {
            Action::Cancel { reference: cancel.order_reference.get(), shares: cancel.cancelled_shares.get() }
        }
        Message::OrderReplace(replace) => Action::Replace {
            reference: replace.original_order_reference.get(),
            new_reference: replace.new_order_reference.get(),
            price: replace.price.get(),
            shares: replace.shares.get(),
        },
        Message::NonCrossTrade(trade) => Action::Trade {
            price: trade.price.get(),
            size: u64::from(trade.shares.get()),
            trade_id: trade.match_number.get(),
        },
        Message::CrossTrade(cross) => Action::Trade {
            price: cross.cross_price.get(),
            size: cross.shares.get(),
            trade_id: cross.match_number.get(),
        },
        other => return Ok(Asked::Other(other)),
    };
    Ok(Asked::Action(action))
}
