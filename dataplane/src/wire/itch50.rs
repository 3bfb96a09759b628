//! Nasdaq TotalView-ITCH 5.0 (the specification of that name, with its later message `O`): every
//! displayed order's life, trades and the state of each stock. All integers are big-endian; text is ASCII,
//! left-justified and padded with blanks.
//!
//! [`Message::parse`] lays a struct over the bytes; nothing is copied. A message has exactly the length
//! that its type has in the specification, anything else is [`ItchError::BadLength`].

mod administration;
mod order;
mod trade;

pub use administration::*;
pub use order::*;
pub use trade::*;

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Fractions of one unit of currency in a 4-decimals price field.
pub const PRICE_SCALE: u32 = 10_000;
/// The longest message, `I`.
pub const MESSAGE_BYTES_MAX: usize = size_of::<NetOrderImbalance>();
/// The side of a buy order.
pub const SIDE_BUY: u8 = b'B';
/// The side of a sell order.
pub const SIDE_SELL: u8 = b'S';

/// Nanoseconds since midnight of the exchange's day (US/Eastern), 48 bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Timestamp48(pub [u8; 6]);

impl Timestamp48 {
    /// The stamp of `ns`, of which the upper 16 bits are lost.
    #[inline]
    pub fn new(ns: u64) -> Timestamp48 {
        let [_, _, bytes @ ..] = ns.to_be_bytes();
        Timestamp48(bytes)
    }

    #[inline]
    pub fn ns(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// What every message begins with.
///
/// | offset | bytes | field             | meaning                                                        |
/// |-------:|------:|-------------------|----------------------------------------------------------------|
/// |      0 |     1 | `message_type`    | a letter                                                       |
/// |      1 |     2 | `stock_locate`    | the day's number of the stock; 0 = the message concerns none   |
/// |      3 |     2 | `tracking_number` | Nasdaq's own                                                   |
/// |      5 |     6 | `timestamp`       | ns since midnight                                              |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Head {
    pub message_type: u8,
    pub stock_locate: U16,
    pub tracking_number: U16,
    pub timestamp: Timestamp48,
}

const _: () = assert!(size_of::<Head>() == 11);

impl Head {
    /// The head of any message, whatever its type and length.
    #[inline]
    pub fn peek(message: &[u8]) -> Option<&Head> {
        Head::ref_from_prefix(message).ok().map(|(head, _)| head)
    }
}

/// Why bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItchError {
    /// No such letter: to be counted and passed over, a newer specification may have it.
    UnknownType(u8),
    /// Not the length that the specification gives the type. An empty message is type 0, expected 1.
    BadLength { message_type: u8, expected: u16, actual: u16 },
}

/// Declares one message: the struct with its head, its type letter, its asserted length.
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
            pub head: Head,
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

            /// Lays the message over its bytes, which it must fill exactly.
            #[inline(always)]
            pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ItchError> {
                let Some(letter) = bytes.first() else {
                    return Err(ItchError::BadLength { message_type: 0, expected: 1, actual: 0 });
                };
                match *letter {
                    $($name::TYPE => match $name::ref_from_bytes(bytes) {
                        Ok(message) => Ok(Message::$name(message)),
                        Err(_) => Err(bad_length(bytes, size_of::<$name>())),
                    },)*
                    unknown => Err(ItchError::UnknownType(unknown)),
                }
            }

            #[inline]
            pub fn head(&self) -> &'a Head {
                match self {
                    $(Message::$name(message) => &message.head,)*
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
    AddOrder, AddOrderAttributed, OrderExecuted, OrderExecutedWithPrice, OrderCancel, OrderDelete, OrderReplace,
    NonCrossTrade, CrossTrade, BrokenTrade, NetOrderImbalance, RetailInterest,
    SystemEvent, StockDirectory, StockTradingAction, RegShoRestriction, MarketParticipantPosition,
    MwcbDeclineLevel, MwcbStatus, IpoQuotingPeriod, LuldAuctionCollar, OperationalHalt,
    DirectListingPriceDiscovery,
}

