//! The record, version 1: Tickplane's own message, for data that is no exchange's (counters, telemetry, prices of one's
//! own). A sender numbers its records in a MoldUDP64 session, one a block.
//!
//! A record is 56 bytes and complete in itself: it names its instrument, so nothing must be defined before, and who joins
//! late lacks nothing but what has not changed since. Its integers are little-endian (MoldUDP64's own are
//! big-endian): on nearly every machine it is a plain C struct without padding.

use crate::limits::SYMBOL_BYTES_MAX;
use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`Record::version`] of this layout.
pub const VERSION: u8 = 1;
/// [`Record::kind`] of a [`Quote`].
pub const KIND_QUOTE: u8 = 0;
/// [`Record::kind`] of a [`Trade`].
pub const KIND_TRADE: u8 = 1;
/// [`Record::kind`] of a [`Status`].
pub const KIND_STATUS: u8 = 2;
/// Bytes of a record's body, whatever its kind.
pub const BODY_BYTES: usize = 24;

/// One row of one instrument, as it is from now on.
///
/// | offset | bytes | field      | meaning                                                                |
/// |-------:|------:|------------|------------------------------------------------------------------------|
/// |      0 |     1 | `version`  | [`VERSION`]                                                            |
/// |      1 |     1 | `kind`     | [`KIND_QUOTE`], [`KIND_TRADE`], [`KIND_STATUS`]                         |
/// |      2 |     2 | `reserved` | 0                                                                      |
/// |      4 |    20 | `name`     | UTF-8 without control characters, padded behind with NUL or blanks     |
/// |     24 |     8 | `stamp_ns` | when it became so, ns of Unix UTC; 0 = unknown                         |
/// |     32 |    24 | `body`     | by `kind`                                                              |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    pub version: u8,
    pub kind: u8,
    pub reserved: [u8; 2],
    pub name: [u8; SYMBOL_BYTES_MAX],
    pub stamp_ns: U64,
    pub body: [u8; BODY_BYTES],
}

const _: () = assert!(size_of::<Record>() == 56);

/// Kind 0: two values with their sizes, of which either may be absent.
///
/// | offset | bytes | field       | meaning                                                         |
/// |-------:|------:|-------------|-----------------------------------------------------------------|
/// |      0 |     8 | `bid_price` | 1e-9; −2⁶³ = absent, and then its size is 0                     |
/// |      8 |     8 | `ask_price` | the same                                                        |
/// |     16 |     4 | `bid_size`  |                                                                 |
/// |     20 |     4 | `ask_size`  |                                                                 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Quote {
    pub bid_price: I64,
    pub ask_price: I64,
    pub bid_size: U32,
    pub ask_size: U32,
}

/// Kind 1: something that happened, or was measured.
///
/// | offset | bytes | field      | meaning                                                          |
/// |-------:|------:|------------|------------------------------------------------------------------|
/// |      0 |     8 | `price`    | a value, 1e-9; −2⁶³ = none                                       |
/// |      8 |     8 | `size`     | a whole number: an amount, a counter                             |
/// |     16 |     8 | `trade_id` | the sender's own number of it                                    |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Trade {
    pub price: I64,
    pub size: U64,
    pub trade_id: U64,
}

/// Kind 2: a state.
///
/// | offset | bytes | field      | meaning                                                          |
/// |-------:|------:|------------|------------------------------------------------------------------|
/// |      0 |     1 | `state`    | a letter of the sender's own                                     |
/// |      1 |     4 | `reason`   | why; blank = none                                                |
/// |      5 |    19 | `reserved` | 0                                                                |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Status {
    pub state: u8,
    pub reason: [u8; 4],
    pub reserved: [u8; 19],
}

/// What a record says, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Quote(&'a Quote),
    Trade(&'a Trade),
    Status(&'a Status),
}

/// Why bytes are not a record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Another version, or a kind that this one has not: to be counted and passed over.
    Unknown { version: u8, kind: u8 },
    /// Not 56 bytes.
    BadLength { actual: u16 },
    /// No name, or not text.
    BadName,
}

impl Record {
    /// `None` = the name is none: empty, longer than 20 bytes, or with control characters.
    pub fn quote(name: &str, stamp_ns: u64, quote: &Quote) -> Option<Record> {
        Record::new(KIND_QUOTE, name, stamp_ns, zerocopy::transmute!(*quote))
    }

    /// `None` = the name is none, as for [`Record::quote`].
    pub fn trade(name: &str, stamp_ns: u64, trade: &Trade) -> Option<Record> {
        Record::new(KIND_TRADE, name, stamp_ns, zerocopy::transmute!(*trade))
    }

    /// `None` = the name is none, as for [`Record::quote`].
    pub fn status(name: &str, stamp_ns: u64, status: &Status) -> Option<Record> {
        Record::new(KIND_STATUS, name, stamp_ns, zerocopy::transmute!(*status))
    }

    fn new(kind: u8, name: &str, stamp_ns: u64, body: [u8; BODY_BYTES]) -> Option<Record> {
        let mut padded = [0; SYMBOL_BYTES_MAX];
        padded.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let stamp_ns = U64::new(stamp_ns);
        let record = Record { version: VERSION, kind, reserved: [0; 2], name: padded, stamp_ns, body };
        record.name().is_some().then_some(record)
    }

