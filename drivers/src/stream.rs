//! A file read through a window of fixed size, unpacked if it is gzipped: however long the file, and
//! whatever it says of itself, the memory stays the same.

use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

/// Bytes of the window: no piece of a file that must be seen at once is longer.
pub(crate) const WINDOW_BYTES: usize = 1 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

pub(crate) struct Stream {
    reader: Box<dyn Read + Send>,
    window: Box<[u8]>,
    /// What is read and not yet consumed: `window[start..end]`.
    start: usize,
    end: usize,
    /// Bytes that came through the window, unpacked.
    read_bytes: u64,
    /// The file once more: it has the position of the one that is read.
    file: File,
}

impl Stream {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let twin = file.try_clone()?;
        // No more than that, so that the file's position tells of a gzipped one, too, what is unpacked.
        let mut front = Vec::with_capacity(GZIP_MAGIC.len());
        file.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut front)?;
        let is_packed = front == GZIP_MAGIC;
        let whole = io::Cursor::new(front).chain(file);
        let reader: Box<dyn Read + Send> = match is_packed {
            true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, whole))),
            false => Box::new(whole),
        };
        let window = vec![0; WINDOW_BYTES].into_boxed_slice();
        Ok(Stream { reader, window, start: 0, end: 0, read_bytes: 0, file: twin })
    }

    /// How much of the file has been consumed, 0.0 … 1.0: exact for a plain one, about so for a gzipped one. `None` for
    /// what has no length, such as a pipe.
    pub(crate) fn progress(&self) -> Option<f64> {
        let mut file = &self.file;
        let file_bytes = file.metadata().ok()?.len();
        let position = file.stream_position().ok()?;
        if file_bytes == 0 || self.read_bytes == 0 {
            return None;
        }
        let consumed = (self.read_bytes - self.available().len() as u64) as f64 / self.read_bytes as f64;
        Some((position as f64 / file_bytes as f64 * consumed).min(1.0))
    }

    /// Makes at least `bytes` available; false if the file ends before. What was available moves to another
    /// place in the window.
    pub(crate) fn fill_to(&mut self, bytes: usize) -> io::Result<bool> {
        assert!(bytes <= WINDOW_BYTES);
        if self.end - self.start >= bytes {
            return Ok(true);
        }
        self.window.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < bytes {
            match self.reader.read(&mut self.window[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.end += count;
                    self.read_bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    #[inline]
    pub(crate) fn available(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    /// Steps over `bytes` that are available, and returns where in the window they are until the next
    /// [`Stream::fill_to`].
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) -> usize {
        assert!(bytes <= self.end - self.start);
        let at = self.start;
        self.start += bytes;
        at
    }

    #[inline]
    pub(crate) fn window(&self) -> &[u8] {
        &self.window
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("available", &(self.end - self.start)).finish_non_exhaustive()
    }
}
