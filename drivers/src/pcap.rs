//! Packet captures as a port: pcap (draft-ietf-opsawg-pcap) and pcapng, of Ethernet.
//!
//! Written here, because of the crates looked at pcap-file 2.0 takes every pcapng stamp for nanoseconds, whatever the
//! interface's resolution is, and refuses captures with packets longer than the snap length.

use crate::capture::CaptureError;
use crate::pcapng::Section;
use crate::stream::{Stream, WINDOW_BYTES};
use dataplane::limits::FRAME_BYTES_MAX;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use dataplane::time::NS_PER_S;
use std::path::Path;

/// Packets of one burst.
const BURST: usize = 64;
/// The longest packet that capture programs write (libpcap's MAXIMUM_SNAPLEN).
const PACKET_BYTES_MAX: usize = 262_144;
const LINK_TYPE_ETHERNET: u32 = 1;

/// The file's byte order, which its magic number shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    #[inline]
    pub(crate) fn u32(self, bytes: &[u8], offset: usize) -> u32 {
        let bytes = [bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]];
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }

    #[inline]
    pub(crate) fn u16(self, bytes: &[u8], offset: usize) -> u16 {
        let bytes = [bytes[offset], bytes[offset + 1]];
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// What the bytes at hand are.
#[derive(Debug)]
pub(crate) enum Piece {
    Packet(Packet),
    /// Something else that is these bytes long.
    Other(usize),
    /// Not all here: that many bytes must be.
    Incomplete(usize),
}

/// A packet at hand: its data are at `data_offset` from the front, the next piece at `piece_bytes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) data_offset: usize,
    pub(crate) data_bytes: usize,
    pub(crate) piece_bytes: usize,
    pub(crate) stamp_ns: u64,
}

/// Why a piece can't be read.
#[derive(Debug)]
pub(crate) enum Damage {
    Bytes(&'static str),
    LinkType(u32),
}

/// A classic file's header: it is that of all its packets.
///
/// | offset | bytes | meaning                                                        |
/// |-------:|------:|----------------------------------------------------------------|
/// |      0 |     4 | magic: 0xA1B2C3D4 stamps in µs, 0xA1B23C4D in ns               |
/// |      4 |     4 | version, 2 and 4                                               |
/// |      8 |     8 | reserved                                                       |
/// |     16 |     4 | snap length                                                    |
/// |     20 |     4 | check sequence's length (4 bits), reserved (12), link type (16) |
#[derive(Clone, Copy, Debug)]
struct Classic {
    order: Order,
    fraction_ns: u64,
}

const CLASSIC_BYTES: usize = 24;
/// In front of each packet: seconds, fraction, bytes captured, bytes on the wire, 4 bytes each.
const CLASSIC_PACKET_BYTES: usize = 16;

impl Classic {
    fn recognise(magic: &[u8]) -> Option<Classic> {
        let (order, fraction_ns) = match magic.first_chunk()? {
            [0xD4, 0xC3, 0xB2, 0xA1] => (Order::Little, 1_000),
            [0xA1, 0xB2, 0xC3, 0xD4] => (Order::Big, 1_000),
            [0x4D, 0x3C, 0xB2, 0xA1] => (Order::Little, 1),
            [0xA1, 0xB2, 0x3C, 0x4D] => (Order::Big, 1),
            _ => return None,
        };
        Some(Classic { order, fraction_ns })
    }

    fn piece(self, bytes: &[u8]) -> Result<Piece, Damage> {
        if bytes.len() < CLASSIC_PACKET_BYTES {
            return Ok(Piece::Incomplete(CLASSIC_PACKET_BYTES));
        }
        let word = |index: usize| self.order.u32(bytes, index * 4);
        let data_bytes = word(2) as usize;
        if data_bytes > PACKET_BYTES_MAX {
            return Err(Damage::Bytes("its length is more than any capture program writes"));
        }
        let piece_bytes = CLASSIC_PACKET_BYTES + data_bytes;
        if bytes.len() < piece_bytes {
            return Ok(Piece::Incomplete(piece_bytes));
        }
        let stamp_ns = u64::from(word(0)) * NS_PER_S + u64::from(word(1)) * self.fraction_ns;
        Ok(Piece::Packet(Packet { data_offset: CLASSIC_PACKET_BYTES, data_bytes, piece_bytes, stamp_ns }))
    }
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Ng(Section),
}

/// [`Medium::Ethernet`] from a packet capture. It ends at the end of the file, at the limit, or where the
/// file is damaged, which [`PcapPort::error`] then tells.
#[derive(Debug)]
pub struct PcapPort {
    stream: Stream,
    format: Format,
    /// The last burst, in the stream's window.
    burst: Vec<Received>,
    packets: u64,
    packets_limit: u64,
    is_exhausted: bool,
    error: Option<CaptureError>,
    counters: PortCounters,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    start: usize,
    bytes: usize,
    stamp_ns: u64,
}

impl PcapPort {
    pub fn open(path: &Path, packets_limit: Option<u64>) -> Result<Self, CaptureError> {
        let open = |cause| CaptureError::Open { path: path.to_path_buf(), cause };
        let mut stream = Stream::open(path).map_err(open)?;
        stream.fill_to(4).map_err(open)?;
        if !PcapPort::recognises(stream.available()) {
            return Err(CaptureError::Format { path: path.to_path_buf() });
        }
        PcapPort::new(stream, packets_limit)
    }

