//! A state that is told what a node would tell it.

use control::proto::{
    ConditionChanged, Definition, Feed, FeedCondition, FeedEvent, FeedsListResponse, GetLatencyResponse,
    GetStatusResponse, Line, Quote, Region, RowMark, RowReason, RowState, SessionStarted, Stage,
    StageLatency, SubscribeMode, SubscribeResponse, Trade, Update, feed_event, update,
};
use control::top::draw::{Theme, draw, instrument_rows, text};
use control::top::input::action;
use control::top::state::{Event, State};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use std::collections::BTreeMap;

pub const SECOND_NS: u64 = 1_000_000_000;
pub const PLAIN: Theme = Theme { has_colours: false };

/// A state, and the node that it hears.
pub struct Desk {
    pub state: State,
    pub now_ns: u64,
    pub position: u64,
    pub packets: u64,
}

impl Desk {
    /// With a complete image of some instruments.
    pub fn open() -> Desk {
        let mut desk = Desk::connect("*");
        desk.image(&[("AAPL", "nasdaq"), ("AMZN", "nasdaq"), ("MSFT", "nasdaq"), ("ZVZZT", "nasdaq")]);
        desk
    }

    /// Subscribed, without an image.
    pub fn connect(pattern: &str) -> Desk {
        let mut state = State::new("http://127.0.0.1:50051", pattern);
        state.take(Event::Subscribed(pattern.to_owned()), 0);
        Desk { state, now_ns: 0, position: 100, packets: 0 }
    }

    pub fn take(&mut self, event: Event) {
        self.state.take(event, self.now_ns);
    }

    pub fn image(&mut self, instruments: &[(&str, &str)]) {
        let mut updates = Vec::new();
        for (id, (symbol, feed)) in instruments.iter().enumerate() {
            let row = Definition { mark: self.mark(), native_id: id as u32 + 1, feed: (*feed).to_owned() };
            updates.push(update(id as u32, symbol, update::Row::Definition(row)));
            updates.push(update(id as u32, symbol, self.quote(id as i64, RowState::Live)));
        }
        let feeds: Vec<&str> = instruments.iter().map(|(_, feed)| *feed).collect();
        let feed_events = feeds.iter().flat_map(|feed| {
            let started = SessionStarted { session: "S1".to_owned(), day: "2024-01-02".to_owned() };
            [
                event(feed, 50, feed_event::Event::SessionStarted(started)),
                condition(feed, FeedCondition::Live, 0),
            ]
        });
        let feed_events = feed_events.collect();
        self.take(Event::Updates(SubscribeResponse {
            mode: SubscribeMode::Image.into(),
            updates,
            feed_events,
            image_complete: true,
            writer_alive: true,
            ..SubscribeResponse::default()
        }));
    }

    pub fn mark(&mut self) -> Option<RowMark> {
        self.position += 1;
        Some(RowMark { state: RowState::Live.into(), position: self.position, ..RowMark::default() })
    }

    pub fn quote(&mut self, cents: i64, state: RowState) -> update::Row {
        let mut mark = self.mark();
        mark.as_mut().unwrap().state = state.into();
        update::Row::Quote(Quote {
            mark,
            bid_price_e9: Some(100_000_000_000 + cents * 10_000_000),
            bid_size: 1_200,
            ask_price_e9: Some(100_020_000_000 + cents * 10_000_000),
            ask_size: 300,
        })
    }

    pub fn trade(&mut self, price_e9: i64) -> update::Row {
        update::Row::Trade(Trade { mark: self.mark(), price_e9: Some(price_e9), size: 100, trade_id: 1 })
    }

    pub fn update(&mut self, id: u32, symbol: &str, row: update::Row) {
        self.deltas(vec![update(id, symbol, row)], Vec::new());
    }

    pub fn quotes(&mut self, id: u32, symbol: &str, count: usize) {
        for number in 0..count {
            let row = self.quote(number as i64, RowState::Live);
            self.update(id, symbol, row);
        }
    }

    pub fn deltas(&mut self, updates: Vec<Update>, feed_events: Vec<FeedEvent>) {
        self.take(Event::Updates(SubscribeResponse {
            mode: SubscribeMode::Delta.into(),
            updates,
            feed_events,
            writer_alive: true,
            ..SubscribeResponse::default()
        }));
    }

    pub fn events(&mut self, feed_events: Vec<FeedEvent>) {
        self.deltas(Vec::new(), feed_events);
        self.state.tick(self.now_ns);
    }

    /// A second goes by, in which the node tells what it tells every second.
    pub fn second(&mut self) {
        self.now_ns += SECOND_NS;
        self.packets += 5_000;
        self.take(Event::Status(status(self.now_ns)));
        self.take(Event::Feeds(feeds(self.packets)));
        self.take(Event::Latency(latency(self.now_ns / SECOND_NS)));
        self.state.tick(self.now_ns);
    }

