//! A node in etcd: looks who leads, stands for it, keeps its lease, and names its successor.

use super::etcd::ANSWER_MAX;
use super::store::{Kept, Lease, Standing, Store};
use super::{Candidacy, ElectionError, Leader, Leadership, Request, Wishes};
use crate::config::EtcdConfig;
use dataplane::time::{Clock, NS_PER_S};
use drivers::clock::SystemClock;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Between two attempts to reach etcd: it doubles from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Candidates begin at different times, so that one of them is mostly alone.
const STAGGER_MAX_MS: u64 = 30;

pub struct Campaign {
    config: EtcdConfig,
    node: String,
    address: String,
    shown: watch::Sender<Leadership>,
    wished: watch::Receiver<Wishes>,
    requests: mpsc::Receiver<Request>,
    /// A lease that may be there still, and that nobody must wait for.
    lost: Option<i64>,
    /// Since when nobody has been leading; `None` = somebody does, or it is not known.
    vacant_since_ns: Option<u64>,
    backoff: Duration,
    ended: bool,
}

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

/// What this node has in etcd as long as it is reached.
struct Session {
    store: Store,
    lease: Lease,
    /// When the lease is to be renewed.
    renew_at: Instant,
}

impl Campaign {
    pub fn new(
        config: &EtcdConfig,
        node: &str,
        address: &str,
        shown: watch::Sender<Leadership>,
        wished: watch::Receiver<Wishes>,
        requests: mpsc::Receiver<Request>,
    ) -> Campaign {
        Campaign {
            config: config.clone(),
            node: node.to_owned(),
            address: address.to_owned(),
            shown,
            wished,
            requests,
            lost: None,
            vacant_since_ns: None,
            backoff: BACKOFF_MIN,
            ended: false,
        }
    }

    /// Takes part until the node's end of the channels is gone; then gives the lease back.
    pub async fn live(mut self) {
        while !self.ended {
            if let Err(error) = self.reach().await {
                tracing::warn!("{error}");
                self.vacant_since_ns = None;
                self.show(Leadership::Unknown { why: error.to_string() });
                self.pause().await;
            }
        }
    }

    /// Takes part as long as etcd is reached, and the lease holds.
    async fn reach(&mut self) -> Result<(), ElectionError> {
        let mut store = Store::connect(&self.config).await?;
        if let Some(lease) = self.lost.take() {
            let _ = store.revoke(lease).await;
        }
        let lease = self.grant(&mut store).await?;
        let mut session = Session { store, lease, renew_at: Instant::now() + self.renew_interval() };
        while !self.ended {
            self.take_part(&mut session).await?;
            self.backoff = BACKOFF_MIN;
        }
        session.store.revoke(session.lease.id).await
    }

    async fn grant(&mut self, store: &mut Store) -> Result<Lease, ElectionError> {
        let lease = store.grant(self.config.lease_ttl_s, &self.node, &self.address).await?;
        self.lost = Some(lease.id);
        Ok(lease)
    }

    fn ttl_ns(&self) -> u64 {
        u64::from(self.config.lease_ttl_s) * NS_PER_S
    }

    fn renew_interval(&self) -> Duration {
        Duration::from_nanos(self.ttl_ns() / 5)
    }

    fn show(&self, leadership: Leadership) {
        self.shown.send_if_modified(|known| {
            let changes = *known != leadership;
            if changes {
                *known = leadership;
            }
            changes
        });
    }

