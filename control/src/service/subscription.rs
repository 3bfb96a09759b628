//! A subscription: one client's place in the log.
//!
//! It begins with an image out of the table, taken after the log's end T was noted, and goes on with the log from T on.
//! A row that changed while the image was taken is in the image at a position of T or later: the log's ticks up to that
//! position are left out for it. So there is no hole between image and deltas, and nothing comes twice. A client
//! that falls behind gets the same again, for the rows that changed meanwhile: the latest values, never a backlog.
//!
//! All that holds within one generation of the region. When that is another one (a standby began anew, or has come to the end
//! of an image), what was taken is void, and the subscription begins again: it is looked at before something is taken and
//! again before it is sent.

use super::rows;
use crate::node::{Node, OpenSubscription};
use crate::proto::{SubscribeMode, SubscribeResponse, Update};
use crate::selection::Selection;
use dataplane::cache::reader::{Cursor, Next};
use dataplane::cache::tick::{Definition, INSTRUMENT_NONE, Session, Tick};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::Status;

/// Updates of one response.
const UPDATES_MAX: usize = 512;
/// Ticks of the log that are looked at before others have their turn.
const TICKS_MAX: usize = 8_192;
/// A client this many ticks behind gets the latest values instead of them.
const BEHIND_MAX: u64 = 16_384;
/// How often the worker's liveness is looked at when nothing happens.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(100);

pub struct Subscription {
    node: Arc<Node>,
    wanted: Selection,
    /// What matches, with its name.
    members: BTreeMap<u32, String>,
    cursor: Cursor,
    /// Rows that were sent out of the table at a position that the cursor has not reached.
    ahead: HashMap<(u32, u8), u64>,
    /// Where the cursor leaves all of `ahead` behind.
    ahead_until: u64,
    was_alive: bool,
    /// Of the region, when the image was taken; `None` = there was none yet.
    generation: Option<u64>,
    /// Between two looks at the log; zero = it is looked at when there is something new.
    interval: Duration,
    published_hint: u64,
    _open: OpenSubscription,
}

/// Why a subscription ends.
enum End {
    ClientGone,
    Stopping,
}

type Responses = Sender<Result<SubscribeResponse, Status>>;

impl Subscription {
    pub fn new(
        node: Arc<Node>,
        open: OpenSubscription,
        wanted: Selection,
        interval: Duration,
    ) -> Subscription {
        Subscription {
            cursor: node.reader.cursor(),
            node,
            wanted,
            members: BTreeMap::new(),
            ahead: HashMap::new(),
            ahead_until: 0,
            was_alive: true,
            generation: None,
            interval,
            published_hint: 0,
            _open: open,
        }
    }

    pub async fn run(mut self, responses: Responses) {
        match self.follow(&responses).await {
            End::ClientGone => {}
            End::Stopping => {
                let status = Status::unavailable("the node shuts down: subscribe again when it is back");
                let _ = tokio::time::timeout(Duration::from_secs(1), responses.send(Err(status))).await;
            }
        }
    }

