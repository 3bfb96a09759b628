//! Executions, crosses and what becomes of them.

use super::book::Side;
use super::flow::{PRICE_MAX_E4, Pending};
use super::instrument::Trade;
use super::{Exchange, append, locate};
use crate::wire::itch50;
use zerocopy::byteorder::big_endian::{U32, U64};

impl Exchange {
    pub(super) fn next_match(&mut self, index: u32) -> u64 {
        self.match_last += 1 + self.random.below(3);
        self.instruments[index as usize].record_match(self.match_last);
        self.match_last
    }

    /// Begins an order that executes; its side follows the price that orders gather around.
    pub(super) fn aggress(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let drawn = self.draw_side();
        let instrument = &self.instruments[index as usize];
        let top = instrument.top();
        let side = match (top.bid, top.ask) {
            (_, Some(ask)) if ask.price_e4 <= instrument.mid_e4 => Side::Buy,
            (Some(bid), _) if bid.price_e4 >= instrument.mid_e4 => Side::Sell,
            _ => drawn,
        };
        let Some(best) = instrument.book.best(side.opposite()) else { return false };
        let reach_e4 = instrument.increment_e4 * self.random.run_length().min(3);
        let limit_e4 = match side {
            Side::Buy => best.price_e4.saturating_add(reach_e4).min(PRICE_MAX_E4),
            Side::Sell => best.price_e4.saturating_sub(reach_e4).max(1),
        };
        let shares = self.draw_shares().saturating_mul(self.random.between(1, 4));
        let rests = self.random.percent(30);
        self.proceed_aggressor(index, side, limit_e4, shares, rests, out)
    }

    pub(super) fn proceed_aggressor(
        &mut self,
        index: u32,
        side: Side,
        limit_e4: u32,
        shares: u32,
        rests: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let book = &self.instruments[index as usize].book;
        let other = side.opposite();
        let reaches = book.best(other).is_some_and(|best| match side {
            Side::Buy => best.price_e4 <= limit_e4,
            Side::Sell => best.price_e4 >= limit_e4,
        });
        if !reaches {
            if rests {
                self.send_add(index, side, limit_e4, shares, out);
            }
            return rests;
        }
        let reference = book.first_in_line(other).expect("a level has orders");
        let executed = self.send_execution(index, reference, shares, out);
        if executed < shares {
            let shares = shares - executed;
            self.pending = Some(Pending::Aggressor { instrument: index, side, limit_e4, shares, rests });
        }
        true
    }

    /// Executes up to that many shares at the order's own price; returns how many.
    pub(super) fn send_execution(
        &mut self,
        index: u32,
        reference: u64,
        shares_max: u32,
        out: &mut Vec<u8>,
    ) -> u32 {
        let order = self.orders[&reference];
        let shares = order.shares.min(shares_max);
        let match_number = self.next_match(index);
        let (head, change) = self.begin(itch50::OrderExecuted::TYPE, locate(index));
        append(
            out,
            &itch50::OrderExecuted {
                head,
                order_reference: U64::new(reference),
                executed_shares: U32::new(shares),
                match_number: U64::new(match_number),
            },
        );
        self.reduce(reference, shares);
        let instrument = &mut self.instruments[index as usize];
        instrument.settle_book(change);
        let trade = Trade { price_e4: order.price_e4, shares: u64::from(shares), match_number };
        instrument.record_trade(trade, change);
        shares
    }

    pub(super) fn execute_with_price(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let side = self.draw_side();
        let Some(reference) = self.instruments[index as usize].book.first_in_line(side) else { return false };
        let order = self.orders[&reference];
        let shares = self.random.between(1, order.shares);
        let price_e4 = match side {
            Side::Buy => order.price_e4.saturating_sub(self.random.between(1, 50)).max(1),
            Side::Sell => order.price_e4 + self.random.between(1, 50),
        };
        let printable = !self.random.percent(33);
        self.send_execution_with_price(index, reference, shares, price_e4, printable, out);
        true
    }

