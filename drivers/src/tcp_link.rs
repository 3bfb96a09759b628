//! Replication over TCP, with TLS or without: the primary's and the standby's end of one connection.
//!
//! Both ends send frames, each a header of 20 bytes and a body. All integers are little-endian.
//!
//! ```text
//!  offset  bytes  field
//!       0      4  magic     "TPRL"
//!       4      4  checksum  CRC-32 (IEEE 802.3) of all bytes of the frame behind it
//!       8      2  kind      1 message, 2 rows of an image, 3 ticks of the log
//!      10      2  count     records, 1 to 256; a message: 1
//!      12      8  position  ticks: that of the first; else 0
//!      20      …  body      a message: 56 bytes, seven words; rows and ticks: count × 64 bytes, position and tick
//! ```
//!
//! The words of a message are those of [`Message::to_words`]. A standby sends messages only. A frame that is wrong ends the connection, with its cause; nothing of it is taken. All
//! memory is taken when an end is made. Neither end waits: each call does what can be done now.

mod channel;
mod frame;
mod socket;

use bytemuck::Zeroable;
pub use channel::{Channel, Identity, IdentityError};
use dataplane::cache::reader::Reader;
use dataplane::replica::{Copied, Link, Message, Record, Standby, StandbyError};
pub use frame::{FRAME_BYTES_MAX, FrameError, HEADER_BYTES, MAGIC, MESSAGE_BYTES, RECORD_BYTES, RECORDS_MAX};
use frame::{Frame, Kind, PutTicks, put_message, put_rows, put_ticks};
use socket::Socket;
use std::io;

/// Log and image on their way from the primary to the kernel, and from the kernel to the standby.
const LOG_BYTES: usize = 256 << 10;
/// The same for messages alone.
const MESSAGES_BYTES: usize = 4 << 10;
const _: () =
    assert!(LOG_BYTES >= 2 * FRAME_BYTES_MAX && MESSAGES_BYTES >= 2 * (HEADER_BYTES + MESSAGE_BYTES));

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the other end closed the connection")]
    Closed,
    #[error("the other end closed the connection within a frame, of which {bytes} bytes had come")]
    Cut { bytes: usize },
    #[error("a frame can't be taken: {0}")]
    Frame(#[from] FrameError),
    #[error("the connection broke: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Standby(#[from] StandbyError),
}

impl Socket {
    /// False = there is no room.
    fn send(&mut self, message: Message) -> bool {
        let frame_bytes = put_message(self.outgoing.room(HEADER_BYTES + MESSAGE_BYTES), message);
        self.outgoing.extend(frame_bytes.unwrap_or(0));
        frame_bytes.is_some()
    }

    /// There is no whole frame: that is an error if no more will come.
    fn at_no_frame(&self) -> Result<(), LinkError> {
        match (self.has_ended(), self.incoming.waiting().len()) {
            (false, _) => Ok(()),
            (true, 0) => Err(LinkError::Closed),
            (true, bytes) => Err(LinkError::Cut { bytes }),
        }
    }
}

/// The primary's end: what [`Primary::poll`](dataplane::replica::Primary::poll) sends by.
///
/// A round is [`PrimaryEnd::fill`], then the time, then the poll, then [`PrimaryEnd::flush`]: so the time is later than that
/// of every acknowledgement that the poll sees, and a standby is lent no more than the primary itself has.
#[derive(Debug)]
pub struct PrimaryEnd {
    socket: Socket,
    /// Why nothing more is received; the next call of `fill` tells.
    failure: Option<LinkError>,
}

impl PrimaryEnd {
    pub fn new(channel: impl Into<Channel>) -> io::Result<PrimaryEnd> {
        let socket = Socket::new(channel.into(), MESSAGES_BYTES, LOG_BYTES)?;
        Ok(PrimaryEnd { socket, failure: None })
    }

    /// Whether the other end has shown that it is that node ([`Channel::is_from`]).
    pub fn is_from(&self, node: &str) -> bool {
        self.socket.channel().is_from(node)
    }

    /// Takes in what has come; returns how many bytes that are. An error ends the connection.
    pub fn fill(&mut self) -> Result<usize, LinkError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        Ok(self.socket.fill(HEADER_BYTES + MESSAGE_BYTES)?)
    }

    /// Hands what waits to the kernel; returns how many bytes that are. An error ends the connection.
    pub fn flush(&mut self) -> Result<usize, LinkError> {
        Ok(self.socket.flush()?)
    }

    fn next_message(&mut self) -> Result<Option<Message>, LinkError> {
        let Some((frame, frame_bytes)) = Frame::parse(self.socket.incoming.waiting())? else {
            return self.socket.at_no_frame().map(|()| None);
        };
        if frame.kind != Kind::Message {
            return Err(FrameError::OutOfPlace { kind: frame.kind as u16 }.into());
        }
        let message = frame.message()?;
        self.socket.incoming.consume(frame_bytes);
        Ok(Some(message))
    }
}

