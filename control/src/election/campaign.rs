//! A node in etcd: looks who leads, stands for it, and keeps the lease.

use super::{Candidacy, ElectionError, Leader, Leadership, Wishes};
use crate::config::EtcdConfig;
use dataplane::time::{Clock, NS_PER_S};
use drivers::clock::SystemClock;
use etcd_client::{Client, Compare, CompareOp, EventType, PutOptions, Txn, TxnOp, WatchOptions};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// The longest that anything but a stream is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to reach etcd: it doubles from the least to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Candidates begin at different times, so that one of them is mostly alone.
const STAGGER_MAX_MS: u64 = 30;

/// What etcd holds of the group.
struct Standing {
    leader: Option<Leader>,
    successor: Option<String>,
    /// The latest term, 0 = none yet, and the revision of its key.
    term: u64,
    term_revision: i64,
    revision: i64,
}

pub struct Campaign {
    config: EtcdConfig,
    node: String,
    address: String,
    shown: watch::Sender<Leadership>,
    wished: watch::Receiver<Wishes>,
    resigned: mpsc::Receiver<Option<String>>,
    client: Option<Client>,
    /// The lease of this node while it leads or stands.
    lease: Option<i64>,
    /// Since when nobody has been leading; `None` = somebody does, or it is not known.
    vacant_since_ns: Option<u64>,
    ended: bool,
}

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

impl Campaign {
    pub fn new(
        config: &EtcdConfig,
        node: &str,
        address: &str,
        shown: watch::Sender<Leadership>,
        wished: watch::Receiver<Wishes>,
        resigned: mpsc::Receiver<Option<String>>,
    ) -> Campaign {
        Campaign {
            config: config.clone(),
            node: node.to_owned(),
            address: address.to_owned(),
            shown,
            wished,
            resigned,
            client: None,
            lease: None,
            vacant_since_ns: None,
            ended: false,
        }
    }

