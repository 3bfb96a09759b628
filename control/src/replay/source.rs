//! The capture, packet by packet, pass after pass: streamed, and opened again for each pass.

use super::args::ReplayArgs;
use dataplane::port::{Frame, Medium, Port};
use dataplane::wire::datagram::{self, Parsed};
use drivers::capture::{CaptureError, CapturePort, open_capture};
use std::net::SocketAddrV4;

#[derive(Debug)]
pub struct Source<'a> {
    args: &'a ReplayArgs,
    capture: CapturePort,
    burst: usize,
    index: usize,
    /// From 0.
    pass: u64,
    /// Whether the pass gave anything that is sent: if not, the next one would not either.
    is_used: bool,
    frames: u64,
    oversized: u64,
    warning: Option<String>,
}

/// What a frame carries, as far as a replay cares: the datagram's destination and payload, or the name of what else it is.
pub type Content<'f> = Result<(SocketAddrV4, &'f [u8]), &'static str>;

pub fn content<'f>(medium: Medium, frame: &Frame<'f>) -> Content<'f> {
    if medium == Medium::Udp {
        return Ok((frame.destination, frame.bytes));
    }
    match datagram::parse(frame.bytes) {
        Ok(Parsed::Udp(datagram)) => Ok((datagram.destination, datagram.payload)),
        Ok(Parsed::Arp { .. }) => Err("arp"),
        Ok(Parsed::Igmp { .. }) => Err("igmp"),
        Err(reject) => Err(reject.name()),
    }
}

impl<'a> Source<'a> {
    pub fn open(args: &'a ReplayArgs) -> Result<Source<'a>, CaptureError> {
        let capture = open_capture(&args.file, args.packets)?;
        Ok(Source {
            args,
            capture,
            burst: 0,
            index: 0,
            pass: 0,
            is_used: false,
            frames: 0,
            oversized: 0,
            warning: None,
        })
    }

    pub fn medium(&self) -> Medium {
        self.capture.medium()
    }

    /// Goes to the next frame; false at the end of the last pass.
    pub fn advance(&mut self) -> Result<bool, CaptureError> {
        self.index += 1;
        while self.index >= self.burst {
            (self.burst, self.index) = (self.capture.rx_burst(), 0);
            if self.burst == 0 && self.capture.is_exhausted() && !self.next_pass()? {
                return Ok(false);
            }
        }
        self.frames += 1;
        Ok(true)
    }

    fn next_pass(&mut self) -> Result<bool, CaptureError> {
        if self.warning.is_none() {
            self.warning = self.capture.error().map(CaptureError::to_string);
        }
        let is_last = self.args.passes != 0 && self.pass + 1 >= self.args.passes;
        if is_last || !self.is_used {
            return Ok(false);
        }
        self.oversized = self.oversized();
        self.capture = open_capture(&self.args.file, self.args.packets)?;
        (self.pass, self.is_used) = (self.pass + 1, false);
        Ok(true)
    }

    /// The frame that was gone to.
    pub fn frame(&self) -> Frame<'_> {
        self.capture.frame(self.index)
    }

    /// The frame that was gone to is sent.
    pub fn use_frame(&mut self) {
        self.is_used = true;
    }

    pub fn pass(&self) -> u64 {
        self.pass
    }

    /// Frames of all passes so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames that are longer than any port's.
    pub fn oversized(&self) -> u64 {
        self.oversized + self.capture.counters().oversized
    }

    /// Why the capture ended before its end.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// How much of all passes is done, 0.0 … 1.0; `None` if that can't be said.
    pub fn progress(&self) -> Option<f64> {
        if self.args.passes == 0 {
            return None;
        }
        let of_pass = self.capture.progress()?;
        Some((self.pass as f64 + of_pass) / self.args.passes as f64)
    }
}
