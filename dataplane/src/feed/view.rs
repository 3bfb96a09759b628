//! The view: what a region holds of one feed's present session.

use crate::cache::reader::Reader;
use crate::cache::tick::{Definition, FeedState, Kind, Session, Tick, flag};
use bytemuck::Zeroable;

/// The kinds that have rows.
pub(super) const ROWS: [Kind; Kind::ROWS] =
    [Kind::Quote, Kind::Trade, Kind::Status, Kind::Definition, Kind::ImpliedQuote, Kind::Contract];

/// A region's word on one feed.
pub(super) struct View<'m> {
    reader: Reader<'m>,
    feed: u16,
    /// What is before this position does not count: it is an earlier session's.
    pub begins: u64,
    pub session: Option<Session>,
    /// As it was told in this session.
    pub state: Option<FeedState>,
}

impl<'m> View<'m> {
    pub fn new(reader: Reader<'m>, feed: u16) -> View<'m> {
        let [session, state] = reader.feed_held(feed);
        let began = session.as_ref().map_or(0, |(position, _)| *position);
        View {
            reader,
            feed,
            begins: began,
            session: session.and_then(|(_, tick)| tick.payload::<Session>().copied()),
            state: state
                .filter(|(position, _)| *position >= began)
                .and_then(|(_, tick)| tick.payload().copied()),
        }
    }

    /// Leaves out what was published before that position.
    pub fn since(self, position: u64) -> View<'m> {
        View { begins: self.begins.max(position), ..self }
    }

    pub fn feed(&self) -> u16 {
        self.feed
    }

    /// Its state; in a session that has just begun, that of one that lacks nothing.
    pub fn state(&self) -> FeedState {
        self.state.unwrap_or(FeedState::zeroed())
    }

    pub fn instruments(&self) -> u32 {
        self.reader.instruments()
    }

    /// A row of the present session.
    #[inline]
    pub fn row(&self, instrument: u32, kind: Kind) -> Option<(u64, Tick)> {
        let (position, tick) = self.reader.held(instrument, kind)?;
        let is_present = self.session.is_some() && position >= self.begins;
        (is_present && tick.feed == self.feed).then_some((position, tick))
    }

    /// The instruments that have a name in the present session.
    pub fn named(&self) -> impl Iterator<Item = (u32, Definition)> {
        (0..self.instruments()).filter_map(|instrument| {
            let (_, tick) = self.row(instrument, Kind::Definition)?;
            let definition = *tick.payload::<Definition>()?;
            (!definition.name().is_empty()).then_some((instrument, definition))
        })
    }

    pub fn is_suspect(&self, position: u64, tick: &Tick) -> bool {
        position < self.state().proven_from || tick.flags & flag::SUSPECT != 0
    }

    /// Ticks of the log from here on are in it.
    pub fn log_from(&self) -> u64 {
        self.reader.tail().saturating_sub(self.reader.layout().log_ticks)
    }

    /// The ticks of the feed's rows in the log from there on.
    pub fn ticks_from(&self, position: u64) -> impl Iterator<Item = Tick> {
        (position..self.reader.tail()).filter_map(|position| self.tick(position))
    }

    /// Those before, the latest first, with their positions, as far back as the log and what counts go.
    pub fn ticks_before(&self, position: u64) -> impl Iterator<Item = (u64, Tick)> {
        let from = self.begins.max(self.log_from());
        (from..position.min(self.reader.tail()))
            .rev()
            .filter_map(|position| Some((position, self.tick(position)?)))
    }

    fn tick(&self, position: u64) -> Option<Tick> {
        let is_row = |tick: &Tick| tick.feed == self.feed && usize::from(tick.kind) < Kind::ROWS;
        self.reader.log_tick(position).filter(is_row)
    }
}
