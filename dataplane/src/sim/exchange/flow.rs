//! The order flow: which instrument, which event, at which price.

use super::book::Side;
use super::instrument::Instrument;
use super::{Exchange, append, locate};
use crate::sim::random::Random;
use crate::wire::itch50::{self, Head};
use zerocopy::byteorder::big_endian::{U32, U64};

/// The highest price that the specification allows: $200,000.0000.
pub(super) const PRICE_MAX_E4: u32 = 2_000_000_000;
/// Instruments that are not trading at a time, at most.
const HALTED_MAX: usize = 4;

/// How often each event is chosen, relative to the others. An event that is not possible (nothing to
/// delete, the instrument halted) becomes an added order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    pub add: u32,
    pub delete: u32,
    pub replace: u32,
    pub cancel: u32,
    /// An order that executes what rests, one message for each resting order.
    pub aggress: u32,
    /// An execution at another price than the resting order's, one in three not printable.
    pub execute_with_price: u32,
    pub hidden_trade: u32,
    /// A cross: some executions that are not printable, then its trade.
    pub cross: u32,
    pub empty_cross: u32,
    pub broken_trade: u32,
    /// An instrument is halted or paused, or a halted one goes on towards trading.
    pub halt: u32,
    /// Messages that change nothing that a cache shows: imbalance, retail interest, participants, Reg SHO.
    pub indifferent: u32,
}

impl Default for Mix {
    /// Near to a day of Nasdaq, with more of what is rare there.
    fn default() -> Mix {
        Mix {
            add: 4_400,
            delete: 4_000,
            replace: 700,
            cancel: 200,
            aggress: 400,
            execute_with_price: 30,
            hidden_trade: 60,
            cross: 10,
            empty_cross: 10,
            broken_trade: 20,
            halt: 10,
            indifferent: 100,
        }
    }
}

#[derive(Clone, Copy)]
enum Event {
    Add,
    Delete,
    Replace,
    Cancel,
    Aggress,
    ExecuteWithPrice,
    HiddenTrade,
    Cross,
    EmptyCross,
    BrokenTrade,
    Halt,
    Indifferent,
}

impl Mix {
    fn pick(&self, random: &mut Random) -> Event {
        let events = [
            (self.add, Event::Add),
            (self.delete, Event::Delete),
            (self.replace, Event::Replace),
            (self.cancel, Event::Cancel),
            (self.aggress, Event::Aggress),
            (self.execute_with_price, Event::ExecuteWithPrice),
            (self.hidden_trade, Event::HiddenTrade),
            (self.cross, Event::Cross),
            (self.empty_cross, Event::EmptyCross),
            (self.broken_trade, Event::BrokenTrade),
            (self.halt, Event::Halt),
            (self.indifferent, Event::Indifferent),
        ];
        let total: u64 = events.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut drawn = random.below(total.max(1));
        for (weight, event) in events {
            match drawn.checked_sub(u64::from(weight)) {
                Some(rest) => drawn = rest,
                None => return event,
            }
        }
        Event::Add
    }
}

/// What one message has begun and the next ones go on with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// An order that executes what rests up to its limit; what is left of it rests, if it is to.
    Aggressor { instrument: u32, side: Side, limit_e4: u32, shares: u32, rests: bool },
    /// A cross that has still to execute resting orders.
    Cross { instrument: u32, executions: u32, price_e4: u32, shares: u64 },
}

/// Which instruments things happen to.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// By rank: the sum of the weights up to it.
    sums: Vec<u64>,
    by_rank: Vec<u32>,
}

impl Activity {
    pub fn new(instruments: u32, skewed: bool, random: &mut Random) -> Activity {
        let mut by_rank: Vec<u32> = (0..instruments).collect();
        for index in (1..by_rank.len()).rev() {
            by_rank.swap(index, random.below(index as u64 + 1) as usize);
        }
        let mut sum = 0;
        let weigh = |rank: u64| {
            // The first ranks are not quite as far apart as 1 / rank, or one instrument would be everything.
            sum += if skewed { (1 << 32) / (rank + 8) } else { 1 };
            sum
        };
        Activity { sums: (0..u64::from(instruments)).map(weigh).collect(), by_rank }
    }

