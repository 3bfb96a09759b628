//! Clients that do a node harm, or try to: what it costs the node, and that the others are served meanwhile.
//!
//! Alone, with `--release` and `--nocapture`, it also tells how the others' calls slow down; nothing depends on that here.

mod process;

use control::client::ServerArgs;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{DeliveryMode, GetRequest, ListRequest, SubscribeRequest};
use control::quota::WAITING_BYTES_MAX;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http_body::{Body, Frame};
use process::{Process, field, start_node, tickplane, token};
use prost::Message;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(60);
const KIB: u64 = 1024;
const CONNECTIONS: usize = 1_000;
/// What a subscription may cost the node whose client lets it send whatever it likes, and reads nothing of it: HTTP/2's buffer
/// of a stream (400 KB, hyper), and the responses that were encoded for it.
const UNREAD_KIB_MAX: u64 = KIB;
/// What one may cost that says nothing, or begins with TLS and does not go on.
const IDLE_KIB_MAX: u64 = 32;
/// What everything else may cost the node, together.
const REST_KIB_MAX: u64 = 64 * KIB;
const INSTRUMENTS: usize = 500;

/// A node with TLS and a feed, and those who use it as they should.
struct Rig {
    _folder: tempfile::TempDir,
    node: Process,
    _exchange: Process,
    address: String,
    port: u16,
    others: ServerArgs,
    abuser: ServerArgs,
    token: String,
    tls: TlsConnector,
}

