//! IEX TOPS 1.6 (IEX TOPS Specification, version 1.66): the best quote of each symbol on IEX, its trades and its status.
//! All integers are little-endian; text is ASCII, left-justified and padded with blanks; prices have 4
//! decimals; stamps are ns of Unix UTC.
//!
//! [`Message::parse`] lays a struct over the bytes; nothing is copied. The specification lets a message grow at its end:
//! one that is longer than its type is taken and its end left, a shorter one is [`TopsError::TooShort`].

mod administration;
mod trading;

pub use administration::*;
pub use trading::*;

use zerocopy::{FromBytes, IntoBytes};

/// Fractions of one unit of currency in a price.
pub const PRICE_SCALE: u32 = 10_000;
/// The longest message, `A`, as specified.
pub const MESSAGE_BYTES_MAX: usize = size_of::<AuctionInformation>();

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopsError {
    /// No such letter: to be counted and passed over, a newer specification may have it.
    UnknownType(u8),
    /// Not as long as the specification has the type. An empty message is type 0, expected 1.
    TooShort { message_type: u8, expected: u16, actual: u16 },
}

/// Declares one message: the struct with its type letter in front, its asserted length.
macro_rules! message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: $letter:literal, $bytes:literal { $(pub $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
        #[derive(zerocopy::KnownLayout, zerocopy::Unaligned)]
        #[repr(C)]
        pub struct $name {
            pub message_type: u8,
            $(pub $field: $type,)*
        }

        impl $name {
            /// The letter of this message.
            pub const TYPE: u8 = $letter;
        }

        const _: () = assert!(size_of::<$name>() == $bytes);
    };
}
use message;

macro_rules! messages {
    ($($name:ident),* $(,)?) => {
        /// Any message, in place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message<'a> {
            $($name(&'a $name),)*
        }

        impl<'a> Message<'a> {
            /// Every letter with the length of its message.
            pub const LENGTHS: &'static [(u8, usize)] = &[$(($name::TYPE, size_of::<$name>())),*];

            /// Lays the message over the beginning of its bytes.
            #[inline(always)]
            pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, TopsError> {
                let Some(letter) = bytes.first() else {
                    return Err(TopsError::TooShort { message_type: 0, expected: 1, actual: 0 });
                };
                match *letter {
                    $($name::TYPE => match $name::ref_from_prefix(bytes) {
                        Ok((message, _)) => Ok(Message::$name(message)),
                        Err(_) => Err(too_short(bytes, size_of::<$name>())),
                    },)*
                    unknown => Err(TopsError::UnknownType(unknown)),
                }
            }

            /// The bytes that the message was laid over.
            #[inline]
            pub fn as_bytes(&self) -> &'a [u8] {
                match self {
                    $(Message::$name(message) => message.as_bytes(),)*
                }
            }
        }
    };
}

messages! {
    QuoteUpdate, TradeReport, TradeBreak, OfficialPrice, AuctionInformation,
    SystemEvent, SecurityDirectory, TradingStatus, RetailLiquidityIndicator, OperationalHaltStatus,
    ShortSalePriceTestStatus, SecurityEvent,
}

#[cold]
fn too_short(bytes: &[u8], expected: usize) -> TopsError {
    TopsError::TooShort {
        message_type: bytes.first().copied().unwrap_or(0),
        expected: expected as u16,
        // It is below `expected`.
        actual: bytes.len() as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Type and length of each message, from the specification's tables.
    #[rustfmt::skip]
    const SPECIFIED: &[(u8, usize)] = &[
        (b'S', 10), (b'D', 31), (b'H', 22), (b'I', 18), (b'O', 18), (b'P', 19), (b'E', 18),
        (b'Q', 42), (b'T', 38), (b'X', 26), (b'B', 38), (b'A', 80),
    ];

    #[test]
    fn every_specified_message_is_there_with_its_length() {
        let sorted = |table: &[(u8, usize)]| {
            let mut table = table.to_vec();
            table.sort();
            table
        };
        assert_eq!(sorted(Message::LENGTHS), sorted(SPECIFIED));
        assert_eq!(MESSAGE_BYTES_MAX, SPECIFIED.iter().map(|(_, bytes)| *bytes).max().unwrap());
    }

    /// A quote and a trade, by hand from the specification's offsets.
    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let mut bytes = vec![b'Q', QUOTE_EXTENDED_HOURS, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend_from_slice(b"ZIEXT   ");
        bytes.extend_from_slice(&[0xE4, 0x25, 0, 0]);
        bytes.extend_from_slice(&[0x24, 0x1D, 0x0F, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0xEC, 0x1D, 0x0F, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0xE8, 0x03, 0, 0]);
        let Ok(Message::QuoteUpdate(quote)) = Message::parse(&bytes) else { panic!("not a quote") };
        assert_eq!(quote.timestamp.get(), 0x0807_0605_0403_0201);
        assert_eq!((quote.flags, &quote.symbol), (QUOTE_EXTENDED_HOURS, b"ZIEXT   "));
        assert_eq!((quote.bid_size.get(), quote.bid_price.get()), (9_700, 990_500));
        assert_eq!((quote.ask_price.get(), quote.ask_size.get()), (990_700, 1_000));

        let mut bytes = vec![b'T', 0, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend_from_slice(b"AAPL    ");
        bytes.extend_from_slice(&[0x1B, 1, 0, 0]);
        bytes.extend_from_slice(&[0xCC, 0xB8, 0x16, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0x8C, 0xF4, 1, 0, 0, 0, 0, 0]);
        let Ok(Message::TradeReport(trade)) = Message::parse(&bytes) else { panic!("not a trade") };
        assert_eq!((trade.size.get(), trade.price.get(), trade.trade_id.get()), (283, 1_489_100, 128_140));
    }

    #[test]
    fn short_messages_are_refused_and_grown_ones_taken() {
        for &(letter, length) in SPECIFIED {
            let mut bytes = vec![0; length + 9];
            bytes[0] = letter;
            for actual in 1..length {
                let expected = TopsError::TooShort {
                    message_type: letter,
                    expected: length as u16,
                    actual: actual as u16,
                };
                assert_eq!(Message::parse(&bytes[..actual]), Err(expected));
            }
            for actual in length..bytes.len() {
                assert_eq!(Message::parse(&bytes[..actual]).unwrap().as_bytes(), &bytes[..length]);
            }
        }
        assert_eq!(Message::parse(&[]), Err(TopsError::TooShort { message_type: 0, expected: 1, actual: 0 }));
        assert_eq!(Message::parse(b"z"), Err(TopsError::UnknownType(b'z')));
    }

    proptest! {
        #[test]
        fn messages_give_their_bytes_back(which in 0..SPECIFIED.len(), body in prop::collection::vec(any::<u8>(), 79)) {
            let (letter, length) = SPECIFIED[which];
            let bytes = [&[letter], &body[..length - 1]].concat();
            prop_assert_eq!(Message::parse(&bytes).unwrap().as_bytes(), &bytes[..]);
        }

        #[test]
        fn any_bytes_are_a_message_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let known = bytes.first().and_then(|letter| SPECIFIED.iter().find(|(known, _)| known == letter));
            let fits = known.is_some_and(|(_, length)| *length <= bytes.len());
            prop_assert_eq!(Message::parse(&bytes).is_ok(), fits);
        }
    }
}