    fn pick(&self, random: &mut Random) -> u32 {
        let total = *self.sums.last().expect("there is at least one instrument");
        let drawn = random.below(total);
        self.by_rank[self.sums.partition_point(|sum| *sum <= drawn)]
    }
}

impl Exchange {
    pub(super) fn next_of_flow(&mut self, out: &mut Vec<u8>) {
        if let Some(pending) = self.pending.take()
            && self.proceed(pending, out)
        {
            return;
        }
        let index = self.activity.pick(&mut self.random);
        self.drift(index);
        let event = self.choose_event(index);
        if !self.try_event(event, index, out) {
            self.send_passive_order(index, out);
        }
    }

    /// An event of the mix, bent so that the book gathers around its number of orders.
    fn choose_event(&mut self, index: u32) -> Event {
        let event = self.config.mix.pick(&mut self.random);
        let resting = self.instruments[index as usize].resting.len();
        let is_short = resting < self.config.resting_orders as usize;
        match event {
            Event::Delete if is_short && self.random.percent(50) => Event::Add,
            Event::Add if !is_short && self.random.percent(20) => Event::Delete,
            event => event,
        }
    }

    /// False: not possible now, nothing was sent.
    fn try_event(&mut self, event: Event, index: u32, out: &mut Vec<u8>) -> bool {
        let is_trading = self.instruments[index as usize].is_trading();
        match event {
            Event::Add => false,
            Event::Delete => self.send_delete(index, out),
            Event::Replace => self.send_replace(index, out),
            Event::Cancel => self.send_cancel(index, out),
            Event::BrokenTrade => self.send_broken_trade(index, out),
            Event::Halt => self.send_halt_or_resumption(index, out),
            Event::Indifferent => self.send_indifferent(index, out),
            _ if !is_trading => false,
            Event::Aggress => self.aggress(index, out),
            Event::ExecuteWithPrice => self.execute_with_price(index, out),
            Event::HiddenTrade => self.send_hidden_trade(index, out),
            Event::Cross => self.cross(index, out),
            Event::EmptyCross => self.send_cross(index, self.instruments[index as usize].mid_e4, 0, out),
        }
    }

    fn proceed(&mut self, pending: Pending, out: &mut Vec<u8>) -> bool {
        match pending {
            Pending::Aggressor { instrument, side, limit_e4, shares, rests } => {
                self.proceed_aggressor(instrument, side, limit_e4, shares, rests, out)
            }
            Pending::Cross { instrument, executions, price_e4, shares } => {
                self.proceed_cross(instrument, executions, price_e4, shares, out)
            }
        }
    }

    /// One step of the price that orders gather around: now and then, up or down alike.
    fn drift(&mut self, index: u32) {
        let drawn = self.random.below(16);
        let instrument = &mut self.instruments[index as usize];
        let increment_e4 = instrument.increment_e4;
        match drawn {
            0 if instrument.mid_e4 < PRICE_MAX_E4 / 2 => instrument.mid_e4 += increment_e4,
            1 if instrument.mid_e4 > 50 * increment_e4 => instrument.mid_e4 -= increment_e4,
            _ => {}
        }
    }

    /// Round lots mostly.
    pub(super) fn draw_shares(&mut self) -> u32 {
        match self.random.below(10) {
            0 => self.random.between(1, 99),
            1 => self.random.between(1, 50) * 100,
            _ => self.random.between(1, 5) * 100,
        }
    }