    /// The name without its padding, if it is one.
    pub fn name(&self) -> Option<&str> {
        let padded = std::str::from_utf8(&self.name).ok()?;
        let name = padded.trim_end_matches(['\0', ' ']);
        (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
    }

    /// Lays the record over its bytes, which it must fill exactly.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(&Record, &str, Body<'_>), RecordError> {
        let [version, kind, ..] = *bytes else {
            return Err(RecordError::BadLength { actual: bytes.len() as u16 });
        };
        if version != VERSION || !matches!(kind, KIND_QUOTE | KIND_TRADE | KIND_STATUS) {
            return Err(RecordError::Unknown { version, kind });
        }
        let record = Record::ref_from_bytes(bytes)
            .map_err(|_| RecordError::BadLength { actual: u16::try_from(bytes.len()).unwrap_or(u16::MAX) })?;
        let name = record.name().ok_or(RecordError::BadName)?;
        let body = &record.body;
        let body = match kind {
            KIND_QUOTE => Body::Quote(zerocopy::transmute_ref!(body)),
            KIND_TRADE => Body::Trade(zerocopy::transmute_ref!(body)),
            _ => Body::Status(zerocopy::transmute_ref!(body)),
        };
        Ok((record, name, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_the_table_puts_them() {
        let trade = Trade { price: (-5).into(), size: 0x0102_0304_0506_0708.into(), trade_id: 9.into() };
        let record = Record::trade("eth0.rx", 0x1112_1314_1516_1718, &trade).unwrap();
        let bytes = record.as_bytes();
        assert_eq!(&bytes[..4], &[1, 1, 0, 0]);
        assert_eq!(&bytes[4..24], b"eth0.rx\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&bytes[24..32], &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        assert_eq!(&bytes[32..40], &(-5_i64).to_le_bytes());
        assert_eq!(&bytes[40..56], &[8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Record::parse(bytes), Ok((&record, "eth0.rx", Body::Trade(&trade))));
        let quote =
            Quote { bid_price: 1.into(), ask_price: i64::MIN.into(), bid_size: 3.into(), ask_size: 0.into() };
        let record = Record::quote("Größe in mm", 0, &quote).unwrap();
        assert_eq!(&record.as_bytes()[48..], &[3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Record::parse(record.as_bytes()), Ok((&record, "Größe in mm", Body::Quote(&quote))));
        let status = Status { state: b'U', reason: *b"LINK", reserved: [0; 19] };
        let record = Record::status("eth0", 0, &status).unwrap();
        assert_eq!(&record.as_bytes()[32..37], b"ULINK");
        assert_eq!(Record::parse(record.as_bytes()), Ok((&record, "eth0", Body::Status(&status))));
    }

    #[test]
    fn what_is_no_record_says_why() {
        let status = Status { state: b'U', reason: [0; 4], reserved: [0; 19] };
        let good = *Record::status("eth0", 0, &status).unwrap().as_bytes().first_chunk::<56>().unwrap();
        for length in 0..56 {
            let actual = length as u16;
            assert_eq!(Record::parse(&good[..length]), Err(RecordError::BadLength { actual }));
        }
        let longer = [&good[..], b"x"].concat();
        assert_eq!(Record::parse(&longer), Err(RecordError::BadLength { actual: 57 }));
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Record::parse(&bytes).err()
        };
        assert_eq!(with(0, 2), Some(RecordError::Unknown { version: 2, kind: 2 }));
        assert_eq!(with(1, 3), Some(RecordError::Unknown { version: 1, kind: 3 }));
        for byte in [0, b'\n', 0xFF] {
            assert_eq!(with(4, byte), Some(RecordError::BadName), "{byte}");
        }
        assert_eq!(with(23, b'x'), Some(RecordError::BadName), "NUL inside");
        assert_eq!(with(23, b' '), None);
    }

    #[test]
    fn names_are_text_of_twenty_bytes_at_most() {
        let status = Status { state: b'U', reason: [0; 4], reserved: [0; 19] };
        let record = |name| Record::status(name, 0, &status);
        assert_eq!(record("twenty bytes is most").unwrap().name(), Some("twenty bytes is most"));
        for none in ["", "   ", "twenty bytes are most", "a\nb", "a\0b"] {
            assert_eq!(record(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_reason(
            bytes in prop::collection::vec(any::<u8>(), 40..70),
            kind in 0..4u8,
            text in any::<bool>(),
        ) {
            let mut bytes = bytes;
            (bytes[0], bytes[1]) = (VERSION, kind);
            if text {
                bytes[4..24].fill(b'a');
            }
            match Record::parse(&bytes) {
                Ok((record, name, _)) => {
                    prop_assert_eq!(record.as_bytes(), &bytes[..]);
                    prop_assert_eq!(record.name(), Some(name));
                }
                Err(_) => prop_assert!(bytes.len() != 56 || kind == 3 || !text),
            }
        }
    }
}
