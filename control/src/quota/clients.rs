//! All clients by name.

use super::client::{ClientQuota, Use};
use super::limits::{Limits, RoleLimits};
use crate::access::Role;
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// Clients that have a quota of their own. Those that come later share one by role.
pub const CLIENTS_MAX: usize = 16_384;
/// Twice as many, so that a search ends soon.
const PLACES: usize = 2 * CLIENTS_MAX;
pub const NAME_BYTES_MAX: usize = 64;

/// A place holds the name's hash beside the client, so that another one's is passed by without a look at it.
type Place = OnceLock<(u64, Arc<ClientQuota>)>;

/// Open addressing; a client that is there stays there, so that looking takes no lock.
pub struct Quotas {
    /// Whoever holds this and `clients` took `clients` first.
    defaults: Mutex<RoleLimits>,
    hasher: RandomState,
    places: Box<[Place]>,
    /// In the order in which they came; whoever adds one has the lock.
    clients: Mutex<Vec<Arc<ClientQuota>>>,
    /// By role, for those that found no place.
    others: [Arc<ClientQuota>; 3],
}

/// There are [`CLIENTS_MAX`] clients already, or the name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("there are {CLIENTS_MAX} clients with a quota already, as many as there may be")]
    Full,
    #[error("a client's name has 1 to {NAME_BYTES_MAX} bytes, and no control characters")]
    Name,
}

impl Quotas {
    pub fn new(defaults: RoleLimits) -> Quotas {
        let others = [Role::Reader, Role::Operator, Role::Admin]
            .map(|role| Arc::new(ClientQuota::new(&format!("(other {}s)", role.name()), role, &defaults)));
        Quotas {
            defaults: Mutex::new(defaults),
            hasher: RandomState::default(),
            places: (0..PLACES).map(|_| Place::new()).collect(),
            clients: Mutex::default(),
            others,
        }
    }

    /// The client of that name; one that is not known yet has the limits of its role.
    #[inline]
    pub fn of(&self, name: &str, role: Role, now_ns: u64) -> &Arc<ClientQuota> {
        let found = match self.find(name) {
            Some(found) => found,
            None => match self.add(name, role) {
                Ok(added) => added,
                Err(_) => return &self.others[role as usize],
            },
        };
        if !found.has_role(role) {
            found.set_role(role, &self.defaults(), now_ns);
        }
        found
    }

