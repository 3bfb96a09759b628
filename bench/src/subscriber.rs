//! Subscribers: clients that are handed updates and read them.

mod bare;
mod connection;

pub use bare::Bare;
pub use connection::Connection;

use control::client::{Connection as Channel, ServerArgs};
use control::proto::market_data_client::MarketDataClient;
use control::proto::{SubscribeRequest, SubscribeResponse};
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

pub trait Subscriber: Send + 'static {
    /// The numbers of updates that have come, each of which was parsed.
    fn next(&mut self, numbers: &mut Vec<u64>) -> impl Future<Output = ()> + Send;
}

/// A subscriber to Tickplane.
pub trait Subscribe: Subscriber + Sized {
    /// By a connection of its own; returns once the image is there.
    fn subscribe(address: String, request: SubscribeRequest) -> impl Future<Output = Self> + Send + 'static;
}

/// The thread in which all subscribers read.
pub struct Readers {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Readers {
    /// Returns once `begin` has subscribed, and spawned what reads; what it returns is kept until the end.
    pub fn start<T>(begin: impl Future<Output = T> + Send + 'static) -> Readers {
        let (ready_sender, ready) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let _kept = begin.await;
                ready_sender.send(()).expect("it is waited for");
                // Its end is that of whoever publishes.
                let _ = ended.await;
            });
        });
        ready.recv().expect("all subscribe");
        Readers { end, thread }
    }

    pub fn end(self) {
        drop(self.end);
        self.thread.join().expect("every subscriber got what it should");
    }
}

/// The client that tonic generates, with every field of every message.
pub type Generated = tonic::Streaming<SubscribeResponse>;

impl Subscribe for Generated {
    async fn subscribe(address: String, request: SubscribeRequest) -> Generated {
        let channel = ServerArgs::at(address).connect().await.unwrap_or_else(|error| panic!("{error}"));
        subscribe(channel, request).await
    }
}

/// A subscriber by a connection that others may share.
pub async fn subscribe(channel: Channel, request: SubscribeRequest) -> Generated {
    let subscribed = MarketDataClient::new(channel).subscribe(request).await;
    let mut responses = subscribed.unwrap_or_else(|error| panic!("{error}")).into_inner();
    while !next(&mut responses).await.image_complete {}
    responses
}

async fn next(responses: &mut Generated) -> SubscribeResponse {
    let response = responses.message().await.unwrap_or_else(|error| panic!("{error}"));
    let response = response.expect("it is not at its end");
    assert!(response.gap.is_none(), "every tick was asked for: {response:?}");
    response
}

impl Subscriber for Generated {
    async fn next(&mut self, numbers: &mut Vec<u64>) {
        let response = next(self).await;
        numbers.extend(response.updates.iter().filter_map(|update| Some(update.mark()?.sequence)));
    }
}
