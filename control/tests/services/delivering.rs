//! Subscriptions over a real connection: resumed, frozen, in a loop, and those that the node keeps.

use crate::desk::{Desk, LAYOUT, MINUTE_NS, PATIENCE, next};
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::{
    BehindPolicy, CreateSubscriptionRequest, DeliveryMode, ImageReason, ListSubscriptionsRequest, Notice,
    Place, RowKind, StreamSubscriptionRequest, SubscribeRequest, SubscribeResponse, SubscriptionPlan,
    SubscriptionRequest, UpdateSubscriptionRequest,
};
use dataplane::cache::writer::Writer;
use drivers::region::RegionMapping;
use tonic::{Code, Streaming};

fn every_tick(resume: Option<Place>, policy: BehindPolicy) -> SubscribeRequest {
    SubscribeRequest {
        patterns: vec!["*".to_owned()],
        kinds: vec![RowKind::Quote.into()],
        mode: DeliveryMode::EveryTick.into(),
        policy: policy.into(),
        resume,
        ..SubscribeRequest::default()
    }
}

async fn subscribe(desk: &Desk, request: SubscribeRequest) -> Streaming<SubscribeResponse> {
    desk.market_data().subscribe(request).await.unwrap().into_inner()
}

fn numbers(response: &SubscribeResponse) -> Vec<u64> {
    response.updates.iter().map(|update| update.mark().unwrap().sequence).collect()
}

/// Reads until a number has come.
async fn read_to(stream: &mut Streaming<SubscribeResponse>, last: u64) -> (Vec<u64>, SubscribeResponse) {
    let mut all = Vec::new();
    loop {
        let response = next(stream).await;
        all.extend(numbers(&response));
        if all.last() == Some(&last) {
            return (all, response);
        }
    }
}

fn publish(desk: &mut Desk, instrument: u32, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        desk.quote(instrument, number);
    }
    desk.commit();
}

#[tokio::test]
async fn who_comes_back_goes_on_where_it_was() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    let mut stream = subscribe(&desk, every_tick(None, BehindPolicy::Gap)).await;
    let image = next(&mut stream).await;
    assert_eq!((image.image_reason(), image.image_complete), (ImageReason::First, true));
    publish(&mut desk, instrument, 1..=1_000);
    let (first, last) = read_to(&mut stream, 1_000).await;
    drop(stream);
    publish(&mut desk, instrument, 1_001..=3_000);
    let mut stream = subscribe(&desk, every_tick(last.place, BehindPolicy::Gap)).await;
    let response = next(&mut stream).await;
    assert_eq!((response.notice(), response.image_reason()), (Notice::Resumed, ImageReason::Unspecified));
    let begun = numbers(&response);
    let (rest, _) = read_to(&mut stream, 3_000).await;
    let all: Vec<u64> = [first, begun, rest].concat();
    assert_eq!(all, (1..=3_000).collect::<Vec<_>>(), "each once, in order");
    // A place of some other log, and one of a subscription to something else.
    let place = last.place.unwrap();
    for (place, reason) in [
        (Place { generation: 99, ..place }, ImageReason::OtherLog),
        (Place { log: 1, generation: 99, ..place }, ImageReason::OtherLog),
        (Place { subscribed: 1, ..place }, ImageReason::Changed),
        (Place { position: place.position + 1_000_000, ..place }, ImageReason::NotReached),
    ] {
        let mut stream = subscribe(&desk, every_tick(Some(place), BehindPolicy::Gap)).await;
        let image = next(&mut stream).await;
        assert_eq!((image.image_reason(), numbers(&image)), (reason, vec![3_000]), "{place:?}");
    }
    publish(&mut desk, instrument, 3_001..=3_000 + LAYOUT.log_ticks + 1);
    let mut stream = subscribe(&desk, every_tick(Some(place), BehindPolicy::Gap)).await;
    assert_eq!(next(&mut stream).await.image_reason(), ImageReason::Overwritten);
}

