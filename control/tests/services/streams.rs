//! No stream is outside of the bounds: each takes a place among all, and one of its client's quota.

use super::desk::{Desk, PATIENCE};
use control::access::ANONYMOUS;
use control::proto;
use control::proto::audit_client::AuditClient;
use control::proto::quotas_client::QuotasClient;
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::telemetry_client::TelemetryClient;
use control::proto::{
    AuditWatchRequest, CreateSubscriptionRequest, ListSubscriptionsRequest, StreamSubscriptionRequest,
    SubscribeRequest, WatchLatencyRequest, WatchQuotasRequest,
};
use prost_reflect::DescriptorPool;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Response, Status, Streaming};

const STREAMS: [&str; 6] = [
    "Audit.Watch",
    "MarketData.Subscribe",
    "Quotas.Watch",
    "Subscriptions.Stream",
    "Subscriptions.Watch",
    "Telemetry.WatchLatency",
];
/// Of the desk's configuration.
const STREAMS_MAX: usize = 3;
const KEPT: &str = "kept";

type Opened = Pin<Box<dyn Stream<Item = Result<(), Status>>>>;

fn opened<T: 'static>(answer: Response<Streaming<T>>) -> Opened {
    Box::pin(answer.into_inner().map(|message| message.map(drop)))
}

async fn open(desk: &Desk, stream: &str) -> Result<Opened, Status> {
    let channel = desk.channel.clone();
    let subscribe = SubscribeRequest { patterns: vec!["*".to_owned()], ..SubscribeRequest::default() };
    let of_kept = StreamSubscriptionRequest { id: KEPT.to_owned(), resume: None };
    let quotas = WatchQuotasRequest::default();
    Ok(match stream {
        "Audit.Watch" => opened(AuditClient::new(channel).watch(AuditWatchRequest::default()).await?),
        "MarketData.Subscribe" => opened(desk.market_data().subscribe(subscribe).await?),
        "Quotas.Watch" => opened(QuotasClient::new(channel).watch(quotas).await?),
        "Subscriptions.Stream" => opened(SubscriptionsClient::new(channel).stream(of_kept).await?),
        "Subscriptions.Watch" => {
            opened(SubscriptionsClient::new(channel).watch(ListSubscriptionsRequest::default()).await?)
        }
        "Telemetry.WatchLatency" => {
            opened(TelemetryClient::new(channel).watch_latency(WatchLatencyRequest::default()).await?)
        }
        _ => panic!("nobody knows how to open {stream}"),
    })
}

/// With a subscription that is kept, so that it can be opened.
async fn desk(quota: &str) -> Desk {
    let desk = Desk::open_with(&format!("[quota.admin]\n{quota}\n")).await;
    let request = CreateSubscriptionRequest { id: KEPT.to_owned(), ..CreateSubscriptionRequest::default() };
    SubscriptionsClient::new(desk.channel.clone()).create(request).await.unwrap();
    desk
}

/// Streams that are open, and those that the client holds of its quota.
fn held(desk: &Desk) -> (usize, u64) {
    let used = desk.node.quotas.find(ANONYMOUS).expect("it has called").usage(desk.node.now_ns());
    (desk.node.delivery.subscriptions.load(Ordering::Relaxed), used.subscriptions)
}

async fn is_given_back(desk: &Desk) {
    let started = Instant::now();
    while held(desk) != (0, 0) {
        assert!(started.elapsed() < PATIENCE, "a place is given back: {:?}", held(desk));
        tokio::task::yield_now().await;
    }
}

async fn refused(desk: &Desk, stream: &str) -> String {
    let status = open(desk, stream).await.err().unwrap_or_else(|| panic!("{stream} has found a place"));
    assert_eq!(status.code(), Code::ResourceExhausted, "{stream}: {status}");
    status.message().to_owned()
}

#[test]
fn there_are_no_other_streams() {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let streams = methods.filter(|method| method.is_server_streaming() || method.is_client_streaming());
    let name = |method: prost_reflect::MethodDescriptor| {
        format!("{}.{}", method.parent_service().name(), method.name())
    };
    assert_eq!(streams.map(name).collect::<BTreeSet<_>>(), STREAMS.map(str::to_owned).into());
}

#[tokio::test]
async fn each_stream_takes_a_place_of_its_clients_quota_and_gives_it_back() {
    let desk = desk("subscriptions = 1").await;
    for stream in STREAMS {
        let first = open(&desk, stream).await.unwrap();
        assert_eq!(held(&desk), (1, 1), "{stream}");
        for another in STREAMS {
            let why = refused(&desk, another).await;
            assert!(why.contains("subscriptions = 1 is all in use"), "{another} beside {stream}: {why}");
        }
        assert_eq!(held(&desk), (1, 1), "{stream}");
        drop(first);
        is_given_back(&desk).await;
    }
}

#[tokio::test]
async fn each_stream_takes_a_place_among_all() {
    let desk = desk("subscriptions = 100").await;
    for stream in STREAMS {
        let mut all = Vec::new();
        for _ in 0..STREAMS_MAX {
            all.push(open(&desk, stream).await.unwrap());
        }
        for another in STREAMS {
            let why = refused(&desk, another).await;
            assert!(why.contains("[grpc] subscriptions_max"), "{another} beside {stream}: {why}");
        }
        assert_eq!(held(&desk), (STREAMS_MAX, STREAMS_MAX as u64), "what was refused holds nothing");
        drop(all);
        is_given_back(&desk).await;
    }
}

#[tokio::test]
async fn each_stream_ends_when_its_client_is_cut_off_and_when_the_node_ends() {
    let desk = desk("subscriptions = 1\non_excess = \"disconnect\"").await;
    for stream in STREAMS {
        let mut resting = open(&desk, stream).await.unwrap();
        refused(&desk, stream).await;
        assert_eq!(end_of(&mut resting, stream).await, Code::ResourceExhausted, "{stream}");
        drop(resting);
        is_given_back(&desk).await;
    }
    // One of them has the only place; all learn of the end by the same way.
    let mut last = open(&desk, "Subscriptions.Watch").await.unwrap();
    desk.stopping.send_replace(true);
    assert_eq!(end_of(&mut last, "Subscriptions.Watch").await, Code::Unavailable);
}

async fn end_of(stream: &mut Opened, name: &str) -> Code {
    let ended = async {
        while let Some(message) = stream.next().await {
            if let Err(status) = message {
                return status.code();
            }
        }
        panic!("{name} ends without saying why");
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{name} ends"))
}
