//! A stream between the two ends that goes through here: bytes come over when the test passes them on, and not else.

use crate::group::stream;
use drivers::rdma::RemoteMemory;
use drivers::tcp_link::{HEADER_BYTES, MESSAGE_BYTES};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// Where the key is in an introduction, which is the first frame of either end: its fourth word, behind the message's kind.
const KEY: usize = HEADER_BYTES + 4 * 8;

pub struct Wire {
    to_primary: TcpStream,
    to_standby: TcpStream,
    /// The primary's introduction, once it has come by.
    introduction: Option<Vec<u8>>,
    /// How the key of the standby's log is changed on its way.
    pub log_key_change: u8,
    has_passed_log_key: bool,
}

impl Wire {
    /// The wire, the primary's stream and the standby's.
    pub fn new() -> (Wire, TcpStream, TcpStream) {
        let ((primary, to_primary), (to_standby, standby)) = (stream(), stream());
        to_primary.set_nonblocking(true).unwrap();
        to_standby.set_nonblocking(true).unwrap();
        let wire =
            Wire { to_primary, to_standby, introduction: None, log_key_change: 0, has_passed_log_key: false };
        (wire, primary, standby)
    }

    /// Passes on what has come.
    pub fn pass(&mut self) {
        if let Some(mut bytes) = take(&mut self.to_standby, self.has_passed_log_key) {
            if !self.has_passed_log_key {
                bytes[KEY] ^= self.log_key_change;
                let checksum = crc32fast::hash(&bytes[8..]);
                bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
                self.has_passed_log_key = true;
            }
            self.to_primary.write_all(&bytes).unwrap();
        }
        if let Some(bytes) = take(&mut self.to_primary, self.introduction.is_some()) {
            self.to_standby.write_all(&bytes).unwrap();
            self.introduction.get_or_insert(bytes);
        }
    }

    /// The primary's memory for acknowledgements, as it has told the standby.
    pub fn acknowledgement_memory(&self) -> RemoteMemory {
        let frame = self.introduction.as_ref().expect("the primary has introduced itself");
        let word = |index: usize| {
            u64::from_le_bytes(frame[HEADER_BYTES + index * 8..][..8].try_into().expect("eight bytes"))
        };
        assert_eq!(word(0), 7, "an introduction");
        RemoteMemory { key: word(4) as u32, address: word(5), bytes: word(6) }
    }
}

/// What has come: at first one message, and no part of it.
fn take(from: &mut TcpStream, is_later: bool) -> Option<Vec<u8>> {
    let mut bytes = vec![0; if is_later { 4_096 } else { HEADER_BYTES + MESSAGE_BYTES }];
    match if is_later { from.read(&mut bytes) } else { from.peek(&mut bytes) } {
        Ok(0) => None,
        Ok(read) if is_later => {
            bytes.truncate(read);
            Some(bytes)
        }
        Ok(there) if there < bytes.len() => None,
        Ok(_) => {
            from.read_exact(&mut bytes).unwrap();
            Some(bytes)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}