#[tokio::test]
async fn a_frozen_client_costs_others_nothing_and_is_told_what_it_lacks() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    let mut reads = subscribe(&desk, every_tick(None, BehindPolicy::Gap)).await;
    let mut frozen = subscribe(&desk, every_tick(None, BehindPolicy::Gap)).await;
    let mut ends = subscribe(&desk, every_tick(None, BehindPolicy::End)).await;
    for stream in [&mut reads, &mut frozen, &mut ends] {
        assert!(next(stream).await.image_complete);
    }
    let (last, step) = (3 * LAYOUT.log_ticks, 4_096);
    let mut all = Vec::new();
    for from in (0..last).step_by(step as usize) {
        publish(&mut desk, instrument, from + 1..=from + step);
        let (numbers, response) = read_to(&mut reads, from + step).await;
        assert!(response.gap.is_none());
        all.extend(numbers);
    }
    assert_eq!(all, (1..=last).collect::<Vec<_>>(), "who reads has every tick");
    let mut before = 0;
    let gap = loop {
        let response = next(&mut frozen).await;
        match response.gap {
            Some(gap) => {
                assert_eq!((response.image_reason(), numbers(&response)), (ImageReason::Gap, vec![last]));
                break gap;
            }
            None => {
                let numbers = numbers(&response);
                assert!(
                    numbers.iter().all(|number| {
                        before += 1;
                        *number == before
                    }),
                    "no hole that is not told"
                );
            }
        }
    };
    assert!(gap.count > LAYOUT.log_ticks && gap.to - gap.from == gap.count, "{gap:?}");
    let end = loop {
        match tokio::time::timeout(PATIENCE, ends.message()).await.expect("an end") {
            Ok(Some(response)) => assert!(response.gap.is_none()),
            Ok(None) => panic!("it ends by a status"),
            Err(status) => break status,
        }
    };
    assert!(end.code() == Code::OutOfRange && end.message().contains("log_ticks"), "{end:?}");
}