    pub(super) fn send_execution_with_price(
        &mut self,
        index: u32,
        reference: u64,
        shares: u32,
        price_e4: u32,
        printable: bool,
        out: &mut Vec<u8>,
    ) {
        let match_number = self.next_match(index);
        let (head, change) = self.begin(itch50::OrderExecutedWithPrice::TYPE, locate(index));
        append(
            out,
            &itch50::OrderExecutedWithPrice {
                head,
                order_reference: U64::new(reference),
                executed_shares: U32::new(shares),
                match_number: U64::new(match_number),
                printable: if printable { b'Y' } else { b'N' },
                execution_price: U32::new(price_e4),
            },
        );
        self.reduce(reference, shares);
        let instrument = &mut self.instruments[index as usize];
        instrument.settle_book(change);
        if printable {
            instrument.record_trade(Trade { price_e4, shares: u64::from(shares), match_number }, change);
        }
    }

    pub(super) fn send_hidden_trade(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let shares = self.draw_shares();
        let match_number = self.next_match(index);
        let (head, change) = self.begin(itch50::NonCrossTrade::TYPE, locate(index));
        let instrument = &mut self.instruments[index as usize];
        let price_e4 = instrument.mid_e4;
        append(
            out,
            &itch50::NonCrossTrade {
                head,
                order_reference: U64::new(0),
                side: b'B',
                shares: U32::new(shares),
                stock: instrument.symbol,
                price: U32::new(price_e4),
                match_number: U64::new(match_number),
            },
        );
        instrument.record_trade(Trade { price_e4, shares: u64::from(shares), match_number }, change);
        true
    }

    pub(super) fn cross(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let executions = self.random.between(0, 5);
        let price_e4 = self.instruments[index as usize].mid_e4;
        let shares = u64::from(self.draw_shares());
        self.proceed_cross(index, executions, price_e4, shares, out)
    }

    pub(super) fn proceed_cross(
        &mut self,
        index: u32,
        executions: u32,
        price_e4: u32,
        shares: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let side = if executions.is_multiple_of(2) { Side::Buy } else { Side::Sell };
        let first = self.instruments[index as usize].book.first_in_line(side);
        let Some(reference) = first.filter(|_| executions > 0) else {
            return self.send_cross(index, price_e4, shares, out);
        };
        let executed = self.orders[&reference].shares;
        self.send_execution_with_price(index, reference, executed, price_e4, false, out);
        let shares = shares + u64::from(executed);
        self.pending =
            Some(Pending::Cross { instrument: index, executions: executions - 1, price_e4, shares });
        true
    }

    pub(super) fn send_cross(&mut self, index: u32, price_e4: u32, shares: u64, out: &mut Vec<u8>) -> bool {
        let match_number = self.next_match(index);
        let cross_type = [b'O', b'C', b'H', b'I'][self.random.below(4) as usize];
        let (head, change) = self.begin(itch50::CrossTrade::TYPE, locate(index));
        let instrument = &mut self.instruments[index as usize];
        append(
            out,
            &itch50::CrossTrade {
                head,
                shares: U64::new(shares),
                stock: instrument.symbol,
                cross_price: U32::new(if shares == 0 { 0 } else { price_e4 }),
                match_number: U64::new(match_number),
                cross_type,
            },
        );
        if shares > 0 {
            instrument.record_trade(Trade { price_e4, shares, match_number }, change);
        }
        true
    }

    pub(super) fn send_broken_trade(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let matches = self.instruments[index as usize].matches();
        if matches == 0 {
            return false;
        }
        let back = if self.random.percent(60) { 0 } else { self.random.below(matches as u64) as usize };
        let (head, change) = self.begin(itch50::BrokenTrade::TYPE, locate(index));
        let broken = self.instruments[index as usize].break_match(back, change).expect("that many are known");
        append(out, &itch50::BrokenTrade { head, match_number: U64::new(broken) });
        true
    }
}