    /// The client of that name, if it is known.
    #[inline]
    pub fn find(&self, name: &str) -> Option<&Arc<ClientQuota>> {
        let hash = self.hasher.hash_one(name);
        for place in self.search(hash) {
            match place.get() {
                Some((other, client)) if *other == hash && client.is_called(name) => return Some(client),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// Limits of its own for a client, or by `None` its role's, at once. `role` is that of one who is not known yet.
    pub fn set(
        &self,
        name: &str,
        role: Role,
        limits: Option<Limits>,
        now_ns: u64,
    ) -> Result<Arc<ClientQuota>, NoPlace> {
        let client = match self.find(name) {
            Some(client) => client,
            None => self.add(name, role)?,
        };
        client.set(limits, &self.defaults(), now_ns);
        Ok(client.clone())
    }

    /// Whether there is a place for a client of that name.
    pub fn has_place(&self, name: &str) -> Result<(), NoPlace> {
        check_name(name)?;
        match self.find(name).is_none() && self.clients().len() == CLIENTS_MAX {
            true => Err(NoPlace::Full),
            false => Ok(()),
        }
    }

    /// The limits of a role.
    pub fn role_limits(&self, role: Role) -> Limits {
        *self.defaults().of(role)
    }

    /// Other limits by role, at once for all who have none of their own.
    pub fn set_defaults(&self, defaults: RoleLimits, now_ns: u64) {
        let clients = self.clients();
        let mut held = self.defaults();
        *held = defaults;
        clients.iter().chain(&self.others).for_each(|client| client.renew(&held, now_ns));
    }

    /// Those who are known, by name.
    pub fn all(&self) -> Vec<Arc<ClientQuota>> {
        let mut all = self.clients().clone();
        all.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// What each client uses, by name; those who found no place are summed up by role.
    pub fn usage(&self, now_ns: u64) -> Vec<Use> {
        let others = self.others.iter().map(|other| other.usage(now_ns));
        let all = self.all();
        let known = all.iter().map(|client| client.usage(now_ns));
        others.filter(|other| other.requests.total != 0).chain(known).collect()
    }

    /// To be called about once a second.
    pub fn sample(&self, now_ns: u64) {
        let clients = self.clients();
        for client in clients.iter().chain(&self.others) {
            client.sample(now_ns);
        }
    }

    fn search(&self, hash: u64) -> impl Iterator<Item = &Place> {
        let first = hash as usize % PLACES;
        self.places[first..].iter().chain(&self.places[..first])
    }

    #[cold]
    fn add(&self, name: &str, role: Role) -> Result<&Arc<ClientQuota>, NoPlace> {
        check_name(name)?;
        let mut clients = self.clients();
        // It may have come while the lock was waited for.
        if let Some(found) = self.find(name) {
            return Ok(found);
        }
        if clients.len() == CLIENTS_MAX {
            return Err(NoPlace::Full);
        }
        let hash = self.hasher.hash_one(name);
        let free =
            self.search(hash).find(|place| place.get().is_none()).expect("half of the places are free");
        let (_, client) =
            free.get_or_init(|| (hash, Arc::new(ClientQuota::new(name, role, &self.defaults()))));
        clients.push(client.clone());
        Ok(client)
    }

    fn defaults(&self) -> MutexGuard<'_, RoleLimits> {
        self.defaults.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Arc<ClientQuota>>> {
        self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn check_name(name: &str) -> Result<(), NoPlace> {
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(NoPlace::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn limits(requests_per_min: u64) -> Limits {
        Limits { requests_per_min: Some(requests_per_min), burst_ms: 60_000, ..Limits::default() }
    }

    fn passing(client: &ClientQuota) -> usize {
        (0..100).filter(|_| client.charge_request(0).is_ok()).count()
    }

    #[test]
    fn each_client_has_its_own_and_what_comes_when_all_is_full_shares_one() {
        let quotas = Quotas::new(RoleLimits { reader: limits(3), ..RoleLimits::default() });
        for number in 0..CLIENTS_MAX {
            assert_eq!(passing(quotas.of(&format!("c{number}"), Role::Reader, 0)), 3);
        }
        assert_eq!(quotas.all().len(), CLIENTS_MAX);
        let late: Vec<usize> =
            ["x", "y"].map(|name| passing(quotas.of(name, Role::Reader, 0))).into_iter().collect();
        assert_eq!(late, [3, 0], "they share one");
        assert_eq!(quotas.set("x", Role::Reader, None, 0).unwrap_err(), NoPlace::Full);
        assert_eq!((quotas.has_place("x"), quotas.has_place("c7")), (Err(NoPlace::Full), Ok(())));
        let others: Vec<Use> =
            quotas.usage(0).into_iter().filter(|client| client.name == "(other readers)").collect();
        assert_eq!((others.len(), others[0].requests.total), (1, 3));
        for name in ["", "a\u{7}", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(quotas.set(name, Role::Reader, None, 0).unwrap_err(), NoPlace::Name);
            assert_eq!(quotas.has_place(name).unwrap_err(), NoPlace::Name);
        }
    }

    #[test]
    fn a_client_has_the_limits_of_its_role_unless_it_has_its_own() {
        let defaults = RoleLimits { reader: limits(3), operator: limits(5), admin: Limits::default() };
        let quotas = Quotas::new(defaults);
        assert_eq!(passing(quotas.of("a", Role::Reader, 0)), 3);
        // Three of five are used.
        assert_eq!(passing(quotas.of("a", Role::Operator, 0)), 2);
        assert_eq!(passing(quotas.of("a", Role::Admin, 0)), 100);
        quotas.set("b", Role::Reader, Some(limits(7)), 0).unwrap();
        assert_eq!(passing(quotas.of("b", Role::Operator, 0)), 7);
        quotas.set("b", Role::Reader, None, 0).unwrap();
        assert_eq!(quotas.find("b").unwrap().usage(0).limits, limits(5));
        assert!(quotas.find("c").is_none());
        quotas.set("c", Role::Operator, Some(limits(7)), 0).unwrap();
        quotas.set_defaults(RoleLimits { operator: limits(9), ..RoleLimits::default() }, 0);
        assert_eq!(quotas.find("b").unwrap().usage(0).limits, limits(9));
        assert_eq!(passing(quotas.find("b").unwrap()), 2, "seven are used");
        assert_eq!(quotas.find("c").unwrap().usage(0).limits, limits(7));
        assert_eq!(
            quotas.set("c", Role::Reader, None, 0).unwrap().usage(0).limits,
            limits(9),
            "it has a role"
        );
    }

    #[test]
    fn callers_that_come_at_once_are_each_there_once() {
        let quotas = Quotas::new(RoleLimits::default());
        let found: Vec<HashSet<usize>> = std::thread::scope(|scope| {
            let look = || {
                let address =
                    |number: usize| Arc::as_ptr(quotas.of(&format!("c{number}"), Role::Reader, 0)) as usize;
                (0..2_000).map(address).collect()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|each| *each == found[0]) && found[0].len() == 2_000);
        assert_eq!(quotas.all().len(), 2_000);
    }
}