impl Link for PrimaryEnd {
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied {
        let mut next = from;
        while next < upto {
            let room = self.socket.outgoing.room(FRAME_BYTES_MAX);
            match put_ticks(room, next, upto, |position| log.log_tick(position)) {
                PutTicks::NoRoom => break,
                PutTicks::Lapped => return Copied::Lapped,
                PutTicks::Put { frame_bytes, ticks } => {
                    self.socket.outgoing.extend(frame_bytes);
                    next += ticks as u64;
                }
            }
        }
        Copied::Upto(next)
    }

    fn rows(&mut self, rows: &[Record]) -> usize {
        let room = self.socket.outgoing.room(HEADER_BYTES + size_of_val(rows));
        let Some((frame_bytes, sent)) = put_rows(room, rows) else { return 0 };
        self.socket.outgoing.extend(frame_bytes);
        sent
    }

    fn send(&mut self, message: Message) -> bool {
        self.socket.send(message)
    }

    fn receive(&mut self) -> Option<Message> {
        if self.failure.is_some() {
            return None;
        }
        self.next_message().unwrap_or_else(|failure| {
            self.failure = Some(failure);
            None
        })
    }
}

/// The standby's end: it says who it is, and feeds a [`Standby`] with what comes.
#[derive(Debug)]
pub struct StandbyEnd {
    socket: Socket,
    /// Where the records of a frame are aligned.
    records: Box<[Record]>,
}

impl StandbyEnd {
    /// Begins a connection of `standby`: its Hello is on its way after the next [`StandbyEnd::poll`].
    pub fn new(channel: impl Into<Channel>, standby: &mut Standby<'_>) -> io::Result<StandbyEnd> {
        let mut end = StandbyEnd::silent(channel)?;
        end.send(standby.connected());
        Ok(end)
    }

    /// An end that says nothing by itself.
    pub(crate) fn silent(channel: impl Into<Channel>) -> io::Result<StandbyEnd> {
        let socket = Socket::new(channel.into(), LOG_BYTES, MESSAGES_BYTES)?;
        Ok(StandbyEnd { socket, records: vec![Record::zeroed(); RECORDS_MAX].into() })
    }

    /// One round: takes what has come, gives it to the standby, and sends what that has to say. Returns how many bytes
    /// came. `now_ns` tells the time (`CLOCK_MONOTONIC`); `write_down` makes a term outlast a crash. An error ends the
    /// connection; what came before is taken.
    pub fn poll(
        &mut self,
        standby: &mut Standby<'_>,
        now_ns: impl Fn() -> u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<usize, LinkError> {
        let received = self.fill()?;
        let taken = self.take_all(standby, now_ns(), write_down);
        if let Some(message) = standby.settle_round(now_ns()) {
            self.send(message);
        }
        taken?;
        self.flush()?;
        Ok(received)
    }

    fn take_all(
        &mut self,
        standby: &mut Standby<'_>,
        now_ns: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), LinkError> {
        while let Some(received) = self.next()? {
            received.give(standby, now_ns, write_down)?;
        }
        Ok(())
    }

    /// Takes in what has come; returns how many bytes that are.
    pub(crate) fn fill(&mut self) -> Result<usize, LinkError> {
        Ok(self.socket.fill(FRAME_BYTES_MAX)?)
    }

    /// The next whole frame of what has been taken in.
    pub(crate) fn next(&mut self) -> Result<Option<Received<'_>>, LinkError> {
        let Some((frame, frame_bytes)) = Frame::parse(self.socket.incoming.waiting())? else {
            return self.socket.at_no_frame().map(|()| None);
        };
        let received = match frame.kind {
            Kind::Message => Received::Message(frame.message()?),
            Kind::Rows => Received::Rows(frame.records(&mut self.records)),
            Kind::Ticks => Received::Ticks(frame.records(&mut self.records)),
        };
        self.socket.incoming.consume(frame_bytes);
        Ok(Some(received))
    }

    pub(crate) fn flush(&mut self) -> Result<usize, LinkError> {
        Ok(self.socket.flush()?)
    }

    /// If there is no room it is dropped: a later acknowledgement says more.
    pub(crate) fn send(&mut self, message: Message) {
        self.socket.send(message);
    }
}

/// What a frame brought to a standby.
pub(crate) enum Received<'e> {
    Message(Message),
    Rows(&'e [Record]),
    Ticks(&'e [Record]),
}

impl Received<'_> {
    pub(crate) fn give(
        self,
        standby: &mut Standby<'_>,
        now_ns: u64,
        write_down: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StandbyError> {
        match self {
            Received::Message(message) => standby.take(message, now_ns, write_down),
            Received::Rows(rows) => standby.rows(rows),
            Received::Ticks(ticks) => standby.ticks(ticks),
        }
    }
}
