//! The book as one writes it first: a hash map of orders, a tree of levels for each side.

use dataplane::port::Port;
use dataplane::sim::memory_port::MemoryPort;
use dataplane::wire::datagram::{self, Parsed};
use dataplane::wire::itch50::{Message, SIDE_BUY};
use dataplane::wire::moldudp64::Packet;
use std::collections::{BTreeMap, HashMap};

struct Order {
    locate: u16,
    bid: bool,
    price: u32,
    shares: u32,
}

#[derive(Default)]
struct Sides {
    bids: BTreeMap<u32, u64>,
    asks: BTreeMap<u32, u64>,
}

#[derive(Default)]
pub struct NaiveBook {
    orders: HashMap<u64, Order>,
    books: HashMap<u16, Sides>,
    /// How often a best level changed: what a cache would have to publish.
    changes: u64,
}

impl NaiveBook {
    pub fn take_all(&mut self, mut port: MemoryPort) {
        loop {
            let frames = port.rx_burst();
            if frames == 0 {
                return;
            }
            for index in 0..frames {
                let Ok(Parsed::Udp(datagram)) = datagram::parse(port.frame(index).bytes) else { continue };
                let Ok(packet) = Packet::parse(datagram.payload) else { continue };
                for bytes in packet.messages() {
                    if let Ok(message) = Message::parse(bytes) {
                        self.take(&message);
                    }
                }
            }
        }
    }

    fn take(&mut self, message: &Message<'_>) {
        let locate = message.head().stock_locate.get();
        match message {
            Message::AddOrder(m) => {
                self.add(m.order_reference.get(), locate, m.side == SIDE_BUY, m.price.get(), m.shares.get());
            }
            Message::AddOrderAttributed(m) => {
                self.add(m.order_reference.get(), locate, m.side == SIDE_BUY, m.price.get(), m.shares.get());
            }
            Message::OrderExecuted(m) => self.reduce(m.order_reference.get(), m.executed_shares.get()),
            Message::OrderExecutedWithPrice(m) => {
                self.reduce(m.order_reference.get(), m.executed_shares.get())
            }
            Message::OrderCancel(m) => self.reduce(m.order_reference.get(), m.cancelled_shares.get()),
            Message::OrderDelete(m) => self.reduce(m.order_reference.get(), u32::MAX),
            Message::OrderReplace(m) => {
                let reference = m.original_order_reference.get();
                let Some((locate, bid)) = self.orders.get(&reference).map(|order| (order.locate, order.bid))
                else {
                    return;
                };
                self.reduce(reference, u32::MAX);
                self.add(m.new_order_reference.get(), locate, bid, m.price.get(), m.shares.get());
            }
            _ => {}
        }
    }

    fn add(&mut self, reference: u64, locate: u16, bid: bool, price: u32, shares: u32) {
        self.orders.insert(reference, Order { locate, bid, price, shares });
        let sides = self.books.entry(locate).or_default();
        let side = if bid { &mut sides.bids } else { &mut sides.asks };
        *side.entry(price).or_default() += u64::from(shares);
        self.changes += u64::from(best(side, bid) == Some(price));
    }

    fn reduce(&mut self, reference: u64, shares: u32) {
        let Some(order) = self.orders.get_mut(&reference) else { return };
        let taken = shares.min(order.shares);
        order.shares -= taken;
        let (locate, bid, price, gone) = (order.locate, order.bid, order.price, order.shares == 0);
        if gone {
            self.orders.remove(&reference);
        }
        let sides = self.books.entry(locate).or_default();
        let side = if bid { &mut sides.bids } else { &mut sides.asks };
        self.changes += u64::from(best(side, bid) == Some(price));
        if let Some(level) = side.get_mut(&price) {
            *level -= u64::from(taken);
            if *level == 0 {
                side.remove(&price);
            }
        }
    }
}

fn best(side: &BTreeMap<u32, u64>, bid: bool) -> Option<u32> {
    if bid { side.last_key_value() } else { side.first_key_value() }.map(|(price, _)| *price)
}
