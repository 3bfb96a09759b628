//! CME MDP 3.0: packets of SBE messages (Simple Binary Encoding, FIX Trading Community, RC2) by CME's schema `mktdata`.
//! All integers are little-endian; text is ASCII, padded with NUL.
//!
//! A later schema may only lengthen blocks and add groups and templates, so every block is stepped by its length on the
//! wire: what is behind the fields known here is passed over, and a field behind a block's end is absent. Offsets are those
//! of schema 9 for the templates up to 56, which hold from schema 5 to 13, and of schemas 12 and 13 for the later ones.
//!
//! Prices are mantissas, of 10⁻⁷ in the templates up to 42 and of 10⁻⁹ in the later ones: [`price`] gives 10⁻⁹ for both.

mod definition;
mod entry;
mod group;
mod packet;

pub use definition::*;
pub use entry::*;
pub use group::{Block, Dimensions, Field, Group};
pub use packet::{MESSAGE_HEADER_BYTES, Messages, PACKET_HEADER_BYTES, Packet, PacketHeader};

use packet::MessageHeader;
use zerocopy::byteorder::little_endian::{I32, U16, U64};

/// The identity of CME's market data schema.
pub const SCHEMA_ID: u16 = 1;
/// Stands for "no price".
pub const PRICE_NULL: i64 = i64::MAX;
/// Stands for "no number" in 32 bits with a sign.
pub const INT32_NULL: i32 = i32::MAX;
/// Stands for "no number" in 32 bits without one.
pub const UINT32_NULL: u32 = u32::MAX;
/// Stands for "no number" in 64 bits without a sign.
pub const UINT64_NULL: u64 = u64::MAX;
/// Stands for "no number" in 8 bits without a sign.
pub const UINT8_NULL: u8 = u8::MAX;

/// Bits of the field MatchEventIndicator (tag 5799).
pub mod event_bit {
    pub const LAST_TRADE: u8 = 1 << 0;
    pub const LAST_VOLUME: u8 = 1 << 1;
    pub const LAST_QUOTE: u8 = 1 << 2;
    pub const LAST_STATISTICS: u8 = 1 << 3;
    pub const LAST_IMPLIED: u8 = 1 << 4;
    /// Sent in a recovery.
    pub const RECOVERY: u8 = 1 << 5;
    /// The last message of its event.
    pub const END_OF_EVENT: u8 = 1 << 7;
}

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mdp3Error {
    /// Not even the header of a packet.
    PacketHeader,
    /// A message's size is below its header's, or reaches beyond the packet; what follows can't be found.
    MessageSize { size: u16, left: usize },
    /// A block is shorter than the fields that every schema has.
    Block { template: u16, expected: u16, actual: u16 },
    /// A group's dimensions, or its entries, reach beyond the message.
    Group { template: u16 },
}

/// A price of 10⁻⁹ from a mantissa of that many 10⁻⁹ each; `None` = null, or not representable.
#[inline(always)]
pub fn price(mantissa: i64, unit: i64) -> Option<i64> {
    if mantissa == PRICE_NULL { None } else { mantissa.checked_mul(unit) }
}

/// 10⁻⁷ in 10⁻⁹: the unit of `PRICE`, `PRICENULL` and `FLOAT`.
const UNIT_7: i64 = 100;
/// The unit of `PRICE9`, `PRICENULL9` and `Decimal9`.
const UNIT_9: i64 = 1;

/// The root block of all incremental refreshes and of the channel reset.
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 8 | `transact_time` | start of the event, ns of Unix UTC |
/// | 8 | 1 | `match_event_indicator` | bits of [`event_bit`] |
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct EventHead {
    pub transact_time: U64,
    pub match_event_indicator: u8,
}

const _: () = assert!(size_of::<EventHead>() == 9);

/// Template 30: the trading status of an instrument, or of all of a group (and asset).
///
/// | offset | bytes | field | meaning |
/// |-------:|------:|-------|---------|
/// | 0 | 8 | `transact_time` | start of the event, ns of Unix UTC |
/// | 8 | 6 | `security_group` | the group |
/// | 14 | 6 | `asset` | only instruments of this product code; empty = all |
/// | 20 | 4 | `security_id` | only this instrument; [`INT32_NULL`] = all |
/// | 24 | 2 | `trade_date` | days since 1970-01-01 |
/// | 26 | 1 | `match_event_indicator` | bits of [`event_bit`] |
/// | 27 | 1 | `trading_status` | 2 halt, 4 close, 15 new price indication, 17 ready to trade, 18 not available, 20 unknown, 21 pre-open, 24 pre-cross, 25 cross, 26 post-close, 103 no change |
/// | 28 | 1 | `halt_reason` | 0 schedule, 1 surveillance, 2 market event, 3 activation, 4 expiration, 5 unknown, 6 recovery |
/// | 29 | 1 | `trading_event` | 0 none, 1 no cancel, 4 reset statistics, 5 implied on, 6 implied off |
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct SecurityStatus {
    pub transact_time: U64,
    pub security_group: [u8; 6],
    pub asset: [u8; 6],
    pub security_id: I32,
    pub trade_date: U16,
    pub match_event_indicator: u8,
    pub trading_status: u8,
    pub halt_reason: u8,
    pub trading_event: u8,
}

const _: () = assert!(size_of::<SecurityStatus>() == 30);

impl SecurityStatus {
    pub const TEMPLATE: u16 = 30;
    /// The trading status that changes none.
    pub const NO_CHANGE: u8 = 103;
}