    /// Takes part until the node's end of the channels is gone; then gives the lease back.
    pub async fn live(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !self.ended {
            match self.take_part().await {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) => {
                    self.lose(&error);
                    self.pause(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn ttl_ns(&self) -> u64 {
        u64::from(self.config.lease_ttl_s) * NS_PER_S
    }

    fn key(&self, name: &str) -> String {
        format!("tickplane/{}/{name}", self.config.group)
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

    /// etcd can't be asked, or the lease is gone.
    fn lose(&mut self, error: &ElectionError) {
        tracing::warn!("{error}");
        (self.client, self.vacant_since_ns) = (None, None);
        self.show(Leadership::Unknown { why: error.to_string() });
    }

    /// Waits, but not longer than the node lives.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            resigned = self.resigned.recv() => self.ended |= resigned.is_none(),
            () = sleep(time) => {}
        }
    }

    fn silent(&self) -> ElectionError {
        ElectionError::Silent { endpoints: self.config.endpoints.join(", ") }
    }

    fn failed(&self, error: &etcd_client::Error) -> ElectionError {
        ElectionError::Etcd { endpoints: self.config.endpoints.join(", "), cause: error.to_string() }
    }

    /// An answer of etcd's, in time.
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, ElectionError> {
        let answer = timeout(ANSWER_MAX, asked).await.map_err(|_| self.silent())?;
        answer.map_err(|error| self.failed(&error))
    }

    async fn client(&mut self) -> Result<Client, ElectionError> {
        if self.client.is_none() {
            self.client = Some(self.answer(Client::connect(&self.config.endpoints, None)).await?);
        }
        Ok(self.client.clone().expect("it was made just now"))
    }

    /// One look at who leads, and what follows of it: returns when that may have changed.
    async fn take_part(&mut self) -> Result<(), ElectionError> {
        let mut client = self.client().await?;
        if let Some(lease) = self.lease.take() {
            // One that was lost on the way: nobody must wait for it.
            let _ = timeout(ANSWER_MAX, client.lease_revoke(lease)).await;
        }
        let standing = self.look(&mut client).await?;
        match &standing.leader {
            Some(leader) => {
                self.vacant_since_ns = None;
                self.show(Leadership::Follower { leader: Some(leader.clone()) });
                self.wait_for_change(&mut client, standing.revision, None).await
            }
            None => {
                self.show(Leadership::Follower { leader: None });
                let since_ns = *self.vacant_since_ns.get_or_insert_with(now_ns);
                match self.wait_before_standing(&standing, since_ns) {
                    Some(Duration::ZERO) => self.stand(&mut client, &standing).await,
                    wait => self.wait_for_change(&mut client, standing.revision, wait).await,
                }
            }
        }
    }

    async fn look(&self, client: &mut Client) -> Result<Standing, ElectionError> {
        let keys = [self.key("leader"), self.key("term"), self.key("successor")];
        let [leader_key, term_key, successor_key] = keys.each_ref();
        let gets = keys.each_ref().map(|key| TxnOp::get(key.as_str(), None));
        let response = self.answer(client.txn(Txn::new().and_then(gets))).await?;
        let mut standing = Standing {
            leader: None,
            successor: None,
            term: 0,
            term_revision: 0,
            revision: response.header().map_or(0, |header| header.revision()),
        };
        for response in response.op_responses() {
            let etcd_client::TxnOpResponse::Get(response) = response else { continue };
            for found in response.kvs() {
                let value = String::from_utf8_lossy(found.value()).into_owned();
                let key = String::from_utf8_lossy(found.key()).into_owned();
                let foreign = || ElectionError::Foreign { key: key.clone(), value: value.clone() };
                if key == *leader_key {
                    let leader = match value.lines().collect::<Vec<_>>()[..] {
                        [node, address, term] => term.parse().ok().map(|term| Leader {
                            node: node.to_owned(),
                            address: address.to_owned(),
                            term,
                        }),
                        _ => None,
                    };
                    standing.leader = Some(leader.ok_or_else(foreign)?);
                } else if key == *term_key {
                    standing.term = value.parse().map_err(|_| foreign())?;
                    standing.term_revision = found.mod_revision();
                } else if key == *successor_key {
                    standing.successor = Some(value);
                }
            }
        }
        Ok(standing)
    }

    /// How long this node lets others go first; `None` = it does not stand at all.
    fn wait_before_standing(&self, standing: &Standing, since_ns: u64) -> Option<Duration> {
        let wishes = *self.wished.borrow();
        let is_successor = standing.successor.as_ref().map(|successor| *successor == self.node);
        let patience_ns = match (wishes.candidacy, is_successor) {
            (Candidacy::No, _) | (_, Some(false)) => return None,
            (Candidacy::Last, None) if standing.term != 0 => 3 * self.ttl_ns(),
            _ => 0,
        };
        Some(Duration::from_nanos(patience_ns.saturating_sub(now_ns() - since_ns)))
    }

    /// Waits until one of the group's keys, or this node's wishes, change, or for `most`.
    async fn wait_for_change(
        &mut self,
        client: &mut Client,
        revision: i64,
        most: Option<Duration>,
    ) -> Result<(), ElectionError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut changes = self.answer(client.watch(self.key(""), Some(options))).await?;
        // A connection that is cut says nothing: look again from time to time.
        let most = most.unwrap_or(Duration::MAX).min(Duration::from_nanos(self.ttl_ns()));
        let deadline = tokio::time::Instant::now() + most;
        loop {
            tokio::select! {
                change = changes.message() => {
                    let Some(change) = change.map_err(|error| self.failed(&error))? else { return Ok(()) };
                    let gone = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
                    if change.canceled() || change.events().iter().any(|event| gone(event) || self.is_news(event)) {
                        return Ok(());
                    }
                }
                wished = self.wished.changed() => {
                    self.ended |= wished.is_err();
                    return Ok(());
                }
                resigned = self.resigned.recv() => {
                    // A node that does not lead has nothing to give up.
                    self.ended |= resigned.is_none();
                    return Ok(());
                }
                () = tokio::time::sleep_until(deadline) => return Ok(()),
            }
        }
    }

    fn is_news(&self, event: &etcd_client::Event) -> bool {
        event.kv().is_some_and(|kv| kv.key() == self.key("leader").as_bytes())
    }

    /// Stands for the leadership, and leads if it is won.
    async fn stand(&mut self, client: &mut Client, standing: &Standing) -> Result<(), ElectionError> {
        let stagger_ms =
            if standing.successor.is_some() { 0 } else { SystemClock.unix_ns() / 1_000 % STAGGER_MAX_MS };
        sleep(Duration::from_millis(stagger_ms)).await;
        let heard = self.wished.borrow().heard;
        let term = standing.term.max(heard).checked_add(1).ok_or(ElectionError::TermsAreOut)?;
        // The lease counts from before it was asked for.
        let asked_ns = now_ns();
        let granted = self.answer(client.lease_grant(i64::from(self.config.lease_ttl_s), None)).await?;
        self.lease = Some(granted.id());
        let ttl_ns = (granted.ttl().max(0) as u64).min(u64::from(self.config.lease_ttl_s)) * NS_PER_S;
        let (leader, count) = (self.key("leader"), self.key("term"));
        let value = format!("{}\n{}\n{term}", self.node, self.address);
        let held = Some(PutOptions::new().with_lease(granted.id()));
        let txn = Txn::new()
            .when([
                Compare::version(leader.as_str(), CompareOp::Equal, 0),
                Compare::mod_revision(count.as_str(), CompareOp::Equal, standing.term_revision),
            ])
            .and_then([TxnOp::put(leader, value, held), TxnOp::put(count, term.to_string(), None)]);
        if !self.answer(client.txn(txn)).await?.succeeded() {
            // Another one was faster: the lease is given back with the next look.
            return Ok(());
        }
        tracing::info!("leads the group with term {term}");
        self.vacant_since_ns = None;
        self.show(Leadership::Leader { term, until_ns: asked_ns + ttl_ns });
        self.keep(client, granted.id(), term, asked_ns, ttl_ns).await
    }

    /// Keeps the lease until it is given up, or runs out.
    async fn keep(
        &mut self,
        client: &mut Client,
        lease: i64,
        term: u64,
        asked_ns: u64,
        ttl_ns: u64,
    ) -> Result<(), ElectionError> {
        let leader = self.key("leader");
        let mut until_ns = asked_ns + ttl_ns;
        let interval = Duration::from_nanos(self.ttl_ns() / 5);
        loop {
            tokio::select! {
                resigned = self.resigned.recv() => {
                    self.ended |= resigned.is_none();
                    return self.give_up(client, lease, resigned.flatten()).await;
                }
                () = sleep(interval) => {}
            }
            let asked_ns = now_ns();
            let left = Duration::from_nanos(until_ns.saturating_sub(asked_ns));
            // An answer that does not come costs an attempt, not the lease: there is time for another.
            let most = left.min(ANSWER_MAX).min(interval * 2);
            let renewed = timeout(most, renew(client, lease, &leader)).await;
            // What comes too late, as after a pause, revives nothing: the node may have found itself expired meanwhile.
            if now_ns() >= until_ns {
                return Err(ElectionError::Expired);
            }
            match renewed {
                Ok(Ok(true)) => {
                    let before_ns = std::mem::replace(&mut until_ns, asked_ns + ttl_ns);
                    self.show(Leadership::Leader { term, until_ns });
                    if now_ns() >= before_ns {
                        return Err(ElectionError::Expired);
                    }
                }
                Ok(Ok(false)) => return Err(ElectionError::Taken),
                Ok(Err(error)) => tracing::debug!("the lease was not renewed: {error}"),
                Err(_) => tracing::debug!("the lease was not renewed in time"),
            }
        }
    }

    async fn give_up(
        &mut self,
        client: &mut Client,
        lease: i64,
        successor: Option<String>,
    ) -> Result<(), ElectionError> {
        // From here on it does not lead, whether etcd hears of it or not.
        self.show(Leadership::Follower { leader: None });
        self.lease = None;
        let Some(successor) = successor else {
            return self.answer(client.lease_revoke(lease)).await.map(drop);
        };
        // In one step, and with the same lease, which then runs out: for so long others let the successor go first.
        let (leader, held) = (self.key("leader"), Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new()
            .when([Compare::lease(leader.as_str(), CompareOp::Equal, lease)])
            .and_then([TxnOp::put(self.key("successor"), successor, held), TxnOp::delete(leader, None)]);
        self.answer(client.txn(txn)).await.map(drop)
    }
}

/// Renews a lease; false = etcd knows of none, or it does not hold the leader's key any more: both can be taken away by hand.
async fn renew(client: &mut Client, lease: i64, leader: &str) -> Result<bool, etcd_client::Error> {
    match client.lease_keep_alive(lease).await {
        Ok(_) => {}
        // Nothing else fails so here: the request's channel is made in that call.
        Err(etcd_client::Error::LeaseKeepAliveError(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    let held = Txn::new().when([Compare::lease(leader, CompareOp::Equal, lease)]);
    Ok(client.txn(held).await?.succeeded())
}
