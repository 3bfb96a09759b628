//! Who may do what, with real clients over real TLS at a node in a process of its own.

mod change;
mod clients;
mod crash;
mod first;
#[path = "../process/mod.rs"]
mod process;
mod rig;

use control::client::{Connection, ServerArgs};
use control::proto::cluster_client::ClusterClient;
use control::proto::feeds_client::FeedsClient;
use control::proto::market_data_client::MarketDataClient;
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::telemetry_client::TelemetryClient;
use control::proto::{
    FeedsListRequest, GetLatencyRequest, GetRequest, HandOverRequest, Instrument, ListRequest,
    ListSubscriptionsRequest, Scope, SubscribeRequest, scope,
};
use process::{Process, tickplane};
use rig::Rig;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

async fn feeds(connection: Connection) -> Result<Vec<String>, tonic::Status> {
    let listed = FeedsClient::new(connection).list(FeedsListRequest {}).await?;
    Ok(listed.into_inner().feeds.into_iter().map(|feed| feed.name).collect())
}

async fn hand_over(connection: Connection) -> tonic::Status {
    let request = HandOverRequest { to: "x".to_owned() };
    ClusterClient::new(connection).hand_over(request).await.unwrap_err()
}

#[tokio::test]
async fn a_client_is_known_by_token_or_certificate_and_does_what_its_role_lets_it() {
    let rig = Rig::start();
    let nobody = rig.nobody().connect().await.unwrap();
    let refused = feeds(nobody.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(refused.message().contains("Bearer TOKEN"), "{refused}");
    // A probe needs no token.
    HealthClient::new(nobody).check(HealthCheckRequest::default()).await.unwrap();
    let reader = rig.bearer(&rig.reader).connect().await.unwrap();
    assert_eq!(feeds(reader.clone()).await.unwrap(), ["one", "two"]);
    let refused = hand_over(reader).await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "role admin is needed, rob has reader");
    // An admin comes as far as the group, which there is none of.
    let admin = rig.certificate("ann.example").connect().await.unwrap();
    let through = hand_over(admin).await;
    assert!(!matches!(through.code(), Code::PermissionDenied | Code::Unauthenticated), "{through}");
    let stranger = rig.certificate("stranger.example").connect().await.unwrap();
    let refused = feeds(stranger).await.unwrap_err();
    assert!(refused.code() == Code::Unauthenticated && refused.message().contains("stranger.example"));
    // A token goes before a certificate, a wrong one too.
    let both = ServerArgs { token: Some(rig.reader.clone()), ..rig.certificate("ann.example") };
    assert_eq!(hand_over(both.connect().await.unwrap()).await.code(), Code::PermissionDenied);
    let wrong = ServerArgs { token: Some("x".to_owned()), ..rig.certificate("ann.example") };
    assert_eq!(hand_over(wrong.connect().await.unwrap()).await.code(), Code::Unauthenticated);
    // Who does not know the node's certificate, or TLS, hears nothing.
    assert!(ServerArgs { tls_ca: rig.file("stranger.example.pem"), ..rig.nobody() }.connect().await.is_err());
    let plain = ServerArgs::at(rig.server.replace("https", "http")).connect().await;
    assert!(match plain {
        Ok(connection) => feeds(connection).await.is_err(),
        Err(_) => true,
    });
}