    /// Waits before etcd is asked again, but not longer than the node lives.
    async fn pause(&mut self) {
        let until = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => request.refuse(),
                    None => {
                        self.ended = true;
                        return;
                    }
                },
                () = sleep_until(until) => return,
            }
        }
    }

    /// One look at who leads, and what follows of it: returns when that may have changed.
    async fn take_part(&mut self, session: &mut Session) -> Result<(), ElectionError> {
        let standing = session.store.look().await?;
        match &standing.leader {
            Some(leader) if standing.leader_lease == session.lease.id => {
                self.vacant_since_ns = None;
                self.lead(session, leader, &standing).await
            }
            Some(leader) => {
                self.vacant_since_ns = None;
                self.show(Leadership::Follower { leader: Some(leader.clone()) });
                self.wait_for_change(session, standing.revision, None).await
            }
            None => {
                self.show(Leadership::Follower { leader: None });
                let since_ns = *self.vacant_since_ns.get_or_insert_with(now_ns);
                match self.wait_before_standing(&standing, since_ns) {
                    Some(Duration::ZERO) => self.stand(session, &standing).await,
                    wait => self.wait_for_change(session, standing.revision, wait).await,
                }
            }
        }
    }

    /// How long this node lets others go first; `None` = it does not stand at all.
    fn wait_before_standing(&self, standing: &Standing, since_ns: u64) -> Option<Duration> {
        let patience_ns = match self.wished.borrow().candidacy {
            // Until a leader that is about to go has gone, nobody else can lead.
            _ if standing.is_leaving => return None,
            Candidacy::No => return None,
            Candidacy::Last if standing.term != 0 => 3 * self.ttl_ns(),
            _ => 0,
        };
        Some(Duration::from_nanos(patience_ns.saturating_sub(now_ns() - since_ns)))
    }

    /// Waits until one of the group's keys, or this node's wishes, change, or for `most`; the lease is kept meanwhile.
    async fn wait_for_change(
        &mut self,
        session: &mut Session,
        revision: i64,
        most: Option<Duration>,
    ) -> Result<(), ElectionError> {
        let mut changes = session.store.watch(revision).await?;
        // A connection that is cut says nothing: look again from time to time.
        let most = most.unwrap_or(Duration::MAX).min(Duration::from_nanos(self.ttl_ns()));
        let deadline = Instant::now() + most;
        loop {
            tokio::select! {
                change = changes.message() => {
                    if session.store.is_news(change)? {
                        return Ok(());
                    }
                }
                // What it is fit for matters only where nobody leads.
                wished = self.wished.changed() => {
                    self.ended |= wished.is_err();
                    if self.ended || self.vacant_since_ns.is_some() {
                        return Ok(());
                    }
                }
                request = self.requests.recv() => match request {
                    // A node that does not lead has nothing to give up.
                    Some(request) => request.refuse(),
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
                () = sleep_until(session.renew_at) => drop(self.renew(session, false).await?),
                () = sleep_until(deadline) => return Ok(()),
            }
        }
    }

    /// Renews the lease. An answer that does not come costs an attempt (`None`), not the lease: there is time for another.
    async fn renew(&self, session: &mut Session, leads: bool) -> Result<Option<Kept>, ElectionError> {
        let Session { store, lease, renew_at } = session;
        let interval = self.renew_interval();
        *renew_at = Instant::now() + interval;
        let before_ns = lease.until_ns;
        let left = Duration::from_nanos(before_ns.saturating_sub(now_ns()));
        let renewed = timeout(left.min(ANSWER_MAX).min(interval * 2), store.renew(lease, leads)).await;
        // What comes too late, as after a pause, revives nothing: the node may have found itself expired meanwhile.
        if now_ns() >= before_ns {
            return Err(ElectionError::Expired);
        }
        match renewed {
            Ok(Ok(Kept::No)) => Err(ElectionError::Taken),
            Ok(Ok(kept)) => Ok(Some(kept)),
            Ok(Err(error)) => {
                tracing::debug!("the lease was not renewed: {error}");
                Ok(None)
            }
            Err(_) => {
                tracing::debug!("the lease was not renewed in time");
                Ok(None)
            }
        }
    }

    /// Stands for the leadership; the next look tells whether it is won.
    async fn stand(&mut self, session: &mut Session, standing: &Standing) -> Result<(), ElectionError> {
        sleep(Duration::from_millis(SystemClock.unix_ns() / 1_000 % STAGGER_MAX_MS)).await;
        let heard = self.wished.borrow().heard;
        let term = standing.term.max(heard).checked_add(1).ok_or(ElectionError::TermsAreOut)?;
        let leader = Leader { node: self.node.clone(), address: self.address.clone(), term };
        // If another one was faster, the next look finds that one.
        session.store.claim(&leader, session.lease.id, standing).await.map(drop)
    }

    /// Leads until it gives that up, or the lease runs out. As a successor it waits until the predecessor has gone, if that
    /// one does not tell it sooner.
    async fn lead(
        &mut self,
        session: &mut Session,
        leader: &Leader,
        standing: &Standing,
    ) -> Result<(), ElectionError> {
        let term = leader.term;
        let mut waits = standing.is_leaving;
        tracing::info!("{} the group with term {term}", if waits { "is named to lead" } else { "leads" });
        self.show(Leadership::of(term, session.lease.until_ns, waits));
        let mut changes = if waits { session.store.watch(standing.revision).await.ok() } else { None };
        loop {
            let change = async {
                match &mut changes {
                    Some(changes) => changes.message().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(Request::HandOver { to, answer }) if !answer.is_closed() => {
                        let named = self.name_successor(session, leader, &to).await;
                        let is_named = named.is_ok();
                        // Whoever asked may be gone.
                        let _ = answer.send(named);
                        if is_named {
                            return self.leave(session).await;
                        }
                        // If it was done all the same, the renewal tells.
                        session.renew_at = Instant::now();
                        continue;
                    }
                    Some(Request::HandOver { .. }) => continue,
                    Some(Request::Resign) => return self.give_up(session).await,
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
                // Whatever it is: the renewal tells.
                _ = change => changes = None,
                () = sleep_until(session.renew_at) => {}
            }
            if let Some(Kept::Yes { is_leaving }) = self.renew(session, true).await? {
                waits &= is_leaving;
                self.show(Leadership::of(term, session.lease.until_ns, waits));
            }
        }
    }

    /// Makes another node the leader, with the whole lease before it in which this one has to go.
    async fn name_successor(
        &mut self,
        session: &mut Session,
        leader: &Leader,
        to: &str,
    ) -> Result<(), ElectionError> {
        if self.renew(session, true).await?.is_none() {
            return Err(ElectionError::Silent { endpoints: self.config.endpoints.join(", ") });
        }
        self.show(Leadership::Leader { term: leader.term, until_ns: session.lease.until_ns });
        session.store.name_successor(to, leader, session.lease.id).await
    }

    /// The successor is named, so the lease is renewed no more: until it ends, or is given up, this node is the primary still.
    async fn leave(&mut self, session: &mut Session) -> Result<(), ElectionError> {
        let end = Instant::now() + Duration::from_nanos(session.lease.until_ns.saturating_sub(now_ns()));
        loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(Request::Resign) => break,
                    Some(request) => request.refuse(),
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
                () = sleep_until(end) => break,
            }
        }
        self.give_up(session).await
    }

    async fn give_up(&mut self, session: &mut Session) -> Result<(), ElectionError> {
        // From here on it does not lead, whether etcd hears of it or not.
        self.show(Leadership::Follower { leader: None });
        session.store.revoke(session.lease.id).await?;
        session.lease = self.grant(&mut session.store).await?;
        session.renew_at = Instant::now() + self.renew_interval();
        Ok(())
    }
}
