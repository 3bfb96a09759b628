//! IGMP, by which a host tells routers and switches what groups it wants: version 1 (RFC 1112 appendix I),
//! version 2 (RFC 2236), version 3 (RFC 3376). All integers are big-endian.

use crate::wire::checksum;
use crate::wire::ipv4::Address;
use std::net::Ipv4Addr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Message types.
pub const QUERY: u8 = 0x11;
pub const REPORT_V1: u8 = 0x12;
pub const REPORT_V2: u8 = 0x16;
pub const LEAVE_V2: u8 = 0x17;
pub const REPORT_V3: u8 = 0x22;

/// Every host of the link: where general queries go.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Every router of the link: where version 2 says that it leaves a group.
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Every router that knows version 3: where its reports go.
pub const ALL_ROUTERS_V3: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// A query's unit of time: 100 ms.
pub const RESPONSE_UNIT_NS: u64 = 100_000_000;
/// What a version 1 query, which tells no time, means: 10 s.
pub const RESPONSE_UNITS_V1: u64 = 100;

/// Message of versions 1 and 2, and the front of a version 3 query.
///
/// | offset | bytes | field      | meaning                                                                |
/// |-------:|------:|------------|------------------------------------------------------------------------|
/// |      0 |     1 | `kind`     | 0x11 query, 0x12 report v1, 0x16 report v2, 0x17 leave                 |
/// |      1 |     1 | `response` | query: longest delay of the answer, in 100 ms; v1: 0; v3: see [`response_units`] |
/// |      2 |     2 | `checksum` | over the whole IP payload                                              |
/// |      4 |     4 | `group`    | the group; 0.0.0.0 in a general query                                  |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Message {
    pub kind: u8,
    pub response: u8,
    pub checksum: U16,
    pub group: Address,
}

const _: () = assert!(size_of::<Message>() == 8);

impl Message {
    /// A report or a leave of version 2, with its checksum.
    pub fn new(kind: u8, group: Ipv4Addr) -> Self {
        let mut message = Message { kind, response: 0, checksum: 0.into(), group: group.into() };
        message.checksum = checksum::checksum(message.as_bytes()).into();
        message
    }
}

/// What follows [`Message`] in a version 3 query (RFC 3376 §4.1); the sources follow.
///
/// | offset | bytes | field          | meaning                                                       |
/// |-------:|------:|----------------|---------------------------------------------------------------|
/// |      0 |     1 | `flags`        | reserved (4 bits), suppress router-side processing, robustness (3) |
/// |      1 |     1 | `interval`     | querier's query interval in s, coded as [`response_units`]    |
/// |      2 |     2 | `source_count` | sources that follow, 4 bytes each; 0 = the whole group, or all |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct QueryTail {
    pub flags: u8,
    pub interval: u8,
    pub source_count: U16,
}

const _: () = assert!(size_of::<QueryTail>() == 4);

/// Front of a version 3 report (RFC 3376 §4.2); its group records follow.
///
/// | offset | bytes | field          | meaning                      |
/// |-------:|------:|----------------|------------------------------|
/// |      0 |     1 | `kind`         | 0x22                         |
/// |      1 |     1 | `reserved`     | 0                            |
/// |      2 |     2 | `checksum`     | over the whole IP payload    |
/// |      4 |     2 | `reserved2`    | 0                            |
/// |      6 |     2 | `record_count` | group records that follow    |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Report {
    pub kind: u8,
    pub reserved: u8,
    pub checksum: U16,
    pub reserved2: U16,
    pub record_count: U16,
}

const _: () = assert!(size_of::<Report>() == 8);

/// What a group record says (RFC 3376 §4.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Answer: receives from these sources alone.
    IsInclude = 1,
    /// Answer: receives from all but these sources.
    IsExclude = 2,
    /// Change: receives no more but from these sources; from none = leaves.
    ToInclude = 3,
    /// Change: receives from all but these sources; but none = joins.
    ToExclude = 4,
    /// Change: wants these sources, too.
    AllowNew = 5,
    /// Change: wants these sources no more.
    BlockOld = 6,
}

/// Group record; its sources follow, 4 bytes each, then `auxiliary_words` words to be skipped.
///
/// | offset | bytes | field             | meaning                              |
/// |-------:|------:|-------------------|--------------------------------------|
/// |      0 |     1 | `kind`            | a [`RecordKind`]                     |
/// |      1 |     1 | `auxiliary_words` | 0: version 3 defines none            |
/// |      2 |     2 | `source_count`    | sources that follow                  |
/// |      4 |     4 | `group`           | the group                            |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    pub kind: u8,
    pub auxiliary_words: u8,
    pub source_count: U16,
    pub group: Address,
}

const _: () = assert!(size_of::<Record>() == 8);

/// A time as version 3 codes it in a byte (RFC 3376 §4.1.1): below 128 itself, else a small floating-point
/// number, (mantissa | 16) << (exponent + 3). At most 31,744.
pub fn response_units(code: u8) -> u64 {
    match code {
        0..128 => code.into(),
        _ => u64::from(code & 0x0F | 0x10) << ((code >> 4 & 0x07) + 3),
    }
}

