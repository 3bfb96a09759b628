//! The host's side of IGMP: version 3 (RFC 3376), and 2 and 1 where a router knows no newer one (§7).

use super::groups::{ASKED_MAX, Group, Groups};
use super::random::Random;
use super::sender::MESSAGE_BYTES_MAX;
use super::{IgmpVersion, MEMBERSHIPS_MAX, NEVER_NS, Out};
use crate::time::{NS_PER_MS, NS_PER_S};
use crate::wire::checksum;
use crate::wire::igmp::{
    self, ALL_ROUTERS, ALL_ROUTERS_V3, ALL_SYSTEMS, LEAVE_V2, Message, Query, REPORT_V1, REPORT_V2,
    REPORT_V3, RESPONSE_UNIT_NS, Record, RecordKind, Report,
};
use crate::wire::ipv4::Address;
use std::net::Ipv4Addr;
use zerocopy::{FromBytes, IntoBytes};

/// How often a change is told, for each telling may be lost (RFC 3376 §8.1).
const ROBUSTNESS: u8 = 2;
/// Between two tellings (RFC 3376 §8.11, RFC 2236 §8.10).
const CHANGE_INTERVAL_V3_NS: u64 = NS_PER_S;
const CHANGE_INTERVAL_V2_NS: u64 = 10 * NS_PER_S;
/// A router's interval between queries until it tells its own (RFC 3376 §8.2).
const QUERY_INTERVAL_DEFAULT_NS: u64 = 125 * NS_PER_S;
/// An answer is never awaited sooner, so that a flood of queries makes no flood of answers.
const RESPONSE_MIN_NS: u64 = 10 * NS_PER_MS;

// A record of all the sources that there can be fits one report.
const _: () = assert!(
    size_of::<Report>() + size_of::<Record>() + MEMBERSHIPS_MAX * size_of::<Address>() <= MESSAGE_BYTES_MAX
);
const _: () = assert!(ASKED_MAX <= MEMBERSHIPS_MAX);

/// What is told without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Join,
    Leave,
}

#[derive(Debug)]
pub(super) struct Member {
    version_configured: IgmpVersion,
    groups: Groups,
    random: Random,
    change: Change,
    /// How often the change is yet to be told, and when next.
    change_left: u8,
    change_ns: u64,
    /// When a version 3 general query is answered, with all groups in one report.
    answer_ns: u64,
    /// Until when the last querier of that version counts as present; 0 = there was none.
    v1_until_ns: u64,
    v2_until_ns: u64,
    query_interval_ns: u64,
    version: IgmpVersion,
}

impl Member {
    pub(super) fn new(version: IgmpVersion, groups: Groups, random: Random) -> Self {
        Member {
            version_configured: version,
            groups,
            random,
            change: Change::Join,
            change_left: ROBUSTNESS,
            change_ns: 0,
            answer_ns: NEVER_NS,
            v1_until_ns: 0,
            v2_until_ns: 0,
            query_interval_ns: QUERY_INTERVAL_DEFAULT_NS,
            version,
        }
    }

    pub(super) fn version(&self) -> IgmpVersion {
        self.version
    }

    pub(super) fn has_left(&self) -> bool {
        self.change == Change::Leave && self.change_left == 0
    }

    pub(super) fn leave(&mut self, now_ns: u64) {
        if self.change == Change::Join {
            self.cancel_answers();
            self.change = Change::Leave;
            self.change_left = ROBUSTNESS;
            self.change_ns = now_ns;
        }
    }

    pub(super) fn next_ns(&self) -> u64 {
        let answers_ns = self.groups.iter().map(|group| group.answer_ns).min().unwrap_or(NEVER_NS);
        let older_ns = match self.version {
            _ if self.version == self.version_configured => NEVER_NS,
            IgmpVersion::V1 => self.v1_until_ns,
            _ => self.v2_until_ns,
        };
        self.change_ns.min(self.answer_ns).min(answers_ns).min(older_ns)
    }

    fn cancel_answers(&mut self) {
        self.answer_ns = NEVER_NS;
        self.groups.cancel_answers();
    }

