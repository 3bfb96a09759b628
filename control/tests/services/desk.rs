//! A served region, and what a subscriber knows of it.

use control::access::Token;
use control::client::{Connection, ServerArgs};
use control::config::Config;
use control::node::Node;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{RowKind, SubscribeRequest, SubscribeResponse, update};
use control::runner::{GroupAccess, ServedCache};
use control::server;
use control::settings::Settings;
use control::store::Store;
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{
    Condition, Definition, FeedState, INSTRUMENT_NONE, PRICE_ABSENT, Quote, Session, Tick,
};
use dataplane::cache::writer::Writer;
use dataplane::telemetry::{FeedTelemetry, PortTelemetry, Telemetry};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tonic::transport::Channel;

pub const LAYOUT: Layout = Layout { instruments: 64, feeds: 1, log_ticks: 1 << 16, bursts: 1 << 10 };
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MINUTE_NS: u64 = 60_000_000_000;

const CONFIG: &str = r#"
node = "test"
[region]
instruments_max = 64
log_ticks = 65536
[[ports]]
name = "a"
kind = "udp"
interface = "lo"
[[feeds]]
name = "nasdaq"
protocol = "itch50"
[[feeds.lines]]
name = "A"
port = "a"
group = "239.1.1.1:26477"
[grpc]
listen = "127.0.0.1:0"
subscriptions_max = 3
[metrics]
listen = "127.0.0.1:0"
"#;

/// A client of the configuration, and its token.
pub fn client(name: &str, role: &str) -> (String, Token) {
    let token = Token::generate();
    let hash = token.hash();
    (format!("[[clients]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = \"{hash}\"\n"), token)
}

/// A served region, and the one who fills it.
pub struct Desk {
    pub writer: Writer<'static>,
    pub cells: &'static [Cell],
    pub telemetry: Arc<Telemetry>,
    pub stopping: watch::Sender<bool>,
    pub channel: Channel,
    pub url: String,
    pub metrics: std::net::SocketAddr,
    pub node: Arc<Node>,
    pub served: tokio::task::JoinHandle<()>,
}

impl Desk {
    pub async fn open() -> Desk {
        Desk::open_with("").await
    }

    /// With more sections of the configuration.
    pub async fn open_with(sections: &str) -> Desk {
        Desk::open_on(Arc::new(Store::in_memory().unwrap()), sections).await
    }

    /// The same on a store that may hold something.
    pub async fn open_on(store: Arc<Store>, sections: &str) -> Desk {
        let config = Config::parse(Path::new("test.toml"), &format!("{CONFIG}{sections}")).unwrap();
        let mut mapping = RegionMapping::create_anonymous("services", LAYOUT.cells()).unwrap();
        let bytes = mapping.mapped_bytes();
        let cells = mapping.leak();
        let mut writer = Writer::format(cells, LAYOUT, 7).unwrap();
        writer.keep_alive(SystemClock.monotonic_ns(), MINUTE_NS);
        let telemetry = Arc::new(Telemetry {
            feeds: vec![FeedTelemetry::default()],
            ports: vec![PortTelemetry::default()],
            ..Telemetry::default()
        });
        let (stopping, stopping_seen) = watch::channel(false);
        let listeners = server::bind(&config).await.unwrap();
        let (grpc, metrics) = (listeners.grpc_address(), listeners.metrics_address().unwrap());
        let cache = ServedCache {
            reader: Reader::open(cells).unwrap(),
            telemetry: telemetry.clone(),
            region_bytes: bytes,
            group: GroupAccess::default(),
        };
        let settings = Settings::new(Arc::new(config), None);
        let node = Arc::new(Node::new(settings, cache, store, stopping_seen).unwrap());
        let serving = node.clone();
        let served = tokio::spawn(async move {
            server::serve(serving, listeners, std::future::pending()).await.unwrap();
        });
        let url = format!("http://{grpc}");
        let channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
        let mut desk = Desk { writer, cells, telemetry, stopping, channel, url, metrics, node, served };
        desk.session(b"SESSION001");
        desk
    }

