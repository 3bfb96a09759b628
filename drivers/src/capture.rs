//! A recording, of whatever kind, as a port: packet captures and ITCH files, gzipped or not.

use crate::itch_file::ItchFilePort;
use crate::pcap::PcapPort;
use crate::stream::Stream;
use dataplane::port::{Frame, Medium, Port, PortCounters};
use std::io;
use std::path::{Path, PathBuf};

/// Why a recording can't be read, or not to its end. Packets (of an ITCH file: messages) are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("{path}: {cause}", path = path.display())]
    Open { path: PathBuf, cause: io::Error },
    #[error("{path}: neither a packet capture (pcap, pcapng) nor an ITCH file (messages, each behind its length \
             as two bytes); gzip is unpacked", path = path.display())]
    Format { path: PathBuf },
    #[error(
        "the capture's link type is {number} ({name}): only Ethernet (1) is read; record on the network \
             interface itself, not on \"any\""
    )]
    LinkType { number: u32, name: &'static str },
    #[error("the recording ends in the midst of packet {packet}: it was cut")]
    Cut { packet: u64 },
    #[error("the recording is damaged at packet {packet}: {what}")]
    Damaged { packet: u64, what: &'static str },
    #[error("reading stopped at packet {packet}: {cause}")]
    Read { packet: u64, cause: io::Error },
}

/// A recording as a [`Port`].
#[derive(Debug)]
pub enum CapturePort {
    Packets(PcapPort),
    Itch(ItchFilePort),
}

/// Opens a recording by what its first bytes say it is. It ends after `packets_limit` packets, if that is given.
pub fn open_capture(path: &Path, packets_limit: Option<u64>) -> Result<CapturePort, CaptureError> {
    let open = |cause| CaptureError::Open { path: path.to_path_buf(), cause };
    let mut stream = Stream::open(path).map_err(open)?;
    stream.fill_to(4).map_err(open)?;
    if PcapPort::recognises(stream.available()) {
        return PcapPort::new(stream, packets_limit).map(CapturePort::Packets);
    }
    if ItchFilePort::recognises(stream.available()) {
        return Ok(CapturePort::Itch(ItchFilePort::new(stream, packets_limit)));
    }
    Err(CaptureError::Format { path: path.to_path_buf() })
}

impl CapturePort {
    /// Why the recording ended before its end; `None` while it goes on, and if it was whole.
    pub fn error(&self) -> Option<&CaptureError> {
        match self {
            CapturePort::Packets(port) => port.error(),
            CapturePort::Itch(port) => port.error(),
        }
    }

    /// How much of the file has been read, 0.0 … 1.0; `None` for what has no length, such as a pipe.
    pub fn progress(&self) -> Option<f64> {
        match self {
            CapturePort::Packets(port) => port.progress(),
            CapturePort::Itch(port) => port.progress(),
        }
    }
}

impl Port for CapturePort {
    fn medium(&self) -> Medium {
        match self {
            CapturePort::Packets(port) => port.medium(),
            CapturePort::Itch(port) => port.medium(),
        }
    }

    fn rx_burst(&mut self) -> usize {
        match self {
            CapturePort::Packets(port) => port.rx_burst(),
            CapturePort::Itch(port) => port.rx_burst(),
        }
    }

    fn frame(&self, index: usize) -> Frame<'_> {
        match self {
            CapturePort::Packets(port) => port.frame(index),
            CapturePort::Itch(port) => port.frame(index),
        }
    }

    fn tx(&mut self, frame: &[u8]) -> bool {
        match self {
            CapturePort::Packets(port) => port.tx(frame),
            CapturePort::Itch(port) => port.tx(frame),
        }
    }

    fn counters(&self) -> PortCounters {
        match self {
            CapturePort::Packets(port) => port.counters(),
            CapturePort::Itch(port) => port.counters(),
        }
    }

    fn is_exhausted(&self) -> bool {
        match self {
            CapturePort::Packets(port) => port.is_exhausted(),
            CapturePort::Itch(port) => port.is_exhausted(),
        }
    }
}