/// An incremental refresh: what happened, and the entries that it changes.
#[derive(Clone, Copy, Debug)]
pub struct Incremental<'a, E> {
    pub head: &'a EventHead,
    pub entries: Group<'a, E>,
    /// 10⁻⁹ in one unit of the entries' prices, for [`price`].
    pub price_unit: i64,
    /// The groups behind the entries.
    pub rest: &'a [u8],
}

/// Any message, in place.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// 4: all books of the channel are empty, and all report sequences begin again.
    ChannelReset(&'a EventHead),
    /// 12.
    Heartbeat,
    /// 27, 29, 41, 54 to 58, 63.
    Definition(Definition<'a>),
    /// 30.
    SecurityStatus(&'a SecurityStatus),
    /// 32, 46.
    Book(Incremental<'a, BookEntry>),
    /// 64.
    BookLongQty(Incremental<'a, BookLongQtyEntry>),
    /// 42, 48.
    TradeSummary(Incremental<'a, TradeEntry>),
    /// 65.
    TradeSummaryLongQty(Incremental<'a, TradeLongQtyEntry>),
    /// 43, 47: single orders. They carry no report sequence.
    OrderBook(&'a EventHead),
    /// 33, 49.
    DailyStatistics(Incremental<'a, DailyStatisticsEntry>),
    /// 34, 50.
    LimitsBanding(Incremental<'a, LimitsBandingEntry>),
    /// 35, 51.
    SessionStatistics(Incremental<'a, SessionStatisticsEntry>),
    /// 67.
    SessionStatisticsLongQty(Incremental<'a, SessionStatisticsLongQtyEntry>),
    /// 37.
    Volume(Incremental<'a, VolumeEntry>),
    /// 66.
    VolumeLongQty(Incremental<'a, VolumeLongQtyEntry>),
    /// 15, 16, 38, 39, 44, 52, 53, 59 to 62, 68, 69: log-ins, quote requests, and what only the recovery feeds carry.
    Other(u16),
    /// Of a later schema, or of another one.
    Unknown(u16),
}

impl<'a> Message<'a> {
    /// Lays the views over a message's bytes, of which the first are its size.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Mdp3Error> {
        let (header, bytes) = MessageHeader::split(bytes)?;
        let template = header.template_id.get();
        if header.schema_id.get() != SCHEMA_ID {
            return Ok(Message::Unknown(template));
        }
        let parts = Parts { template, header, bytes };
        Ok(match template {
            32 => Message::Book(parts.incremental(UNIT_7)?),
            46 => Message::Book(parts.incremental(UNIT_9)?),
            42 => Message::TradeSummary(parts.incremental(UNIT_7)?),
            48 => Message::TradeSummary(parts.incremental(UNIT_9)?),
            37 => Message::Volume(parts.incremental(UNIT_9)?),
            35 => Message::SessionStatistics(parts.incremental(UNIT_7)?),
            51 => Message::SessionStatistics(parts.incremental(UNIT_9)?),
            _ => return parts.uncommon(),
        })
    }
}

/// A message's header and what is behind it.
struct Parts<'a> {
    template: u16,
    header: &'a MessageHeader,
    bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The root block, and the groups behind it.
    #[inline(always)]
    fn root<T: Field>(&self) -> Result<(Block<'a, T>, &'a [u8]), Mdp3Error> {
        let actual = self.header.block_length.get();
        let too_short = Mdp3Error::Block { template: self.template, expected: size_of::<T>() as u16, actual };
        let (block, groups) = self.bytes.split_at_checked(usize::from(actual)).ok_or(too_short)?;
        Ok((Block::new(block).ok_or(too_short)?, groups))
    }

    #[inline(always)]
    fn incremental<E: Field>(&self, price_unit: i64) -> Result<Incremental<'a, E>, Mdp3Error> {
        let (root, groups) = self.root::<EventHead>()?;
        let (entries, rest) =
            Group::split(groups, Dimensions::Packed).ok_or(Mdp3Error::Group { template: self.template })?;
        Ok(Incremental { head: root.known(), entries, price_unit, rest })
    }

    fn uncommon(&self) -> Result<Message<'a>, Mdp3Error> {
        Ok(match self.template {
            4 => Message::ChannelReset(self.root::<EventHead>()?.0.known()),
            12 => Message::Heartbeat,
            30 => Message::SecurityStatus(self.root::<SecurityStatus>()?.0.known()),
            33 => Message::DailyStatistics(self.incremental(UNIT_7)?),
            49 => Message::DailyStatistics(self.incremental(UNIT_9)?),
            34 => Message::LimitsBanding(self.incremental(UNIT_7)?),
            50 => Message::LimitsBanding(self.incremental(UNIT_9)?),
            43 | 47 => Message::OrderBook(self.root::<EventHead>()?.0.known()),
            64 => Message::BookLongQty(self.incremental(UNIT_9)?),
            65 => Message::TradeSummaryLongQty(self.incremental(UNIT_9)?),
            66 => Message::VolumeLongQty(self.incremental(UNIT_9)?),
            67 => Message::SessionStatisticsLongQty(self.incremental(UNIT_9)?),
            15 | 16 | 38 | 39 | 44 | 52 | 53 | 59..=62 | 68 | 69 => Message::Other(self.template),
            _ => match Layout::of(self.template) {
                Some(layout) => {
                    let (block, groups) = self.root()?;
                    Message::Definition(Definition::new(layout, block, groups))
                }
                None => Message::Unknown(self.template),
            },
        })
    }
}

#[cfg(test)]
mod tests;