    pub(super) fn handle(
        &mut self,
        message: &[u8],
        destination: Ipv4Addr,
        to_us: bool,
        now_ns: u64,
        out: &mut Out<'_, '_>,
    ) {
        match message.first() {
            Some(&igmp::QUERY) => match Query::parse(message) {
                // A forged query from afar could only be addressed to us, and an answer tells nothing secret.
                Some(query) if destination == ALL_SYSTEMS || to_us || query.group == Some(destination) => {
                    out.counters.igmp_queries += 1;
                    self.query(&query, now_ns);
                }
                _ => out.counters.igmp_malformed += 1,
            },
            Some(&(REPORT_V1 | REPORT_V2)) => match Message::ref_from_prefix(message) {
                Ok((report, _)) if checksum::is_intact(message) => self.heard_report(report),
                _ => out.counters.igmp_malformed += 1,
            },
            // Leaves and newer reports are for routers, and what is not known is to be ignored (RFC 3376 §4).
            Some(_) => {}
            None => out.counters.igmp_malformed += 1,
        }
    }

    fn query(&mut self, query: &Query<'_>, now_ns: u64) {
        let response_ns = (query.response_units * RESPONSE_UNIT_NS).max(RESPONSE_MIN_NS);
        if query.version == 3 && query.interval_s > 0 {
            self.query_interval_ns = query.interval_s * NS_PER_S;
        }
        // RFC 3376 §8.12: as long as the querier may take to ask twice, and be answered.
        let present_ns = u64::from(ROBUSTNESS) * self.query_interval_ns + response_ns;
        match (query.version, query.group) {
            (1, _) => self.v1_until_ns = now_ns + present_ns,
            (2, None) => self.v2_until_ns = now_ns + present_ns,
            _ => {}
        }
        self.choose_version(now_ns);
        if self.change == Change::Leave {
            return;
        }
        let answer_ns = now_ns + self.random.delay_ns(response_ns);
        if self.version == IgmpVersion::V3 {
            self.query_v3(query, answer_ns);
        } else {
            self.query_v2(query, now_ns, response_ns);
        }
    }

    /// RFC 3376 §5.2.
    fn query_v3(&mut self, query: &Query<'_>, answer_ns: u64) {
        if self.answer_ns <= answer_ns {
            return;
        }
        match query.group {
            None => self.answer_ns = answer_ns,
            Some(group) => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.ask(query.sources, answer_ns);
                }
            }
        }
    }

    /// RFC 2236 §3: each group has its own delay; one that runs is only ever shortened.
    fn query_v2(&mut self, query: &Query<'_>, now_ns: u64, response_ns: u64) {
        let random = &mut self.random;
        let mut ask = |group: &mut Group| {
            if group.answer_ns == NEVER_NS || group.answer_ns > now_ns + response_ns {
                group.answer_ns = now_ns + random.delay_ns(response_ns);
            }
        };
        match query.group {
            None => self.groups.iter_mut().for_each(ask),
            Some(group) => {
                if let Some(group) = self.groups.get_mut(group) {
                    ask(group);
                }
            }
        }
    }

    /// In versions 1 and 2 one member's report is enough.
    fn heard_report(&mut self, report: &Message) {
        if self.version != IgmpVersion::V3
            && let Some(group) = self.groups.get_mut(report.group.into())
        {
            group.cancel_answer();
        }
    }

    /// RFC 3376 §7.2.1: the oldest version that a querier of late has spoken; a change ends what is pending.
    fn choose_version(&mut self, now_ns: u64) {
        let present = if now_ns < self.v1_until_ns {
            IgmpVersion::V1
        } else if now_ns < self.v2_until_ns {
            IgmpVersion::V2
        } else {
            IgmpVersion::V3
        };
        let version = present.min(self.version_configured);
        if version != self.version {
            self.version = version;
            self.cancel_answers();
            if self.change == Change::Join {
                self.change_left = 0;
                self.change_ns = NEVER_NS;
            }
        }
    }

    pub(super) fn poll(&mut self, now_ns: u64, out: &mut Out<'_, '_>) {
        self.choose_version(now_ns);
        if now_ns >= self.change_ns {
            self.tell_change(out);
            self.change_left -= 1;
            let interval_ns = match self.version {
                IgmpVersion::V3 => CHANGE_INTERVAL_V3_NS,
                _ => CHANGE_INTERVAL_V2_NS,
            };
            // Who leaves waits for nobody.
            let interval_ns = if self.change == Change::Leave { CHANGE_INTERVAL_V3_NS } else { interval_ns };
            self.change_ns = match self.change_left {
                0 => NEVER_NS,
                _ => now_ns + self.random.delay_ns(interval_ns),
            };
        }
        match self.version {
            IgmpVersion::V3 => self.answer_v3(now_ns, out),
            _ => self.answer_v2(now_ns, out),
        }
    }

    fn tell_change(&mut self, out: &mut Out<'_, '_>) {
        match (self.version, self.change) {
            (IgmpVersion::V3, change) => {
                let mut report = ReportWriter::new(out);
                for group in self.groups.iter() {
                    let kind = match (change, group.wants_any_source()) {
                        (Change::Join, true) => RecordKind::ToExclude,
                        (Change::Join, false) => RecordKind::AllowNew,
                        (Change::Leave, true) => RecordKind::ToInclude,
                        (Change::Leave, false) => RecordKind::BlockOld,
                    };
                    report.push(kind, group.group, &group.sources);
                }
                report.flush();
            }
            (IgmpVersion::V1, Change::Leave) => {}
            (version, change) => {
                for group in self.groups.iter() {
                    match change {
                        Change::Join => report_v2(version, group.group, out),
                        Change::Leave => {
                            let message = Message::new(LEAVE_V2, group.group);
                            send_message(&message, ALL_ROUTERS, out);
                        }
                    }
                }
            }
        }
    }

    fn answer_v2(&mut self, now_ns: u64, out: &mut Out<'_, '_>) {
        let version = self.version;
        for group in self.groups.iter_mut().filter(|group| now_ns >= group.answer_ns) {
            group.cancel_answer();
            report_v2(version, group.group, out);
        }
    }

    /// RFC 3376 §5.2, what is sent when a timer expires.
    fn answer_v3(&mut self, now_ns: u64, out: &mut Out<'_, '_>) {
        let mut report = ReportWriter::new(out);
        let is_general = now_ns >= self.answer_ns;
        for group in self.groups.iter_mut() {
            if !is_general && now_ns < group.answer_ns {
                continue;
            }
            if is_general || group.asked().is_empty() {
                let any = group.wants_any_source();
                let kind = if any { RecordKind::IsExclude } else { RecordKind::IsInclude };
                report.push(kind, group.group, &group.sources);
            } else {
                let mut wanted = [Address([0; 4]); ASKED_MAX];
                let mut count = 0;
                let (any, sources) = (group.wants_any_source(), &group.sources);
                for source in group.asked().iter().filter(|source| any || sources.contains(source)) {
                    wanted[count] = *source;
                    count += 1;
                }
                if count > 0 {
                    report.push(RecordKind::IsInclude, group.group, &wanted[..count]);
                }
            }
            if now_ns >= group.answer_ns {
                group.cancel_answer();
            }
        }
        report.flush();
        if is_general {
            self.answer_ns = NEVER_NS;
        }
    }
}

