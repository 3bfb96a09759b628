//! The frame: what goes over a connection between two nodes, one after the other.

use bytemuck::Zeroable;
use dataplane::replica::{Message, Record};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[cfg(not(target_endian = "little"))]
compile_error!("records go over the wire as they lie in memory, which must be little-endian");

/// "TPRL", little-endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"TPRL");
pub const HEADER_BYTES: usize = size_of::<Header>();
pub const RECORD_BYTES: usize = size_of::<Record>();
pub const MESSAGE_BYTES: usize = 56;
/// Records of one frame.
pub const RECORDS_MAX: usize = 256;
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + RECORDS_MAX * RECORD_BYTES;

/// What stands before each body; the table is above [`super`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    checksum: U32,
    kind: U16,
    count: U16,
    position: U64,
}

const _: () = assert!(size_of::<Header>() == 20);

/// Where in a frame the bytes begin that the checksum is of.
const CHECKED_FROM: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Message = 1,
    Rows = 2,
    Ticks = 3,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("it begins with {found:08x}, not {MAGIC:08x}: the other end is no node of Tickplane")]
    Magic { found: u32 },
    #[error("there is no frame of kind {kind}")]
    Kind { kind: u16 },
    #[error("{count} records in a frame of kind {kind}: there may be 1 to {max}")]
    Count { kind: u16, count: u16, max: usize },
    #[error("its checksum is {stored:08x}, but should be {computed:08x}: its bytes were changed on the way")]
    Checksum { stored: u32, computed: u32 },
    #[error("its header says position {stored}, which should be {expected}")]
    Position { stored: u64, expected: u64 },
    #[error("it holds no message of this version: run the same version of Tickplane on both nodes")]
    Message,
    #[error("the other end may not send a frame of kind {kind}")]
    OutOfPlace { kind: u16 },
}

/// A whole frame whose checksum is right.
pub struct Frame<'b> {
    pub kind: Kind,
    position: u64,
    body: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The frame at the beginning of `bytes`, and its length; `None` = more bytes are needed.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<(Frame<'b>, usize)>, FrameError> {
        let Ok((header, rest)) = Header::ref_from_prefix(bytes) else { return Ok(None) };
        if header.magic.get() != MAGIC {
            return Err(FrameError::Magic { found: header.magic.get() });
        }
        let count = header.count.get();
        let (kind, record_bytes, max) = match header.kind.get() {
            1 => (Kind::Message, MESSAGE_BYTES, 1),
            2 => (Kind::Rows, RECORD_BYTES, RECORDS_MAX),
            3 => (Kind::Ticks, RECORD_BYTES, RECORDS_MAX),
            kind => return Err(FrameError::Kind { kind }),
        };
        if !(1..=max).contains(&usize::from(count)) {
            return Err(FrameError::Count { kind: header.kind.get(), count, max });
        }
        let Some(body) = rest.get(..usize::from(count) * record_bytes) else { return Ok(None) };
        let frame_bytes = HEADER_BYTES + body.len();
        let (stored, computed) = (header.checksum.get(), crc32fast::hash(&bytes[CHECKED_FROM..frame_bytes]));
        if stored != computed {
            return Err(FrameError::Checksum { stored, computed });
        }
        let frame = Frame { kind, position: header.position.get(), body };
        let expected = match kind {
            Kind::Ticks => u64::from_le_bytes(body[..8].try_into().expect("a record is longer")),
            Kind::Message | Kind::Rows => 0,
        };
        if frame.position != expected {
            return Err(FrameError::Position { stored: frame.position, expected });
        }
        Ok(Some((frame, frame_bytes)))
    }

    pub fn message(&self) -> Result<Message, FrameError> {
        let mut words = [0; MESSAGE_BYTES / 8];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(self.body);
        Message::from_words(words).ok_or(FrameError::Message)
    }

    /// Copies the records to where they are aligned.
    pub fn records<'r>(&self, to: &'r mut [Record]) -> &'r [Record] {
        let records = &mut to[..self.body.len() / RECORD_BYTES];
        bytemuck::cast_slice_mut(records).copy_from_slice(self.body);
        records
    }
}

/// Writes the header of a frame whose body is there already; `frame` is all of it.
fn seal(frame: &mut [u8], kind: Kind, count: usize, position: u64) {
    let count = U16::new(u16::try_from(count).expect("a frame has at most RECORDS_MAX records"));
    let (magic, position) = (U32::new(MAGIC), U64::new(position));
    let header = |checksum| Header {
        magic,
        checksum: U32::new(checksum),
        kind: U16::new(kind as u16),

        count,
        position,
    };
    frame[..HEADER_BYTES].copy_from_slice(header(0).as_bytes());
    let checksum = crc32fast::hash(&frame[CHECKED_FROM..]);
    frame[..HEADER_BYTES].copy_from_slice(header(checksum).as_bytes());
}

/// Writes a frame of one message to the beginning of `room`; `None` = it is too small.
pub fn put_message(room: &mut [u8], message: Message) -> Option<usize> {
    let frame = room.get_mut(..HEADER_BYTES + MESSAGE_BYTES)?;
    frame[HEADER_BYTES..].copy_from_slice(bytemuck::bytes_of(&message.to_words()));
    seal(frame, Kind::Message, 1, 0);
    Some(frame.len())
}

/// Records that a frame in `room` has a place for.
fn fitting(room: &[u8]) -> usize {
    (room.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES).min(RECORDS_MAX)
}

/// Writes a frame of the first `rows` to the beginning of `room`; returns its bytes, and how many rows it has. `None` =
/// there is room for none.
pub fn put_rows(room: &mut [u8], rows: &[Record]) -> Option<(usize, usize)> {
    let rows = &rows[..rows.len().min(fitting(room))];
    if rows.is_empty() {
        return None;
    }
    let frame = &mut room[..HEADER_BYTES + size_of_val(rows)];
    frame[HEADER_BYTES..].copy_from_slice(bytemuck::cast_slice(rows));
    seal(frame, Kind::Rows, rows.len(), 0);
    Some((frame.len(), rows.len()))
}

/// What [`put_ticks`] did.
pub enum PutTicks {
    NoRoom,
    /// The log does not have them any more.
    Lapped,
    Put {
        frame_bytes: usize,
        ticks: usize,
    },
}

/// Writes a frame of the first ticks at [from, upto), which `log` gives by their position.
pub fn put_ticks(
    room: &mut [u8],
    from: u64,
    upto: u64,
    log: impl Fn(u64) -> Option<dataplane::cache::tick::Tick>,
) -> PutTicks {
    let ticks = fitting(room).min(usize::try_from(upto - from).unwrap_or(usize::MAX));
    if ticks == 0 {
        return PutTicks::NoRoom;
    }
    let frame = &mut room[..HEADER_BYTES + ticks * RECORD_BYTES];
    let mut record = Record::zeroed();
    for (position, bytes) in (from..).zip(frame[HEADER_BYTES..].chunks_exact_mut(RECORD_BYTES)) {
        let Some(tick) = log(position) else { return PutTicks::Lapped };
        (record.position, record.tick) = (position, tick);
        bytes.copy_from_slice(bytemuck::bytes_of(&record));
    }
    seal(frame, Kind::Ticks, ticks, from);
    PutTicks::Put { frame_bytes: frame.len(), ticks }
}
