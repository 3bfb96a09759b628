//! A non-blocking connection with a buffer for each direction, of a size that it is made with.

use super::channel::Channel;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes that wait: those at [start, end).
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new(bytes: usize) -> Buffer {
        Buffer { bytes: vec![0; bytes].into(), start: 0, end: 0 }
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The room behind what waits, which is moved to the front if that makes at least `wanted` bytes of it.
    pub fn room(&mut self, wanted: usize) -> &mut [u8] {
        let behind = self.bytes.len() - self.end;
        if behind < wanted && self.start != 0 && behind + self.start >= wanted {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// The first `bytes` of the room are taken.
    pub fn extend(&mut self, bytes: usize) {
        self.end += bytes;
        debug_assert!(self.end <= self.bytes.len());
    }
}

#[derive(Debug)]
pub struct Socket {
    channel: Channel,
    pub incoming: Buffer,
    pub outgoing: Buffer,
    /// The peer will send no more.
    has_ended: bool,
}

impl Socket {
    /// Sends small frames at once (TCP_NODELAY).
    pub fn new(channel: Channel, incoming_bytes: usize, outgoing_bytes: usize) -> io::Result<Socket> {
        channel.stream().set_nonblocking(true)?;
        channel.stream().set_nodelay(true)?;
        let (incoming, outgoing) = (Buffer::new(incoming_bytes), Buffer::new(outgoing_bytes));
        Ok(Socket { channel, incoming, outgoing, has_ended: false })
    }

    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes in what has come, as far as there is room; returns how many bytes that are. `frame_bytes_max` always fit.
    pub fn fill(&mut self, frame_bytes_max: usize) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        let room = self.incoming.room(frame_bytes_max);
        if room.is_empty() {
            return Ok(0);
        }
        loop {
            match self.channel.read(room) {
                Ok(0) => {
                    self.has_ended = true;
                    return Ok(0);
                }
                Ok(bytes) => {
                    self.incoming.extend(bytes);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands to the kernel what it takes; returns how many bytes that are.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut flushed = 0;
        while !self.outgoing.waiting().is_empty() {
            match self.channel.write(self.outgoing.waiting()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.outgoing.consume(bytes);
                    flushed += bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.channel.flush() {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Err(error)
            }
            _ => Ok(flushed),
        }
    }
}
