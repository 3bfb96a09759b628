//! Quotas of updates and bytes on real streams: what becomes of one that would be sent more.

use super::desk::{Desk, PATIENCE, client, next};
use control::access::Token;
use control::proto::market_data_client::MarketDataClient;
use control::proto::quotas_client::QuotasClient;
use control::proto::{
    ClientQuota, DeliveryMode, QuotasGetRequest, RowKind, SubscribeRequest, SubscribeResponse,
};
use control::quota::RETRY_AFTER_MS;
use prost::Message;
use std::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// A desk at which `rob` is limited, and `ann` is not.
async fn limited(limits: &str) -> (Desk, Token, Token) {
    let ((of_ann, ann), (of_rob, rob)) = (client("ann", "admin"), client("rob", "reader"));
    let desk = Desk::open_with(&format!("{of_ann}{of_rob}[quota.reader]\n{limits}\n")).await;
    (desk, ann, rob)
}

async fn subscribe(
    desk: &Desk,
    token: &Token,
    pattern: &str,
    mode: DeliveryMode,
) -> Streaming<SubscribeResponse> {
    let request = SubscribeRequest {
        patterns: vec![pattern.to_owned()],
        kinds: vec![RowKind::Quote.into()],
        mode: mode.into(),
        ..SubscribeRequest::default()
    };
    MarketDataClient::new(desk.connect_as(token).await).subscribe(request).await.unwrap().into_inner()
}

async fn quota(desk: &Desk, token: &Token) -> ClientQuota {
    let mut quotas = QuotasClient::new(desk.connect_as(token).await);
    quotas.get(QuotasGetRequest { name: "rob".to_owned() }).await.unwrap().into_inner()
}

fn bids(response: &SubscribeResponse) -> Vec<u64> {
    response.updates.iter().map(|update| update.mark().unwrap().sequence).collect()
}

/// What came of a stream before its end, and the end.
struct Ended {
    bids: Vec<u64>,
    bytes: u64,
    status: Status,
}

/// Publishes one after the other until the stream ends.
async fn publish_until_it_ends(
    desk: &mut Desk,
    instrument: u32,
    mut stream: Streaming<SubscribeResponse>,
) -> Ended {
    let reading = tokio::spawn(async move {
        let (mut all, mut bytes) = (Vec::new(), 0);
        loop {
            match tokio::time::timeout(PATIENCE, stream.message()).await.expect("something in time") {
                Ok(Some(response)) => {
                    bytes += response.encoded_len() as u64;
                    all.extend(bids(&response));
                }
                Ok(None) => panic!("it ends by a status"),
                Err(status) => return Ended { bids: all, bytes, status },
            }
        }
    });
    let (mut number, started) = (1, Instant::now());
    while !reading.is_finished() {
        assert!(started.elapsed() < PATIENCE, "it ends");
        number += 1;
        desk.quote(instrument, number);
        desk.commit();
        tokio::task::yield_now().await;
    }
    reading.await.unwrap()
}

fn is_used_up(status: &Status, limit: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains(limit), "{status:?}");
    assert!(status.metadata().get(RETRY_AFTER_MS).is_some() && status.get_details_retry_info().is_some());
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "client:rob");
}

#[tokio::test]
async fn a_stream_that_would_be_sent_more_is_refused_and_others_go_on() {
    for (limit, meter) in [("updates_per_s = 20", "updates_per_s"), ("bytes_per_s = 2000", "bytes_per_s")] {
        let (mut desk, ann, rob) = limited(limit).await;
        let instrument = desk.define("AAPL");
        let quiet = desk.define("QUIET");
        desk.quote(instrument, 1);
        desk.quote(quiet, 1);
        desk.commit();
        let mut free = subscribe(&desk, &ann, "AAPL", DeliveryMode::EveryTick).await;
        let mut other = subscribe(&desk, &rob, "QUIET", DeliveryMode::EveryTick).await;
        assert_eq!(bids(&next(&mut other).await), [1]);
        let stream = subscribe(&desk, &rob, "AAPL", DeliveryMode::EveryTick).await;
        let Ended { bids: told, bytes, status } = publish_until_it_ends(&mut desk, instrument, stream).await;
        is_used_up(&status, limit);
        assert_eq!(told, (1..=told.len() as u64).collect::<Vec<_>>(), "up to there it has everything");
        let used = quota(&desk, &ann).await;
        assert!(!told.is_empty() && used.refusals[meter] == 1, "{used:?}");
        assert_eq!(used.subscriptions, 1, "its other one is open still");
        let (updates, of_bytes) = (used.updates.unwrap().total, used.bytes.unwrap().total);
        assert_eq!(updates, told.len() as u64 + 1, "what was told was charged, and nothing else");
        assert!((bytes + 1..bytes + 500).contains(&of_bytes), "{of_bytes}, {bytes}");
        let last = desk.writer.position();
        desk.quote(instrument, last + 1_000_000);
        desk.commit();
        let mut seen = Vec::new();
        while seen.last() != Some(&(last + 1_000_000)) {
            seen.extend(bids(&next(&mut free).await));
        }
        assert!(seen.len() > told.len(), "another client has it all");
        assert!(seen[..seen.len() - 1].windows(2).all(|two| two[1] == two[0] + 1));
    }
}

