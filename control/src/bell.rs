//! Wakes all who wait for the same thing.
//!
//! A subscription waits thousands of times a second, mostly for what it waited for before: a place in a list, taken again after
//! each ring, costs it less than the futures of a channel would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

/// So many may be gone before the others are woken for it, just to have them out of the list.
const GONE_MAX: usize = 64;

/// So many are woken at a time.
const TURN: usize = 64;

/// Rung when something has changed that is looked at elsewhere.
#[derive(Debug, Default)]
pub struct Bell {
    rings: AtomicU64,
    list: Mutex<List>,
    /// Who rings it sleeps while nobody waits.
    ringer: OnceLock<Thread>,
}

/// Who is to be woken by the next ring.
#[derive(Debug, Default)]
struct List {
    wakers: Vec<Waker>,
    /// Those among them whose listener is gone.
    gone: usize,
}

impl List {
    fn awaited(&self) -> usize {
        self.wakers.len() - self.gone
    }
}

impl Bell {
    /// This thread is unparked when somebody begins to wait.
    pub fn wakes(&self, ringer: Thread) {
        let _ = self.ringer.set(ringer);
    }

    pub fn is_awaited(&self) -> bool {
        self.list().awaited() != 0
    }

    /// Wakes all who wait.
    pub fn ring(&self) {
        let list = self.rung(&mut self.list());
        list.wakers.into_iter().for_each(Waker::wake);
    }

    /// The same from within their runtime, where those who are woken have their turn before there are many more of them: what
    /// waking one touches is then still at hand.
    pub async fn ring_by_turns(&self) {
        let mut list = self.rung(&mut self.list()).wakers.into_iter();
        while list.len() != 0 {
            list.by_ref().take(TURN).for_each(Waker::wake);
            tokio::task::yield_now().await;
        }
    }

