//! The tick: one accepted update, 56 bytes of plain old data, the only thing the log and the table hold.

use bytemuck::{Pod, Zeroable};

/// Nanos of one unit of price: prices are fixed-point numbers of 1e-9 in the instrument's currency.
pub const PRICE_SCALE: i64 = 1_000_000_000;

/// The price of a side that has no order, of an instrument that has not traded: never 0, which is a price.
pub const PRICE_ABSENT: i64 = i64::MIN;

/// Stands for "no instrument" in the ticks that concern a whole feed.
pub const INSTRUMENT_NONE: u32 = u32::MAX;

/// What a tick's payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Quote = 0,
    Trade = 1,
    Status = 2,
    Definition = 3,
    /// The top of the book that the exchange implies from the books of other instruments.
    ImpliedQuote = 4,
    Contract = 5,
    /// A feed began a session; its rows of earlier positions are gone.
    Session = 6,
    /// A feed's condition changed (a gap, staleness, redundancy).
    FeedState = 7,
}

impl Kind {
    /// The kinds that have a row in the table for each instrument: 0 … ROWS-1.
    pub const ROWS: usize = 6;

    pub const ALL: [Kind; 8] = [
        Kind::Quote,
        Kind::Trade,
        Kind::Status,
        Kind::Definition,
        Kind::ImpliedQuote,
        Kind::Contract,
        Kind::Session,
        Kind::FeedState,
    ];

    pub fn from_u8(value: u8) -> Option<Kind> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// Bits of [`Tick::flags`].
pub mod flag {
    /// The row began without its past (a late start): what it says was seen, what it lacks was not.
    pub const PARTIAL: u8 = 1 << 0;
    /// Something that could have touched this row was not understood, or did not fit a limit.
    pub const SUSPECT: u8 = 1 << 1;
    /// It was published before, with the same stamps: it says nothing new, but is proven, or doubted, by now.
    pub const RENEWED: u8 = 1 << 2;
}

/// One update. All integers little-endian (as on every machine this runs on), no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tick {
    /// The feed's own number of the message (MoldUDP64: the message's, MDP 3.0: the packet's).
    pub sequence: u64,
    /// The exchange's stamp in ns of Unix UTC; 0 = unknown.
    pub exchange_ns: u64,
    /// When the frame was received, in ns of Unix UTC.
    pub received_ns: u64,
    /// The region's own number of the instrument, or [`INSTRUMENT_NONE`].
    pub instrument: u32,
    /// The feed's index in the region.
    pub feed: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// A [`Quote`], [`Trade`], … by `kind`.
    pub payload: [u64; 3],
}

const _: () = assert!(size_of::<Tick>() == 56);

/// A payload: 24 bytes of plain old data.
pub trait Payload: Pod {
    const KIND: Kind;
}

macro_rules! payload {
    ($($name:ident),*) => { $(
        impl Payload for $name { const KIND: Kind = Kind::$name; }
        const _: () = assert!(size_of::<$name>() == 24);
    )* };
}
payload!(Quote, Trade, Status, Definition, ImpliedQuote, Contract, Session, FeedState);

impl Tick {
    /// The payload, if it is of that kind.
    #[inline]
    pub fn payload<P: Payload>(&self) -> Option<&P> {
        (self.kind == P::KIND as u8).then(|| bytemuck::cast_ref(&self.payload))
    }

    #[inline]
    pub fn with_payload<P: Payload>(mut self, payload: P) -> Tick {
        self.kind = P::KIND as u8;
        self.payload = bytemuck::cast(payload);
        self
    }
}

/// The top of the book. An absent side is [`PRICE_ABSENT`] with size 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Quote {
    pub bid_price: i64,
    pub ask_price: i64,
    pub bid_size: u32,
    pub ask_size: u32,
}

impl Quote {
    pub const EMPTY: Quote =
        Quote { bid_price: PRICE_ABSENT, ask_price: PRICE_ABSENT, bid_size: 0, ask_size: 0 };
}

/// The implied top of the book, in the same form. What it offers is not in the [`Quote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct ImpliedQuote(pub Quote);

/// The last trade; [`PRICE_ABSENT`] after the only known one was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Trade {
    pub price: i64,
    pub size: u64,
    /// The exchange's number of the trade (ITCH: match number); 0 = it has none.
    pub trade_id: u64,
}

impl Trade {
    pub const NONE: Trade = Trade { price: PRICE_ABSENT, size: 0, trade_id: 0 };
}

