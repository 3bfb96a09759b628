//! What etcd holds of a group: its keys, this node's lease, and the transactions that change them.

use super::etcd::{self, answer, failed};
use super::{ElectionError, Leader};
use crate::config::EtcdConfig;
use dataplane::time::{Clock, NS_PER_S};
use drivers::clock::SystemClock;
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetResponse, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse, WatchStream,
};

/// A lease of this node's. It counts from before it was asked for.
pub struct Lease {
    pub id: i64,
    pub until_ns: u64,
    pub ttl_ns: u64,
}

/// What etcd holds of the group.
pub struct Standing {
    pub leader: Option<Leader>,
    /// The lease that holds the leader's key; 0 = none.
    pub leader_lease: i64,
    /// A leader that has named its successor has not gone yet.
    pub is_leaving: bool,
    /// The latest term, 0 = none yet, and the revision of its key.
    pub term: u64,
    term_revision: i64,
    pub revision: i64,
}

/// How a lease that was to be kept stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It goes on, and holds the leader's key, or need not.
    Yes { is_leaving: bool },
    /// etcd knows of none, or it does not hold the leader's key any more: both can be taken away by hand.
    No,
}

pub struct Store {
    client: Client,
    endpoints: String,
    group: String,
}

fn found(response: &TxnOpResponse) -> &[KeyValue] {
    match response {
        TxnOpResponse::Get(response) => GetResponse::kvs(response),
        _ => &[],
    }
}

impl Store {
    pub async fn connect(config: &EtcdConfig) -> Result<Store, ElectionError> {
        let (client, endpoints) = etcd::connect(config).await?;
        Ok(Store { client, endpoints, group: config.group.clone() })
    }

    fn key(&self, name: &str) -> String {
        etcd::key(&self.group, name)
    }

    fn foreign(found: &KeyValue) -> ElectionError {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        ElectionError::Foreign { key: text(found.key()), value: text(found.value()) }
    }

    pub async fn look(&mut self) -> Result<Standing, ElectionError> {
        let keys = ["leader", "leaving", "term"].map(|name| self.key(name));
        let txn = Txn::new().and_then(keys.each_ref().map(|key| TxnOp::get(key.as_str(), None)));
        let response = answer(&self.endpoints, self.client.txn(txn)).await?;
        let mut standing = Standing {
            leader: None,
            leader_lease: 0,
            is_leaving: false,
            term: 0,
            term_revision: 0,
            revision: response.header().map_or(0, |header| header.revision()),
        };
        for found in response.op_responses().iter().flat_map(found) {
            let [leader_key, leaving_key, term_key] = keys.each_ref().map(|key| key.as_bytes());
            if found.key() == leader_key {
                let leader = parse_leader(&String::from_utf8_lossy(found.value()));
                standing.leader = Some(leader.ok_or_else(|| Store::foreign(found))?);
                standing.leader_lease = found.lease();
            } else if found.key() == leaving_key {
                standing.is_leaving = true;
            } else if found.key() == term_key {
                let term = String::from_utf8_lossy(found.value()).parse();
                standing.term = term.map_err(|_| Store::foreign(found))?;
                standing.term_revision = found.mod_revision();
            }
        }
        Ok(standing)
    }

    /// A lease by which a node can lead, and the key by which others can make it the leader.
    pub async fn grant(&mut self, ttl_s: u32, node: &str, address: &str) -> Result<Lease, ElectionError> {
        let asked_ns = SystemClock.monotonic_ns();
        let granted = answer(&self.endpoints, self.client.lease_grant(i64::from(ttl_s), None)).await?;
        let ttl_ns = (granted.ttl().max(0) as u64).min(u64::from(ttl_s)) * NS_PER_S;
        let standing = self.key(&format!("standing/{node}"));
        let held = Some(PutOptions::new().with_lease(granted.id()));
        answer(&self.endpoints, self.client.put(standing, address, held)).await?;
        Ok(Lease { id: granted.id(), until_ns: asked_ns + ttl_ns, ttl_ns })
    }

    pub async fn revoke(&mut self, lease: i64) -> Result<(), ElectionError> {
        answer(&self.endpoints, self.client.lease_revoke(lease)).await.map(drop)
    }