    /// An empty list in place of whoever is to be woken.
    fn rung(&self, list: &mut List) -> List {
        self.rings.fetch_add(1, Ordering::Release);
        let wakers = Vec::with_capacity(list.wakers.len());
        std::mem::replace(list, List { wakers, gone: 0 })
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for a bell, again and again.
#[derive(Debug)]
pub struct Listener {
    bell: Arc<Bell>,
    /// The rings before the last look.
    heard: u64,
    /// It is in the list up to the ring behind so many, as whom.
    listed: Option<(u64, Waker)>,
}

impl Listener {
    pub fn new(bell: &Arc<Bell>) -> Listener {
        Listener { bell: bell.clone(), heard: 0, listed: None }
    }

    /// To be called before what the bell is rung for is looked at. True = it was rung since the last time, or before the first.
    pub fn listen(&mut self) -> bool {
        let rings = self.bell.rings.load(Ordering::Acquire);
        std::mem::replace(&mut self.heard, rings) != rings
    }

    /// Ready = it was rung since [`Listener::listen`]; else the task is woken by the next ring.
    pub fn poll_rung(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker();
        let is_listed = |listed: &(u64, Waker)| listed.0 == self.heard && listed.1.will_wake(waker);
        let is_listed = self.listed.as_ref().is_some_and(is_listed);
        if is_listed && self.bell.rings.load(Ordering::Acquire) == self.heard {
            return Poll::Pending;
        }
        let mut list = self.bell.list();
        if self.bell.rings.load(Ordering::Acquire) != self.heard {
            return Poll::Ready(());
        }
        list.wakers.push(waker.clone());
        let is_first = list.awaited() == 1;
        drop(list);
        match &mut self.listed {
            Some((ring, known)) => {
                *ring = self.heard;
                known.clone_from(waker);
            }
            None => self.listed = Some((self.heard, waker.clone())),
        }
        if is_first {
            self.bell.ringer.get().inspect(|ringer| ringer.unpark());
        }
        Poll::Pending
    }
}

impl Drop for Listener {
    /// Without rings the list would grow for ever by those who come and go.
    fn drop(&mut self) {
        let Some((ring, _)) = self.listed else { return };
        let mut list = self.bell.list();
        if self.bell.rings.load(Ordering::Acquire) != ring {
            return;
        }
        list.gone += 1;
        if list.gone > GONE_MAX.max(list.wakers.len() / 2) {
            let woken = self.bell.rung(&mut list);
            drop(list);
            woken.wakers.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// Waits until the number is another one.
    async fn next(listener: &mut Listener, number: &AtomicU64, known: u64) -> u64 {
        poll_fn(|context| {
            loop {
                listener.listen();
                let seen = number.load(Ordering::Relaxed);
                if seen != known {
                    return Poll::Ready(seen);
                }
                if listener.poll_rung(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    #[test]
    fn whoever_waits_hears_of_each_last_change() {
        const CHANGES: u64 = 100_000;
        let (bell, number) = (Arc::new(Bell::default()), Arc::new(AtomicU64::new(0)));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (bell, number) = (bell.clone(), number.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let (mut listener, mut seen) = (Listener::new(&bell), 0);
                    while seen != CHANGES {
                        seen = runtime.block_on(next(&mut listener, &number, seen));
                    }
                })
            })
            .collect();
        for change in 1..=CHANGES {
            number.store(change, Ordering::Relaxed);
            bell.ring();
        }
        // A ring that nobody heard would leave one of them waiting for ever.
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(!bell.is_awaited());
    }

    #[tokio::test]
    async fn by_turns_all_are_woken() {
        let (bell, number) = (Arc::new(Bell::default()), Arc::new(AtomicU64::new(0)));
        let waiters: Vec<_> = (0..3 * TURN + 1)
            .map(|_| {
                let (bell, number) = (bell.clone(), number.clone());
                tokio::spawn(async move { next(&mut Listener::new(&bell), &number, 0).await })
            })
            .collect();
        while bell.list().wakers.len() != waiters.len() {
            tokio::task::yield_now().await;
        }
        number.store(1, Ordering::Relaxed);
        bell.ring_by_turns().await;
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), 1);
        }
    }

    #[test]
    fn a_place_in_the_list_is_taken_once_a_ring() {
        let bell = Arc::new(Bell::default());
        let mut listener = Listener::new(&bell);
        let mut context = Context::from_waker(Waker::noop());
        for ring in 0..3 {
            listener.listen();
            for _ in 0..5 {
                assert!(listener.poll_rung(&mut context).is_pending());
                assert_eq!(bell.list().wakers.len(), 1);
            }
            bell.ring();
            assert!(listener.poll_rung(&mut context).is_ready(), "ring {ring}");
        }
    }

    #[test]
    fn those_who_come_and_go_do_not_stay_in_the_list() {
        let bell = Arc::new(Bell::default());
        let mut stays = Listener::new(&bell);
        let mut context = Context::from_waker(Waker::noop());
        stays.listen();
        assert!(stays.poll_rung(&mut context).is_pending());
        let mut woken = 0;
        for _ in 0..10 * GONE_MAX {
            let mut goes = Listener::new(&bell);
            goes.listen();
            assert!(goes.poll_rung(&mut context).is_pending());
            drop(goes);
            assert!(bell.list().wakers.len() <= 2 * GONE_MAX + 2);
            if stays.poll_rung(&mut context).is_ready() {
                woken += 1;
                stays.listen();
                assert!(stays.poll_rung(&mut context).is_pending());
            }
        }
        assert!(woken != 0 && bell.is_awaited());
    }

    #[test]
    fn who_rings_it_may_sleep_once_all_are_gone_and_is_woken_by_the_next() {
        let bell = Arc::new(Bell::default());
        bell.wakes(std::thread::current());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let mut listener = Listener::new(&bell);
            listener.listen();
            assert!(listener.poll_rung(&mut context).is_pending() && bell.is_awaited());
            std::thread::park();
            drop(listener);
            assert!(!bell.is_awaited());
        }
    }
}
