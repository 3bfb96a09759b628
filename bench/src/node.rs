//! A node in a process of its own, which serves a region that this process writes: so Tickplane stands to its clients as any other
//! server does.

use crate::served::{CONFIG, serve};
use crate::server::Server;
use control::access::Caller;
use control::config::Config;
use control::proto::market_data_server::MarketDataServer;
use control::runner::{GroupAccess, ServedCache};
use control::server;
use control::service::market_data::MarketData;
use control::settings::Settings;
use control::store::Store;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Condition, Definition, FeedState, INSTRUMENT_NONE, Quote, Session, Tick};
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, PortTelemetry, Telemetry};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

/// How a started node learns its configuration.
const CONFIG_VARIABLE: &str = "TICKPLANE_BENCH_CONFIG";
/// What its first line says before its address.
const SERVING: &str = "serving ";

pub struct Node {
    writer: Writer<'static>,
    pub address: String,
    pub server: Server,
}

/// The price of an update, so that whoever reads one can see that it is right.
pub fn bid_price(number: u64) -> i64 {
    100_000_000_000 + number as i64
}

pub const ASK_PRICE: i64 = 100_010_000_000;
pub const BID_SIZE: u32 = 300;
pub const ASK_SIZE: u32 = 200;

impl Node {
    /// A live feed with `instruments`, which are called S0 and so on; `[grpc]` has these lines.
    pub fn start(grpc: &str, layout: Layout, instruments: u32) -> Node {
        Node::start_with(grpc, "", false, layout, instruments)
    }

    /// The same with more sections; a bare one serves market data alone, to whoever calls, without any layer.
    pub fn start_with(grpc: &str, sections: &str, is_bare: bool, layout: Layout, instruments: u32) -> Node {
        let folder =
            tempfile::Builder::new().prefix("tickplane-bench").tempdir_in("/dev/shm").expect("memory");
        let path = folder.path().join("region");
        let mut mapping =
            RegionMapping::create(&path, layout.cells()).unwrap_or_else(|error| panic!("{error}"));
        let mut writer =
            Writer::format(mapping.leak(), layout, SystemClock.unix_ns()).expect("the layout is good");
        begin(&mut writer, instruments);
        mapping.publish().unwrap_or_else(|error| panic!("{error}"));
        let program = std::env::current_exe().expect("this program has a path");
        let (program, path) = (program.to_string_lossy(), path.to_string_lossy());
        let config = format!("{}\n{sections}", CONFIG.replace("[grpc]", &format!("[grpc]\n{grpc}")));
        let environment = [(CONFIG_VARIABLE, config.as_str())];
        let serving = |line: &str| line.strip_prefix(SERVING).map(str::to_owned);
        let what = if is_bare { "serve-bare" } else { "serve-once" };
        let (server, address) = Server::start(&program, &[what, "--region", &path], &environment, serving)
            .unwrap_or_else(|error| panic!("{error}"));
        // Both have it mapped: its name goes with the folder.
        Node { writer, address, server }
    }

    /// Publishes a quote of an instrument, to be committed.
    pub fn publish(&mut self, instrument: u32, number: u64) {
        let quote = Quote {
            bid_price: bid_price(number),
            ask_price: ASK_PRICE,
            bid_size: BID_SIZE,
            ask_size: ASK_SIZE,
        };
        let received_ns = SystemClock.unix_ns();
        let head =
            Tick { instrument, sequence: number, exchange_ns: received_ns, received_ns, ..Tick::default() };
        self.writer.publish(&head.with_payload(quote));
    }

    /// Shows what was published since the last time.
    pub fn commit(&mut self) {
        self.writer.commit();
        self.writer.stamp_burst(SystemClock.monotonic_ns());
    }
}

fn begin(writer: &mut Writer<'static>, instruments: u32) {
    writer.keep_alive(SystemClock.monotonic_ns(), u64::MAX / 4);
    let feed = Tick { instrument: INSTRUMENT_NONE, ..Tick::default() };
    let session =
        Session { session: *b"SESSION001", day: 1, price_decimals: 4, reserved: 0, reserved2: [0; 8] };
    writer.publish(&feed.with_payload(session));
    let live = FeedState {
        proven_from: 0,
        missing: 0,
        condition: Condition::Live as u8,
        reason: 0,
        reserved: [0; 6],
    };
    writer.publish(&feed.with_payload(live));
    for _ in 0..instruments {
        let instrument = writer.allocate().expect("there is room");
        let head = Tick { instrument, ..Tick::default() };
        writer.define(instrument, &head, Definition::new(instrument, format!("S{instrument}").as_bytes()));
    }
    writer.commit();
}

/// What [`Node::start`] starts: serves a region until it is killed.
pub fn serve_once(region: &Path, is_bare: bool) {
    let config = std::env::var(CONFIG_VARIABLE).expect("whoever starts it configures it");
    let mut mapping = RegionMapping::open(region).unwrap_or_else(|error| panic!("{error}"));
    let region_bytes = mapping.mapped_bytes();
    let reader = Reader::open(mapping.leak()).expect("it is laid out");
    let telemetry = Arc::new(Telemetry {
        feeds: vec![FeedTelemetry::default()],
        ports: vec![PortTelemetry::default()],
        ..Telemetry::default()
    });
    let cache = ServedCache { reader, telemetry, region_bytes, group: GroupAccess::default() };
    let (sender, address) = mpsc::channel::<String>();
    std::thread::spawn(move || println!("{SERVING}{}", address.recv().expect("it is served")));
    match is_bare {
        true => serve_bare(&config, cache, &sender),
        false => serve(&config, cache, &sender, &AtomicBool::new(false)),
    }
}

/// The service of market data behind a tonic server as the node has it, and nothing else.
fn serve_bare(config: &str, cache: ServedCache, address: &mpsc::Sender<String>) {
    let config =
        Config::parse(Path::new("the bench's own"), config).unwrap_or_else(|error| panic!("{error}"));
    let runtime = server::runtime(&config).expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (_stopping, stopping) = watch::channel(false);
        let store = Arc::new(Store::in_memory().unwrap_or_else(|error| panic!("{error}")));
        let settings = Settings::new(Arc::new(config), None);
        let node = control::node::Node::new(settings, cache, store, stopping);
        let node = Arc::new(node.unwrap_or_else(|error| panic!("{error}")));
        // The service asks who calls.
        let clients = node.access.clients();
        let caller = clients.all().next().and_then(|client| Caller::new(client, None).ok());
        let caller = caller.expect("whoever starts it configures a client, or lets anyone call");
        let routes = Routes::new(MarketDataServer::new(MarketData::new(node)));
        let routes = Routes::from(routes.into_axum_router().layer(axum::Extension(caller)));
        address
            .send(format!("http://{}", listener.local_addr().expect("it is bound")))
            .expect("it is waited for");
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .add_routes(routes)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        served.await.unwrap_or_else(|error| panic!("{error}"));
    });
}