#[tokio::test]
async fn what_the_log_does_not_tell_of_is_told_although_it_stays_as_it_is() {
    let mut desk = Desk::open().await;
    desk.define("AAPL");
    let mut stream = desk.subscribe(&["*"], &[]).await.unwrap();
    while !next(&mut stream).await.image_complete {}
    // Nobody vouches for the cache, for a moment that is too short for whoever watches over the node.
    let other = RegionMapping::create_anonymous("other", LAYOUT.cells()).unwrap().leak();
    let other = Writer::format(other, LAYOUT, 1).unwrap();
    let follower = std::mem::replace(&mut desk.writer, other).into_follower();
    desk.node.log_bell.ring();
    while next(&mut stream).await.writer_alive {}
    follower.believe_until(desk.node.now_ns() + MINUTE_NS);
    while !next(&mut stream).await.writer_alive {}
    // Rows came by an image.
    follower.renew_generation();
    let image = next(&mut stream).await;
    assert_eq!((image.image_reason(), image.writer_alive), (ImageReason::CacheBegan, true));
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[tokio::test]
async fn subscribing_to_everything_again_and_again_takes_no_more_memory() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    let mut stream = subscribe(&desk, every_tick(None, BehindPolicy::Gap)).await;
    let place = next(&mut stream).await.place;
    drop(stream);
    publish(&mut desk, instrument, 1..=20_000);
    let (mut read, mut after_ten) = (0, 0);
    for round in 0..100 {
        let resume = if round % 2 == 0 { place } else { None };
        // The place of the one before is given back when its connection is seen to be gone.
        let started = std::time::Instant::now();
        let mut stream = loop {
            match desk.market_data().subscribe(every_tick(resume, BehindPolicy::Gap)).await {
                Ok(stream) => break stream.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
            }
            assert!(started.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        };
        let (numbers, _) = read_to(&mut stream, 20_000).await;
        read += numbers.len();
        if round == 10 {
            after_ten = resident_bytes();
        }
    }
    assert_eq!(read, 50 * 20_000 + 50, "every second one had the log, the others its last");
    // What was encoded for all of them is some 200 MB.
    let grown = resident_bytes().saturating_sub(after_ten);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

fn plan(patterns: &[&str]) -> Option<SubscriptionPlan> {
    Some(SubscriptionPlan {
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        kinds: vec![RowKind::Quote.into()],
        mode: DeliveryMode::EveryTick.into(),
        ..SubscriptionPlan::default()
    })
}

#[tokio::test]
async fn a_subscription_that_the_node_keeps_is_changed_while_it_delivers() {
    let mut desk = Desk::open().await;
    let [a, b] = ["A1", "B1"].map(|symbol| desk.define(symbol));
    publish(&mut desk, a, 1..=1);
    publish(&mut desk, b, 2..=2);
    let mut client = SubscriptionsClient::new(desk.channel.clone());
    let mut events = client.watch(ListSubscriptionsRequest::default()).await.unwrap().into_inner();
    let create =
        |id: &str, plan| CreateSubscriptionRequest { id: id.to_owned(), client: String::new(), plan };
    let made = client.create(create("desk", plan(&["A*"]))).await.unwrap().into_inner();
    assert_eq!((made.client.as_str(), made.revision, made.paused), ("anonymous", 1, false));
    let refused = [
        (create("desk", plan(&["A*"])), Code::AlreadyExists),
        (create("no good", plan(&["A*"])), Code::InvalidArgument),
        (create("x", plan(&[""])), Code::InvalidArgument),
        (
            create("x", plan(&["A*"]).map(|plan| SubscriptionPlan { feeds: vec!["nix".to_owned()], ..plan })),
            Code::InvalidArgument,
        ),
        (
            create("x", plan(&["A*"]).map(|plan| SubscriptionPlan { max_updates_per_s: 5, ..plan })),
            Code::InvalidArgument,
        ),
    ];
    for (request, code) in refused {
        assert_eq!(client.create(request.clone()).await.unwrap_err().code(), code, "{request:?}");
    }
    let one = || SubscriptionRequest { id: "desk".to_owned() };
    let stream = StreamSubscriptionRequest { id: "desk".to_owned(), resume: None };
    let mut stream = client.stream(stream).await.unwrap().into_inner();
    let image = next(&mut stream).await;
    assert_eq!((image.image_reason(), numbers(&image)), (ImageReason::First, vec![1]));
    let update = |plan, revision| UpdateSubscriptionRequest { id: "desk".to_owned(), plan, revision };
    assert_eq!(client.update(update(plan(&["*"]), 7)).await.unwrap_err().code(), Code::Aborted);
    let updated = client.update(update(plan(&["*"]), 1)).await.unwrap().into_inner();
    assert_eq!((updated.revision, updated.streams), (2, 1));
    let image = next(&mut stream).await;
    assert_eq!((image.image_reason(), numbers(&image)), (ImageReason::Changed, vec![1, 2]));
    client.update(update(plan(&["B*"]), 0)).await.unwrap();
    assert_eq!(next(&mut stream).await.notice(), Notice::Changed);
    assert!(client.pause(one()).await.unwrap().into_inner().paused);
    assert_eq!(next(&mut stream).await.notice(), Notice::Paused);
    publish(&mut desk, a, 3..=3);
    publish(&mut desk, b, 4..=5);
    client.resume(one()).await.unwrap();
    let response = next(&mut stream).await;
    assert_eq!((response.notice(), numbers(&response)), (Notice::Continued, vec![4, 5]), "it lost nothing");
    assert_eq!(client.get(one()).await.unwrap().into_inner().revision, 5);
    client.delete(one()).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, stream.message()).await.expect("an end").unwrap_err();
    assert!(end.code() == Code::NotFound && end.message().contains("deleted"), "{end:?}");
    assert_eq!(client.pause(one()).await.unwrap_err().code(), Code::NotFound);
    let left = client.list(ListSubscriptionsRequest::default()).await.unwrap().into_inner();
    assert!(left.subscriptions.is_empty());
    let mut told = Vec::new();
    while told.last().is_none_or(|(_, deleted)| !deleted) {
        let event =
            tokio::time::timeout(PATIENCE, events.message()).await.expect("an event").unwrap().unwrap();
        told.push((event.subscription.unwrap().revision, event.deleted));
    }
    assert_eq!(told, [(1, false), (2, false), (3, false), (4, false), (5, false), (6, true)]);
}