#[cold]
fn bad_length(bytes: &[u8], expected: usize) -> ItchError {
    ItchError::BadLength {
        message_type: bytes.first().copied().unwrap_or(0),
        expected: expected as u16,
        actual: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Type and length of each message, from the specification's headings.
    #[rustfmt::skip]
    const SPECIFIED: &[(u8, usize)] = &[
        (b'S', 12), (b'R', 39), (b'H', 25), (b'Y', 20), (b'L', 26), (b'V', 35), (b'W', 12), (b'K', 28),
        (b'J', 35), (b'h', 21), (b'A', 36), (b'F', 40), (b'E', 31), (b'C', 36), (b'X', 23), (b'D', 19),
        (b'U', 35), (b'P', 44), (b'Q', 40), (b'B', 19), (b'I', 50), (b'N', 20), (b'O', 48),
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

    /// A real message of each shape, by hand from the specification's offsets.
    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let mut bytes = vec![b'A', 0x20, 0x74, 0, 2, 0x1F, 0x1A, 0xCE, 0xD9, 0x27, 0xF4];
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x3C, 0x2F]);
        bytes.push(b'S');
        bytes.extend_from_slice(&[0, 0, 0, 100]);
        bytes.extend_from_slice(b"ZVZZT   ");
        bytes.extend_from_slice(&[0, 1, 0x86, 0xA0]);
        let Ok(Message::AddOrder(add)) = Message::parse(&bytes) else { panic!("not an add order") };
        assert_eq!(add.head.stock_locate.get(), 0x2074);
        assert_eq!(add.head.tracking_number.get(), 2);
        assert_eq!(add.head.timestamp.ns(), 0x1F1A_CED9_27F4);
        assert_eq!(add.order_reference.get(), 0x3C2F);
        assert_eq!((add.side, add.shares.get(), &add.stock), (SIDE_SELL, 100, b"ZVZZT   "));
        assert_eq!(add.price.get(), 10 * PRICE_SCALE);
    }

    #[test]
    fn lengths_other_than_the_specified_are_refused() {
        for &(letter, length) in SPECIFIED {
            let mut bytes = vec![0; length + 1];
            bytes[0] = letter;
            for actual in [1, length - 1, length + 1] {
                let expected = ItchError::BadLength {
                    message_type: letter,
                    expected: length as u16,
                    actual: actual as u16,
                };
                assert_eq!(Message::parse(&bytes[..actual]), Err(expected));
            }
            assert!(Message::parse(&bytes[..length]).is_ok());
        }
        assert_eq!(
            Message::parse(&[]),
            Err(ItchError::BadLength { message_type: 0, expected: 1, actual: 0 })
        );
        assert_eq!(Message::parse(b"z"), Err(ItchError::UnknownType(b'z')));
    }

    proptest! {
        #[test]
        fn messages_give_their_bytes_back(which in 0..SPECIFIED.len(), body in any::<[u8; 49]>()) {
            let (letter, length) = SPECIFIED[which];
            let bytes = [&[letter], &body[..length - 1]].concat();
            let message = Message::parse(&bytes).unwrap();
            prop_assert_eq!(message.as_bytes(), &bytes[..]);
            prop_assert_eq!(message.head().as_bytes(), &bytes[..11]);
            prop_assert_eq!(Head::peek(&bytes), Some(message.head()));
        }

        #[test]
        fn any_bytes_are_a_message_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let known = bytes.first().and_then(|letter| SPECIFIED.iter().find(|(known, _)| known == letter));
            let fits = known.is_some_and(|(_, length)| *length == bytes.len());
            prop_assert_eq!(Message::parse(&bytes).is_ok(), fits);
        }

        #[test]
        fn stamps_come_back(ns in 0..1u64 << 48) {
            prop_assert_eq!(Timestamp48::new(ns).ns(), ns);
        }
    }
}