fn report_v2(version: IgmpVersion, group: Ipv4Addr, out: &mut Out<'_, '_>) {
    let kind = if version == IgmpVersion::V1 { REPORT_V1 } else { REPORT_V2 };
    send_message(&Message::new(kind, group), group, out);
}

fn send_message(message: &Message, destination: Ipv4Addr, out: &mut Out<'_, '_>) {
    out.sender.message()[..size_of_val(message)].copy_from_slice(message.as_bytes());
    out.send_igmp(destination, size_of_val(message));
}

/// A version 3 report in the making; a full one is sent, and the next begun.
struct ReportWriter<'o, 'h, 't> {
    out: &'o mut Out<'h, 't>,
    bytes: usize,
    records: u16,
}

impl<'o, 'h, 't> ReportWriter<'o, 'h, 't> {
    fn new(out: &'o mut Out<'h, 't>) -> Self {
        ReportWriter { out, bytes: size_of::<Report>(), records: 0 }
    }

    fn push(&mut self, kind: RecordKind, group: Ipv4Addr, sources: &[Address]) {
        let sources_bytes = sources.as_bytes();
        if self.bytes + size_of::<Record>() + sources_bytes.len() > MESSAGE_BYTES_MAX {
            self.flush();
        }
        let record = Record {
            kind: kind as u8,
            auxiliary_words: 0,
            source_count: (sources.len() as u16).into(),
            group: group.into(),
        };
        for piece in [record.as_bytes(), sources_bytes] {
            self.out.sender.message()[self.bytes..][..piece.len()].copy_from_slice(piece);
            self.bytes += piece.len();
        }
        self.records += 1;
    }

    fn flush(&mut self) {
        if self.records == 0 {
            return;
        }
        let report = Report {
            kind: REPORT_V3,
            reserved: 0,
            checksum: 0.into(),
            reserved2: 0.into(),
            record_count: self.records.into(),
        };
        self.out.sender.message()[..size_of_val(&report)].copy_from_slice(report.as_bytes());
        self.out.send_igmp(ALL_ROUTERS_V3, self.bytes);
        (self.bytes, self.records) = (size_of::<Report>(), 0);
    }
}
