//! A file read through a window of fixed size, unpacked if it is gzipped: however long the file, and
//! whatever it says of itself, the memory stays the same.

use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Bytes of the window: no piece of a file that must be seen at once is longer.
pub(crate) const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Stream {
    reader: Box<dyn Read + Send>,
    window: Box<[u8]>,
    /// What is read and not yet consumed: `window[start..end]`.
    start: usize,
    end: usize,
}

impl Stream {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Stream::new(File::open(path)?)
    }

    pub(crate) fn new(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let mut stream = Stream {
            reader: Box::new(reader),
            window: vec![0; WINDOW_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        };
        stream.fill_to(2)?;
        if stream.available().starts_with(&[0x1F, 0x8B]) {
            let front = io::Cursor::new(stream.available().to_vec());
            let packed = BufReader::with_capacity(64 << 10, front.chain(stream.reader));
            stream.reader = Box::new(MultiGzDecoder::new(packed));
            (stream.start, stream.end) = (0, 0);
        }
        Ok(stream)
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
                Ok(count) => self.end += count,
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
