//! The gRPC services over a real connection, on a region that the test itself fills.

mod at_once;
mod audit;
mod delivering;
mod desk;
mod latency;
mod limited;
mod methods;
mod quotas;
mod refusals;
mod streams;

use control::proto::feeds_client::FeedsClient;
use control::proto::node_client::NodeClient;
use control::proto::telemetry_client::TelemetryClient;
use control::proto::{
    FeedsListRequest, GetLatencyRequest, GetRequest, GetStatusRequest, ListRequest, RowKind, RowReason,
    RowState, Stage, SubscribeMode, SubscribeRequest, SubscribeResponse, WatchLatencyRequest, update,
};
use dataplane::cache::reader::Reader;
use dataplane::cache::tick::{Condition, Definition, FeedState, INSTRUMENT_NONE, Quote, Session};
use dataplane::cache::writer::Writer;
use desk::{Desk, LAYOUT, PATIENCE, Picture, next};
use drivers::region::RegionMapping;
use tonic::Code;

#[tokio::test]
async fn rows_are_read_one_by_one_and_page_by_page() {
    let mut desk = Desk::open().await;
    for symbol in ["AAPL", "AMZN", "MSFT"] {
        let instrument = desk.define(symbol);
        desk.quote(instrument, u64::from(instrument) + 10);
    }
    desk.commit();
    let mut client = desk.market_data();
    let symbols = ["MSFT", "NOPE", "AAPL"].map(str::to_owned).to_vec();
    let instruments = client.get(GetRequest { symbols }).await.unwrap().into_inner().instruments;
    let told: Vec<(&str, RowState)> =
        instruments.iter().map(|instrument| (instrument.symbol.as_str(), instrument.state())).collect();
    assert_eq!(told, [("MSFT", RowState::Live), ("NOPE", RowState::Absent), ("AAPL", RowState::Live)]);
    assert_eq!(instruments[0].quote.as_ref().unwrap().bid_price_e9, Some(12));
    assert_eq!(instruments[0].quote.as_ref().unwrap().ask_price_e9, None);
    assert_eq!((instruments[0].feed.as_str(), instruments[1].reason()), ("nasdaq", RowReason::UnknownSymbol));
    assert_eq!(instruments[0].definition.as_ref().unwrap().feed, "nasdaq");

    let mut request = ListRequest { pattern: "A*".to_owned(), page_size: 1, page_token: String::new() };
    let mut names = Vec::new();
    loop {
        let page = client.list(request.clone()).await.unwrap().into_inner();
        assert!(page.instruments.len() <= 1);
        names.extend(page.instruments.into_iter().map(|instrument| instrument.symbol));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["AAPL", "AMZN"]);
}