    async fn follow(&mut self, responses: &Responses) -> End {
        let mut tail = self.node.tail.clone();
        let mut stopping = self.node.stopping.clone();
        let is_prompt = self.interval.is_zero();
        let wait = if is_prompt { LIVENESS_INTERVAL } else { self.interval };
        loop {
            let caught_up = match self.step(responses).await {
                Ok(caught_up) => caught_up,
                Err(end) => return end,
            };
            if *stopping.borrow() {
                return End::Stopping;
            }
            if !caught_up {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                _ = tail.changed(), if is_prompt => {}
                _ = stopping.changed() => return End::Stopping,
                () = responses.closed() => return End::ClientGone,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is new, at most one response or one conflation; true = there is no more.
    async fn step(&mut self, responses: &Responses) -> Result<bool, End> {
        if !self.is_of_this_generation() {
            let image = self.image();
            if self.is_of_this_generation() {
                self.send_all(responses, image).await?;
            }
            return Ok(false);
        }
        let behind = self.node.reader.tail().saturating_sub(self.cursor.position());
        if behind > BEHIND_MAX.min(self.node.reader.layout().log_ticks / 2) {
            let conflated = self.conflate();
            if self.is_of_this_generation() {
                self.send_all(responses, conflated).await?;
            }
            return Ok(false);
        }
        let (response, caught_up) = match self.deltas() {
            Ok(deltas) => deltas,
            Err(since) => {
                let conflated = self.conflate_lapped(since);
                if self.is_of_this_generation() {
                    self.send_all(responses, conflated).await?;
                }
                return Ok(false);
            }
        };
        if !self.is_of_this_generation() {
            return Ok(false);
        }
        let is_alive = self.node.is_alive();
        if !response.updates.is_empty() || !response.feed_events.is_empty() || is_alive != self.was_alive {
            self.send(responses, response).await?;
        }
        Ok(caught_up)
    }

    async fn send_all(&mut self, responses: &Responses, all: Vec<SubscribeResponse>) -> Result<(), End> {
        for response in all {
            self.send(responses, response).await?;
        }
        Ok(())
    }

    /// Hands a response over, and waits for the client if it must.
    async fn send(&mut self, responses: &Responses, mut response: SubscribeResponse) -> Result<(), End> {
        let mut stopping = self.node.stopping.clone();
        let permit = tokio::select! {
            permit = responses.reserve() => permit.map_err(|_| End::ClientGone)?,
            _ = stopping.wait_for(|stopping| *stopping) => return Err(End::Stopping),
        };
        response.writer_alive = self.node.is_alive();
        self.was_alive = response.writer_alive;
        let delivery = &self.node.delivery;
        let updates = response.updates.len() as u64;
        delivery.delivered.add(updates);
        delivery.conflated.add(response.skipped);
        // A client that wants to wait says nothing about how fast the node is.
        if response.mode == i32::from(SubscribeMode::Delta)
            && self.interval.is_zero()
            && let Some(first) = response.updates.first().and_then(Update::mark).map(|mark| mark.position)
            && let Some(published_ns) = self.node.reader.published_ns(first, &mut self.published_hint)
        {
            delivery.record(crate::access::ANONYMOUS, "reader", published_ns, self.node.now_ns(), updates);
        }
        permit.send(Ok(response));
        Ok(())
    }

    fn is_of_this_generation(&self) -> bool {
        self.generation == Some(self.node.reader.generation())
    }

    /// What all rows are now, and nothing of what was before.
    fn image(&mut self) -> Vec<SubscribeResponse> {
        let is_again = self.generation.is_some();
        self.generation = Some(self.node.reader.generation());
        self.members.clear();
        self.ahead.clear();
        let now_ns = self.node.now_ns();
        let from_log = self.node.reader.tail();
        self.cursor = Cursor::at(from_log);
        for instrument in self.candidates() {
            self.see_name(instrument, now_ns);
        }
        let mut image = self.out_of_table(SubscribeMode::Image, 0, from_log, 0, false);
        image[0].lapped = is_again;
        image
    }

    /// Instruments that may match: all of them, unless every pattern is a symbol.
    fn candidates(&self) -> Vec<u32> {
        let reader = &self.node.reader;
        match self.wanted.symbols() {
            Some(symbols) => {
                symbols.into_iter().flat_map(|symbol| reader.find(symbol).collect::<Vec<_>>()).collect()
            }
            None => (0..reader.instruments()).collect(),
        }
    }

    /// Takes an instrument in, or out, by what it is called now; true = it is new.
    fn see_name(&mut self, instrument: u32, now_ns: u64) -> bool {
        let name = rows::symbol(&self.node, instrument, now_ns)
            .filter(|name| self.wanted.has_symbol(name.as_bytes()));
        match name {
            Some(name) => self.members.insert(instrument, name).is_none(),
            None => {
                self.members.remove(&instrument);
                false
            }
        }
    }

    /// The latest of the rows that changed at or after `since`, out of the table; the log goes on at `from_log`.
    fn out_of_table(
        &mut self,
        mode: SubscribeMode,
        since: u64,
        from_log: u64,
        left_out: u64,
        lapped: bool,
    ) -> Vec<SubscribeResponse> {
        let now_ns = self.node.now_ns();
        let sent = std::mem::take(&mut self.ahead);
        self.ahead_until = from_log;
        let mut updates: Vec<Update> = Vec::new();
        let members = std::mem::take(&mut self.members);
        for (instrument, name) in &members {
            updates.extend(self.latest(*instrument, name, since, now_ns, &sent));
        }
        self.members = members;
        let skipped = left_out.saturating_sub(updates.len() as u64);
        let mut responses: Vec<SubscribeResponse> = Vec::new();
        while !updates.is_empty() || responses.is_empty() {
            let rest = updates.split_off(updates.len().min(UPDATES_MAX));
            let updates = std::mem::replace(&mut updates, rest);
            responses.push(SubscribeResponse { mode: mode.into(), updates, ..SubscribeResponse::default() });
        }
        responses[0].feed_events = self.feeds_now();
        let last = responses.len() - 1;
        responses[last].position = from_log;
        responses[last].image_complete = mode == SubscribeMode::Image;
        (responses[last].skipped, responses[last].lapped) = (skipped, lapped);
        responses
    }

    /// The wanted rows of an instrument that changed at or after `since`, but for those that were `sent` as they are;
    /// notes those that are ahead of the log.
    fn latest(
        &mut self,
        instrument: u32,
        name: &str,
        since: u64,
        now_ns: u64,
        sent: &HashMap<(u32, u8), u64>,
    ) -> Vec<Update> {
        let rows = rows::rows(&self.node, instrument, now_ns);
        let wanted = rows.iter().flatten().filter(|row| self.wanted.has_row(&row.tick));
        let mut updates = Vec::new();
        for row in wanted.filter(|row| row.position >= since) {
            let key = (instrument, row.tick.kind);
            if row.position >= self.cursor.position() {
                self.ahead.insert(key, row.position);
                self.ahead_until = self.ahead_until.max(row.position + 1);
            }
            if sent.get(&key).is_none_or(|sent| row.position > *sent) {
                updates.extend(rows::update(&self.node, name, row));
            }
        }
        updates
    }

    /// What all feeds are now.
    fn feeds_now(&self) -> Vec<crate::proto::FeedEvent> {
        let mut events = Vec::new();
        for feed in (0..self.node.reader.layout().feeds).filter(|feed| self.wanted.has_feed(*feed)) {
            let state = self.node.reader.feed(feed);
            if let Some(session) = state.session {
                events.push(rows::session_started(&self.node, feed, state.session_position, session));
            }
            events.push(rows::condition_changed(&self.node, feed, state.session_position, &state));
        }
        events
    }

    /// Passes over what is in the log by now, and sends the latest of what changed in it.
    fn conflate(&mut self) -> Vec<SubscribeResponse> {
        let since = self.cursor.position();
        let now_ns = self.node.now_ns();
        let from_log = self.node.reader.tail();
        let mut left_out = 0;
        while self.cursor.position() < from_log {
            match self.cursor.next(&self.node.reader) {
                Next::Tick { position, tick } => left_out += u64::from(self.pass(position, &tick, now_ns)),
                Next::CaughtUp => break,
                Next::Lapped { .. } => return self.conflate_lapped(since),
            }
        }
        let from_log = self.cursor.position();
        self.out_of_table(SubscribeMode::Conflated, since, from_log, left_out, false)
    }

    /// The latest of what changed since, when the log does not have all of it any more.
    fn conflate_lapped(&mut self, since: u64) -> Vec<SubscribeResponse> {
        // Names may have changed in what is gone.
        let now_ns = self.node.now_ns();
        for instrument in self.candidates() {
            self.see_name(instrument, now_ns);
        }
        let from_log = self.cursor.position();
        self.out_of_table(SubscribeMode::Conflated, since, from_log, from_log - since, true)
    }

    /// Looks at a tick that is left out; true = it would have been sent.
    fn pass(&mut self, position: u64, tick: &Tick, now_ns: u64) -> bool {
        if tick.payload::<Definition>().is_some() {
            self.see_name(tick.instrument, now_ns);
        }
        tick.instrument != INSTRUMENT_NONE
            && self.members.contains_key(&tick.instrument)
            && self.wanted.has_row(tick)
            && !self.is_ahead(position, tick)
    }

    fn is_ahead(&self, position: u64, tick: &Tick) -> bool {
        position < self.ahead_until
            && self.ahead.get(&(tick.instrument, tick.kind)).is_some_and(|sent| position <= *sent)
    }

    /// What the log has for this client, up to a response's worth, and whether that is all; an error is since when it
    /// does not have everything.
    fn deltas(&mut self) -> Result<(SubscribeResponse, bool), u64> {
        let now_ns = self.node.now_ns();
        let mut response =
            SubscribeResponse { mode: SubscribeMode::Delta.into(), ..SubscribeResponse::default() };
        let mut caught_up = false;
        let since = self.cursor.position();
        for _ in 0..TICKS_MAX {
            if response.updates.len() >= UPDATES_MAX {
                break;
            }
            match self.cursor.next(&self.node.reader) {
                Next::CaughtUp => {
                    caught_up = true;
                    break;
                }
                // What was taken so far was not sent: the table has it.
                Next::Lapped { .. } => return Err(since),
                Next::Tick { position, tick } => self.delta(position, tick, now_ns, &mut response),
            }
        }
        if self.cursor.position() >= self.ahead_until {
            self.ahead.clear();
        }
        response.position = self.cursor.position();
        Ok((response, caught_up))
    }

    fn delta(&mut self, position: u64, tick: Tick, now_ns: u64, response: &mut SubscribeResponse) {
        if tick.instrument == INSTRUMENT_NONE {
            if self.wanted.has_feed(tick.feed) {
                self.feed_event(position, &tick, response);
            }
            return;
        }
        if tick.payload::<Definition>().is_some() && self.see_name(tick.instrument, now_ns) {
            // It joins with all that it has, and its name is of those rows.
            let name = self.members[&tick.instrument].clone();
            response.updates.extend(self.latest(tick.instrument, &name, 0, now_ns, &HashMap::new()));
            return;
        }
        if !self.pass(position, &tick, now_ns) {
            return;
        }
        let Some(judged) = self.node.reader.judge(position, tick, now_ns) else { return };
        let name = &self.members[&tick.instrument];
        response.updates.extend(rows::update(&self.node, name, &judged));
    }

    fn feed_event(&self, position: u64, tick: &Tick, response: &mut SubscribeResponse) {
        response.feed_events.push(match tick.payload::<Session>() {
            Some(session) => rows::session_started(&self.node, tick.feed, position, *session),
            None => {
                let state = self.node.reader.feed(tick.feed);
                rows::condition_changed(&self.node, tick.feed, position, &state)
            }
        });
    }
}