impl Rig {
    fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("node.pem"), own.cert.pem()).unwrap();
        std::fs::write(file("node.key"), own.signing_key.serialize_pem()).unwrap();
        let ((good, good_hash), (bad, bad_hash)) = (token(), token());
        let group = format!("239.253.{}.{}", std::process::id() >> 8 & 0xff, std::process::id() & 0xff);
        let text = format!(
            "node = \"abused\"\n[region]\npath = {:?}\ninstruments_max = 4096\nlog_ticks = 65536\n[[ports]]\nname = \"lo\"\n\
             kind = \"udp\"\ninterface = \"127.0.0.1\"\n[[feeds]]\nname = \"one\"\nprotocol = \"itch50\"\norders_max = 100000\n\
             [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{group}:26477\"\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\nsubscriptions_max = 4096\nconnections_max = 2048\n\
             [grpc.tls]\ncertificate = {:?}\nkey = {:?}\n\
             [[clients]]\nname = \"good\"\nrole = \"reader\"\ntoken_sha256 = \"{good_hash}\"\n\
             [[clients]]\nname = \"bad\"\nrole = \"reader\"\ntoken_sha256 = \"{bad_hash}\"\n",
            file("region"),
            file("node.pem"),
            file("node.key"),
        );
        let (node, line) = start_node(folder.path(), &text);
        let address = field(&line, "grpc").unwrap().to_owned();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let as_client = |token: &str| ServerArgs {
            tls_ca: Some(file("node.pem")),
            token: Some(token.to_owned()),
            ..ServerArgs::at(format!("https://localhost:{port}"))
        };
        let mut exchange = tickplane();
        exchange.arg("exchange").args(["--line-a", &format!("{group}:26477"), "--rate", "5000", "--linger"]);
        exchange.args(["--line-b", &format!("{group}:26478"), "--messages", "100000000"]);
        exchange.args(["--instruments", &INSTRUMENTS.to_string()]);
        let exchange = Process(exchange.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(own.cert.der().to_vec())).unwrap();
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Rig {
            node,
            _exchange: exchange,
            address,
            port,
            others: as_client(&good),
            abuser: as_client(&bad),
            token: bad,
            tls: TlsConnector::from(Arc::new(tls)),
            _folder: folder,
        }
    }

    /// The node's memory in KiB, as the kernel counts it (`VmRSS`, proc(5)).
    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// The head of a call.
    fn call<T>(&self, method: &str, body: T) -> http::Request<T> {
        http::Request::post(format!("https://localhost:{}/tickplane.v1.{method}", self.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap()
    }
}

/// Every tick of everything.
fn everything() -> SubscribeRequest {
    let mode = DeliveryMode::EveryTick.into();
    SubscribeRequest { patterns: vec!["*".to_owned()], mode, ..SubscribeRequest::default() }
}

/// A client that reads every tick, and one that asks once in a millisecond, on connections of their own, until they are dropped.
struct Others {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    tasks: JoinSet<Result<(), Status>>,
}

struct Seen {
    updates: AtomicU64,
    answers: AtomicU64,
    /// How long calls took lately, in µs.
    calls_us: Mutex<Histogram<u64>>,
}

impl Others {
    async fn start(rig: &Rig) -> Others {
        let stop = Arc::new(AtomicBool::new(false));
        let calls_us = Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3).unwrap());
        let seen = Arc::new(Seen { updates: AtomicU64::default(), answers: AtomicU64::default(), calls_us });
        let mut tasks = JoinSet::new();
        let connect = || async { MarketDataClient::new(rig.others.connect().await.unwrap()) };
        let (mut reader, mut caller) = (connect().await, connect().await);
        let (stopped, counted) = (stop.clone(), seen.clone());
        tasks.spawn(async move {
            let mut stream = reader.subscribe(everything()).await?.into_inner();
            while !stopped.load(Ordering::Relaxed) {
                let response = stream.message().await?.expect("it goes on");
                assert!(response.gap.is_none(), "whoever reads misses nothing: {:?}", response.gap);
                counted.updates.fetch_add(response.updates.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        });
        let (stopped, counted) = (stop.clone(), seen.clone());
        tasks.spawn(async move {
            let symbols = vec!["AAAAAA".to_owned()];
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                caller.get(GetRequest { symbols: symbols.clone() }).await?;
                counted.calls_us.lock().unwrap().saturating_record(asked.elapsed().as_micros() as u64);
                counted.answers.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        });
        let others = Others { stop, seen, tasks };
        others.go_on("before all").await;
        others
    }

    /// Both get what they want while this waits.
    async fn go_on(&self, when: &str) {
        let count = || {
            let Seen { updates, answers, .. } = &*self.seen;
            (updates.load(Ordering::Relaxed), answers.load(Ordering::Relaxed))
        };
        self.seen.calls_us.lock().unwrap().reset();
        let before = count();
        let served = async {
            while count().0 < before.0 + 5_000 || count().1 < before.1 + 500 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.unwrap_or_else(|_| panic!("others are served {when}"));
        let calls_us = self.seen.calls_us.lock().unwrap();
        let [p50, p99] = [50.0, 99.0].map(|percentile| calls_us.value_at_percentile(percentile));
        println!("{when}: a call takes {p50} µs p50, {p99} µs p99");
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// Lasts as long as it is not dropped: an HTTP/2 connection whose other end reads nothing any more.
struct Unread {
    _connection: Http2,
    _response: h2::RecvStream,
}

type Http2 = h2::client::Connection<tokio_rustls::client::TlsStream<TcpStream>>;

/// An HTTP/2 connection whose streams let the node send so many bytes.
async fn http2(rig: &Rig, window_bytes: u32) -> (SendRequest<bytes::Bytes>, Http2) {
    let name = ServerName::try_from("localhost").unwrap();
    let tls = rig.tls.connect(name, rig.tcp().await).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window_bytes).initial_connection_window_size(1 << 30);
    builder.handshake(tls).await.unwrap()
}

/// Calls a method; returns when the answer has begun.
async fn ask(
    rig: &Rig,
    sender: SendRequest<bytes::Bytes>,
    method: &str,
    message: &impl Message,
) -> h2::RecvStream {
    let mut sender = sender.ready().await.unwrap();
    let (response, mut body) = sender.send_request(rig.call(method, ()), false).unwrap();
    let message = message.encode_to_vec();
    let head = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
    body.send_data([head, message].concat().into(), true).unwrap();
    response.await.unwrap().into_body()
}

/// Subscribes to every tick, with windows that let the node send whatever it likes, and reads no byte after the image has begun.
async fn never_reads(rig: &Rig) -> Unread {
    let (sender, mut connection) = http2(rig, 1 << 30).await;
    let asked = async {
        let mut stream = ask(rig, sender, "MarketData/Subscribe", &everything()).await;
        stream.data().await.unwrap().unwrap();
        stream
    };
    let response = tokio::select! {
        response = asked => response,
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
    };
    Unread { _connection: connection, _response: response }
}

/// Asks for so many pages of everything, and lets the node send none of them, though it reads what else comes. Returns how many are
/// refused, as soon as there are enough, and what must be kept for the others to wait.
async fn lists_and_reads_nothing(rig: &Rig, pages: usize, refused_min: usize) -> (usize, impl Sized) {
    let (sender, connection) = http2(rig, 0).await;
    let (mut reading, mut ends, all) = (JoinSet::new(), JoinSet::new(), everything_listed());
    reading.spawn(connection);
    for _ in 0..pages {
        let mut answer = ask(rig, sender.clone(), "MarketData/List", &all).await;
        ends.spawn(async move {
            // There is no room for a message; trailers need none.
            assert!(answer.data().await.is_none(), "nothing can be sent");
            let trailers = answer.trailers().await.unwrap().expect("a status");
            Status::from_header_map(&trailers).expect("a status").code()
        });
    }
    let mut refused = 0;
    while refused < refused_min {
        let code = tokio::time::timeout(PATIENCE, ends.join_next()).await.expect("some are refused");
        assert_eq!(code.unwrap().unwrap(), Code::ResourceExhausted);
        refused += 1;
    }
    (refused, (sender, reading, ends))
}

fn everything_listed() -> ListRequest {
    ListRequest { page_size: 10_000, ..ListRequest::default() }
}

/// The first bytes of a TLS record that is longer (RFC 8446, 5.1), and no more.
async fn begins_tls(rig: &Rig) -> TcpStream {
    let mut stream = rig.tcp().await;
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    stream
}

/// A gRPC message of 100 MiB.
struct Huge {
    left: usize,
    begun: bool,
}

impl Body for Huge {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        const PART: [u8; 16 << 10] = [0; 16 << 10];
        if !self.begun {
            self.begun = true;
            let head = [&[0][..], &(self.left as u32).to_be_bytes()].concat();
            return Poll::Ready(Some(Ok(Frame::data(head.into()))));
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= PART.len();
        Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(&PART)))))
    }
}