    /// A price at which an order of that side rests without touching the other side; `None` if there is none.
    pub(super) fn passive_price_e4(&mut self, index: u32, side: Side) -> Option<u32> {
        let far = self.random.below(400) == 0;
        let steps =
            self.random.run_length() + u32::from(self.random.percent(20)) * self.random.between(1, 15);
        let instrument = &self.instruments[index as usize];
        let increment_e4 = instrument.increment_e4;
        let distance_e4 = (1 + steps) * increment_e4;
        let other = instrument.book.best(side.opposite()).map(|best| best.price_e4);
        match side {
            // A stub quote: far from everything, as market makers once had to have one.
            Side::Buy if far && other.is_none_or(|ask_e4| ask_e4 > 1) => Some(1),
            Side::Sell if far => Some(PRICE_MAX_E4 - increment_e4),
            Side::Buy => {
                let wanted_e4 = instrument.mid_e4.saturating_sub(distance_e4).max(1);
                let limit_e4 = other.map_or(PRICE_MAX_E4, |ask_e4| ask_e4.saturating_sub(increment_e4));
                Some(wanted_e4.min(limit_e4)).filter(|price_e4| *price_e4 > 0)
            }
            Side::Sell => {
                let limit_e4 = other.map_or(0, |bid_e4| bid_e4 + increment_e4);
                Some((instrument.mid_e4 + distance_e4).max(limit_e4))
                    .filter(|price_e4| *price_e4 <= PRICE_MAX_E4)
            }
        }
    }

    pub(super) fn draw_side(&mut self) -> Side {
        if self.random.percent(50) { Side::Buy } else { Side::Sell }
    }

    /// Halts that instrument, or moves one that is halted on: quotation only, then trading.
    fn send_halt_or_resumption(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let resume = !self.halted.is_empty() && self.random.percent(60) || self.halted.len() >= HALTED_MAX;
        if resume {
            let place = self.random.below(self.halted.len() as u64) as usize;
            let index = self.halted[place];
            if self.instruments[index as usize].trading_state == b'Q' {
                self.halted.swap_remove(place);
                self.send_trading_state(index, b'T', *b"    ", out);
            } else {
                self.send_trading_state(index, b'Q', *b"R4  ", out);
            }
            return true;
        }
        if !self.instruments[index as usize].is_trading() {
            return false;
        }
        self.halted.push(index);
        let (state, reason) = if self.random.percent(50) { (b'H', *b"T1  ") } else { (b'P', *b"LUDP") };
        self.send_trading_state(index, state, reason, out);
        true
    }

    fn send_indifferent(&mut self, index: u32, out: &mut Vec<u8>) -> bool {
        let letters = [b'I', b'N', b'L', b'Y'];
        let letter = letters[self.random.below(4) as usize];
        let shares = u64::from(self.draw_shares());
        let (head, _) = self.begin(letter, locate(index));
        let instrument = &self.instruments[index as usize];
        let stock = instrument.symbol;
        match letter {
            b'I' => append(out, &imbalance(head, instrument, shares)),
            b'N' => append(out, &itch50::RetailInterest { head, stock, interest_flag: b'A' }),
            b'L' => append(
                out,
                &itch50::MarketParticipantPosition {
                    head,
                    mpid: *b"TICK",
                    stock,
                    primary_market_maker: b'Y',
                    market_maker_mode: b'N',
                    participant_state: b'A',
                },
            ),
            _ => append(out, &itch50::RegShoRestriction { head, stock, action: b'0' }),
        }
        true
    }
}

fn imbalance(head: Head, instrument: &Instrument, shares: u64) -> itch50::NetOrderImbalance {
    itch50::NetOrderImbalance {
        head,
        paired_shares: U64::new(shares),
        imbalance_shares: U64::new(shares / 2),
        imbalance_direction: b'B',
        stock: instrument.symbol,
        far_price: U32::new(instrument.mid_e4),
        near_price: U32::new(instrument.mid_e4),
        reference_price: U32::new(instrument.mid_e4),
        cross_type: b'C',
        price_variation: b'L',
    }
}
