//! Writes messages: their blocks as long as the form says, with groups behind them that nobody has to read.

use super::Choose;
use super::contract::{Change, Contract, Trade};
use crate::sim::random::Random;
use crate::wire::mdp3::*;
use zerocopy::byteorder::little_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// How a message is written, besides what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Bytes that a later schema has added to the root block, and to an entry.
    root_more: usize,
    entry_more: usize,
    /// Bytes of groups behind the entries.
    behind: usize,
    /// Which of the templates that say the same: of schemas up to 8, from 9 on, with long sizes.
    template: usize,
    version: u16,
}

impl Form {
    pub const PLAIN: Form = Form { root_more: 0, entry_more: 0, behind: 8, template: 1, version: 9 };

    pub fn any(random: &mut Random) -> Form {
        let more = |random: &mut Random| if random.percent(30) { random.between(1, 20) as usize } else { 0 };
        let (root_more, entry_more) = (more(random), more(random));
        let template = random.below(3) as usize;
        let version = if template == 0 { random.between(5, 8) } else { random.between(9, 20) } as u16;
        Form { root_more, entry_more, behind: more(random) + 8, template, version }
    }

    /// 10⁻⁹ in a unit of its prices.
    fn unit(&self) -> i64 {
        if self.template == 0 { 100 } else { 1 }
    }
}

/// Writes one message behind a packet's others.
pub(super) struct Encoder<'p> {
    pub packet: &'p mut Vec<u8>,
    pub form: Form,
    /// Start of the event.
    pub event_ns: u64,
    pub indicator: u8,
}

