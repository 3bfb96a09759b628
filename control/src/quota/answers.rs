//! Answers that wait until their client reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::codegen::Bytes;

/// What of one client's answers may wait at once. A full page of 10,000 instruments has 3 MB.
pub const WAITING_BYTES_MAX: u64 = 32 << 20;
/// What an answer counts for at least: it has an HTTP/2 stream, whatever it says.
const ANSWER_BYTES_MIN: u64 = 4 << 10;

/// Bytes of a client's answers that HTTP/2 was given, and has not sent yet.
#[derive(Debug, Default)]
pub struct Answers(AtomicU64);

impl Answers {
    /// Counts an answer for as long as anybody has its bytes; `None` = with it too much would wait. One passes always, however long it is.
    pub fn hold(self: &Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        let count = (bytes.len() as u64).max(ANSWER_BYTES_MIN);
        let more =
            |waiting: u64| (waiting == 0 || waiting + count <= WAITING_BYTES_MAX).then_some(waiting + count);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Bytes::from_owner(Held { bytes, count, answers: self.clone() }))
    }
}

struct Held {
    bytes: Bytes,
    count: u64,
    answers: Arc<Answers>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.0.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_waits_and_what_was_read_gives_its_place_back() {
        let answers = Arc::new(Answers::default());
        let half = Bytes::from(vec![7; WAITING_BYTES_MAX as usize / 2]);
        let held = answers.hold(half.clone()).unwrap();
        assert_eq!(held, half);
        let other = answers.hold(half.clone()).unwrap();
        assert!(answers.hold(Bytes::new()).is_none(), "even what is empty takes something");
        // HTTP/2 sends it in parts.
        let mut sent = other;
        let last = sent.split_off(sent.len() - 1);
        drop(sent);
        assert!(answers.hold(half.clone()).is_none());
        drop(last);
        let small: Vec<Bytes> = std::iter::from_fn(|| answers.hold(Bytes::from_static(b"x"))).collect();
        assert_eq!(small.len() as u64, WAITING_BYTES_MAX / 2 / ANSWER_BYTES_MIN);
        drop((held, small));
        let longer = Bytes::from(vec![0; WAITING_BYTES_MAX as usize + 1]);
        let alone = answers.hold(longer).expect("one that is too long passes alone");
        assert!(answers.hold(Bytes::new()).is_none());
        drop(alone);
        assert_eq!(answers.0.load(Ordering::Relaxed), 0);
    }
}