#[tokio::test]
async fn requests_that_can_not_be_are_refused_by_the_right_code() {
    let desk = Desk::open().await;
    let mut client = desk.market_data();
    let get = |symbols: Vec<String>| GetRequest { symbols };
    for symbols in [vec![], vec!["X".repeat(21)], vec![String::new()], vec!["A".to_owned(); 10_001]] {
        assert_eq!(client.get(get(symbols)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let list = |pattern: &str, page_size, page_token: &str| ListRequest {
        pattern: pattern.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    for request in [list(&"?".repeat(65), 0, ""), list("*", 10_001, ""), list("*", 0, "nonsense")] {
        assert_eq!(client.list(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(client.list(list("*", 0, "8-0")).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(desk.subscribe(&[], &[]).await.unwrap_err().code(), Code::InvalidArgument);
    let everything = SubscribeRequest { patterns: vec!["*".to_owned()], ..SubscribeRequest::default() };
    for request in [
        SubscribeRequest { kinds: vec![99], ..everything.clone() },
        SubscribeRequest { interval_ms: 1_001, ..everything },
    ] {
        assert_eq!(client.subscribe(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let request = WatchLatencyRequest { interval_ms: 1, ..WatchLatencyRequest::default() };
    let refused = TelemetryClient::new(desk.channel.clone()).watch_latency(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(desk.subscribe(&["*"], &[]).await.unwrap());
    }
    assert_eq!(desk.subscribe(&["*"], &[]).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn image_and_changes_join_without_a_hole_while_the_writer_writes() {
    let mut desk = Desk::open().await;
    let instruments: Vec<u32> = (0..40).map(|number| desk.define(&format!("S{number}"))).collect();
    let mut stream = desk.subscribe(&["*"], &[RowKind::Quote]).await.unwrap();
    let mut picture = Picture::default();
    let (mut seen_image, mut conflated, mut position) = (false, false, 0);
    let mut number = 0;
    while number < 30_000 || position < desk.writer.position() {
        // Some at a time, so that client and writer overlap in every way.
        for _ in 0..(if number < 30_000 { 1 + number % 97 } else { 0 }) {
            number += 1;
            desk.quote(instruments[number as usize % 40], number);
        }
        desk.commit();
        let response = next(&mut stream).await;
        assert_eq!(response.mode() == SubscribeMode::Image, !seen_image, "the image comes first");
        seen_image |= response.image_complete;
        conflated |= response.mode() == SubscribeMode::Conflated;
        assert!(response.writer_alive);
        picture.take(&response);
        position = response.position.max(position);
    }
    assert_eq!(picture.quotes.len(), 40);
    let latest = |index: u64| (number - (40 + number - index) % 40) as i64;
    for (index, instrument) in instruments.iter().enumerate() {
        let (bid, _) = picture.quotes[&format!("S{instrument}")];
        assert_eq!(bid, latest(index as u64), "S{instrument}");
    }
    assert!(conflated || picture.updates == number, "{} of {number} without conflation", picture.updates);
}

#[tokio::test]
async fn a_slow_client_gets_the_latest_and_is_told_what_it_missed() {
    let mut desk = Desk::open().await;
    let instruments: Vec<u32> = (0..4).map(|number| desk.define(&format!("S{number}"))).collect();
    let mut stream = desk.subscribe(&["S*"], &[RowKind::Quote]).await.unwrap();
    while !next(&mut stream).await.image_complete {}
    // More than the log holds, without the client reading.
    let last = 3 * LAYOUT.log_ticks;
    for number in 1..=last {
        desk.quote(instruments[number as usize % 4], number);
        if number % 1_000 == 0 {
            desk.commit();
        }
    }
    desk.commit();
    let mut picture = Picture::default();
    let (mut skipped, mut lapped, mut position) = (0, false, 0);
    while position < desk.writer.position() {
        let response = next(&mut stream).await;
        picture.take(&response);
        (skipped, lapped) = (skipped + response.skipped, lapped | response.lapped);
        position = response.position.max(position);
    }
    assert!(
        lapped && skipped > 0 && picture.updates < last / 2,
        "{} updates, {skipped} skipped",
        picture.updates
    );
    for instrument in &instruments {
        let expected = (last - (u64::from(*instrument) + 4 - last % 4) % 4) as i64;
        let candidates = [expected, (last - (4 + last - u64::from(*instrument)) % 4) as i64];
        assert!(candidates.contains(&picture.quotes[&format!("S{instrument}")].0));
    }
}

#[tokio::test]
async fn a_client_that_wants_to_wait_gets_the_same_in_fewer_responses() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    let patterns = vec!["*".to_owned()];
    let request = SubscribeRequest {
        patterns,
        kinds: vec![RowKind::Quote.into()],
        interval_ms: 100,
        ..SubscribeRequest::default()
    };
    let mut stream = desk.market_data().subscribe(request).await.unwrap().into_inner();
    while !next(&mut stream).await.image_complete {}
    for number in 1..=200 {
        desk.quote(instrument, number);
        desk.commit();
        tokio::task::yield_now().await;
    }
    let (mut picture, mut responses) = (Picture::default(), 0);
    while picture.updates < 200 {
        picture.take(&next(&mut stream).await);
        responses += 1;
    }
    assert!(responses < 50, "{responses} responses for 200 updates, each published by itself");
    let stages = TelemetryClient::new(desk.channel.clone()).get_latency(GetLatencyRequest::default()).await;
    let delivered = &stages.unwrap().into_inner().stages[2];
    assert_eq!((delivered.stage(), delivered.count), (Stage::PublishedToDelivered, 0), "its wait is its own");
}

#[tokio::test]
async fn what_joins_and_what_is_renamed_is_followed_by_its_name() {
    let mut desk = Desk::open().await;
    let placeholder = desk.define("17");
    let mut stream = desk.subscribe(&["NEW*"], &[]).await.unwrap();
    while !next(&mut stream).await.image_complete {}
    desk.quote(placeholder, 5);
    let head = desk.head(placeholder, 6);
    desk.writer.define(placeholder, &head, Definition::new(17, b"NEW1"));
    desk.commit();
    let response = next(&mut stream).await;
    let rows: Vec<&str> = response.updates.iter().map(|update| update.symbol.as_str()).collect();
    assert_eq!(rows, ["NEW1"; 2], "its definition, and the quote that was there");
}

#[tokio::test]
async fn a_dead_writer_and_a_new_session_are_told() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    desk.quote(instrument, 1);
    desk.commit();
    let mut stream = desk.subscribe(&["AAPL"], &[]).await.unwrap();
    while !next(&mut stream).await.image_complete {}
    desk.session(b"SESSION002");
    let mut sessions = Vec::new();
    while sessions.is_empty() {
        for event in next(&mut stream).await.feed_events {
            if let Some(control::proto::feed_event::Event::SessionStarted(started)) = event.event {
                sessions.push((started.session, started.day));
            }
        }
    }
    assert_eq!(sessions, [("SESSION002".to_owned(), "2024-01-02".to_owned())]);
    let mut client = desk.market_data();
    let get = || GetRequest { symbols: vec!["AAPL".to_owned()] };
    let absent = client.get(get()).await.unwrap().into_inner().instruments.remove(0);
    assert_eq!(absent.state(), RowState::Absent, "its rows are of the session before");
    let head = desk.head(instrument, 1);
    desk.writer.define(instrument, &head, Definition::new(1, b"AAPL"));
    desk.quote(instrument, 2);
    desk.commit();
    desk.writer.retire();
    while next(&mut stream).await.writer_alive {}
    let stale = client.get(get()).await.unwrap().into_inner().instruments.remove(0);
    assert_eq!((stale.state(), stale.reason()), (RowState::Stale, RowReason::WriterGone));
    desk.stopping.send_replace(true);
    let end = loop {
        match tokio::time::timeout(PATIENCE, stream.message()).await.expect("an end") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream ends by a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
}

/// A writer of no consequence.
fn other_writer() -> Writer<'static> {
    let mut mapping = RegionMapping::create_anonymous("other", LAYOUT.cells()).unwrap();
    Writer::format(mapping.leak(), LAYOUT, 1).unwrap()
}

#[tokio::test]
async fn a_subscription_begins_again_when_the_region_does() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    desk.quote(instrument, 1);
    desk.commit();
    let mut stream = desk.subscribe(&["*"], &[RowKind::Quote]).await.unwrap();
    let image = next(&mut stream).await;
    assert_eq!((image.mode(), image.lapped, image.updates.len()), (SubscribeMode::Image, false, 1));
    let position = desk.writer.position();
    // The node goes on as a follower; its log begins anew, further on, with other rows.
    let mut follower = std::mem::replace(&mut desk.writer, other_writer()).into_follower();
    follower.restart(position + 10);
    let tick = desk.head(INSTRUMENT_NONE, 0);
    follower.tick(&tick.with_payload(Session { day: 19_724, ..bytemuck::Zeroable::zeroed() })).unwrap();
    let state = FeedState { condition: Condition::Live as u8, ..bytemuck::Zeroable::zeroed() };
    follower.tick(&tick.with_payload(state)).unwrap();
    follower.tick(&desk.head(3, 1).with_payload(Definition::new(3, b"MSFT"))).unwrap();
    let quote = |bid_price| Quote { bid_price, bid_size: 1, ..Quote::EMPTY };
    follower.tick(&desk.head(3, 1).with_payload(quote(5))).unwrap();
    follower.commit();
    desk.node.log_bell.ring();
    let symbols = |response: &SubscribeResponse| -> Vec<String> {
        response.updates.iter().map(|update| update.symbol.clone()).collect()
    };
    let mut again = next(&mut stream).await;
    // It may have been looked at before all was there: then the rest comes as changes.
    assert!(again.lapped && again.mode() == SubscribeMode::Image, "{again:?}");
    while !symbols(&again).contains(&"MSFT".to_owned()) {
        assert!(!symbols(&again).contains(&"AAPL".to_owned()), "{again:?}");
        again = next(&mut stream).await;
    }
    // A row without a trace in the log, and then the end of the image.
    let generation = Reader::generation(&Reader::open(desk.cells).unwrap());
    follower.row(position + 14, &desk.head(3, 2).with_payload(quote(6))).unwrap();
    follower.renew_generation();
    assert_ne!(Reader::open(desk.cells).unwrap().generation(), generation);
    let whole = loop {
        let response = next(&mut stream).await;
        if response.lapped {
            break response;
        }
    };
    assert_eq!((whole.mode(), symbols(&whole)), (SubscribeMode::Image, vec!["MSFT".to_owned()]));
    let Some(update::Row::Quote(row)) = &whole.updates[0].row else { panic!("{whole:?}") };
    assert_eq!(row.bid_price_e9, Some(6));
}

#[tokio::test]
async fn a_gap_makes_every_row_suspect_at_once() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    desk.quote(instrument, 1);
    desk.condition(Condition::Live, u64::MAX);
    let request = GetRequest { symbols: vec!["AAPL".to_owned()] };
    let row = desk.market_data().get(request).await.unwrap().into_inner().instruments.remove(0);
    assert_eq!(row.state(), RowState::Suspect);
}

#[tokio::test]
async fn telemetry_feeds_and_status_say_what_was_counted() {
    let desk = Desk::open().await;
    desk.telemetry.feeds[0].received_to_published.record(2_000, 90);
    desk.telemetry.feeds[0].received_to_published.record(50_000, 10);
    desk.telemetry.feeds[0].exchange_to_received.record_between(9, 5, 3);
    desk.telemetry.feeds[0].lines.gaps.add(4);
    let request = GetLatencyRequest { include_histogram: true, ..GetLatencyRequest::default() };
    let stages =
        TelemetryClient::new(desk.channel.clone()).get_latency(request).await.unwrap().into_inner().stages;
    assert_eq!((stages.len(), stages[0].negative_count, stages[1].count), (3, 3, 100));
    assert!(
        (2_000..2_020).contains(&stages[1].p50_ns) && (50_000..50_400).contains(&stages[1].p99_ns),
        "{stages:?}"
    );
    let histogram: hdrhistogram::Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
        .deserialize(&mut stages[1].histogram_v2.as_slice())
        .unwrap();
    assert_eq!(histogram.len(), 100);
    let feeds =
        FeedsClient::new(desk.channel.clone()).list(FeedsListRequest {}).await.unwrap().into_inner().feeds;
    assert_eq!(
        (feeds[0].gaps, feeds[0].lines[0].name.as_str(), feeds[0].session.as_str()),
        (4, "A", "SESSION001")
    );
    assert_eq!((feeds[0].orders_max, feeds[0].held_packets_max), (2_000_000, 1_024));
    let status =
        NodeClient::new(desk.channel.clone()).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.node.as_str(), status.region.unwrap().generation), ("test", 7));

    let text = desk.metrics_page().await;
    let has =
        |line: &str| assert!(text.lines().any(|found| found.starts_with(line)), "{line} is not in {text}");
    has("tickplane_feed_events_total{feed=\"nasdaq\",event=\"gaps\"} 4");
    has("tickplane_latency_seconds_count{stage=\"received_to_published\"} 100");
    has("tickplane_latency_seconds_bucket{le=\"0.000005\",stage=\"received_to_published\"} 90");
    has("tickplane_latency_seconds_bucket{le=\"+Inf\",stage=\"received_to_published\"} 100");
    has("tickplane_latency_negative_total{stage=\"exchange_to_received\"} 3");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let desk = Desk::open().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(desk.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "tickplane.v1.MarketData".to_owned() };
    let serving = health.check(request).await.unwrap().into_inner().status();
    assert_eq!(serving, tonic_health::pb::health_check_response::ServingStatus::Serving);
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut reflection = ServerReflectionClient::new(desk.channel.clone());
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["MarketData", "Subscriptions", "Telemetry", "Feeds", "Node", "Cluster", "Quotas"] {
        assert!(names.contains(&format!("tickplane.v1.{service}").as_str()), "{names:?}");
    }
}