async fn sends_too_much(rig: &Rig) {
    let mut client = rig.abuser.connect().await.unwrap();
    let body = tonic::body::Body::new(Huge { left: 100 << 20, begun: false });
    let request = rig.call("MarketData/Get", body);
    std::future::poll_fn(|context| tower::Service::poll_ready(&mut client, context)).await.unwrap();
    let answer = tower::Service::call(&mut client, request).await.unwrap();
    let status = Status::from_header_map(answer.headers()).expect("it is refused");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

/// Subscribes to everything, and again as soon as it has begun; counts how often. Its own HTTP/2 ends a connection on which too much comes for
/// streams that it has left: then it takes another one.
async fn subscribes_again_and_again(abuser: ServerArgs, begun: Arc<AtomicU64>) {
    loop {
        let mut client = MarketDataClient::new(abuser.connect().await.unwrap());
        while let Ok(stream) = client.subscribe(everything()).await {
            let Ok(first) = stream.into_inner().message().await else { break };
            assert!(first.is_some());
            begun.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tries tokens, one after the other; returns how many of so many tries were not even looked at.
async fn guesses(rig: &Rig, tries: usize) -> usize {
    let guess = ServerArgs { token: Some("tickplane_guess".to_owned()), ..rig.abuser.clone() };
    let mut client = MarketDataClient::new(guess.connect().await.unwrap());
    let mut slowed = 0;
    for _ in 0..tries {
        let refused = client.get(GetRequest { symbols: vec!["A".to_owned()] }).await.unwrap_err();
        slowed += usize::from(refused.code() == Code::ResourceExhausted);
    }
    slowed
}

/// So many at once.
async fn all<T>(count: usize, mut one: impl AsyncFnMut() -> T) -> Vec<T> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(one().await);
    }
    made
}

/// First of all: the node has no memory yet that was given back, so what waits is seen.
async fn answers_that_nobody_reads_are_bounded(rig: &Rig, others: &Others) {
    let mut lister = MarketDataClient::new(rig.abuser.connect().await.unwrap());
    let page = lister.list(everything_listed()).await.unwrap().into_inner();
    assert!(page.instruments.len() > INSTRUMENTS / 2, "{} instruments", page.instruments.len());
    let waiting = WAITING_BYTES_MAX as usize / page.encoded_len();
    let before_kib = rig.memory_kib();
    let (refused, unread) = lists_and_reads_nothing(rig, 4 * waiting, 2 * waiting).await;
    others
        .go_on(&format!("beside one that reads none of {} pages, {refused} of them refused", 4 * waiting))
        .await;
    let cost_kib = rig.memory_kib().saturating_sub(before_kib);
    println!("  cost {cost_kib} KiB");
    let allowed_kib = WAITING_BYTES_MAX / KIB;
    assert!((allowed_kib / 2..2 * allowed_kib).contains(&cost_kib), "{cost_kib} KiB");
    let status = lister.list(everything_listed()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("wait to be read"), "{status}");
    drop(unread);
    let again = async { while lister.list(everything_listed()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("what waited is gone with its connection");
}

#[tokio::test]
async fn abuse_costs_a_bounded_amount_of_memory_and_others_are_served_meanwhile() {
    let rig = Rig::start();
    let others = Others::start(&rig).await;
    let costs = |before_kib: u64| rig.memory_kib().saturating_sub(before_kib);

    answers_that_nobody_reads_are_bounded(&rig, &others).await;

    let before_kib = rig.memory_kib();
    let idle = all(CONNECTIONS / 2, async || rig.tcp().await).await;
    let begun = all(CONNECTIONS / 2, async || begins_tls(&rig).await).await;
    others.go_on("beside 500 connections that say nothing and 500 that begin with TLS").await;
    let cost_kib = costs(before_kib);
    println!("  cost {cost_kib} KiB");
    assert!(cost_kib < IDLE_KIB_MAX * CONNECTIONS as u64, "{cost_kib} KiB");
    drop((idle, begun));

    let before_kib = rig.memory_kib();
    let unread = all(CONNECTIONS, async || never_reads(&rig).await).await;
    others.go_on("beside 1,000 that never read").await;
    let cost_kib = costs(before_kib);
    println!("  cost {cost_kib} KiB");
    assert!(cost_kib < UNREAD_KIB_MAX * CONNECTIONS as u64, "{cost_kib} KiB");
    drop(unread);

    let before_kib = rig.memory_kib();
    for _ in 0..20 {
        sends_too_much(&rig).await;
    }
    others.go_on("after 20 messages of 100 MiB").await;
    let (mut loops, begun) = (JoinSet::new(), Arc::new(AtomicU64::default()));
    for _ in 0..4 {
        loops.spawn(subscribes_again_and_again(rig.abuser.clone(), begun.clone()));
    }
    others.go_on("beside 4 that subscribe to everything again and again").await;
    assert!(loops.try_join_next().is_none(), "they go on");
    loops.shutdown().await;
    let begun = begun.load(Ordering::Relaxed);
    println!("  {begun} times");
    assert!(begun > 100, "{begun} times");
    let (slowed, ()) = tokio::join!(guesses(&rig, 500), others.go_on("beside one that guesses tokens"));
    assert!(slowed > 400, "{slowed} of 500 guesses");
    let cost_kib = costs(before_kib);
    println!("  cost {cost_kib} KiB");
    assert!(cost_kib < REST_KIB_MAX, "{cost_kib} KiB");
    others.end().await;
}
