//! The life of the resting orders: added, deleted, reduced, replaced.

use super::book::Side;
use super::{Exchange, append, locate};
use crate::wire::itch50;
use zerocopy::byteorder::big_endian::{U32, U64};

/// A resting order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub instrument: u32,
    /// Its place in the instrument's `resting`.
    slot: u32,
    pub side: Side,
    pub price_e4: u32,
    pub shares: u32,
}

impl Exchange {
    pub(super) fn send_passive_order(&mut self, index: u32, out: &mut Vec<u8>) {
        let side = self.draw_side();
        let shares = self.draw_shares();
        let (side, price_e4) = match self.passive_price_e4(index, side) {
            Some(price_e4) => (side, price_e4),
            // Only one side of a book can be at the end of all prices.
            None => {
                let side = side.opposite();
                (side, self.passive_price_e4(index, side).expect("one side has a price left"))
            }
        };
        self.send_add(index, side, price_e4, shares, out);
    }

    pub(super) fn send_add(&mut self, index: u32, side: Side, price_e4: u32, shares: u32, out: &mut Vec<u8>) {
        let reference = self.next_reference();
        let attributed = self.random.percent(10);
        let letter = if attributed { itch50::AddOrderAttributed::TYPE } else { itch50::AddOrder::TYPE };
        let (head, change) = self.begin(letter, locate(index));
        let stock = self.instruments[index as usize].symbol;
        let (order_reference, side_letter) = (U64::new(reference), side.letter());
        let (message_shares, price) = (U32::new(shares), U32::new(price_e4));
        append(
            out,
            &itch50::AddOrder {
                head,
                order_reference,
                side: side_letter,
                shares: message_shares,
                stock,
                price,
            },
        );
        if attributed {
            // The attributed message is the other one and the participant's name.
            out.extend_from_slice(b"TICK");
        }
        self.insert(index, reference, side, price_e4, shares);
        self.instruments[index as usize].settle_book(change);
    }

    pub(super) fn next_reference(&mut self) -> u64 {
        self.reference_last += 1 + self.random.below(8);
        self.reference_last
    }

    pub(super) fn insert(&mut self, index: u32, reference: u64, side: Side, price_e4: u32, shares: u32) {
        let instrument = &mut self.instruments[index as usize];
        let slot = instrument.resting.len() as u32;
        instrument.resting.push(reference);
        instrument.book.add(side, price_e4, reference, shares);
        let replaced =
            self.orders.insert(reference, Order { instrument: index, slot, side, price_e4, shares });
        assert!(replaced.is_none(), "references are unique");
    }

    /// Takes shares off an order, and the order off the book when none is left.
    pub(super) fn reduce(&mut self, reference: u64, shares: u32) {
        let order = self.orders.get_mut(&reference).expect("the order rests");
        order.shares = order.shares.checked_sub(shares).expect("no more than the order has");
        let order = *order;
        let gone = order.shares == 0;
        let instrument = &mut self.instruments[order.instrument as usize];
        instrument.book.reduce(order.side, order.price_e4, reference, shares, gone);
        if gone {
            self.orders.remove(&reference);
            instrument.resting.swap_remove(order.slot as usize);
            if let Some(moved) = instrument.resting.get(order.slot as usize) {
                self.orders.get_mut(moved).expect("the moved order rests").slot = order.slot;
            }
        }
    }

    pub(super) fn draw_resting(&mut self, index: u32) -> Option<(u64, Order)> {
        let resting = &self.instruments[index as usize].resting;
        if resting.is_empty() {
            return None;
        }
        let reference = resting[self.random.below(resting.len() as u64) as usize];
        Some((reference, self.orders[&reference]))
    }

    pub(super) fn send_delete(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let Some((reference, order)) = self.draw_resting(index) else { return false };
        let (head, change) = self.begin(itch50::OrderDelete::TYPE, locate(index));
        append(out, &itch50::OrderDelete { head, order_reference: U64::new(reference) });
        self.reduce(reference, order.shares);
        self.instruments[index as usize].settle_book(change);
        true
    }

    pub(super) fn send_cancel(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let Some((reference, order)) = self.draw_resting(index) else { return false };
        if order.shares < 2 {
            return false;
        }
        let cancelled = self.random.between(1, order.shares - 1);
        let (head, change) = self.begin(itch50::OrderCancel::TYPE, locate(index));
        append(
            out,
            &itch50::OrderCancel {
                head,
                order_reference: U64::new(reference),
                cancelled_shares: U32::new(cancelled),
            },
        );
        self.reduce(reference, cancelled);
        self.instruments[index as usize].settle_book(change);
        true
    }

    pub(super) fn send_replace(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let Some((original, order)) = self.draw_resting(index) else { return false };
        let (price_e4, shares) = match self.random.below(4) {
            // The same again, behind the others of its price: the top does not change.
            0 => (Some(order.price_e4), order.shares),
            1 => (Some(order.price_e4), self.draw_shares()),
            _ => (self.passive_price_e4(index, order.side), self.draw_shares()),
        };
        let Some(price_e4) = price_e4 else { return false };
        let reference = self.next_reference();
        let (head, change) = self.begin(itch50::OrderReplace::TYPE, locate(index));
        append(
            out,
            &itch50::OrderReplace {
                head,
                original_order_reference: U64::new(original),
                new_order_reference: U64::new(reference),
                shares: U32::new(shares),
                price: U32::new(price_e4),
            },
        );
        self.reduce(original, order.shares);
        self.insert(index, reference, order.side, price_e4, shares);
        self.instruments[index as usize].settle_book(change);
        true
    }
}