impl Encoder<'_> {
    fn message(&mut self, template: u16, root: &[u8], root_bytes: usize, groups: &[u8]) {
        let block_length = root_bytes + self.form.root_more;
        let size = MESSAGE_HEADER_BYTES + block_length + groups.len();
        for field in [size as u16, block_length as u16, template, SCHEMA_ID, self.form.version] {
            self.packet.extend_from_slice(&field.to_le_bytes());
        }
        let end = self.packet.len() + block_length;
        self.packet.extend_from_slice(root);
        self.packet.resize(end, 0xA5);
        self.packet.extend_from_slice(groups);
    }

    fn head(&self) -> EventHead {
        EventHead { transact_time: U64::new(self.event_ns), match_event_indicator: self.indicator }
    }

    fn incremental<E: IntoBytes + Immutable>(
        &mut self,
        template: u16,
        entry_bytes: usize,
        entries: impl ExactSizeIterator<Item = E>,
    ) {
        let entry_bytes = entry_bytes + self.form.entry_more;
        let mut groups = (entry_bytes as u16).to_le_bytes().to_vec();
        groups.push(entries.len() as u8);
        for entry in entries {
            let end = groups.len() + entry_bytes;
            groups.extend_from_slice(entry.as_bytes());
            groups.resize(end, 0);
        }
        groups.resize(groups.len() + self.form.behind, 0);
        self.message(template, self.head().as_bytes(), 11, &groups);
    }

    pub fn books(&mut self, entries: &[(i32, u32, Change)]) {
        let unit = self.form.unit();
        let price = |change: &Change| I64::new(change.told.map_or(PRICE_NULL, |level| level.price / unit));
        if self.form.template == 2 {
            let long = entries.iter().map(|(id, number, change)| BookLongQtyEntry {
                price: price(change),
                size: U64::new(change.told.map_or(UINT64_NULL, |level| level.size.into())),
                security_id: I32::new(*id),
                rpt_seq: U32::new(*number),
                orders: I32::new(1),
                level: change.level,
                action: change.action,
                entry_type: change.entry_type,
            });
            return self.incremental(64, 32, long);
        }
        let short = entries.iter().map(|(id, number, change)| BookEntry {
            price: price(change),
            size: I32::new(change.told.map_or(INT32_NULL, |level| level.size as i32)),
            security_id: I32::new(*id),
            rpt_seq: U32::new(*number),
            orders: I32::new(INT32_NULL),
            level: change.level,
            action: change.action,
            entry_type: change.entry_type,
        });
        self.incremental([32, 46][self.form.template], 32, short);
    }

    pub fn trades(&mut self, entries: &[(i32, u32, Trade, u8)]) {
        let unit = self.form.unit();
        if self.form.template == 2 {
            let long = entries.iter().map(|(id, number, trade, action)| TradeLongQtyEntry {
                price: I64::new(trade.price / unit),
                size: U64::new(trade.size.into()),
                security_id: I32::new(*id),
                rpt_seq: U32::new(*number),
                orders: I32::new(2),
                trade_id: U32::new(trade.trade_id),
                aggressor_side: 1,
                action: *action,
            });
            return self.incremental(65, 40, long);
        }
        #[derive(IntoBytes, Immutable)]
        #[repr(C)]
        struct Numbered(TradeEntry, U32);
        let short = entries.iter().map(|(id, number, trade, action)| {
            let entry = TradeEntry {
                price: I64::new(trade.price / unit),
                size: I32::new(trade.size as i32),
                security_id: I32::new(*id),
                rpt_seq: U32::new(*number),
                orders: I32::new(2),
                aggressor_side: 2,
                action: *action,
            };
            Numbered(entry, U32::new(trade.trade_id))
        });
        self.incremental([42, 48][self.form.template], 32, short);
    }

    /// Any of the templates that carry numbers and no book.
    pub fn statistics(&mut self, entries: &[(i32, u32)], random: &mut Random) {
        macro_rules! of {
            ($template:expr, $bytes:literal, $entry:ident) => {{
                let entries = entries.iter().map(|(id, number)| $entry {
                    security_id: I32::new(*id),
                    rpt_seq: U32::new(*number),
                    ..$entry::new_zeroed()
                });
                self.incremental($template, $bytes, entries)
            }};
        }
        match random.below(6) {
            0 => of!(*[33, 49].choose(random), 32, DailyStatisticsEntry),
            1 => of!(*[34, 50].choose(random), 32, LimitsBandingEntry),
            2 => of!(*[35, 51].choose(random), 24, SessionStatisticsEntry),
            3 => of!(67, 32, SessionStatisticsLongQtyEntry),
            4 => of!(66, 24, VolumeLongQtyEntry),
            _ => of!(37, 16, VolumeEntry),
        }
    }

    pub fn definition(&mut self, contract: &Contract, update_action: u8) {
        let (template, root_bytes) = [
            [(27, 216), (29, 195), (41, 213)],
            [(54, 216), (56, 195), (55, 213)],
            [(57, 338), (58, 276), (63, 337)],
        ][self.form.template][contract.security_id as usize % 3];
        let head = DefinitionHead {
            match_event_indicator: self.indicator,
            tot_num_reports: U32::new(UINT32_NULL),
            update_action,
            last_update_time: U64::new(self.event_ns),
            trading_status: UINT8_NULL,
            appl_id: U16::new(310),
            market_segment: 64,
            underlying_product: 5,
            exchange: *b"XSIM",
            security_group: contract.group,
            asset: contract.asset,
            symbol: contract.symbol,
            security_id: I32::new(contract.security_id),
        };
        let event = [&[9, 0, 1, 5][..], &[0; 8]].concat();
        let [direct, implied] = contract.depths;
        let feed_types = [&[4, 0, 2][..], b"GBX", &[direct], b"GBI", &[implied]].concat();
        let groups = [event, feed_types, vec![0; self.form.behind]].concat();
        self.message(template, head.as_bytes(), root_bytes, &groups);
    }

    pub fn status(&mut self, security_id: Option<i32>, group: [u8; 6], asset: Option<[u8; 6]>, status: u8) {
        let status = SecurityStatus {
            transact_time: U64::new(self.event_ns),
            security_group: group,
            asset: asset.unwrap_or([0; 6]),
            security_id: I32::new(security_id.unwrap_or(INT32_NULL)),
            trade_date: U16::new(17_072),
            match_event_indicator: self.indicator,
            trading_status: status,
            halt_reason: 0,
            trading_event: 0,
        };
        self.message(SecurityStatus::TEMPLATE, status.as_bytes(), status.as_bytes().len(), &[]);
    }

    pub fn channel_reset(&mut self) {
        self.message(4, self.head().as_bytes(), 9, &[2, 0, 1, 0x36, 1]);
    }

    /// Single orders, which have no numbers.
    pub fn order_book(&mut self, random: &mut Random) {
        let entries = random.below(4) as usize;
        self.incremental(*[43, 47].choose(random), 40, vec![[0x11_u8; 40]; entries].into_iter());
    }

    pub fn heartbeat(&mut self) {
        self.form.root_more = 0;
        self.message(12, &[], 0, &[]);
    }

    /// What only a later schema, or another one, knows.
    pub fn unknown(&mut self, random: &mut Random) {
        let bytes = random.below(60) as usize;
        let template = *[1_u16, 70, 99, 40_000].choose(random);
        self.message(template, &vec![0x5A; bytes], bytes, &vec![0xA5; bytes]);
    }
}
