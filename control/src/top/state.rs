//! What `top` knows and how it is looked at. Pure: responses, keys and the time go in, [`super::draw`] makes a picture of it.

use super::input::Action;
use super::instruments::Instruments;
use super::latency::Latency;
use super::lines::Lines;
use crate::client::ClientError;
use crate::pattern::PATTERN_BYTES_MAX;
use crate::proto::{FeedsListResponse, GetLatencyResponse, GetStatusResponse, RowState, SubscribeResponse};

const SECOND_NS: u64 = 1_000_000_000;
/// A node that says nothing for so long is not believed: it is polled every second.
const SILENT_NS: u64 = 2 * SECOND_NS;
/// How long to wait until the image is asked for once more.
const IMAGE_AGAIN_NS: u64 = 5 * SECOND_NS;

/// What comes from the node.
#[derive(Debug)]
pub enum Event {
    /// A subscription to the pattern begins: the updates up to its `image_complete` take the place of all rows before.
    Subscribed(String),
    Updates(SubscribeResponse),
    Status(GetStatusResponse),
    Feeds(FeedsListResponse),
    Latency(GetLatencyResponse),
    Lost(ClientError),
}

/// How the node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact<'s> {
    Connecting,
    Good,
    /// Connected, but nothing comes.
    Silent {
        heard_ns_ago: u64,
    },
    /// `heard_ns_ago` is 0 if nothing was ever heard.
    Lost {
        cause: &'s str,
        heard_ns_ago: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Activity,
    Name,
    Change,
    Spread,
    State,
}

impl Sort {
    const ALL: [Sort; 5] = [Sort::Activity, Sort::Name, Sort::Change, Sort::Spread, Sort::State];

    pub fn name(self) -> &'static str {
        match self {
            Sort::Activity => "activity",
            Sort::Name => "name",
            Sort::Change => "change",
            Sort::Spread => "spread",
            Sort::State => "state",
        }
    }

    fn step(self, by: usize) -> Sort {
        Sort::ALL[(self as usize + by) % Sort::ALL.len()]
    }
}

/// Everything that the node told.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub node: Option<GetStatusResponse>,
    pub lines: Lines,
    pub latency: Latency,
    pub instruments: Instruments,
    /// The instruments in the order in which they are shown.
    pub order: Vec<u32>,
    /// How many instruments are in which state, by [`RowState`].
    pub states: [usize; 6],
}

impl Model {
    /// Updates published a second, by all feeds.
    pub fn ticks_per_s(&self) -> f64 {
        self.lines.feeds().iter().map(|feed| feed.ticks_per_s).sum()
    }
}

pub struct State {
    pub server: String,
    pub pattern: String,
    pub sort: Sort,
    pub is_reversed: bool,
    pub shows_help: bool,
    /// Instruments alone, without the panels above them.
    pub shows_instruments_only: bool,
    /// The pattern that is being typed.
    pub typed: Option<String>,
    pub wants_end: bool,
    live: Model,
    /// The model as it was when it was paused, and when that was.
    paused: Option<(Model, u64)>,
    /// The image that is being received.
    image: Option<Instruments>,
    /// Whether `live` follows a subscription to `pattern`.
    is_followed: bool,
    image_asked_ns: u64,
    wants_image: bool,
    is_connected: bool,
    lost: Option<String>,
    heard_ns: Option<u64>,
    now_ns: u64,
    rated_ns: u64,
    /// Whether the order and the counts are of before something that may have changed all of them.
    is_disordered: bool,
    was_current: bool,
    first_row: usize,
    page_rows: usize,
    followed_ns: Option<u64>,
}

impl State {
    pub fn new(server: &str, pattern: &str) -> State {
        State {
            server: server.to_owned(),
            pattern: pattern.to_owned(),
            sort: Sort::default(),
            is_reversed: false,
            shows_help: false,
            shows_instruments_only: false,
            typed: None,
            wants_end: false,
            live: Model::default(),
            paused: None,
            image: None,
            is_followed: false,
            image_asked_ns: 0,
            wants_image: false,
            is_connected: false,
            lost: None,
            heard_ns: None,
            now_ns: 0,
            rated_ns: 0,
            is_disordered: true,
            was_current: false,
            first_row: 0,
            page_rows: 1,
            followed_ns: None,
        }
    }

    /// What is shown: the latest, or what was the latest when it was paused.
    pub fn view(&self) -> &Model {
        self.paused.as_ref().map_or(&self.live, |(model, _)| model)
    }

