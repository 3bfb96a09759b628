//! The delayed region: another region as it was some time ago, for those who may not see it as it is.
//!
//! It is filled from the source's log, a tick once it has been there for the delay; so it holds the source's past at the
//! same positions, and is read as any region is. When the log does not go back that far (at the start, or because more
//! came than the log holds), an image of the source is taken and kept back until it is old enough; until
//! then nothing of the delayed region is to be believed.

use super::cell::Cell;
use super::follower::{Follower, Foreign};
use super::reader::{Cursor, Next, Reader};
use super::region::RegionError;
use super::tick::Tick;
use std::collections::VecDeque;

/// Looks at the source's tail that are remembered: a tick comes at most this part of the delay late.
const LOOKS: usize = 1_024;

/// What the source's tail was.
#[derive(Clone, Copy, Debug)]
struct Look {
    at_ns: u64,
    tail: u64,
}

/// All rows of the source, that are not old enough.
#[derive(Debug)]
struct Image {
    rows: Vec<(u64, Tick)>,
    /// The log goes on here.
    from: u64,
    /// When all of it had been taken; `None` = not told yet.
    taken_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayedCounters {
    pub ticks: u64,
    /// Images that were taken because the log did not go back far enough.
    pub images: u64,
}

/// Fills a region with the past of another one.
#[derive(Debug)]
pub struct Delayed<'m> {
    source: Reader<'m>,
    /// Of the source, when it was looked at last.
    generation: u64,
    follower: Follower<'m>,
    cursor: Cursor,
    delay_ns: u64,
    looks: VecDeque<Look>,
    image: Option<Image>,
    counters: DelayedCounters,
}

