//! Latencies: whose they are, of which time, and as an interval log.

use super::desk::{Desk, PATIENCE, next};
use control::proto::telemetry_client::TelemetryClient;
use control::proto::{
    GetLatencyRequest, GetLatencyResponse, Scope, Stage, StageLatency, WatchLatencyRequest, Window, scope,
};
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Code;

fn scope(scope: scope::Scope) -> Scope {
    Scope { scope: Some(scope) }
}

fn feed(name: &str) -> Scope {
    scope(scope::Scope::Feed(name.to_owned()))
}

async fn get(desk: &Desk, request: GetLatencyRequest) -> Result<GetLatencyResponse, tonic::Status> {
    Ok(TelemetryClient::new(desk.channel.clone()).get_latency(request).await?.into_inner())
}

fn find(response: &GetLatencyResponse, stage: Stage, scope: Option<Scope>) -> &StageLatency {
    let found = response.stages.iter().find(|one| one.stage() == stage && one.scope == scope);
    found.unwrap_or_else(|| panic!("no {stage:?} of {scope:?} in {response:?}"))
}

#[tokio::test]
async fn latencies_are_told_by_feed_worker_and_client() {
    let mut desk = Desk::open().await;
    desk.telemetry.feeds[0].received_to_published.record(2_000, 90);
    desk.telemetry.feeds[0].exchange_to_received.record(70_000, 40);
    let instrument = desk.define("AAPL");
    let mut stream = desk.subscribe(&["*"], &[]).await.unwrap();
    while !next(&mut stream).await.image_complete {}
    desk.quote(instrument, 1);
    desk.commit();
    while next(&mut stream).await.updates.is_empty() {}

    let all =
        get(&desk, GetLatencyRequest { all_scopes: true, ..GetLatencyRequest::default() }).await.unwrap();
    let worker = scope(scope::Scope::Worker("0".to_owned()));
    let client = scope(scope::Scope::Client("anonymous".to_owned()));
    for whose in [None, Some(feed("nasdaq")), Some(worker)] {
        assert_eq!(find(&all, Stage::ReceivedToPublished, whose.clone()).count, 90);
        assert_eq!(find(&all, Stage::ExchangeToReceived, whose).count, 40);
    }
    for whose in [None, Some(client.clone())] {
        assert_eq!(find(&all, Stage::PublishedToDelivered, whose).count, 1);
    }
    let request = GetLatencyRequest { scopes: vec![client, feed("nasdaq")], ..GetLatencyRequest::default() };
    let some = get(&desk, request).await.unwrap();
    assert_eq!(some.stages.len(), 3, "a feed has two stages, a client one");

    let request = GetLatencyRequest { scopes: vec![feed("nyse")], ..GetLatencyRequest::default() };
    let refused = get(&desk, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(
        refused.message().contains("feed nyse") && refused.message().contains("feed nasdaq"),
        "{refused}"
    );
    for request in [
        GetLatencyRequest { window: 9, ..GetLatencyRequest::default() },
        GetLatencyRequest { stages: vec![9], ..GetLatencyRequest::default() },
        GetLatencyRequest { scopes: vec![feed("nasdaq"); 65], ..GetLatencyRequest::default() },
    ] {
        assert_eq!(get(&desk, request).await.unwrap_err().code(), Code::InvalidArgument);
    }

    let text = desk.metrics_page().await;
    for line in [
        "tickplane_feed_latency_seconds_count{feed=\"nasdaq\",stage=\"received_to_published\"} 90",
        "tickplane_worker_latency_seconds_count{worker=\"0\",stage=\"exchange_to_received\"} 40",
        "tickplane_latency_seconds_count{stage=\"published_to_delivered\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn a_window_has_what_came_within_it_and_the_start_has_everything() {
    let desk = Desk::open().await;
    let counted = &desk.telemetry.feeds[0].received_to_published;
    counted.record(1_000, 5);
    let watch = |window: Window| WatchLatencyRequest {
        interval_ms: 100,
        window: window.into(),
        scopes: vec![feed("nasdaq")],
        stages: vec![Stage::ReceivedToPublished.into()],
        ..WatchLatencyRequest::default()
    };
    let mut client = TelemetryClient::new(desk.channel.clone());
    let mut minutes = client.watch_latency(watch(Window::Minute)).await.unwrap().into_inner();
    let mut starts = client.watch_latency(watch(Window::Start)).await.unwrap().into_inner();
    // Once a sample was taken, what was before it is of no window.
    while minutes.message().await.unwrap().unwrap().interval_ns == 0 {}
    let before = minutes.message().await.unwrap().unwrap().stages[0].count;
    counted.record(3_000_000, 7);
    let minute = loop {
        let minute = tokio::time::timeout(PATIENCE, minutes.message()).await.unwrap().unwrap().unwrap();
        if minute.stages[0].count != before {
            break minute;
        }
    };
    assert_eq!(minute.stages[0].count, before + 7);
    assert!((3_000_000..3_030_000).contains(&minute.stages[0].max_ns), "{minute:?}");
    assert!(minute.interval_ns > 0 && minute.interval_ns < 61_000_000_000);
    let start = loop {
        let start = starts.message().await.unwrap().unwrap();
        if start.stages[0].count == 12 {
            break start;
        }
    };
    assert!(start.interval_ns > 0 && start.stages[0].min_ns <= 1_007, "{start:?}");
}

/// What a log says: of each interval the count by tag, and all counts by tag.
fn read_log(log: &[u8]) -> (Vec<BTreeMap<String, u64>>, usize) {
    let (mut intervals, mut started, mut comments): (Vec<BTreeMap<String, u64>>, _, _) =
        (Vec::new(), None, 0);
    for entry in IntervalLogIterator::new(log) {
        match entry.expect("a log that hdrhistogram reads") {
            LogEntry::Interval(line) => {
                use base64::Engine;
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(line.encoded_histogram()).unwrap();
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                assert!(line.duration() > Duration::ZERO);
                // In ms, to the three decimals that the format has.
                assert!((line.max() - histogram.max() as f64 / 1e6).abs() < 1e-3, "{}", line.max());
                if started != Some(line.start_timestamp()) {
                    started = Some(line.start_timestamp());
                    intervals.push(BTreeMap::new());
                }
                let tag = line.tag().expect("each line has a tag").as_str().to_owned();
                intervals.last_mut().unwrap().insert(tag, histogram.len());
            }
            LogEntry::StartTime(_) | LogEntry::BaseTime(_) => comments += 1,
        }
    }
    (intervals, comments)
}

#[tokio::test]
async fn an_interval_log_is_read_back_by_hdrhistogram() {
    let desk = Desk::open().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.hlog");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tickplane"));
    command
        .args(["latency", "--looks", "3", "--server", &desk.url, "--histlog"])
        .arg(&file)
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let counted = &desk.telemetry.feeds[0].received_to_published;
    let mut recorded = 0;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                recorded += 10;
                counted.record(1_000 + recorded, 10);
            }
        }
    };
    assert!(status.success());
    let (intervals, times) = read_log(&std::fs::read(&file).unwrap());
    assert_eq!((intervals.len(), times), (3, 2));
    let tag = "received_to_published";
    for interval in &intervals {
        assert!(interval[tag] > 0);
        assert_eq!(interval[tag], interval[&format!("{tag}/feed/nasdaq")]);
        assert_eq!(interval[tag], interval[&format!("{tag}/worker/0")]);
    }
    let logged: u64 = intervals.iter().map(|interval| interval[tag]).sum();
    assert!(logged <= recorded, "{logged} of {recorded}: nothing twice");
}