    /// Time goes by, and nothing is heard.
    pub fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
        self.state.tick(self.now_ns);
    }

    pub fn press(&mut self, code: KeyCode) {
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        if let Some(action) = action(key, self.state.typed.is_some()) {
            self.state.act(action);
        }
    }

    pub fn press_all(&mut self, letters: &str) {
        letters.chars().for_each(|letter| self.press(KeyCode::Char(letter)));
    }

    pub fn picture(&mut self, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        self.state.set_page_rows(instrument_rows(&self.state, area));
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let mut terminal = Terminal::with_options(TestBackend::new(width, height), options).unwrap();
        terminal.draw(|frame| draw(&self.state, PLAIN, frame.area(), frame.buffer_mut())).unwrap();
        text(terminal.backend().buffer())
    }

    pub fn symbols(&self) -> Vec<&str> {
        let model = self.state.view();
        model.order.iter().map(|id| model.instruments.get(*id).unwrap().symbol.as_str()).collect()
    }

    pub fn count(&self, state: RowState) -> usize {
        self.state.view().count(state)
    }

    /// The instrument's line of the picture.
    pub fn row(&mut self, symbol: &str) -> String {
        let picture = self.picture(120, 40);
        picture.lines().find(|line| line.starts_with(&format!("{symbol} "))).unwrap_or("").to_owned()
    }
}

fn update(id: u32, symbol: &str, row: update::Row) -> Update {
    Update { symbol: symbol.to_owned(), instrument_id: id, row: Some(row), price_decimals: 4 }
}

pub fn event(feed: &str, position: u64, event: feed_event::Event) -> FeedEvent {
    FeedEvent { feed: feed.to_owned(), position, event: Some(event) }
}

pub fn condition(feed: &str, condition: FeedCondition, proven_from: u64) -> FeedEvent {
    let reason = if proven_from > 0 { RowReason::Gap } else { RowReason::Unspecified };
    let changed =
        ConditionChanged { condition: condition.into(), reason: reason.into(), proven_from, missing: 0 };
    event(feed, 0, feed_event::Event::ConditionChanged(changed))
}

pub fn status(uptime_ns: u64) -> GetStatusResponse {
    GetStatusResponse {
        version: "0.1.0".to_owned(),
        node: "desk-1".to_owned(),
        uptime_ns: uptime_ns + 4 * 3_600 * SECOND_NS,
        region: Some(Region {
            generation: 0x18eb_4acd_d399_2ff7,
            instruments_max: 65_536,
            instruments: 4,
            log_ticks: 1 << 20,
            valid_for_ns: 990_000_000,
            ..Region::default()
        }),
        subscriptions: 3,
        subscriptions_max: 256,
        ..GetStatusResponse::default()
    }
}

fn counters(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

pub fn feeds(packets: u64) -> FeedsListResponse {
    let line = |name: &str, won: u64, lead_ns: u64| Line {
        name: name.to_owned(),
        port: "eth1".to_owned(),
        group: format!("239.1.1.{won}"),
        udp_port: 26_477,
        packets,
        packets_per_s: 5_000.0,
        gaps: packets / 1_000,
        counters: counters(&[
            ("won", packets * won / 100),
            ("lead_samples", packets * won / 100),
            ("lead_ns", packets * won / 100 * lead_ns),
        ]),
        ..Line::default()
    };
    let feed = Feed {
        name: "nasdaq".to_owned(),
        protocol: "itch50".to_owned(),
        condition: FeedCondition::Live.into(),
        session: "S1".to_owned(),
        day: "2024-01-02".to_owned(),
        messages_per_s: 50_000.0,
        ticks_per_s: 21_000.0,
        counters: counters(&[("orders", 123_456), ("held_now", 3)]),
        lines: vec![line("A", 80, 52_000), line("B", 20, 9_000)],
        orders_max: 2_000_000,
        held_packets_max: 1_024,
        ..Feed::default()
    };
    FeedsListResponse { feeds: vec![feed], at_ns: 0 }
}

fn latency(second: u64) -> GetLatencyResponse {
    let stage = |stage: Stage, base_ns: u64| StageLatency {
        stage: stage.into(),
        count: 21_000,
        p50_ns: base_ns,
        p90_ns: base_ns * 2,
        p99_ns: base_ns * (3 + second % 7),
        p99_9_ns: base_ns * 15,
        max_ns: base_ns * 40,
        ..StageLatency::default()
    };
    let stages = vec![
        stage(Stage::ExchangeToReceived, 68_000),
        stage(Stage::ReceivedToPublished, 1_700),
        stage(Stage::PublishedToDelivered, 170_000),
    ];
    GetLatencyResponse { stages, at_ns: 0, interval_ns: SECOND_NS }
}
