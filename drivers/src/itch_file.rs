//! ITCH files as a port: messages, each behind its length as a big-endian u16, as Nasdaq publishes days of them
//! (BinaryFILE; a length of 0 marks the end of the session, where there is one).

use crate::capture::CaptureError;
use crate::stream::Stream;
use dataplane::limits::FRAME_BYTES_MAX;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::wire::moldudp64::{self, BLOCK_LENGTH_BYTES, END_OF_SESSION, SESSION_BYTES};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use zerocopy::IntoBytes;

/// Where the packets that a file is played as seem to go: the line to configure for it.
pub const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 1);
/// The session that they seem to belong to.
pub const SESSION: [u8; SESSION_BYTES] = *b"FILE      ";

/// Packets of one burst.
const BURST: usize = 64;
const HEADER_BYTES: usize = size_of::<moldudp64::Header>();
/// The longest message that fits a frame; ITCH 5.0's longest has 50 bytes.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - BLOCK_LENGTH_BYTES;

/// [`Medium::Udp`] from an ITCH file: each message is one MoldUDP64 packet, with sequences from 1 on, and the end of a
/// whole file is that of the session. A file that was cut just stops, which [`ItchFilePort::error`] tells.
#[derive(Debug)]
pub struct ItchFilePort {
    stream: Stream,
    /// The last burst's packets, one behind the other, and the end of each.
    packets: Vec<u8>,
    ends: Vec<usize>,
    sequence: u64,
    messages_limit: u64,
    is_exhausted: bool,
    error: Option<CaptureError>,
    counters: PortCounters,
}

impl ItchFilePort {
    pub fn open(path: &Path, messages_limit: Option<u64>) -> Result<Self, CaptureError> {
        let open = |cause| CaptureError::Open { path: path.to_path_buf(), cause };
        Ok(ItchFilePort::new(Stream::open(path).map_err(open)?, messages_limit))
    }

    /// A length that a message could have, and then the letter of its type.
    pub(crate) fn recognises(front: &[u8]) -> bool {
        matches!(front, [high, low, kind, ..]
            if (1..=1024).contains(&u16::from_be_bytes([*high, *low])) && kind.is_ascii_alphabetic())
    }

    pub(crate) fn new(stream: Stream, messages_limit: Option<u64>) -> Self {
        ItchFilePort {
            stream,
            packets: Vec::with_capacity(BURST * (HEADER_BYTES + BLOCK_LENGTH_BYTES + 64)),
            ends: Vec::with_capacity(BURST),
            sequence: 1,
            messages_limit: messages_limit.unwrap_or(u64::MAX),
            is_exhausted: messages_limit == Some(0),
            error: None,
            counters: PortCounters::default(),
        }
    }

    /// How much of the file has been read, 0.0 … 1.0; `None` for what has no length, such as a pipe.
    pub fn progress(&self) -> Option<f64> {
        self.stream.progress()
    }

    /// Why the file ended before its end.
    pub fn error(&self) -> Option<&CaptureError> {
        self.error.as_ref()
    }

    /// Adds the next packet to the burst; the end of the session, too, is one.
    fn step(&mut self) -> Result<(), CaptureError> {
        let packet = self.sequence;
        let fill_to = |stream: &mut Stream, bytes| {
            stream.fill_to(bytes).map_err(|cause| CaptureError::Read { packet, cause })
        };
        let length = match fill_to(&mut self.stream, BLOCK_LENGTH_BYTES)? {
            true => {
                let available = self.stream.available();
                usize::from(u16::from_be_bytes([available[0], available[1]]))
            }
            false if self.stream.available().is_empty() => 0,
            false => return Err(CaptureError::Cut { packet }),
        };
        if length == 0 {
            self.push_packet(END_OF_SESSION, 0);
            self.is_exhausted = true;
            return Ok(());
        }
        if length > MESSAGE_BYTES_MAX {
            let what = "its length is more than a frame holds";
            return Err(CaptureError::Damaged { packet, what });
        }
        let block_bytes = BLOCK_LENGTH_BYTES + length;
        if !fill_to(&mut self.stream, block_bytes)? {
            return Err(CaptureError::Cut { packet });
        }
        // The file's length and message are just what a block of the packet is.
        self.push_packet(1, block_bytes);
        self.sequence += 1;
        self.is_exhausted |= self.sequence > self.messages_limit;
        Ok(())
    }

    fn push_packet(&mut self, message_count: u16, block_bytes: usize) {
        let sequence = self.sequence.into();
        let header = moldudp64::Header { session: SESSION, sequence, message_count: message_count.into() };
        self.packets.extend_from_slice(header.as_bytes());
        let block = self.stream.consume(block_bytes);
        self.packets.extend_from_slice(&self.stream.window()[block..block + block_bytes]);
        self.ends.push(self.packets.len());
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += (HEADER_BYTES + block_bytes) as u64;
    }
}

impl Port for ItchFilePort {
    fn medium(&self) -> Medium {
        Medium::Udp
    }

    fn rx_burst(&mut self) -> usize {
        self.packets.clear();
        self.ends.clear();
        while self.ends.len() < BURST && !self.is_exhausted {
            if let Err(error) = self.step() {
                self.error = Some(error);
                self.is_exhausted = true;
            }
        }
        self.ends.len()
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Frame {
            bytes: &self.packets[start..self.ends[index]],
            stamp_ns: 0,
            source: Ipv4Addr::UNSPECIFIED,
            destination: DESTINATION,
        }
    }

    fn tx(&mut self, _frame: &[u8]) -> bool {
        self.counters.tx_dropped += 1;
        false
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }
}