    pub fn contact(&self) -> Contact<'_> {
        let heard_ns_ago = self.heard_ns.map_or(0, |heard_ns| self.now_ns.saturating_sub(heard_ns));
        match (&self.lost, self.is_connected) {
            (Some(cause), false) => Contact::Lost { cause, heard_ns_ago },
            (None, false) => Contact::Connecting,
            (_, true) if heard_ns_ago > SILENT_NS => Contact::Silent { heard_ns_ago },
            (_, true) => Contact::Good,
        }
    }

    /// Whether the node says that its worker vouches for the cache, as of the latest of its answers and updates.
    pub fn is_writer_alive(&self) -> bool {
        let region = self.live.node.as_ref().and_then(|node| node.region.as_ref());
        let is_valid = region.is_none_or(|region| region.valid_for_ns > 0);
        is_valid && (!self.is_followed || self.live.instruments.is_writer_alive)
    }

    /// Whether what the node told is still so, as far as it can be known.
    pub fn is_vouched(&self) -> bool {
        self.contact() == Contact::Good && self.is_writer_alive()
    }

    /// Whether the rows follow the node's: otherwise every row is stale.
    pub fn is_current(&self) -> bool {
        self.is_followed && self.is_vouched()
    }

    /// For how long the picture has been paused, in ns.
    pub fn paused_ns(&self) -> Option<u64> {
        self.paused.as_ref().map(|(_, since_ns)| self.now_ns.saturating_sub(*since_ns))
    }

    /// The first of the rows that are shown, if `rows` of them are.
    pub fn first_row(&self, rows: usize) -> usize {
        self.first_row.min(self.view().order.len().saturating_sub(rows))
    }

    /// Whether there is everything that a picture shows, with a second's worth of rates.
    pub fn is_whole(&self) -> bool {
        let model = &self.live;
        let is_rated = self.followed_ns.is_some_and(|followed_ns| self.rated_ns >= followed_ns + SECOND_NS);
        let is_told = model.node.is_some() && !model.latency.stages().is_empty();
        is_rated && is_told && !model.lines.feeds().is_empty() && self.is_current()
    }

    /// How many rows fit, as the last picture had it.
    pub fn set_page_rows(&mut self, rows: usize) {
        self.page_rows = rows.max(1);
    }

    /// Whether the image is to be asked for anew; says so once.
    pub fn take_wish_for_image(&mut self) -> bool {
        std::mem::take(&mut self.wants_image)
    }

    pub fn take(&mut self, event: Event, now_ns: u64) {
        self.now_ns = now_ns;
        // A connection alone says nothing: the kernel takes it for a process that hangs, too.
        if !matches!(event, Event::Lost(_)) {
            (self.is_connected, self.lost, self.heard_ns) = (true, None, Some(now_ns));
        }
        match event {
            Event::Subscribed(pattern) if pattern == self.pattern => {
                // Rows may have changed that the end of the subscription before did not tell.
                self.is_followed = false;
                self.image = Some(Instruments::default());
            }
            // Typed over meanwhile.
            Event::Subscribed(_) => {}
            Event::Updates(response) => self.take_updates(response),
            Event::Status(status) => self.live.node = Some(status),
            Event::Feeds(feeds) => self.live.lines.take(feeds),
            Event::Latency(latency) => self.live.latency.take(latency),
            Event::Lost(error) => {
                self.lost = Some(error.to_string());
                (self.is_connected, self.is_followed, self.image) = (false, false, None);
            }
        }
    }

    fn take_updates(&mut self, response: SubscribeResponse) {
        let is_complete = response.image_complete;
        let was_alive = self.live.instruments.is_writer_alive;
        let changes_all = !response.feed_events.is_empty() || response.writer_alive != was_alive;
        match &mut self.image {
            Some(image) => image.take(response),
            None if self.is_followed => self.live.instruments.take(response),
            // Of a pattern of before.
            None => return,
        }
        if let Some(mut image) = self.image.take_if(|_| is_complete) {
            image.succeed(&self.live.instruments);
            self.live.instruments = image;
            self.is_followed = true;
            // Its updates are counted from now on.
            self.rated_ns = self.now_ns;
            self.followed_ns.get_or_insert(self.now_ns);
        }
        self.is_disordered |= is_complete || changes_all;
    }

    /// Lets the time pass: rates are taken every second, and the order follows them.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        let elapsed_ns = now_ns.saturating_sub(self.rated_ns);
        let is_due = elapsed_ns >= SECOND_NS;
        if is_due {
            self.live.instruments.rate(elapsed_ns as f64 / SECOND_NS as f64);
            self.rated_ns = now_ns;
        }
        self.is_disordered |= self.was_current != self.is_current();
        if is_due || self.is_disordered {
            self.order();
        }
    }

    fn order(&mut self) {
        let is_current = self.is_current();
        (self.is_disordered, self.was_current) = (false, is_current);
        let (sort, is_reversed) = (self.sort, self.is_reversed);
        let is_stuck = self.live.order(sort, is_reversed, is_current);
        if let Some((model, _)) = &mut self.paused {
            model.order(sort, is_reversed, is_current);
        }
        let may_ask = self.now_ns.saturating_sub(self.image_asked_ns) >= IMAGE_AGAIN_NS;
        if is_current && is_stuck && may_ask {
            (self.wants_image, self.image_asked_ns) = (true, self.now_ns);
        }
    }

    pub fn act(&mut self, action: Action) {
        let page = self.page_rows;
        let last = self.view().order.len().saturating_sub(page);
        let first = self.first_row.min(last);
        match action {
            Action::End => self.wants_end = true,
            Action::Leave if self.typed.is_some() || self.shows_help => {
                (self.typed, self.shows_help) = (None, false);
            }
            Action::Leave => self.wants_end = true,
            Action::Help => self.shows_help = !self.shows_help,
            Action::Panels => self.shows_instruments_only = !self.shows_instruments_only,
            Action::Pause => {
                self.paused = match self.paused.take() {
                    Some(_) => None,
                    None => Some((self.live.clone(), self.now_ns)),
                };
            }
            Action::NextSort => (self.sort, self.is_disordered) = (self.sort.step(1), true),
            Action::PreviousSort => {
                (self.sort, self.is_disordered) = (self.sort.step(Sort::ALL.len() - 1), true)
            }
            Action::Reverse => (self.is_reversed, self.is_disordered) = (!self.is_reversed, true),
            Action::Down => self.first_row = (first + 1).min(last),
            Action::Up => self.first_row = first.saturating_sub(1),
            Action::PageDown => self.first_row = (first + page).min(last),
            Action::PageUp => self.first_row = first.saturating_sub(page),
            Action::First => self.first_row = 0,
            Action::Last => self.first_row = last,
            Action::Filter => self.typed = Some(String::new()),
            Action::Type(letter) => self.type_letter(letter),
            Action::Rub => {
                self.typed.as_mut().and_then(String::pop);
            }
            Action::Apply => self.apply_filter(),
        }
        if self.is_disordered {
            self.order();
        }
    }

    fn type_letter(&mut self, letter: char) {
        if let Some(typed) = &mut self.typed
            && typed.len() + letter.len_utf8() <= PATTERN_BYTES_MAX
        {
            typed.push(letter);
        }
    }

    fn apply_filter(&mut self) {
        let Some(typed) = self.typed.take() else { return };
        let pattern = if typed.is_empty() { "*".to_owned() } else { typed };
        if pattern == self.pattern {
            return;
        }
        self.pattern = pattern;
        // What was there is not told any more.
        (self.is_followed, self.image, self.first_row) = (false, None, 0);
        self.live.instruments = Instruments::default();
        self.paused = None;
        self.is_disordered = true;
    }
}