#[tokio::test]
async fn wrong_tokens_are_slowed_and_right_ones_pass_meanwhile() {
    let rig = Rig::start();
    let mut codes = Vec::new();
    let huge = "x".repeat(4_000);
    for number in 0..30 {
        let wrong = match number {
            0 => huge.clone(),
            1 => String::new(),
            // Only the last digit is another.
            2 => format!("{}g", &rig.reader[..rig.reader.len() - 1]),
            _ => format!("tickplane_{number:064x}"),
        };
        let connection = rig.bearer(&wrong).connect().await.unwrap();
        codes.push(feeds(connection).await.unwrap_err().code());
    }
    assert!(codes[..10].iter().all(|code| *code == Code::Unauthenticated), "{codes:?}");
    let slowed = codes.iter().filter(|code| **code == Code::ResourceExhausted).count();
    assert!(slowed >= 10, "{codes:?}");
    assert_eq!(feeds(rig.bearer(&rig.reader).connect().await.unwrap()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_sees_what_it_is_entitled_to() {
    let rig = Rig::start();
    let narrow = rig.bearer(&rig.narrow).connect().await.unwrap();
    assert_eq!(feeds(narrow.clone()).await.unwrap(), ["two"]);
    let mut client = MarketDataClient::new(narrow);
    let get = |symbol: &str| GetRequest { symbols: vec!["A".to_owned(), symbol.to_owned()] };
    client.get(get("AB")).await.unwrap();
    let refused = client.get(get("ZZ")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("nat is not entitled to \"ZZ\""), "{refused}");
    client.list(ListRequest::default()).await.unwrap();
    let subscribe =
        |pattern: &str| SubscribeRequest { patterns: vec![pattern.to_owned()], ..Default::default() };
    let refused = client.subscribe(subscribe("ZZ")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut stream = client.subscribe(subscribe("*")).await.unwrap().into_inner();
    let image = stream.message().await.unwrap().unwrap();
    assert!(!image.feed_events.is_empty());
    assert!(image.feed_events.iter().all(|event| event.feed == "two"), "{image:?}");
}

#[tokio::test]
async fn clients_change_while_the_node_runs_and_what_they_had_open_ends() {
    let rig = Rig::start();
    let subscribe = SubscribeRequest { patterns: vec!["*".to_owned()], ..Default::default() };
    let mut open = Vec::new();
    for token in [&rig.reader, &rig.narrow] {
        let mut client = MarketDataClient::new(rig.bearer(token).connect().await.unwrap());
        let mut stream = client.subscribe(subscribe.clone()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        open.push(stream);
    }
    let mut subscriptions = SubscriptionsClient::new(rig.bearer(&rig.narrow).connect().await.unwrap());
    let mut watched = subscriptions.watch(ListSubscriptionsRequest::default()).await.unwrap().into_inner();
    // One that is narrowed further.
    rig.reload("patterns = [\"A*\"]", "patterns = [\"AB*\"]");
    let end = loop {
        match open[1].message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it says why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::PermissionDenied);
    assert!(end.message().starts_with("nat was deleted, or what it may do was changed"), "{end}");
    assert_eq!(watched.message().await.unwrap_err().code(), Code::PermissionDenied, "whatever it has open");
    let mut narrow = MarketDataClient::new(rig.bearer(&rig.narrow).connect().await.unwrap());
    let get = |symbol: &str| GetRequest { symbols: vec![symbol.to_owned()] };
    assert_eq!(narrow.get(get("AC")).await.unwrap_err().code(), Code::PermissionDenied);
    narrow.get(get("ABC")).await.unwrap();
    // The other one is as it was, and what it has open goes on.
    assert_eq!(feeds(rig.bearer(&rig.reader).connect().await.unwrap()).await.unwrap().len(), 2);
    let is_over = tokio::time::timeout(Duration::from_millis(1), open[0].message()).await;
    assert!(!matches!(is_over, Ok(Err(_) | Ok(None))));
    // It is gone, and its token is no one's.
    let text = std::fs::read_to_string(rig.folder.path().join("appliance.toml")).unwrap();
    let from = text.find("[[clients]]\nname = \"rob\"").unwrap();
    let to = text.find("[[clients]]\nname = \"nat\"").unwrap();
    rig.reload(&text[from..to], "");
    while open[0].message().await.is_ok_and(|response| response.is_some()) {}
    let refused = feeds(rig.bearer(&rig.reader).connect().await.unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// All rows, by what they are, and the position that they are of.
async fn rows(client: &mut MarketDataClient<Connection>) -> Result<(Vec<Instrument>, u64), tonic::Status> {
    let listed = client.list(ListRequest { page_size: 10_000, ..Default::default() }).await?.into_inner();
    Ok((listed.instruments, listed.position))
}

#[tokio::test]
async fn a_client_that_may_not_see_it_in_real_time_sees_the_same_later() {
    let rig = Rig::start();
    let mut now = MarketDataClient::new(rig.bearer(&rig.reader).connect().await.unwrap());
    let mut late = MarketDataClient::new(rig.bearer(&rig.late).connect().await.unwrap());
    let everything = SubscribeRequest { patterns: vec!["*".to_owned()], ..Default::default() };
    let mut followed = now.subscribe(everything.clone()).await.unwrap().into_inner();
    tokio::spawn(async move { while let Ok(Some(_)) = followed.message().await {} });
    let mut exchange = tickplane();
    exchange.arg("exchange").args(["--line-a", &format!("{}:26477", rig.group)]);
    exchange.args(["--line-b", &format!("{}:26478", rig.group), "--instruments", "20", "--messages", "4000"]);
    exchange.args(["--rate", "4000", "--linger"]).stderr(Stdio::null()).stdout(Stdio::null());
    let _exchange = Process(exchange.spawn().unwrap());
    let (mut behind, mut refused, started) = (0, 0, Instant::now());
    let same = loop {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{behind} times behind, refused {refused} times"
        );
        let (shown, position) = match rows(&mut late).await {
            Ok(shown) => shown,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.message().contains("400 ms ago is not known yet"), "{status}");
                refused += 1;
                continue;
            }
        };
        let (real, tail) = rows(&mut now).await.unwrap();
        assert!(position <= tail, "nobody sees more than there is");
        behind += usize::from(position < tail);
        // While the exchange speaks it is behind.
        if behind > 0 && real.len() >= 40 && position == tail {
            break (shown, real);
        }
    };
    assert!(same.0.len() >= 40 && same.0 == same.1, "what it sees is what was");
    let mut stream = late.subscribe(everything).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().updates.len() >= 40);
    // What others were sent, and how fast, is not a reader's to see.
    let scope = |name: &str| Scope { scope: Some(scope::Scope::Client(name.to_owned())) };
    let latency = |name: &str| GetLatencyRequest { scopes: vec![scope(name)], ..Default::default() };
    let mut telemetry = TelemetryClient::new(rig.bearer(&rig.late).connect().await.unwrap());
    assert_eq!(telemetry.get_latency(latency("rob")).await.unwrap_err().code(), Code::NotFound);
    let mut admin = TelemetryClient::new(rig.certificate("ann.example").connect().await.unwrap());
    assert!(!admin.get_latency(latency("rob")).await.unwrap().into_inner().stages.is_empty());
}