    /// Ends it in order, and waits until nobody has its node any more.
    pub async fn close(mut self) {
        let node = Arc::downgrade(&self.node);
        self.stopping.send_replace(true);
        (&mut self.served).await.unwrap();
        drop(self);
        let started = std::time::Instant::now();
        while node.strong_count() != 0 {
            assert!(started.elapsed() < PATIENCE, "the node ends");
            tokio::task::yield_now().await;
        }
    }

    /// A connection on which each call shows a token.
    pub async fn connect_as(&self, token: &Token) -> Connection {
        let token = Some(token.text().to_owned());
        ServerArgs { token, ..ServerArgs::at(&self.url) }.connect().await.unwrap()
    }

    pub fn head(&self, instrument: u32, sequence: u64) -> Tick {
        Tick { instrument, sequence, ..Tick::default() }
    }

    pub fn session(&mut self, session: &[u8; 10]) {
        let named = Session { session: *session, day: 19_724, ..bytemuck::Zeroable::zeroed() };
        self.writer.publish(&self.head(INSTRUMENT_NONE, 0).with_payload(named));
        self.condition(Condition::Live, 0);
    }

    pub fn condition(&mut self, condition: Condition, proven_from: u64) {
        let state = FeedState { condition: condition as u8, proven_from, ..bytemuck::Zeroable::zeroed() };
        self.writer.publish(&self.head(INSTRUMENT_NONE, 0).with_payload(state));
        self.commit();
    }

    pub fn define(&mut self, symbol: &str) -> u32 {
        let instrument = self.writer.allocate().unwrap();
        let head = self.head(instrument, 1);
        self.writer.define(instrument, &head, Definition::new(instrument + 1, symbol.as_bytes()));
        self.commit();
        instrument
    }

    pub fn quote(&mut self, instrument: u32, number: u64) {
        let quote =
            Quote { bid_price: number as i64, bid_size: number as u32, ask_price: PRICE_ABSENT, ask_size: 0 };
        self.writer.publish(&self.head(instrument, number).with_payload(quote));
    }

    pub fn commit(&mut self) {
        self.writer.commit();
        self.writer.stamp_burst(SystemClock.monotonic_ns());
        self.node.log_bell.ring();
    }

    pub async fn metrics_page(&self) -> String {
        let mut page = tokio::net::TcpStream::connect(self.metrics).await.unwrap();
        page.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).await.unwrap();
        text
    }

    pub fn market_data(&self) -> MarketDataClient<Channel> {
        MarketDataClient::new(self.channel.clone())
    }

    pub async fn subscribe(
        &self,
        patterns: &[&str],
        kinds: &[RowKind],
    ) -> Result<tonic::Streaming<SubscribeResponse>, tonic::Status> {
        let request = SubscribeRequest {
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
            ..SubscribeRequest::default()
        };
        Ok(self.market_data().subscribe(request).await?.into_inner())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.served.abort();
    }
}

pub async fn next(stream: &mut tonic::Streaming<SubscribeResponse>) -> SubscribeResponse {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("something within its time");
    message.expect("no error").expect("not the end")
}

/// What a subscriber knows: the bid and the position of each symbol's quote.
#[derive(Default)]
pub struct Picture {
    pub quotes: BTreeMap<String, (i64, u64)>,
    pub updates: u64,
}

impl Picture {
    pub fn take(&mut self, response: &SubscribeResponse) {
        for update in &response.updates {
            let Some(update::Row::Quote(quote)) = &update.row else { continue };
            let position = quote.mark.as_ref().unwrap().position;
            let before = self.quotes.insert(update.symbol.clone(), (quote.bid_price_e9.unwrap(), position));
            assert!(before.is_none_or(|(_, before)| before < position), "nothing twice, nothing back");
            self.updates += 1;
        }
    }
}