    /// Renews a lease; one of the leader's must hold its key still.
    pub async fn renew(&mut self, lease: &mut Lease, leads: bool) -> Result<Kept, etcd_client::Error> {
        let asked_ns = SystemClock.monotonic_ns();
        match self.client.lease_keep_alive(lease.id).await {
            Ok(_) => {}
            // Nothing else fails so here: the request's channel is made in that call.
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => return Ok(Kept::No),
            Err(error) => return Err(error),
        }
        let mut kept = Kept::Yes { is_leaving: false };
        if leads {
            let (leader, leaving) = (self.key("leader"), self.key("leaving"));
            let txn = Txn::new()
                .when([Compare::lease(leader, CompareOp::Equal, lease.id)])
                .and_then([TxnOp::get(leaving, None)]);
            let response = self.client.txn(txn).await?;
            let is_leaving = response.op_responses().iter().any(|response| !found(response).is_empty());
            kept = if response.succeeded() { Kept::Yes { is_leaving } } else { Kept::No };
        }
        if kept != Kept::No {
            lease.until_ns = asked_ns + lease.ttl_ns;
        }
        Ok(kept)
    }

    /// Makes `leader` the leader by its own lease, if nobody leads, nobody is about to go, and no term was given meanwhile.
    pub async fn claim(
        &mut self,
        leader: &Leader,
        lease: i64,
        standing: &Standing,
    ) -> Result<bool, ElectionError> {
        let [key, leaving, count] = ["leader", "leaving", "term"].map(|name| self.key(name));
        let txn = Txn::new()
            .when([
                Compare::version(key.as_str(), CompareOp::Equal, 0),
                Compare::version(leaving, CompareOp::Equal, 0),
                Compare::mod_revision(count.as_str(), CompareOp::Equal, standing.term_revision),
            ])
            .and_then(put_leader(key, count, leader, lease));
        Ok(answer(&self.endpoints, self.client.txn(txn)).await?.succeeded())
    }

    /// Makes a node that stands the leader of the term after `from`'s, and leaves word that `from` has not gone yet, in one
    /// step. After an error it is not known whether that was done.
    pub async fn name_successor(&mut self, to: &str, from: &Leader, lease: i64) -> Result<(), ElectionError> {
        let [key, leaving, count] = ["leader", "leaving", "term"].map(|name| self.key(name));
        let standing = self.key(&format!("standing/{to}"));
        let response = answer(&self.endpoints, self.client.get(standing.as_str(), None)).await?;
        let not_standing = || ElectionError::NotStanding { node: to.to_owned() };
        let found = response.kvs().first().ok_or_else(not_standing)?;
        let term = from.term.checked_add(1).ok_or(ElectionError::TermsAreOut)?;
        let address = String::from_utf8_lossy(found.value()).into_owned();
        let leader = Leader { node: to.to_owned(), address, term };
        let held = Some(PutOptions::new().with_lease(lease));
        let mut puts = put_leader(key.clone(), count.clone(), &leader, found.lease()).to_vec();
        puts.push(TxnOp::put(leaving, from.node.as_str(), held));
        let txn = Txn::new()
            .when([
                Compare::lease(key, CompareOp::Equal, lease),
                Compare::value(count, CompareOp::Equal, from.term.to_string()),
                Compare::lease(standing, CompareOp::Equal, found.lease()),
            ])
            .and_then(puts);
        match answer(&self.endpoints, self.client.txn(txn)).await?.succeeded() {
            true => Ok(()),
            false => Err(not_standing()),
        }
    }

    /// What changes in `leader` and `leaving`, the only keys that begin so, after `revision`.
    pub async fn watch(&mut self, revision: i64) -> Result<WatchStream, ElectionError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        answer(&self.endpoints, self.client.watch(self.key("l"), Some(options))).await
    }

    /// What a watch said, if that is a reason to look again: the leader's key was put, or one is gone.
    pub fn is_news(
        &self,
        change: Result<Option<WatchResponse>, etcd_client::Error>,
    ) -> Result<bool, ElectionError> {
        let Some(change) = change.map_err(|error| failed(&self.endpoints, &error))? else { return Ok(true) };
        let leader = self.key("leader");
        let is_news = |event: &etcd_client::Event| {
            event.event_type() == EventType::Delete
                || event.kv().is_some_and(|kv| kv.key() == leader.as_bytes())
        };
        Ok(change.canceled() || change.events().iter().any(is_news))
    }
}

/// The leader's key, by that lease, and the term of it, which stays.
fn put_leader(key: String, count: String, leader: &Leader, lease: i64) -> [TxnOp; 2] {
    let Leader { node, address, term } = leader;
    let held = Some(PutOptions::new().with_lease(lease));
    [TxnOp::put(key, format!("{node}\n{address}\n{term}"), held), TxnOp::put(count, term.to_string(), None)]
}

fn parse_leader(value: &str) -> Option<Leader> {
    match value.lines().collect::<Vec<_>>()[..] {
        [node, address, term] => {
            let term = term.parse().ok()?;
            Some(Leader { node: node.to_owned(), address: address.to_owned(), term })
        }
        _ => None,
    }
}