/// The trading status of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Status {
    /// A letter. H halted, T trading; ITCH: P paused, Q quotation only; TOPS: O and P paused, orders are accepted; MDP 3.0: o
    /// pre-open, I new price indication, x pre-cross, X cross, C close, c post-close, N not available, U unknown. 0 = not
    /// told.
    pub state: u8,
    /// Why, four characters as the exchange gives them, blank if it gives none. MDP 3.0: SURV surveillance, MKT market
    /// event, ACT activation, EXP expiration, RCVR recovery, UNK unknown.
    pub reason: [u8; 4],
    /// The exchange's own halts where it tells them apart (TOPS: O halted, N not halted; 0 = not told).
    pub operational_halt: u8,
    pub reserved: [u8; 18],
}

/// What an instrument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Definition {
    /// The feed's own number (ITCH: stock locate).
    pub native_id: u32,
    /// The name, padded with NUL.
    pub symbol: [u8; 20],
}

impl Definition {
    /// Pads or cuts `symbol` to its 20 bytes; trailing blanks are not part of a name.
    pub fn new(native_id: u32, symbol: &[u8]) -> Definition {
        let end = symbol.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        let mut padded = [0; 20];
        let length = end.min(padded.len());
        padded[..length].copy_from_slice(&symbol[..length]);
        Definition { native_id, symbol: padded }
    }

    /// The name without its padding.
    pub fn name(&self) -> &[u8] {
        let length = self.symbol.iter().position(|byte| *byte == 0).unwrap_or(self.symbol.len());
        &self.symbol[..length]
    }
}

/// How an instrument is traded, where the feed tells (CME MDP 3.0's definitions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Contract {
    /// The smallest step of its prices, in 1e-9; [`PRICE_ABSENT`] = not told.
    pub price_increment: i64,
    /// What a price is to be multiplied with for display, in 1e-9; [`PRICE_ABSENT`] = not told.
    pub display_factor: i64,
    /// The group whose trading status it follows, padded with NUL.
    pub security_group: [u8; 6],
    pub reserved: [u8; 2],
}

/// A session of a feed: rows that were last written at a position below this tick's own are of an earlier
/// session, and absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Session {
    /// The exchange's name of the session (MoldUDP64: 10 bytes, as on the wire; IEX-TP: its number as text).
    pub session: [u8; 10],
    /// Decimals that the feed's prices have at least.
    pub price_decimals: u8,
    pub reserved: u8,
    /// The trading day as days since 1970-01-01; 0 = unknown.
    pub day: u32,
    pub reserved2: [u8; 8],
}

/// A feed's condition. Rows that were last written below `proven_from` are suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FeedState {
    /// Positions below this one are not proven: they come from before a loss that could have touched them.
    pub proven_from: u64,
    /// Messages lost for good in this session.
    pub missing: u64,
    /// A [`Condition`].
    pub condition: u8,
    /// A [`Reason`].
    pub reason: u8,
    pub reserved: [u8; 6],
}

/// Whether a feed can be believed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Condition {
    /// Nothing has been received yet.
    Waiting = 0,
    /// Messages or heartbeats arrive on every line.
    Live = 1,
    /// At least one line is silent, at least one speaks.
    Degraded = 2,
    /// No line speaks: what the cache holds may be out of date.
    Stale = 3,
    /// The exchange ended the session: what the cache holds is final.
    Ended = 4,
}

impl Condition {
    pub const ALL: [Condition; 5] =
        [Condition::Waiting, Condition::Live, Condition::Degraded, Condition::Stale, Condition::Ended];

    pub fn from_u8(value: u8) -> Option<Condition> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// Why rows of a feed are not live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    None = 0,
    /// Messages were missed on every line.
    Gap = 1,
    /// The first message seen was not the session's first.
    LateStart = 2,
    /// A message of a known type had a length that its specification does not allow.
    Malformed = 3,
    /// A limit (orders, instruments, …) was full.
    LimitFull = 4,
    /// Another node took over, and could not prove that it has everything that was published before.
    TakenOver = 5,
}

impl Reason {
    pub const ALL: [Reason; 6] = [
        Reason::None,
        Reason::Gap,
        Reason::LateStart,
        Reason::Malformed,
        Reason::LimitFull,
        Reason::TakenOver,
    ];

    pub fn from_u8(value: u8) -> Option<Reason> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_read_back_only_as_its_own_kind() {
        let quote = Quote { bid_price: -5, ask_price: PRICE_ABSENT, bid_size: 7, ask_size: 0 };
        let tick = Tick::default().with_payload(quote);
        assert_eq!(tick.payload::<Quote>(), Some(&quote));
        assert_eq!(tick.payload::<Trade>(), None);
    }

    #[test]
    fn names_lose_their_blanks_and_keep_their_inside() {
        assert_eq!(Definition::new(1, b"BRK A   ").name(), b"BRK A");
        assert_eq!(Definition::new(1, b"        ").name(), b"");
        assert_eq!(Definition::new(1, &[b'X'; 30]).name(), &[b'X'; 20]);
    }
}
