//! A response whose updates are encoded already.

use crate::proto::{FeedEvent, SubscribeResponse, Update};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, message};
use prost::{DecodeError, Message};

/// The fields of a `SubscribeResponse`.
const UPDATES: u32 = 2;
const FEED_EVENTS: u32 = 3;

pub fn put_update(update: &Update, bytes: &mut BytesMut) {
    message::encode(UPDATES, update, bytes);
}

pub fn put_event(event: &FeedEvent, bytes: &mut BytesMut) {
    message::encode(FEED_EVENTS, event, bytes);
}

/// A `SubscribeResponse`: the head has its other fields, the body its updates and events.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub head: SubscribeResponse,
    body: Vec<Bytes>,
    body_bytes: usize,
    /// Updates in the body.
    pub updates: u64,
    /// The position of the first tick of the log in the body.
    pub first: Option<u64>,
}

impl Response {
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.body_bytes += bytes.len();
            self.body.push(bytes);
        }
    }

    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}

/// It is only ever sent: nobody reads one.
impl Message for Response {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.head.encode_raw(buffer);
        self.body.iter().for_each(|bytes| buffer.put_slice(bytes));
    }

    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.body_bytes
    }

    fn clear(&mut self) {
        *self = Response::default();
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.head.merge_field(tag, wire_type, buffer, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_body_are_one_message() {
        let mut response = Response::default();
        (response.head.position, response.head.skipped) = (7, 3);
        for (symbol, feed) in [("A", "x"), ("B", "y")] {
            let mut bytes = BytesMut::new();
            put_update(&Update { symbol: symbol.to_owned(), ..Update::default() }, &mut bytes);
            put_event(&FeedEvent { feed: feed.to_owned(), ..FeedEvent::default() }, &mut bytes);
            response.push(bytes.freeze());
        }
        let sent = SubscribeResponse::decode(response.encode_to_vec().as_slice()).unwrap();
        assert_eq!((sent.position, sent.skipped, sent.updates.len()), (7, 3, 2));
        assert_eq!((sent.updates[1].symbol.as_str(), sent.feed_events[1].feed.as_str()), ("B", "y"));
        assert_eq!(Response::decode(response.encode_to_vec().as_slice()).unwrap().head, sent);
    }
}
