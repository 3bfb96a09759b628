//! What is sent to those who subscribe to a server that knows nothing of prices: the same numbers in 32 bytes.

use crate::node::{ASK_PRICE, ASK_SIZE, BID_SIZE, bid_price};

pub const BYTES: usize = 32;

/// A number, the best prices and their sizes, little endian.
pub fn of(number: u64) -> [u8; BYTES] {
    let mut payload = [0; BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload[8..16].copy_from_slice(&bid_price(number).to_le_bytes());
    payload[16..24].copy_from_slice(&ASK_PRICE.to_le_bytes());
    payload[24..28].copy_from_slice(&BID_SIZE.to_le_bytes());
    payload[28..].copy_from_slice(&ASK_SIZE.to_le_bytes());
    payload
}

/// The number, once its prices and sizes were seen to be right.
pub fn parse(payload: &[u8]) -> u64 {
    let payload: &[u8; BYTES] = payload.try_into().expect("a payload of 32 bytes");
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("8 bytes"));
    let number = word(0);
    let sizes = u64::from(BID_SIZE) | u64::from(ASK_SIZE) << 32;
    assert_eq!((word(8) as i64, word(16) as i64, word(24)), (bid_price(number), ASK_PRICE, sizes));
    number
}