impl<'m> Delayed<'m> {
    /// `cells` are zero, and as many as the source's layout needs; `generation` is as for [`Follower::format`].
    pub fn new(
        source: Reader<'m>,
        cells: &'m [Cell],
        generation: u64,
        delay_ns: u64,
    ) -> Result<Delayed<'m>, RegionError> {
        let mut delayed = Delayed {
            source,
            generation: source.generation(),
            follower: Follower::format(cells, source.layout(), generation)?,
            cursor: Cursor::at(0),
            delay_ns,
            looks: VecDeque::with_capacity(LOOKS),
            image: None,
            counters: DelayedCounters::default(),
        };
        // A source that is empty has no past that is missing.
        if source.tail() != 0 {
            delayed.begin_again();
        }
        Ok(delayed)
    }

    pub fn counters(&self) -> DelayedCounters {
        self.counters
    }

    /// Whether the delayed region has what the source had; else that comes a delay after the image was taken.
    pub fn is_complete(&self) -> bool {
        self.image.is_none()
    }

    /// Looks at the source at `now_ns` (`CLOCK_MONOTONIC`), and takes what has become old enough. To be called a few times
    /// in a 1,024th of the delay; what is missed makes ticks late, never early.
    pub fn poll(&mut self, now_ns: u64) -> Result<(), Foreign> {
        if self.source.generation() != self.generation {
            self.begin_again();
        }
        if let Some(image) = &mut self.image {
            let taken_ns = *image.taken_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(taken_ns) >= self.delay_ns {
                self.take_image()?;
            }
        }
        let due = self.look(now_ns);
        // What is due before the image is, the image has.
        if self.image.is_none() {
            self.follow(due)?;
            if self.follower.commit() != 0 {
                self.follower.stamp_burst(now_ns);
            }
        }
        let is_whole = self.image.is_none();
        self.follower.believe_until(if is_whole { self.source.valid_until_ns() } else { 0 });
        Ok(())
    }

    /// Remembers what the tail is, and returns what it was a delay ago.
    fn look(&mut self, now_ns: u64) -> u64 {
        let tail = self.source.tail();
        let apart_ns = self.delay_ns / LOOKS as u64 + 1;
        let is_due = self.looks.back().is_none_or(|last| now_ns.saturating_sub(last.at_ns) >= apart_ns);
        let mut due = self.follower.position();
        while let Some(oldest) =
            self.looks.front().filter(|look| now_ns.saturating_sub(look.at_ns) >= self.delay_ns)
        {
            due = oldest.tail;
            self.looks.pop_front();
        }
        if is_due && self.looks.len() < LOOKS {
            self.looks.push_back(Look { at_ns: now_ns, tail });
        }
        due
    }

    fn follow(&mut self, due: u64) -> Result<(), Foreign> {
        while self.cursor.position() < due {
            match self.cursor.next(&self.source) {
                Next::Tick { tick, .. } => {
                    self.follower.tick(&tick)?;
                    self.counters.ticks += 1;
                }
                Next::CaughtUp => break,
                Next::Lapped { .. } => {
                    self.begin_again();
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes an image, to be shown when it is old enough.
    fn begin_again(&mut self) {
        self.generation = self.source.generation();
        self.counters.images += 1;
        self.looks.clear();
        // First where the log goes on, then the rows: those that change meanwhile come again by the log.
        let from = self.source.tail();
        let rows = (0..self.source.image_rows()).filter_map(|index| self.source.image_row(index)).collect();
        self.image = Some(Image { rows, from, taken_ns: None });
    }

    fn take_image(&mut self) -> Result<(), Foreign> {
        let Some(Image { rows, from, .. }) = self.image.take() else { return Ok(()) };
        self.follower.restart(from);
        for (position, tick) in &rows {
            self.follower.row(*position, tick)?;
        }
        // A reader that looked while it was filled can't know which rows came after that.
        self.follower.renew_generation();
        self.cursor = Cursor::at(from);
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cache::region::Layout;
    use crate::cache::tick::{Definition, Kind, Quote};
    use crate::cache::writer::Writer;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout { instruments: 4, feeds: 1, log_ticks: 32, bursts: 8 };
    const DELAY_NS: u64 = 10_000;

    fn cells() -> Vec<Cell> {
        (0..LAYOUT.cells()).map(|_| Cell::default()).collect()
    }

    fn quote(instrument: u32, sequence: u64) -> Tick {
        Tick { instrument, sequence, ..Tick::default() }.with_payload(Quote::EMPTY)
    }

    /// A writer that has defined its instruments.
    fn writer(source: &[Cell]) -> Writer<'_> {
        let mut writer = Writer::format(source, LAYOUT, 1).unwrap();
        for name in [b"A", b"B", b"C", b"D"] {
            let instrument = writer.allocate().unwrap();
            writer.define(instrument, &Tick::default(), Definition::new(instrument, name));
        }
        writer.commit();
        writer
    }

    fn rows(reader: &Reader<'_>) -> Vec<Option<(u64, Tick)>> {
        (0..LAYOUT.instruments).map(|instrument| reader.held(instrument, Kind::Quote)).collect()
    }

    #[test]
    fn a_source_that_has_begun_before_is_shown_a_delay_later_as_a_whole() {
        let (source, shown) = (cells(), cells());
        let mut writer = writer(&source);
        writer.publish(&quote(0, 1));
        writer.commit();
        writer.keep_alive(0, 1_000_000);
        let mut delayed = Delayed::new(Reader::open(&source).unwrap(), &shown, 2, DELAY_NS).unwrap();
        let reader = Reader::open(&shown).unwrap();
        delayed.poll(5).unwrap();
        writer.publish(&quote(0, 2));
        writer.commit();
        delayed.poll(6).unwrap();
        delayed.poll(5 + DELAY_NS - 1).unwrap();
        assert!(!delayed.is_complete() && reader.valid_until_ns() == 0 && rows(&reader)[0].is_none());
        delayed.poll(5 + DELAY_NS).unwrap();
        let sequence = || rows(&reader)[0].map(|(_, tick)| tick.sequence);
        assert!(delayed.is_complete() && reader.valid_until_ns() == 1_000_000);
        assert_eq!(sequence(), Some(1), "what came behind the image is not old enough");
        delayed.poll(40 + 2 * DELAY_NS).unwrap();
        delayed.poll(40 + 4 * DELAY_NS).unwrap();
        assert_eq!(sequence(), Some(2));
    }

    proptest! {
        /// Whatever is published, and however late it is looked at: what is shown is the source as it was at some time that is
        /// a delay ago or more, and in the end everything is shown.
        #[test]
        fn nothing_is_shown_early_and_everything_in_the_end(
            steps in prop::collection::vec((0u64..4_000, 0usize..12, 0u32..4, any::<bool>()), 1..200)
        ) {
            let (source, shown) = (cells(), cells());
            let mut writer = writer(&source);
            let mut delayed = Delayed::new(Reader::open(&source).unwrap(), &shown, 2, DELAY_NS).unwrap();
            let reader = Reader::open(&shown).unwrap();
            // What the rows were when the tail was so, and when it became so.
            let mut past = vec![(writer.position(), 0, rows(&writer.reader()))];
            let (mut now_ns, mut sequence) = (0, 0);
            let check = |now_ns: u64, past: &[(u64, u64, Vec<_>)], delayed: &Delayed<'_>| {
                if delayed.is_complete() {
                    let tail = reader.tail();
                    let (_, at_ns, was) = past.iter().rev().find(|(was, ..)| *was == tail).expect("a tail that was");
                    assert!(now_ns - at_ns >= DELAY_NS, "{tail} is shown early");
                    assert_eq!(&rows(&reader), was);
                }
            };
            for (passes_ns, publishes, instrument, looks) in steps {
                now_ns += passes_ns;
                for _ in 0..publishes {
                    sequence += 1;
                    writer.publish(&quote(instrument, sequence));
                }
                writer.commit();
                past.push((writer.position(), now_ns, rows(&writer.reader())));
                if past[past.len() - 2].0 == writer.position() {
                    past.pop();
                }
                if looks {
                    delayed.poll(now_ns).unwrap();
                    check(now_ns, &past, &delayed);
                }
            }
            for _ in 0..40 {
                now_ns += DELAY_NS / 8;
                delayed.poll(now_ns).unwrap();
                check(now_ns, &past, &delayed);
            }
            prop_assert!(delayed.is_complete());
            prop_assert_eq!(rows(&reader), rows(&writer.reader()));
        }
    }
}
