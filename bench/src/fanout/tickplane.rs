//! Tickplane itself: a region that the bench writes, served by a node as the appliance serves it.

use super::{Contender, INSTRUMENTS};
use crate::node::Node;
use crate::subscriber::Subscribe;
use control::proto::{DeliveryMode, SubscribeRequest};
use dataplane::cache::region::Layout;
use std::marker::PhantomData;

const LAYOUT: Layout = Layout { instruments: 128, feeds: 1, log_ticks: 1 << 17, bursts: 1 << 14 };

/// Tickplane with a kind of clients.
pub struct Tickplane<S> {
    node: Node,
    clients: PhantomData<S>,
}

impl<S: Subscribe> Contender for Tickplane<S> {
    type Subscriber = S;

    fn start() -> Tickplane<S> {
        // As many threads as nats-server takes, on a machine that has nothing to do but this.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let grpc = format!("subscriptions_max = 2000\nthreads = {cores}");
        let node = Node::start(&grpc, LAYOUT, INSTRUMENTS);
        Tickplane { node, clients: PhantomData }
    }

    fn subscriber(&self) -> impl Future<Output = S> + Send + 'static {
        let mode = DeliveryMode::EveryTick.into();
        let request =
            SubscribeRequest { patterns: vec!["*".to_owned()], mode, ..SubscribeRequest::default() };
        S::subscribe(self.node.address.clone(), request)
    }

    fn publish(&mut self, number: u64, count: u64) {
        for number in number..number + count {
            self.node.publish((number % u64::from(INSTRUMENTS)) as u32, number);
        }
        self.node.commit();
    }
}
