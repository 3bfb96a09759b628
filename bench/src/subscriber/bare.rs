//! A subscriber to Tickplane with a client of our own, as small as those of the other servers: it reads just the frames of HTTP/2
//! (RFC 9113) and the fields of the messages that it needs.

use super::connection::Connection;
use super::{Subscribe, Subscriber};
use crate::node::{ASK_PRICE, ASK_SIZE, BID_SIZE, bid_price};
use control::proto::SubscribeRequest;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// What goes before each message of gRPC: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;
/// Frames are taken up to this size, so that a response is one.
const FRAME_BYTES_MAX: u32 = 128 << 10;
const WINDOW_BYTES: u32 = i32::MAX as u32;
/// What every connection has at its start.
const WINDOW_AT_FIRST_BYTES: u32 = 65_535;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const STREAM: u32 = 1;

fn put_frame(kind: u8, flags: u8, stream: u32, payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// Header fields that are not to be kept (RFC 7541, 6.2.2): by their number in the static table, or by name.
fn headers(authority: &str, path: &str) -> Vec<u8> {
    // :method: POST, :scheme: http
    let mut headers = vec![0x83, 0x86];
    let mut put = |name: &[u8], value: &str| {
        headers.extend_from_slice(name);
        headers.push(value.len() as u8);
        headers.extend_from_slice(value.as_bytes());
    };
    // :authority, :path, content-type
    put(&[0x01], authority);
    put(&[0x04], path);
    put(&[0x0f, 0x10], "application/grpc");
    put(b"\x00\x02te", "trailers");
    headers
}

fn hello(address: &str, request: &SubscribeRequest) -> Vec<u8> {
    let message = prost::Message::encode_to_vec(request);
    let mut data = vec![0];
    data.extend_from_slice(&(message.len() as u32).to_be_bytes());
    data.extend_from_slice(&message);
    let mut settings = Vec::new();
    // SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_FRAME_SIZE
    for (setting, value) in [(4_u16, WINDOW_BYTES), (5, FRAME_BYTES_MAX)] {
        settings.extend_from_slice(&setting.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    let mut hello = PREFACE.to_vec();
    put_frame(SETTINGS, 0, 0, &settings, &mut hello);
    put_frame(WINDOW_UPDATE, 0, 0, &(WINDOW_BYTES - WINDOW_AT_FIRST_BYTES).to_be_bytes(), &mut hello);
    let authority = address.trim_start_matches("http://");
    let headers = headers(authority, "/tickplane.v1.MarketData/Subscribe");
    put_frame(HEADERS, END_HEADERS, STREAM, &headers, &mut hello);
    put_frame(DATA, END_STREAM, STREAM, &data, &mut hello);
    hello
}

pub struct Bare {
    connection: Connection,
    frames: Frames,
}

/// What has come, and what is to be said to it.
#[derive(Default)]
struct Frames {
    /// The beginning of a message of gRPC.
    message: Vec<u8>,
    /// Bytes since the windows were opened again.
    taken: u32,
    answers: Vec<u8>,
    image_complete: bool,
}

impl Subscribe for Bare {
    async fn subscribe(address: String, request: SubscribeRequest) -> Bare {
        let hello = hello(&address, &request);
        let connection = Connection::open(address.trim_start_matches("http://"), &hello).await;
        let mut bare = Bare { connection, frames: Frames::default() };
        while !bare.frames.image_complete {
            bare.next(&mut Vec::new()).await;
        }
        bare
    }
}

impl Subscriber for Bare {
    async fn next(&mut self, numbers: &mut Vec<u64>) {
        let frames = &mut self.frames;
        self.connection.read(|bytes| (frames.parse(bytes, numbers), ())).await;
        if !frames.answers.is_empty() {
            self.connection.write(&std::mem::take(&mut frames.answers)).await;
        }
    }
}

impl Frames {
    /// Returns where the last whole frame ends.
    fn parse(&mut self, bytes: &[u8], numbers: &mut Vec<u64>) -> usize {
        let mut done = 0;
        while let Some(head) = bytes.get(done..done + HEAD_BYTES) {
            let payload_bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let begin = done + HEAD_BYTES;
            let Some(payload) = bytes.get(begin..begin + payload_bytes) else { break };
            match (head[3], head[4]) {
                (DATA, _) => self.take(payload, numbers),
                (SETTINGS, flags) if flags & ACK == 0 => put_frame(SETTINGS, ACK, 0, &[], &mut self.answers),
                (PING, flags) if flags & ACK == 0 => put_frame(PING, ACK, 0, payload, &mut self.answers),
                (SETTINGS | PING | WINDOW_UPDATE, _) => {}
                (HEADERS, flags) if flags & END_STREAM == 0 => {}
                (kind, _) => panic!("the subscription ended: frame {kind}, {payload:?}"),
            }
            done = begin + payload_bytes;
        }
        done
    }

    fn take(&mut self, data: &[u8], numbers: &mut Vec<u64>) {
        self.taken += data.len() as u32;
        if self.taken > WINDOW_BYTES / 2 {
            let taken = std::mem::take(&mut self.taken).to_be_bytes();
            put_frame(WINDOW_UPDATE, 0, 0, &taken, &mut self.answers);
            put_frame(WINDOW_UPDATE, 0, STREAM, &taken, &mut self.answers);
        }
        let mut begun = std::mem::take(&mut self.message);
        let mut data = data;
        if !begun.is_empty() {
            begun.extend_from_slice(data);
            data = &begun;
        }
        while let Some(prefix) = data.get(..PREFIX_BYTES) {
            let message_bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some(whole) = data.get(PREFIX_BYTES..PREFIX_BYTES + message_bytes) else { break };
            self.image_complete |= parse(whole, numbers);
            data = &data[PREFIX_BYTES + message_bytes..];
        }
        self.message = data.to_vec();
    }
}

/// The fields of a message (<https://protobuf.dev/programming-guides/encoding>).
struct Fields<'m>(&'m [u8]);

enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

#[inline(always)]
fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a whole message");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
        shift += 7;
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = (u64, Field<'m>);

    #[inline(always)]
    fn next(&mut self) -> Option<(u64, Field<'m>)> {
        if self.0.is_empty() {
            return None;
        }
        let tag = varint(&mut self.0);
        let bytes = match tag & 7 {
            0 => return Some((tag >> 3, Field::Number(varint(&mut self.0)))),
            1 => 8,
            2 => varint(&mut self.0) as usize,
            5 => 4,
            kind => panic!("there is no wire type {kind}"),
        };
        let (value, rest) = self.0.split_at(bytes);
        self.0 = rest;
        Some((tag >> 3, Field::Bytes(value)))
    }
}

/// Takes the numbers of a `SubscribeResponse`'s quotes; true = the image is complete with it.
fn parse(response: &[u8], numbers: &mut Vec<u64>) -> bool {
    let mut image_complete = false;
    for (number, field) in Fields(response) {
        match (number, field) {
            (2, Field::Bytes(update)) => {
                let quote = Fields(update).find_map(|(number, field)| match (number, field) {
                    (3, Field::Bytes(quote)) => Some(quote),
                    _ => None,
                });
                numbers.extend(quote.map(parse_quote));
            }
            (4, Field::Number(complete)) => image_complete = complete != 0,
            (10, Field::Bytes(gap)) => panic!("every tick was asked for: {gap:?}"),
            _ => {}
        }
    }
    image_complete
}

/// The update's number, once its prices and sizes were seen to be right.
fn parse_quote(quote: &[u8]) -> u64 {
    let unzigzag = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
    let (mut sequence, mut bid, mut bid_size, mut ask, mut ask_size) = (0, 0, 0, 0, 0);
    for (number, field) in Fields(quote) {
        match (number, field) {
            (1, Field::Bytes(mark)) => {
                let found = Fields(mark).find_map(|(number, field)| match (number, field) {
                    (4, Field::Number(sequence)) => Some(sequence),
                    _ => None,
                });
                sequence = found.unwrap_or(0);
            }
            (2, Field::Number(price)) => bid = unzigzag(price),
            (3, Field::Number(size)) => bid_size = size,
            (4, Field::Number(price)) => ask = unzigzag(price),
            (5, Field::Number(size)) => ask_size = size,
            _ => {}
        }
    }
    let seen = (bid, bid_size, ask, ask_size);
    assert_eq!(seen, (bid_price(sequence), BID_SIZE.into(), ASK_PRICE, ASK_SIZE.into()));
    sequence
}
