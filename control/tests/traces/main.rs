//! Traces of calls, as a collector gets them from a node in a process of its own.

mod collector;
#[path = "../process/mod.rs"]
mod process;

use collector::{Collector, Place, Sent};
use control::client::{Connection, ServerArgs};
use control::proto::cluster_client::ClusterClient;
use control::proto::feeds_client::FeedsClient;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{FeedsListRequest, HandOverRequest, SubscribeRequest};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use process::{Process, field, metrics_page, tickplane, wait_for};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

struct Node {
    process: Process,
    server: String,
    metrics: String,
    log: PathBuf,
    token: String,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A node that has a reader, `rob`; `more` comes to the end of the configuration.
    fn start(more: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let output = tickplane().args(["client", "hash", "--json"]).output().unwrap();
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (token, hash) = (made["token"].as_str().unwrap(), made["token_sha256"].as_str().unwrap());
        let group = format!("239.251.{}.{}", std::process::id() >> 8 & 0xff, std::process::id() & 0xff);
        let text = format!(
            "node = \"traced\"\n[region]\npath = {:?}\ninstruments_max = 64\nlog_ticks = 65536\n[[ports]]\nname = \"lo\"\n\
             kind = \"udp\"\ninterface = \"127.0.0.1\"\n[[feeds]]\nname = \"one\"\nprotocol = \"itch50\"\norders_max = 100\n\
             [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{group}:26477\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n[[clients]]\nname = \"rob\"\nrole = \"reader\"\ntoken_sha256 = \"{hash}\"\n{more}\n",
            folder.path().join("region")
        );
        let (file, log) = (folder.path().join("node.toml"), folder.path().join("log"));
        std::fs::write(&file, text).unwrap();
        let mut command = tickplane();
        command.arg("run").arg("--config").arg(&file).stderr(File::create(&log).unwrap());
        let process = Process(command.spawn().unwrap());
        let line = wait_for("it runs", || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.lines().find(|line| line.contains(" grpc=")).map(str::to_owned)
        });
        Node {
            process,
            server: format!("http://{}", field(&line, "grpc").unwrap()),
            metrics: field(&line, "metrics").unwrap().to_owned(),
            log,
            token: token.to_owned(),
            _folder: folder,
        }
    }

    async fn connect(&self, token: &str) -> Connection {
        ServerArgs { token: Some(token.to_owned()), ..ServerArgs::at(&self.server) }.connect().await.unwrap()
    }

    /// What became of spans.
    fn spans(&self, outcome: &str) -> Option<f64> {
        let text = metrics_page(&self.metrics);
        assert!(text.contains("tickplane_uptime_seconds"), "{text}");
        let name = format!("tickplane_trace_spans_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    fn told(&self, what: &str) -> usize {
        std::fs::read_to_string(&self.log).unwrap().matches(what).count()
    }

    fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = wait_for("it ends", || self.process.0.try_wait().unwrap());
        assert!(status.success(), "{}", std::fs::read_to_string(&self.log).unwrap());
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn feeds(connection: Connection, traceparent: &'static str) -> Result<usize, Code> {
    let mut request = Request::new(FeedsListRequest {});
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    let listed = FeedsClient::new(connection).list(request).await.map_err(|status| status.code())?;
    Ok(listed.into_inner().feeds.len())
}

async fn check(connection: Connection) -> Result<(), tonic::Status> {
    HealthClient::new(connection).check(HealthCheckRequest::default()).await.map(drop)
}

fn has_status(sent: &Sent, code: Code) -> bool {
    sent.attribute("rpc.grpc.status_code") == Some((code as i32).to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn every_call_is_a_span_that_says_who_called_what_and_how_it_ended() {
    let place = Place::take();
    let quota = "[quota.reader]\nrequests_per_min = 4\nburst_ms = 60000";
    let mut node = Node::start(&format!("{quota}\n[traces]\notlp = {:?}", place.url));
    let collector = Collector::start(place);
    let runtime = runtime();
    let open = runtime.block_on(async {
        let rob = node.connect(&node.token).await;
        // The flags: of a random id both, and the second is not to be traced.
        assert_eq!(
            feeds(rob.clone(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03").await,
            Ok(1)
        );
        assert_eq!(
            feeds(rob.clone(), "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02").await,
            Ok(1)
        );
        let hand_over = ClusterClient::new(rob.clone()).hand_over(HandOverRequest::default()).await;
        assert_eq!(hand_over.unwrap_err().code(), Code::PermissionDenied);
        // One that the caller leaves, and one that goes on until the node ends.
        let mut streams = MarketDataClient::new(rob.clone());
        let subscribe = SubscribeRequest { patterns: vec!["*".to_owned()], ..SubscribeRequest::default() };
        let left = streams.subscribe(subscribe.clone()).await.unwrap();
        let open = streams.subscribe(subscribe).await.unwrap();
        drop(left);
        assert_eq!(feeds(rob.clone(), "none of the W3C's").await, Err(Code::ResourceExhausted));
        let stranger = node.connect("x").await;
        assert_eq!(feeds(stranger, "").await, Err(Code::Unauthenticated));
        (rob, open)
    });
    wait_for("what the caller left has ended", || {
        runtime.block_on(tokio::task::yield_now());
        collector.find(|sent| sent.span.name.ends_with("/Subscribe"))
    });
    node.terminate();
    drop(open);

    let sent = collector.sent();
    let one = |code: Code, method: &str| {
        let is_it = |sent: &&Sent| sent.span.name.ends_with(method) && has_status(sent, code);
        let mut found = sent.iter().filter(is_it);
        let first =
            found.next().unwrap_or_else(|| panic!("no {method} with {code:?} among {sent:#?}")).clone();
        assert_eq!(found.count(), 0, "{method} {code:?}");
        first
    };
    let listed = one(Code::Ok, "/List");
    assert_eq!(
        (hex(&listed.span.trace_id), hex(&listed.span.parent_span_id)),
        (TRACE.into(), "b7ad6b7169203331".into())
    );
    assert_eq!(
        (listed.span.name.as_str(), listed.span.kind()),
        ("tickplane.v1.Feeds/List", SpanKind::Server)
    );
    let mut attributes = listed.attributes();
    assert!(attributes.remove("network.peer.port").is_some_and(|port| port.parse::<u16>().unwrap() > 0));
    let expected = [
        ("enduser.id", "rob"),
        ("network.peer.address", "127.0.0.1"),
        ("rpc.grpc.status_code", "0"),
        ("rpc.method", "List"),
        ("rpc.service", "tickplane.v1.Feeds"),
        ("rpc.system", "grpc"),
        ("tickplane.quota.outcome", "admitted"),
    ];
    assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(listed.resource["service.name"], "tickplane");
    assert_eq!(listed.resource["service.instance.id"], "traced");
    assert!(sent.iter().all(|sent| !hex(&sent.span.trace_id).starts_with("1af")), "{sent:#?}");
    let denied = one(Code::PermissionDenied, "/HandOver");
    let told = ["enduser.id", "tickplane.quota.outcome"].map(|key| denied.attribute(key));
    assert_eq!(told, [Some("rob".to_owned()), None]);
    let refused = one(Code::ResourceExhausted, "/List");
    let quota =
        ["tickplane.quota.outcome", "tickplane.quota.limit"].map(|key| refused.attribute(key).unwrap());
    assert_eq!(quota, ["refused", "requests_per_min = 4"]);
    assert!(refused.span.parent_span_id.is_empty() && refused.span.trace_id.len() == 16, "{refused:?}");
    let unknown = one(Code::Unauthenticated, "/List");
    assert_eq!((unknown.attribute("enduser.id"), unknown.attribute("tickplane.quota.outcome")), (None, None));
    let left = one(Code::Cancelled, "/Subscribe");
    let cut = one(Code::Unavailable, "/Subscribe");
    assert!(cut.span.end_time_unix_nano > left.span.end_time_unix_nano, "{left:?} {cut:?}");
    let status = |sent: &Sent| sent.span.status.as_ref().map_or(StatusCode::Unset, |status| status.code());
    assert_eq!([&listed, &left, &refused, &unknown].map(status), [StatusCode::Unset; 4]);
    assert_eq!(status(&cut), StatusCode::Error);
}

#[test]
fn a_method_that_there_is_not_has_a_name_that_all_such_have() {
    let place = Place::take();
    let mut node = Node::start(&format!("[traces]\notlp = {:?}", place.url));
    let collector = Collector::start(place);
    runtime().block_on(async {
        let mut client = tonic::client::Grpc::new(node.connect(&node.token).await);
        client.ready().await.unwrap();
        let path = "/tickplane.v1.Feeds/NoSuchThing".parse().unwrap();
        let codec = tonic_prost::ProstCodec::<FeedsListRequest, FeedsListRequest>::default();
        let refused = client.unary(Request::new(FeedsListRequest {}), path, codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    });
    node.terminate();
    let sent = collector.sent();
    assert_eq!(sent.len(), 1, "{sent:#?}");
    assert_eq!(
        (sent[0].span.name.as_str(), sent[0].attribute("rpc.method").as_deref()),
        ("_OTHER", Some("_OTHER"))
    );
}

#[test]
fn calls_go_on_while_the_collector_is_gone_and_are_traced_once_it_is_back() {
    let place = Place::take();
    let mut node = Node::start(&format!("[traces]\notlp = {:?}", place.url));
    let runtime = runtime();
    let rob = runtime.block_on(node.connect(&node.token));
    let call = || runtime.block_on(feeds(rob.clone(), "")).unwrap();
    let fail = |more: f64| {
        wait_for("spans are lost", || {
            call();
            node.spans("failed").filter(|failed| *failed > more)
        })
    };
    // Of two batches at least.
    fail(fail(0.0));
    assert_eq!((node.told("takes no spans"), node.spans("sent")), (1, Some(0.0)));
    let collector = Collector::start(place);
    wait_for("spans are sent", || {
        call();
        node.spans("sent").filter(|sent| *sent > 0.0)
    });
    assert_eq!((node.told("takes no spans"), node.told("takes spans again")), (1, 1));
    assert!(!collector.sent().is_empty());
    node.terminate();
}

#[test]
fn a_collector_that_does_not_answer_costs_no_more_than_a_queue() {
    // Whoever connects waits for ever: nobody accepts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Node::start(&format!("[traces]\notlp = \"http://{}\"", silent.local_addr().unwrap()));
    runtime().block_on(async {
        let rob = node.connect(&node.token).await;
        let mut answered = 0;
        while node.spans("dropped") == Some(0.0) {
            let calls: Vec<_> = (0..500).map(|_| tokio::spawn(check(rob.clone()))).collect();
            for call in calls {
                call.await.unwrap().unwrap();
                answered += 1;
            }
            assert!(answered < 100_000, "the queue has no end");
        }
        assert!(answered > 2_048, "{answered}");
    });
    // Nor does it hold up the end.
    node.terminate();
    assert_eq!(node.told("the last traces were not sent"), 1);
}

#[test]
fn a_node_without_a_collector_has_no_traces_and_one_with_a_bad_url_does_not_start() {
    let node = Node::start("");
    assert_eq!(runtime().block_on(async { feeds(node.connect(&node.token).await, "").await }), Ok(1));
    assert_eq!(node.spans("sent"), None);
    let file = node.log.with_file_name("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    for url in ["localhost:4317", "ftp://x:1", ""] {
        std::fs::write(&file, format!("{text}\n[traces]\notlp = {url:?}")).unwrap();
        let output = tickplane().args(["run", "--check", "--config"]).arg(&file).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("as in http://127.0.0.1:4317"), "{url}: {error}");
    }
}