#[tokio::test]
async fn a_stream_that_is_conflated_gets_the_latest_and_not_what_is_old() {
    for limit in ["updates_per_s = 40", "bytes_per_s = 8000"] {
        let (mut desk, ann, rob) =
            limited(&format!("{limit}\nburst_ms = 250\non_excess = \"conflate\"")).await;
        let instruments = ["A", "B", "C"].map(|symbol| desk.define(symbol));
        let mut stream = subscribe(&desk, &rob, "*", DeliveryMode::Unspecified).await;
        next(&mut stream).await;
        let (mut told, mut latest) = (0, [0; 3]);
        // Fewer than a client may be behind that has no quota: one by one they would take minutes.
        const LAST: u64 = 5_000;
        for number in 1..=LAST {
            instruments.iter().for_each(|instrument| desk.quote(*instrument, number));
            desk.commit();
            tokio::task::yield_now().await;
        }
        while latest != [LAST; 3] {
            for update in next(&mut stream).await.updates {
                let known = &mut latest[usize::from(update.symbol.as_bytes()[0] - b'A')];
                let number = update.mark().unwrap().sequence;
                assert!(*known < number, "nothing twice, nothing back");
                (*known, told) = (number, told + 1);
            }
        }
        assert!((3..2 * LAST).contains(&told), "{told}");
        let used = quota(&desk, &ann).await;
        assert_eq!((used.updates.unwrap().total, used.subscriptions), (told, 1));
        assert!(desk.node.delivery.conflated.get() >= 3 * LAST - told, "what was left out is counted");
    }
}

#[tokio::test]
async fn a_client_that_is_to_be_disconnected_loses_all_its_streams_also_those_that_rest() {
    for limit in ["updates_per_s = 20", "bytes_per_s = 2000"] {
        let (mut desk, ann, rob) = limited(&format!("{limit}\non_excess = \"disconnect\"")).await;
        let [instrument, quiet] = ["AAPL", "QUIET"].map(|symbol| desk.define(symbol));
        desk.quote(instrument, 1);
        desk.quote(quiet, 1);
        desk.commit();
        let mut free = subscribe(&desk, &ann, "QUIET", DeliveryMode::EveryTick).await;
        let mut rests = subscribe(&desk, &rob, "QUIET", DeliveryMode::EveryTick).await;
        for stream in [&mut free, &mut rests] {
            assert_eq!(bids(&next(stream).await), [1]);
        }
        let stream = subscribe(&desk, &rob, "AAPL", DeliveryMode::EveryTick).await;
        let Ended { bids: told, status, .. } = publish_until_it_ends(&mut desk, instrument, stream).await;
        is_used_up(&status, limit);
        assert!(!told.is_empty());
        let end = loop {
            match tokio::time::timeout(PATIENCE, rests.message()).await.expect("an end") {
                Ok(response) => assert!(response.is_some(), "it ends by a status"),
                Err(status) => break status,
            }
        };
        assert!(end.code() == Code::ResourceExhausted && end.message().contains("disconnected"), "{end:?}");
        let used = quota(&desk, &ann).await;
        assert_eq!((used.subscriptions, used.instruments), (0, 0));
        desk.quote(quiet, 2);
        desk.commit();
        assert_eq!(bids(&next(&mut free).await), [2], "another client's goes on");
        // It may come again.
        let mut again = subscribe(&desk, &rob, "QUIET", DeliveryMode::EveryTick).await;
        let first = tokio::time::timeout(PATIENCE, again.message()).await.expect("an answer");
        assert!(match first {
            Ok(image) => image.is_some(),
            Err(status) => status.code() == Code::ResourceExhausted,
        });
    }
}
