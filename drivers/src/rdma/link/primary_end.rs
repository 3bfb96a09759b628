//! The primary's end: ticks by its device, everything else by the stream.

use super::acknowledgement::AcknowledgementMemory;
use super::flight::Flight;
use super::introduction::Introduction;
use super::log_memory::LogMemory;
use super::turn::Turn;
use super::{LinkError, WRITES};
use crate::clock::SystemClock;
use crate::rdma::{
    CompletionQueue, QueuePair, QueuePairConfig, RemoteMemory, Source, WRITES_PER_POST_MAX, Write,
};
use crate::region::CELL_BYTES;
use crate::tcp_link::{self, Channel};
use dataplane::cache::cell::Cell;
use dataplane::cache::reader::Reader;
use dataplane::replica::{Copied, Link, Message, Record};
use dataplane::time::Clock;
use std::sync::Arc;

/// So many ticks, or fewer, are copied into the requests.
const EAGER_TICKS: usize = 8;
/// Ticks that are written at once at most.
const WRITE_TICKS_MAX: u64 = 1_024;
/// Writes for which there is always room: an announcement, and one that tells when all are done.
const RESERVE: usize = 2;
const _: () = assert!(EAGER_TICKS <= WRITES_PER_POST_MAX && WRITES as usize >= 2 * WRITES_PER_POST_MAX);

/// What [`Primary::poll`](dataplane::replica::Primary::poll) sends by.
///
/// A round is [`PrimaryEnd::fill`], then the time, then the poll, then [`PrimaryEnd::flush`], as with the stream alone.
#[derive(Debug)]
pub struct PrimaryEnd {
    // In the order in which they are dropped: first nothing comes any more, then the key goes.
    pair: QueuePair,
    memory: AcknowledgementMemory,
    completions: CompletionQueue,
    log: Arc<LogMemory>,
    words: tcp_link::PrimaryEnd,
    /// The standby's log, once that has introduced itself.
    standby: Option<RemoteMemory>,
    flight: Flight,
    /// Ticks below are posted, and the standby was told of those below `announced`.
    sent: u64,
    announced: u64,
    /// The device read ticks of which the log may have gone past some: the standby must not take them.
    has_lapped: bool,
    /// That the memory held, and that was not received yet.
    acknowledgement: Option<Message>,
    /// When the stream is looked at again.
    turn: Turn,
    /// Why nothing more is done; the next call of `fill` tells.
    failure: Option<LinkError>,
}

impl PrimaryEnd {
    /// Of `patience` the timeouts and retries count; the depths are the link's own.
    pub fn new(
        channel: impl Into<Channel>,
        log: &Arc<LogMemory>,
        patience: &QueuePairConfig,
    ) -> Result<PrimaryEnd, LinkError> {
        let config =
            QueuePairConfig { writes: WRITES, receives: 1, inline_bytes: CELL_BYTES as u32, ..*patience };
        let device = log.memory().device();
        let completions = CompletionQueue::new(device, WRITES + 1)?;
        Ok(PrimaryEnd {
            pair: QueuePair::new(&completions, &config)?,
            memory: AcknowledgementMemory::new(device)?,
            completions,
            log: log.clone(),
            words: tcp_link::PrimaryEnd::new(channel).map_err(tcp_link::LinkError::from)?,
            standby: None,
            flight: Flight::new(WRITES),
            sent: 0,
            announced: 0,
            has_lapped: false,
            acknowledgement: None,
            turn: Turn::default(),
            failure: None,
        })
    }

    /// Whether the other end has shown that it is that node ([`Channel::is_from`]).
    pub fn is_from(&self, node: &str) -> bool {
        self.words.is_from(node)
    }

    /// Whether ticks go by the device; else the standby has none for them, and they go by the stream.
    pub fn is_connected(&self) -> bool {
        self.standby.is_some()
    }

