//! Deliveries: what was handed to subscribers, how long that took, and for whom.

use crate::latency::Scope;
use dataplane::counters::SharedCounter;
use dataplane::histogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

/// Clients that have a histogram of their own (35 kB each): the busiest.
pub const CLIENTS_MAX: usize = 32;
/// Further clients whose updates are counted, to see whether they are busier.
const CANDIDATES_MAX: usize = 1_024;
/// Roles that are told apart; what comes then is `other`.
const ROLES_MAX: usize = 8;
/// A client takes another's place once it is so many times as busy: they should not take turns.
const BUSIER: u64 = 2;

#[derive(Debug, Default)]
pub struct Delivery {
    /// Subscriptions that are open now.
    pub subscriptions: AtomicUsize,
    /// Subscriptions that may be open at once.
    pub subscriptions_max: AtomicUsize,
    pub delivered: SharedCounter,
    pub conflated: SharedCounter,
    /// A tick can be read in the cache → it is handed to a subscriber's connection. Whoever counts has `clients`.
    pub published_to_delivered: Histogram,
    /// Their histograms, too, have one writer: whoever has the lock.
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    busiest: BTreeMap<String, Client>,
    /// Updates of those that are not among the busiest, lately.
    candidates: HashMap<String, u64>,
    roles: BTreeMap<String, Arc<Histogram>>,
}

#[derive(Debug)]
struct Client {
    role: String,
    /// Updates, lately.
    updates: u64,
    histogram: Arc<Histogram>,
}

impl Delivery {
    /// `updates` that could be read at `published_ns` (of the first) are handed to `client`'s connection at `now_ns`
    /// (`CLOCK_MONOTONIC`).
    pub fn record(&self, client: &str, role: &str, published_ns: u64, now_ns: u64, updates: u64) {
        let mut clients = self.clients();
        self.published_to_delivered.record_between(published_ns, now_ns, updates);
        let histogram = match clients.busiest.get_mut(client) {
            Some(busy) => {
                busy.updates += updates;
                &busy.histogram
            }
            None => clients.histogram_of_other(client, role, updates),
        };
        histogram.record_between(published_ns, now_ns, updates);
    }

    /// Halves how busy clients were, so that it is a matter of the last minutes.
    pub fn age(&self) {
        let mut clients = self.clients();
        clients.busiest.values_mut().for_each(|client| client.updates /= 2);
        clients.candidates.retain(|_, updates| {
            *updates /= 2;
            *updates != 0
        });
    }

    /// The histogram of each of the busiest clients, since it is among them, and of the rest by role, since the start.
    pub fn by_client(&self) -> Vec<(Scope, Arc<Histogram>)> {
        let clients = self.clients();
        let busiest = clients.busiest.iter();
        let busiest = busiest.map(|(name, client)| (Scope::Client(name.clone()), client.histogram.clone()));
        let roles = clients.roles.iter().map(|(name, role)| (Scope::Role(name.clone()), role.clone()));
        busiest.chain(roles).collect()
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Clients {
    /// The histogram in which the updates of a client are to be counted that is not among the busiest so far.
    fn histogram_of_other(&mut self, name: &str, role: &str, updates: u64) -> &Histogram {
        if self.busiest.len() == CLIENTS_MAX && !self.makes_room(name, updates) {
            return self.role(role);
        }
        let updates = self.candidates.remove(name).unwrap_or(updates);
        let client = Client { role: role.to_owned(), updates, histogram: Arc::default() };
        &self.busiest.entry(name.to_owned()).or_insert(client).histogram
    }

    /// Counts a client that is not among the busiest; true = by now it is busier than the least of them, which is gone.
    fn makes_room(&mut self, name: &str, updates: u64) -> bool {
        if self.candidates.len() == CANDIDATES_MAX && !self.candidates.contains_key(name) {
            let least = self.candidates.iter().min_by_key(|(_, updates)| **updates);
            let least = least.map(|(name, _)| name.clone());
            least.and_then(|least| self.candidates.remove(&least));
        }
        let candidate = self.candidates.entry(name.to_owned()).or_default();
        *candidate += updates;
        let candidate = *candidate;
        let least = self.busiest.iter().min_by_key(|(_, client)| client.updates);
        let Some(least) = least.filter(|(_, client)| candidate > client.updates.saturating_mul(BUSIER))
        else {
            return false;
        };
        let least = least.0.clone();
        if let Some(client) = self.busiest.remove(&least) {
            self.role(&client.role).add(&client.histogram);
            self.candidates.insert(least, client.updates);
        }
        true
    }

    fn role(&mut self, role: &str) -> &Arc<Histogram> {
        let known = self.roles.len() < ROLES_MAX || self.roles.contains_key(role);
        self.roles.entry(if known { role } else { "other" }.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(histogram: &Histogram) -> u64 {
        histogram.counts().map(|(_, count)| count).sum()
    }

    fn by_client(delivery: &Delivery) -> HashMap<String, u64> {
        delivery.by_client().iter().map(|(scope, counted)| (scope.to_string(), total(counted))).collect()
    }

    #[test]
    fn the_busiest_clients_have_their_own_and_nothing_is_lost_when_they_change() {
        let delivery = Delivery::default();
        for number in 0..CLIENTS_MAX {
            delivery.record(&format!("c{number}"), "reader", 0, 1_000, 10 + number as u64);
        }
        delivery.record("late", "operator", 0, 2_000, 20);
        let seen = by_client(&delivery);
        assert_eq!((seen.len(), seen["role operator"], seen["client c0"]), (CLIENTS_MAX + 1, 20, 10));
        // Twice as busy as the least busy is not enough; more is.
        delivery.record("late", "operator", 0, 2_000, 5);
        let seen = by_client(&delivery);
        assert_eq!((seen["client late"], seen["role operator"], seen["role reader"]), (5, 20, 10));
        assert!(!seen.contains_key("client c0"));
        assert_eq!(seen.values().sum::<u64>(), total(&delivery.published_to_delivered));
    }

    #[test]
    fn a_client_that_was_busy_long_ago_gives_way() {
        let delivery = Delivery::default();
        for number in 0..CLIENTS_MAX {
            delivery.record(&format!("c{number}"), "reader", 0, 1_000, 1_000);
        }
        delivery.record("new", "reader", 0, 1_000, 100);
        assert!(!by_client(&delivery).contains_key("client new"));
        (0..6).for_each(|_| delivery.age());
        delivery.record("new", "reader", 0, 1_000, 100);
        assert_eq!(by_client(&delivery)["client new"], 100);
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let delivery = Delivery::default();
        for number in 0..3 * CANDIDATES_MAX {
            delivery.record(&format!("c{number}"), &format!("r{number}"), 0, 1_000, 10);
        }
        let clients = delivery.clients();
        assert_eq!((clients.busiest.len(), clients.candidates.len()), (CLIENTS_MAX, CANDIDATES_MAX));
        assert_eq!(clients.roles.len(), ROLES_MAX + 1);
    }
}
