//! What is under way: writes that were posted and not completed, and ticks that are not proven.

use std::collections::VecDeque;

/// Writes are numbered from 1 in the order of their posting, and are done in that order.
#[derive(Debug)]
pub struct Flight {
    posted: u64,
    /// The last one that will have a completion.
    signalled: u64,
    done: u64,
    writes_max: u64,
    /// Writes that the device reads out of the log: number, and position of the first tick.
    unproven: VecDeque<(u64, u64)>,
}

impl Flight {
    pub fn new(writes_max: u32) -> Flight {
        let unproven = VecDeque::with_capacity(writes_max as usize);
        Flight { posted: 0, signalled: 0, done: 0, writes_max: u64::from(writes_max), unproven }
    }

    pub fn room(&self) -> usize {
        (self.writes_max - (self.posted - self.done)) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.posted == self.done
    }

    /// The number of the next write.
    pub fn next(&self) -> u64 {
        self.posted + 1
    }

    /// Whether a completion is awaited that tells of everything posted.
    pub fn will_tell(&self) -> bool {
        self.signalled == self.posted
    }

    /// Whether, after `writes` more, a completion is due: the queue must not fill with writes that have none.
    pub fn is_due(&self, writes: usize) -> bool {
        self.posted + writes as u64 - self.signalled >= self.writes_max / 8
    }

    pub fn post(&mut self, writes: usize, is_signalled: bool) {
        self.posted += writes as u64;
        if is_signalled {
            self.signalled = self.posted;
        }
    }

    /// A signalled write of ticks at `from` and above, which the device reads when it likes.
    pub fn post_unproven(&mut self, from: u64) {
        self.post(1, true);
        self.unproven.push_back((self.posted, from));
    }

    /// The write of that number is done, and all before it.
    pub fn complete(&mut self, write: u64) {
        debug_assert!(write <= self.posted);
        self.done = self.done.max(write);
    }

    /// The first tick of the next unproven write that is done: the device has read it for the last time.
    pub fn read(&mut self) -> Option<u64> {
        let (write, from) = *self.unproven.front()?;
        (write <= self.done).then(|| {
            self.unproven.pop_front();
            from
        })
    }

    /// The first tick that is posted and not proven.
    pub fn first_unproven(&self) -> Option<u64> {
        self.unproven.front().map(|(_, from)| *from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_makes_room_and_is_told_in_order() {
        let mut flight = Flight::new(16);
        assert!(flight.is_empty() && flight.will_tell() && !flight.is_due(1) && flight.is_due(2));
        flight.post(1, false);
        assert!((flight.room(), flight.next(), flight.is_empty()) == (15, 2, false) && !flight.will_tell());
        flight.post_unproven(100);
        flight.post_unproven(140);
        flight.post(2, true);
        assert!(flight.will_tell() && flight.room() == 11);
        assert_eq!((flight.first_unproven(), flight.read()), (Some(100), None));
        flight.complete(2);
        assert_eq!((flight.read(), flight.read(), flight.first_unproven()), (Some(100), None, Some(140)));
        flight.complete(5);
        assert_eq!((flight.read(), flight.first_unproven(), flight.room()), (Some(140), None, 16));
        assert!(flight.is_empty());
    }
}