    /// Takes in what has come, and announces what has proven itself; returns how much that was. An error ends the connection.
    pub fn fill(&mut self) -> Result<usize, LinkError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let reaped = self.reap()?;
        // Now and not when it is received: the time of the round is to be later.
        let acknowledged = self.memory.take();
        self.acknowledgement = acknowledged.or(self.acknowledgement);
        let done = reaped + usize::from(acknowledged.is_some());
        if self.is_connected() && !self.turn.is_due(SystemClock.monotonic_ns()) {
            return Ok(done);
        }
        let filled = self.words.fill()?;
        self.turn.end(SystemClock.monotonic_ns(), filled != 0);
        Ok(done + filled)
    }

    /// Hands words that wait to the kernel; returns how many bytes that are. An error ends the connection.
    pub fn flush(&mut self) -> Result<usize, LinkError> {
        Ok(self.words.flush()?)
    }

    /// Looks at what is done. Ticks that the device read out of the log are proven if the oldest of them is still there.
    fn reap(&mut self) -> Result<usize, LinkError> {
        let mut reaped = 0;
        while let Some(completion) = self.completions.poll()? {
            completion.result?;
            self.flight.complete(completion.work);
            reaped += 1;
        }
        while let Some(from) = self.flight.read() {
            self.has_lapped |= !self.log.holds(from);
        }
        self.announce()?;
        Ok(reaped)
    }

    /// Tells the standby of ticks that were written without an announcement, by a write of nothing.
    fn announce(&mut self) -> Result<(), LinkError> {
        let proven = self.flight.first_unproven().unwrap_or(self.sent);
        let Some(to) = self.standby else { return Ok(()) };
        if proven == self.announced || self.has_lapped || self.flight.room() < RESERVE {
            return Ok(());
        }
        self.post_nothing(to, Some(proven as u32), self.flight.is_due(1))?;
        self.announced = proven;
        Ok(())
    }

    fn post_nothing(
        &mut self,
        to: RemoteMemory,
        immediate: Option<u32>,
        signalled: bool,
    ) -> Result<(), LinkError> {
        let source = Source::Words(&[]);
        let work = self.flight.next();
        self.pair.post(&[Write { source, to, offset: 0, immediate, work, signalled }])?;
        self.flight.post(1, signalled);
        Ok(())
    }

    /// Copies few ticks into the requests themselves: they are whole, and are announced by the last of them, unless ticks
    /// before them are not proven yet.
    fn copy_eagerly(
        &mut self,
        to: RemoteMemory,
        log: &Reader<'_>,
        from: u64,
        upto: u64,
    ) -> Result<Copied, LinkError> {
        let ticks = (upto - from) as usize;
        if self.flight.room() < ticks + RESERVE {
            return Ok(Copied::Upto(from));
        }
        let mut cells = [[0; CELL_BYTES / 8]; EAGER_TICKS];
        for (cell, position) in cells.iter_mut().zip(from..upto) {
            let Some(tick) = log.log_tick(position) else { return Ok(Copied::Lapped) };
            *cell = Cell::words(position, &tick);
        }
        let is_proven = self.flight.first_unproven().is_none();
        let is_due = self.flight.is_due(ticks);
        let writes: [Write<'_>; EAGER_TICKS] = std::array::from_fn(|index| {
            let is_last = index + 1 == ticks;
            Write {
                source: Source::Words(&cells[index]),
                to,
                offset: self.log.offset(from + index as u64),
                immediate: (is_last && is_proven).then_some(upto as u32),
                work: self.flight.next() + index as u64,
                signalled: is_last && is_due,
            }
        });
        self.pair.post(&writes[..ticks])?;
        self.flight.post(ticks, is_due);
        self.sent = upto;
        if is_proven {
            self.announced = upto;
        }
        Ok(Copied::Upto(upto))
    }

    /// Lets the device read many ticks out of the log. It may read them at any time until the writes are done, again if a packet
    /// was lost, while the log goes on: so they are announced after that.
    fn copy_log(&mut self, to: RemoteMemory, from: u64, upto: u64) -> Result<Copied, LinkError> {
        if !self.log.holds(from) {
            return Ok(Copied::Lapped);
        }
        let source = Source::Words(&[]);
        let mut writes =
            [Write { source, to, offset: 0, immediate: None, work: 0, signalled: true }; WRITES_PER_POST_MAX];
        let room = self.flight.room().saturating_sub(RESERVE).min(writes.len());
        let (mut next, mut count) = (from, 0);
        while next < upto && count < room {
            let to_end = self.log.ticks() - self.log.index(next);
            let ticks = (upto - next).min(WRITE_TICKS_MAX).min(to_end);
            let (offset, bytes) = (self.log.offset(next), ticks as usize * CELL_BYTES);
            let write = &mut writes[count];
            write.source = Source::Memory { region: self.log.memory(), offset, bytes };
            (write.offset, write.work) = (offset, self.flight.next());
            self.flight.post_unproven(next);
            next += ticks;
            count += 1;
        }
        self.pair.post(&writes[..count])?;
        self.sent = next;
        Ok(Copied::Upto(next))
    }

    /// The standby has introduced itself: its memory can be written from now on.
    fn meet(&mut self, words: [u64; 6]) -> Result<(), LinkError> {
        let Introduction { endpoint, memory } = Introduction::from_words(words);
        if self.standby.is_some() {
            return Err(LinkError::OutOfTurn);
        }
        if memory.bytes != self.log.remote().bytes {
            // Its region has another layout, which is said when it says Hello.
            return Ok(());
        }
        self.pair.connect(&endpoint)?;
        let own = Introduction { endpoint: self.pair.endpoint(), memory: self.memory.remote() };
        if !self.words.send(own.to_message()) {
            return Err(LinkError::OutOfTurn);
        }
        self.standby = Some(memory);
        Ok(())
    }

    /// Whether a Begin may go out: nothing that was posted is still to be written.
    fn is_quiet(&mut self) -> Result<bool, LinkError> {
        if let (Some(to), false) = (self.standby, self.flight.will_tell()) {
            self.post_nothing(to, None, true)?;
        }
        Ok(self.flight.is_empty())
    }

    /// Keeps an error for `fill` to tell.
    fn keep<T>(&mut self, result: Result<T, LinkError>) -> Option<T> {
        result.map_err(|failure| self.failure = Some(failure)).ok()
    }
}

