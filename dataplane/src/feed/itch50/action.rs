//! The action: what an order message does to a book, read off the wire but not yet done.

use crate::book::Side;
use crate::feed::Stamp;
use crate::wire::itch50::{ItchError, Message, SIDE_BUY};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Action {
    Add,
    /// Executed at the order's own price.
    Execute,
    ExecuteAt,
    /// Executed at a price that is not a trade's.
    ExecuteUnprinted,
    Cancel,
    Delete,
    Replace,
    /// A trade that no displayed order tells.
    Trade,
}

/// One action, with what its message began with. Flat, whatever it is: it is written and read in one piece, and asking
/// for the memory that it needs takes no decision.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Entry {
    pub stamp: Stamp,
    /// The order that it is about.
    pub reference: u64,
    /// Of a replacement the new order, of executions and trades the match number; otherwise the order again.
    pub other: u64,
    /// Shares; of a deletion all that there are.
    pub size: u64,
    /// Of what is added, or traded at a price of its own.
    pub price: u32,
    pub native_id: u16,
    pub action: Action,
    /// Of what is added.
    pub side: Side,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    pub const NONE: Entry = Entry {
        stamp: Stamp { sequence: 0, exchange_ns: 0, received_ns: 0 },
        reference: 0,
        other: 0,
        size: 0,
        price: 0,
        native_id: 0,
        action: Action::Delete,
        side: Side::Bid,
    };
}

#[inline(always)]
fn side(letter: u8) -> Side {
    if letter == SIDE_BUY { Side::Bid } else { Side::Ask }
}

/// Reads a message of its specified length into `entry`, but for the stamp and the instrument. What comes back is a
/// message that is rare, and not for the book alone.
#[inline(always)]
pub(super) fn read<'m>(bytes: &'m [u8], entry: &mut Entry) -> Result<Option<Message<'m>>, ItchError> {
    let mut set = |action, reference, other, size, price| {
        (entry.action, entry.reference, entry.other) = (action, reference, other);
        (entry.size, entry.price) = (size, price);
    };
    match Message::parse(bytes)? {
        Message::AddOrder(add) => {
            let reference = add.order_reference.get();
            set(Action::Add, reference, reference, add.shares.get().into(), add.price.get());
            entry.side = side(add.side);
        }
        Message::AddOrderAttributed(add) => {
            let reference = add.order_reference.get();
            set(Action::Add, reference, reference, add.shares.get().into(), add.price.get());
            entry.side = side(add.side);
        }
        Message::OrderDelete(delete) => {
            let reference = delete.order_reference.get();
            set(Action::Delete, reference, reference, u64::MAX, 0);
        }
        Message::OrderExecuted(execution) => {
            let (reference, size) = (execution.order_reference.get(), execution.executed_shares.get());
            set(Action::Execute, reference, execution.match_number.get(), size.into(), 0);
        }
        Message::OrderExecutedWithPrice(execution) => {
            let (reference, size) = (execution.order_reference.get(), execution.executed_shares.get());
            let is_printed = execution.printable != b'N';
            let action = if is_printed { Action::ExecuteAt } else { Action::ExecuteUnprinted };
            let price = execution.execution_price.get();
            set(action, reference, execution.match_number.get(), size.into(), price);
        }
        Message::OrderCancel(cancel) => {
            let reference = cancel.order_reference.get();
            set(Action::Cancel, reference, reference, cancel.cancelled_shares.get().into(), 0);
        }
        Message::OrderReplace(replace) => {
            let (old, new) = (replace.original_order_reference.get(), replace.new_order_reference.get());
            set(Action::Replace, old, new, replace.shares.get().into(), replace.price.get());
        }
        Message::NonCrossTrade(trade) => {
            set(Action::Trade, 0, trade.match_number.get(), trade.shares.get().into(), trade.price.get());
        }
        Message::CrossTrade(cross) => {
            set(Action::Trade, 0, cross.match_number.get(), cross.shares.get(), cross.cross_price.get());
        }
        other => return Ok(Some(other)),
    }
    Ok(None)
}