    pub(crate) fn recognises(front: &[u8]) -> bool {
        Classic::recognise(front).is_some() || Section::recognises(front)
    }

    /// The stream's first four bytes are available, and recognised.
    pub(crate) fn new(stream: Stream, packets_limit: Option<u64>) -> Result<Self, CaptureError> {
        let classic = Classic::recognise(stream.available());
        let mut port = PcapPort {
            stream,
            format: classic.map_or_else(|| Format::Ng(Section::new()), Format::Classic),
            burst: Vec::with_capacity(BURST),
            packets: 0,
            packets_limit: packets_limit.unwrap_or(u64::MAX),
            is_exhausted: packets_limit == Some(0),
            error: None,
            counters: PortCounters::default(),
        };
        match port.format {
            Format::Classic(classic) => port.read_header(classic)?,
            // Read up to the first packet, so that a wrong link type is told at once.
            Format::Ng(_) => while port.step()?.is_some_and(|piece| matches!(piece, Piece::Other(_))) {},
        }
        Ok(port)
    }

    fn read_header(&mut self, classic: Classic) -> Result<(), CaptureError> {
        match self.stream.fill_to(CLASSIC_BYTES) {
            Ok(true) => {}
            Ok(false) => return Err(CaptureError::Cut { packet: 1 }),
            Err(cause) => return Err(CaptureError::Read { packet: 1, cause }),
        }
        let link_type = classic.order.u32(self.stream.available(), 20) & 0xFFFF;
        check_link_type(link_type).map_err(|damage| damage.at(1))?;
        self.stream.consume(CLASSIC_BYTES);
        Ok(())
    }

    /// How much of the file has been read, 0.0 … 1.0; `None` for what has no length, such as a pipe.
    pub fn progress(&self) -> Option<f64> {
        self.stream.progress()
    }

    /// Why the capture ended before its end.
    pub fn error(&self) -> Option<&CaptureError> {
        self.error.as_ref()
    }

    /// The next piece, which is consumed if it is no packet; `None` at the end, and where the window must move
    /// while a burst lies in it.
    fn step(&mut self) -> Result<Option<Piece>, CaptureError> {
        let packet = self.packets + 1;
        loop {
            let bytes = self.stream.available();
            let piece = match &mut self.format {
                Format::Classic(classic) => classic.piece(bytes),
                Format::Ng(section) => section.piece(bytes),
            };
            match piece.map_err(|damage| damage.at(packet))? {
                Piece::Incomplete(_) if !self.burst.is_empty() => return Ok(None),
                Piece::Incomplete(needed) if needed > WINDOW_BYTES => {
                    let what = "a block of it is longer than 1 MiB";
                    return Err(CaptureError::Damaged { packet, what });
                }
                Piece::Incomplete(needed) => match self.stream.fill_to(needed) {
                    Ok(true) => {}
                    Ok(false) if self.stream.available().is_empty() => {
                        self.is_exhausted = true;
                        return Ok(None);
                    }
                    Ok(false) => return Err(CaptureError::Cut { packet }),
                    Err(cause) => return Err(CaptureError::Read { packet, cause }),
                },
                Piece::Other(bytes) => {
                    self.stream.consume(bytes);
                    return Ok(Some(Piece::Other(bytes)));
                }
                piece => return Ok(Some(piece)),
            }
        }
    }

    fn take(&mut self, packet: Packet) {
        let start = self.stream.consume(packet.piece_bytes) + packet.data_offset;
        self.packets += 1;
        self.is_exhausted |= self.packets >= self.packets_limit;
        if !(1..=FRAME_BYTES_MAX).contains(&packet.data_bytes) {
            self.counters.oversized += 1;
            return;
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += packet.data_bytes as u64;
        self.burst.push(Received { start, bytes: packet.data_bytes, stamp_ns: packet.stamp_ns });
    }
}

impl Port for PcapPort {
    fn medium(&self) -> Medium {
        Medium::Ethernet
    }

    fn rx_burst(&mut self) -> usize {
        self.burst.clear();
        while self.burst.len() < BURST && !self.is_exhausted {
            match self.step() {
                Ok(Some(Piece::Packet(packet))) => self.take(packet),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    self.error = Some(error);
                    self.is_exhausted = true;
                }
            }
        }
        self.burst.len()
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        let received = self.burst[index];
        let bytes = &self.stream.window()[received.start..received.start + received.bytes];
        Frame { stamp_ns: received.stamp_ns, ..Frame::ethernet(bytes) }
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

impl Damage {
    fn at(self, packet: u64) -> CaptureError {
        match self {
            Damage::Bytes(what) => CaptureError::Damaged { packet, what },
            Damage::LinkType(number) => CaptureError::LinkType { number, name: link_type_name(number) },
        }
    }
}

pub(crate) fn check_link_type(number: u32) -> Result<(), Damage> {
    if number == LINK_TYPE_ETHERNET { Ok(()) } else { Err(Damage::LinkType(number)) }
}

/// The names of the commoner link types (tcpdump.org's registry).
fn link_type_name(number: u32) -> &'static str {
    match number {
        0 => "BSD loopback",
        1 => "Ethernet",
        12 | 101 => "raw IP",
        105 => "IEEE 802.11",
        113 => "Linux cooked",
        127 => "IEEE 802.11 radiotap",
        147..=162 => "private use",
        228 => "raw IPv4",
        276 => "Linux cooked v2",
        _ => "not known here",
    }
}