impl Link for PrimaryEnd {
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied {
        let Some(to) = self.standby else { return self.words.copy(log, from, upto) };
        if self.has_lapped {
            return Copied::Lapped;
        }
        if from == upto || self.failure.is_some() {
            return Copied::Upto(from);
        }
        debug_assert_eq!(from, self.sent);
        let copied = if upto - from <= EAGER_TICKS as u64 {
            self.copy_eagerly(to, log, from, upto)
        } else {
            self.copy_log(to, from, upto)
        };
        self.keep(copied).unwrap_or(Copied::Upto(from))
    }

    fn rows(&mut self, rows: &[Record]) -> usize {
        self.words.rows(rows)
    }

    fn send(&mut self, message: Message) -> bool {
        let Message::Begin { from, .. } = message else { return self.words.send(message) };
        let is_quiet = self.failure.is_none() && {
            let is_quiet = self.is_quiet();
            self.keep(is_quiet) == Some(true)
        };
        let is_sent = is_quiet && self.words.send(message);
        if is_sent {
            (self.sent, self.announced, self.has_lapped) = (from, from, false);
        }
        is_sent
    }

    fn receive(&mut self) -> Option<Message> {
        while self.failure.is_none() {
            match self.words.receive() {
                Some(Message::Link(words)) => {
                    let met = self.meet(words);
                    self.keep(met);
                }
                Some(message) => return Some(message),
                None => return self.acknowledgement.take(),
            }
        }
        None
    }
}
