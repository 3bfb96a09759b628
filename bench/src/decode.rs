//! ITCH decode alone, against other crates, on the same bytes: everyone reads the same fields of every order message.

use crate::flow::Flow;
use crate::report::{Goal, Line};
use crate::sample::take_turns;
use dataplane::wire::itch50::Message;
use dataplane::wire::moldudp64::split_block;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

/// What everyone must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    messages: u64,
    locates: u64,
    stamps: u64,
    references: u64,
    shares: u64,
    prices: u64,
}

impl Sum {
    #[inline(always)]
    fn add(&mut self, locate: u16, stamp: u64, reference: u64, shares: u32, price: u32) {
        self.messages += 1;
        self.locates += u64::from(locate);
        self.stamps = self.stamps.wrapping_add(stamp);
        self.references = self.references.wrapping_add(reference);
        self.shares += u64::from(shares);
        self.prices += u64::from(price);
    }
}

fn ours(mut blocks: &[u8]) -> Sum {
    let mut sum = Sum::default();
    while let Some((bytes, rest)) = split_block(blocks) {
        blocks = rest;
        let Ok(message) = Message::parse(bytes) else { continue };
        let head = message.head();
        let (locate, stamp) = (head.stock_locate.get(), head.timestamp.ns());
        match message {
            Message::AddOrder(add) => {
                sum.add(locate, stamp, add.order_reference.get(), add.shares.get(), add.price.get());
            }
            Message::AddOrderAttributed(add) => {
                sum.add(locate, stamp, add.order_reference.get(), add.shares.get(), add.price.get());
            }
            Message::OrderExecuted(m) => {
                sum.add(locate, stamp, m.order_reference.get(), m.executed_shares.get(), 0)
            }
            Message::OrderExecutedWithPrice(m) => {
                sum.add(
                    locate,
                    stamp,
                    m.order_reference.get(),
                    m.executed_shares.get(),
                    m.execution_price.get(),
                );
            }
            Message::OrderCancel(m) => {
                sum.add(locate, stamp, m.order_reference.get(), m.cancelled_shares.get(), 0)
            }
            Message::OrderDelete(m) => sum.add(locate, stamp, m.order_reference.get(), 0, 0),
            Message::OrderReplace(m) => {
                sum.add(locate, stamp, m.new_order_reference.get(), m.shares.get(), m.price.get());
            }
            _ => {}
        }
    }
    sum
}

type Flow5 = ControlFlow<()>;

impl itch5::MessageHandler for Sum {
    fn on_add_order_no_mpid_attribution(&mut self, m: &itch5::messages::AddOrderNoMPIDAttribution) -> Flow5 {
        let stamp = m.timestamp().to_u64();
        self.add(m.stock_locate(), stamp, m.order_reference_number(), m.shares(), m.price().into_u32());
        ControlFlow::Continue(())
    }

    fn on_add_order_with_mpid_attribution(
        &mut self,
        m: &itch5::messages::AddOrderWithMPIDAttribution,
    ) -> Flow5 {
        let stamp = m.timestamp().to_u64();
        self.add(m.stock_locate(), stamp, m.order_reference_number(), m.shares(), m.price().into_u32());
        ControlFlow::Continue(())
    }

    fn on_order_executed(&mut self, m: &itch5::messages::OrderExecuted) -> Flow5 {
        let stamp = m.timestamp().to_u64();
        self.add(m.stock_locate(), stamp, m.order_reference_number(), m.executed_shares(), 0);
        ControlFlow::Continue(())
    }

    fn on_order_executed_with_price(&mut self, m: &itch5::messages::OrderExecutedWithPrice) -> Flow5 {
        let (stamp, price) = (m.timestamp().to_u64(), m.execution_price().into_u32());
        self.add(m.stock_locate(), stamp, m.order_reference_number(), m.executed_shares(), price);
        ControlFlow::Continue(())
    }

    fn on_order_cancel(&mut self, m: &itch5::messages::OrderCancel) -> Flow5 {
        let stamp = m.timestamp().to_u64();
        self.add(m.stock_locate(), stamp, m.order_reference_number(), m.cancelled_shares(), 0);
        ControlFlow::Continue(())
    }

    fn on_order_delete(&mut self, m: &itch5::messages::OrderDelete) -> Flow5 {
        self.add(m.stock_locate(), m.timestamp().to_u64(), m.order_reference_number(), 0, 0);
        ControlFlow::Continue(())
    }

    fn on_order_replace(&mut self, m: &itch5::messages::OrderReplace) -> Flow5 {
        let stamp = m.timestamp().to_u64();
        self.add(m.stock_locate(), stamp, m.new_order_reference_number(), m.shares(), m.price().into_u32());
        ControlFlow::Continue(())
    }
}

fn by_itch5(file: &[u8]) -> Sum {
    let mut sum = Sum::default();
    itch5::Parser::new(file).parse_stream(&mut sum).expect("the same bytes");
    sum
}

fn by_itchy(file: &[u8]) -> Sum {
    let mut sum = Sum::default();
    for message in itchy::MessageStream::from_reader(file) {
        let itchy::Message { stock_locate: locate, timestamp: stamp, body, .. } =
            message.expect("the same bytes");
        match body {
            itchy::Body::AddOrder(add) => sum.add(locate, stamp, add.reference, add.shares, add.price.raw()),
            itchy::Body::OrderExecuted { reference, executed, .. } => {
                sum.add(locate, stamp, reference, executed, 0)
            }
            itchy::Body::OrderExecutedWithPrice { reference, executed, price, .. } => {
                sum.add(locate, stamp, reference, executed, price.raw());
            }
            itchy::Body::OrderCancelled { reference, cancelled } => {
                sum.add(locate, stamp, reference, cancelled, 0)
            }
            itchy::Body::DeleteOrder { reference } => sum.add(locate, stamp, reference, 0, 0),
            itchy::Body::ReplaceOrder(m) => sum.add(locate, stamp, m.new_reference, m.shares, m.price.raw()),
            _ => {}
        }
    }
    sum
}

pub fn run(rounds: usize, messages: usize) -> Vec<Line> {
    let file = Flow::new(500, 50_000).file(messages);
    let expected = ours(&file);
    assert!(expected.messages > messages as u64 / 2, "mostly order messages");
    assert_eq!(by_itch5(&file), expected);
    assert_eq!(by_itchy(&file), expected);
    let timed = |decode: fn(&[u8]) -> Sum| {
        let file = &file;
        Box::new(move || {
            let started = Instant::now();
            let sum = black_box(decode(black_box(file)));
            assert_eq!(sum, expected);
            started.elapsed().as_nanos() as f64 / messages as f64
        })
    };
    let samples = take_turns(
        rounds,
        vec![("ours", timed(ours)), ("itch5 0.1.5", timed(by_itch5)), ("itchy 0.3.4", timed(by_itchy))],
    );
    let [ours, itch5, itchy] = <[_; 3]>::try_from(samples).expect("three contenders");
    let line = |theirs: &crate::sample::Sample| Line {
        what: "ITCH decode, ns a message".to_owned(),
        ours: ours.clone(),
        theirs: Some((theirs.name.clone(), theirs.median_ns())),
        goal: Some(Goal::RateAtLeast(1.0)),
    };
    vec![line(&itch5), line(&itchy)]
}
