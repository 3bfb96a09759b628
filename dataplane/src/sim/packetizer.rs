//! Packs an exchange's messages into packets: of MoldUDP64, and of IEX-TP.

use crate::sim::exchange::Exchange;
use crate::wire::iextp;
use crate::wire::itch50::MESSAGE_BYTES_MAX;
use crate::wire::moldudp64::{BLOCK_LENGTH_BYTES, END_OF_SESSION, HEARTBEAT, Header, SESSION_BYTES};
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::byteorder::little_endian;

/// What fits into a UDP datagram on Ethernet: 1500 bytes less the headers of IPv4 and UDP.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1_472;

/// Numbers messages from 1 on and packs them.
#[derive(Clone, Debug)]
pub struct Moldudp64Packetizer {
    session: [u8; SESSION_BYTES],
    payload_bytes_max: usize,
    sequence_next: u64,
}

impl Moldudp64Packetizer {
    /// A name is cut or padded with blanks to its ten bytes. Panics if not even one message fits.
    pub fn new(session: &str, payload_bytes_max: usize) -> Moldudp64Packetizer {
        let message_bytes_max = BLOCK_LENGTH_BYTES + MESSAGE_BYTES_MAX;
        assert!(payload_bytes_max >= size_of::<Header>() + message_bytes_max, "no message fits");
        let mut name = [b' '; SESSION_BYTES];
        for (target, byte) in name.iter_mut().zip(session.bytes()) {
            *target = byte;
        }
        Moldudp64Packetizer { session: name, payload_bytes_max, sequence_next: 1 }
    }

    pub fn session(&self) -> &[u8; SESSION_BYTES] {
        &self.session
    }

    /// The number of the next message.
    pub fn sequence_next(&self) -> u64 {
        self.sequence_next
    }

    /// Replaces `packet` by one with the exchange's next messages: at most `messages_max` (at least 1), fewer
    /// if no more fit or the day ends. Returns how many; 0 = the day is over, and `packet` is empty.
    pub fn fill(&mut self, exchange: &mut Exchange, messages_max: u16, packet: &mut Vec<u8>) -> u16 {
        self.fill_from(|out| exchange.next_message(out), messages_max, packet)
    }

    /// As [`Moldudp64Packetizer::fill`], from anything that appends a message and tells whether it had one.
    pub fn fill_from(
        &mut self,
        mut next_message: impl FnMut(&mut Vec<u8>) -> bool,
        messages_max: u16,
        packet: &mut Vec<u8>,
    ) -> u16 {
        // 0xFFFF means something else.
        let messages_max = messages_max.clamp(1, END_OF_SESSION - 1);
        packet.clear();
        packet.extend_from_slice(&[0; size_of::<Header>()]);
        let mut count = 0;
        while count < messages_max
            && packet.len() + BLOCK_LENGTH_BYTES + MESSAGE_BYTES_MAX <= self.payload_bytes_max
        {
            let start = packet.len();
            packet.extend_from_slice(&[0; BLOCK_LENGTH_BYTES]);
            if !next_message(packet) {
                packet.truncate(start);
                break;
            }
            let length = packet.len() - start - BLOCK_LENGTH_BYTES;
            assert!(length <= MESSAGE_BYTES_MAX, "not a message of ITCH 5.0");
            packet[start..start + BLOCK_LENGTH_BYTES].copy_from_slice(&(length as u16).to_be_bytes());
            count += 1;
        }
        if count == 0 {
            packet.clear();
            return 0;
        }
        packet[..size_of::<Header>()].copy_from_slice(self.header(count).as_bytes());
        self.sequence_next += u64::from(count);
        count
    }

    /// A packet that says only which message comes next.
    pub fn heartbeat(&self, packet: &mut Vec<u8>) {
        packet.clear();
        packet.extend_from_slice(self.header(HEARTBEAT).as_bytes());
    }

    pub fn end_of_session(&self, packet: &mut Vec<u8>) {
        packet.clear();
        packet.extend_from_slice(self.header(END_OF_SESSION).as_bytes());
    }

    fn header(&self, message_count: u16) -> Header {
        Header {
            session: self.session,
            sequence: U64::new(self.sequence_next),
            message_count: U16::new(message_count),
        }
    }
}

/// Numbers the messages of a TOPS stream from 1 on and packs them into IEX-TP segments.
#[derive(Clone, Debug)]
pub struct IexTpPacketizer {
    stream: iextp::Stream,
    payload_bytes_max: usize,
    sequence_next: u64,
    stream_offset: i64,
}

impl IexTpPacketizer {
    pub fn new(session: u32, payload_bytes_max: usize) -> IexTpPacketizer {
        let stream = iextp::Stream {
            protocol: little_endian::U16::new(iextp::PROTOCOL_TOPS),
            channel: little_endian::U32::new(1),
            session: little_endian::U32::new(session),
        };
        IexTpPacketizer { stream, payload_bytes_max, sequence_next: 1, stream_offset: 0 }
    }

    /// The number of the next message.
    pub fn sequence_next(&self) -> u64 {
        self.sequence_next
    }

    /// Replaces `packet` by a segment with the first of `messages`, as many as fit, and returns how many; without any
    /// it is a heartbeat. Panics if the first one does not fit.
    pub fn fill(&mut self, messages: &[Vec<u8>], send_time_ns: u64, packet: &mut Vec<u8>) -> usize {
        packet.clear();
        packet.extend_from_slice(&[0; size_of::<iextp::Header>()]);
        let mut count = 0;
        for message in messages.iter().take(usize::from(u16::MAX)) {
            if packet.len() + iextp::BLOCK_LENGTH_BYTES + message.len() > self.payload_bytes_max {
                assert_ne!(count, 0, "no message fits");
                break;
            }
            packet.extend_from_slice(&(message.len() as u16).to_le_bytes());
            packet.extend_from_slice(message);
            count += 1;
        }
        let payload_length = (packet.len() - size_of::<iextp::Header>()) as u16;
        let header = iextp::Header {
            version: iextp::VERSION,
            reserved: 0,
            stream: self.stream,
            payload_length: payload_length.into(),
            message_count: (count as u16).into(),
            stream_offset: self.stream_offset.into(),
            first_sequence: self.sequence_next.into(),
            send_time: (send_time_ns as i64).into(),
        };
        packet[..size_of::<iextp::Header>()].copy_from_slice(header.as_bytes());
        self.sequence_next += count as u64;
        self.stream_offset += i64::from(payload_length);
        count
    }
}