/// A query, whatever version its form says that it is (RFC 3376 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'m> {
    /// 1, 2 or 3.
    pub version: u8,
    /// The longest that an answer may be delayed, in units of 100 ms.
    pub response_units: u64,
    /// `None` in a general query.
    pub group: Option<Ipv4Addr>,
    /// The querier's robustness, 0 = not told; and its query interval in s, 0 = not told.
    pub robustness: u8,
    pub interval_s: u64,
    /// The sources asked for; empty = all.
    pub sources: &'m [Address],
}

impl<'m> Query<'m> {
    /// Reads an IGMP message that is a query; `None` if it is malformed or of another type.
    pub fn parse(message: &'m [u8]) -> Option<Query<'m>> {
        let (front, behind) = Message::ref_from_prefix(message).ok()?;
        let group = Ipv4Addr::from(front.group);
        let is_group_sane = group.is_unspecified() || group.is_multicast();
        if front.kind != QUERY || !is_group_sane || !checksum::is_intact(message) {
            return None;
        }
        let group = (!group.is_unspecified()).then_some(group);
        if behind.is_empty() {
            let (version, response_units) = match front.response {
                0 => (1, RESPONSE_UNITS_V1),
                units => (2, units.into()),
            };
            return Some(Query {
                version,
                response_units,
                group,
                robustness: 0,
                interval_s: 0,
                sources: &[],
            });
        }
        // Eight bytes are version 1 or 2, twelve and more version 3, the lengths between are nothing.
        let (tail, behind) = QueryTail::ref_from_prefix(behind).ok()?;
        let count = usize::from(tail.source_count.get());
        let (sources, _ignored) = <[Address]>::ref_from_prefix_with_elems(behind, count).ok()?;
        if group.is_none() && !sources.is_empty() {
            return None;
        }
        Some(Query {
            version: 3,
            response_units: response_units(front.response),
            group,
            robustness: tail.flags & 0x07,
            interval_s: response_units(tail.interval),
            sources,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(mut message: Vec<u8>) -> Vec<u8> {
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn the_version_is_told_by_length_and_response() {
        let version = |response, length| {
            let mut message = vec![0; length];
            message[..2].copy_from_slice(&[QUERY, response]);
            Query::parse(&sealed(message)).map(|query| (query.version, query.response_units))
        };
        assert_eq!(version(0, 8), Some((1, 100)));
        assert_eq!(version(25, 8), Some((2, 25)));
        assert_eq!(version(25, 12), Some((3, 25)));
        assert_eq!(version(0, 12), Some((3, 0)));
        for malformed in [4, 7, 9, 11] {
            assert_eq!(version(25, malformed), None);
        }
    }

    #[test]
    fn coded_times_are_those_of_the_specification() {
        assert_eq!([0, 1, 127].map(response_units), [0, 1, 127]);
        assert_eq!([0x80, 0x81, 0x8F, 0x90, 0xFF].map(response_units), [128, 136, 248, 256, 31_744]);
    }

    proptest! {
        #[test]
        fn a_version_3_query_is_read_back(
            response: u8, group in 0xE000_0000..=0xEFFF_FFFFu32, flags: u8, interval: u8,
            sources in prop::collection::vec(any::<[u8; 4]>(), 0..20), behind: Vec<u8>,
        ) {
            let group = Ipv4Addr::from(group);
            let front = Message { kind: QUERY, response, checksum: 0.into(), group: group.into() };
            let tail = QueryTail { flags, interval, source_count: (sources.len() as u16).into() };
            let message =
                sealed([front.as_bytes(), tail.as_bytes(), sources.as_flattened(), &behind].concat());
            let query = Query::parse(&message).unwrap();
            prop_assert_eq!((query.version, query.group), (3, Some(group)));
            prop_assert_eq!((query.robustness, query.interval_s), (flags & 7, response_units(interval)));
            prop_assert_eq!(query.sources.as_bytes(), sources.as_flattened());
            let cut = 12 + sources.len() * 4;
            for length in (0..cut).filter(|length| *length != 8) {
                prop_assert!(Query::parse(&sealed_prefix(&message, length)).is_none());
            }
        }

        #[test]
        fn a_version_2_message_is_read_back(kind: u8, group: [u8; 4]) {
            let message = Message::new(kind, group.into());
            prop_assert!(checksum::is_intact(message.as_bytes()));
            prop_assert_eq!(Message::read_from_bytes(message.as_bytes()), Ok(message));
        }

        #[test]
        fn reports_and_records_are_read_back(bytes: [u8; 8]) {
            let report = Report::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(report.as_bytes(), &bytes);
            let record = Record::read_from_bytes(&bytes).unwrap();
            prop_assert_eq!(record.as_bytes(), &bytes);
            prop_assert_eq!(record.source_count.get(), u16::from_be_bytes([bytes[2], bytes[3]]));
        }

        #[test]
        fn any_bytes_are_a_query_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Query::parse(&bytes);
            if bytes.len() >= 4 {
                bytes[0] = QUERY;
                bytes[2..4].fill(0);
                let _ = Query::parse(&sealed(bytes));
            }
        }
    }

    fn sealed_prefix(message: &[u8], length: usize) -> Vec<u8> {
        let mut prefix = message[..length].to_vec();
        if length < 4 {
            return prefix;
        }
        prefix[2..4].fill(0);
        sealed(prefix)
    }
}