impl Model {
    /// Sorts and counts the instruments; true = one of them is stale only because it was told so once.
    fn order(&mut self, sort: Sort, is_reversed: bool, is_current: bool) -> bool {
        self.states = [0; 6];
        let mut is_stuck = false;
        let mut keyed = Vec::with_capacity(self.order.len());
        for (id, instrument) in self.instruments.named() {
            let judged = self.instruments.judge(instrument, is_current);
            self.states[judged.worst.state as usize] += 1;
            is_stuck |= self.instruments.is_to_be_told_again(instrument, &judged);
            let key = match sort {
                Sort::Activity => instrument.per_s,
                Sort::Name => 0.0,
                Sort::Change => instrument.change_percent().unwrap_or(f64::NEG_INFINITY),
                Sort::Spread => instrument.spread_bp().unwrap_or(f64::NEG_INFINITY),
                Sort::State => f64::from(judged.worst.state as i32),
            };
            keyed.push((key, instrument.symbol.as_str(), id));
        }
        keyed.sort_unstable_by(|one, other| {
            other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)).then_with(|| one.2.cmp(&other.2))
        });
        if is_reversed {
            keyed.reverse();
        }
        self.order = keyed.into_iter().map(|(.., id)| id).collect();
        is_stuck
    }

    /// How many are in a state.
    pub fn count(&self, state: RowState) -> usize {
        self.states[state as usize]
    }
}
