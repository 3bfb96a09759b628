//! What was taken lately: rings of counts, filled from a total that grows.

use crate::time::NS_PER_S;

const SECONDS: usize = 60;
const MINUTES: usize = 60;

/// Whoever counts has a total that grows, as a meter has; about once a second, and before it is read, the history is told it. A total
/// that is behind for a moment takes nothing away.
#[derive(Clone, Debug, Default)]
pub struct History {
    total: u64,
    /// The second in which it was told last.
    second: u64,
    peak: u64,
    /// Made with the first unit: most of many clients use little of what they may.
    rings: Option<Box<Rings>>,
}

#[derive(Clone, Debug)]
struct Rings {
    /// By the second's number; the one now is among them.
    seconds: [u64; SECONDS],
    minutes: [u64; MINUTES],
}

impl Rings {
    const EMPTY: Rings = Rings { seconds: [0; SECONDS], minutes: [0; MINUTES] };

    fn second(&mut self, second: u64) -> &mut u64 {
        &mut self.seconds[second as usize % SECONDS]
    }

    /// That of a second.
    fn minute(&mut self, second: u64) -> &mut u64 {
        &mut self.minutes[(second / 60) as usize % MINUTES]
    }
}

/// Units in the last whole second, the minute and the hour up to now, the fullest second, and all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    pub second: u64,
    pub minute: u64,
    pub hour: u64,
    pub peak: u64,
    pub total: u64,
}

impl History {
    /// Takes the total at `now_ns`. What came since the last time counts for the second in which that was.
    pub fn tell(&mut self, now_ns: u64, total: u64) {
        let more = total.saturating_sub(self.total);
        self.total = self.total.max(total);
        let second = now_ns / NS_PER_S;
        if more == 0 && self.rings.is_none() {
            self.second = self.second.max(second);
            return;
        }
        let rings = self.rings.get_or_insert_with(|| Box::new(Rings::EMPTY));
        *rings.second(self.second) += more;
        *rings.minute(self.second) += more;
        // After an hour without a word all is zero.
        let hour = (SECONDS * MINUTES) as u64;
        if second > self.second + hour {
            self.peak = self.peak.max(*rings.second(self.second));
            self.second = second - hour;
        }
        while self.second < second {
            self.peak = self.peak.max(*rings.second(self.second));
            self.second += 1;
            *rings.second(self.second) = 0;
            if self.second.is_multiple_of(60) {
                *rings.minute(self.second) = 0;
            }
        }
    }

    pub fn windows(&self) -> Windows {
        let Rings { seconds, minutes } = self.rings.as_deref().unwrap_or(&Rings::EMPTY);
        let now = seconds[self.second as usize % SECONDS];
        Windows {
            second: seconds[(self.second as usize + SECONDS - 1) % SECONDS],
            minute: seconds.iter().sum(),
            hour: minutes.iter().sum(),
            peak: self.peak.max(now),
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(steps: &[(u64, u64)]) -> Windows {
        let mut history = History::default();
        steps.iter().for_each(|(second, total)| history.tell(second * NS_PER_S, *total));
        history.windows()
    }

    #[test]
    fn each_window_holds_what_came_in_it() {
        // A unit in every second up to the one that begins.
        let steady: Vec<(u64, u64)> = (0..=5_000).map(|second| (second, second)).collect();
        let windows = told(&steady);
        // 5,000 s = 83 minutes and 20 s: 59 whole minutes and those 20 s; 59 whole seconds and the one that begins.
        assert_eq!(windows, Windows { second: 1, minute: 59, hour: 59 * 60 + 20, peak: 1, total: 5_000 });
    }

    #[test]
    fn what_is_long_ago_is_in_the_total_and_the_peak_alone() {
        let past = Windows { peak: 7, total: 7, ..Windows::default() };
        for later in [3_601, 3_660, 7_300, u64::MAX / NS_PER_S - 1] {
            assert_eq!(told(&[(1, 0), (2, 7), (later + 1, 7)]), past, "{later}");
        }
        assert_eq!(told(&[(1, 0), (2, 7), (62, 7)]).hour, 7);
        assert_eq!(told(&[(1, 0), (2, 7), (62, 7)]).minute, 0);
    }

    #[test]
    fn neither_a_clock_nor_a_total_that_goes_back_takes_anything_away() {
        let windows = told(&[(10, 0), (10, 4), (3, 5), (3, 2)]);
        assert_eq!((windows.minute, windows.hour, windows.total), (5, 5, 5));
    }
}
