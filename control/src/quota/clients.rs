//! All clients by name.

use super::client::{ClientQuota, Use};
use super::limits::{Limits, RoleLimits};
use crate::access::Role;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Clients that have a quota of their own. Those that come later share one by role.
pub const CLIENTS_MAX: usize = 16_384;
pub const NAME_BYTES_MAX: usize = 64;

/// Of whom there is one, and of whom limits of their own are kept. A call does not look here: its client holds its quota.
pub struct Quotas {
    known: Mutex<Known>,
    /// By role, for those that found no place. What was refused to those who left is theirs, too.
    others: [Arc<ClientQuota>; 3],
}

struct Known {
    defaults: RoleLimits,
    clients: BTreeMap<String, Arc<ClientQuota>>,
}

impl Known {
    /// The client of that name; one that is not known yet has the limits of its role.
    fn of(&mut self, name: &str, role: Role) -> Result<&Arc<ClientQuota>, NoPlace> {
        if !self.clients.contains_key(name) {
            check_name(name)?;
            if self.clients.len() == CLIENTS_MAX {
                return Err(NoPlace::Full);
            }
        }
        let new = || Arc::new(ClientQuota::new(name, role, &self.defaults));
        Ok(self.clients.entry(name.to_owned()).or_insert_with(new))
    }
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
        Quotas { known: Mutex::new(Known { defaults, clients: BTreeMap::new() }), others }
    }

    /// The client of that name, which stays known for as long as somebody holds it; one that is not known yet has the limits of its
    /// role.
    pub fn of(&self, name: &str, role: Role) -> Arc<ClientQuota> {
        self.known().of(name, role).unwrap_or(&self.others[role as usize]).clone()
    }

    /// The client of that name, if it is known.
    pub fn find(&self, name: &str) -> Option<Arc<ClientQuota>> {
        self.known().clients.get(name).cloned()
    }

    /// A client has that role from now on.
    pub fn set_role(&self, client: &ClientQuota, role: Role, now_ns: u64) {
        client.set_role(role, &self.known().defaults, now_ns);
    }

    /// Limits of its own for a client, or by `None` its role's, at once. `role` is that of one who is not known yet.
    pub fn set(
        &self,
        name: &str,
        role: Role,
        limits: Option<Limits>,
        now_ns: u64,
    ) -> Result<Arc<ClientQuota>, NoPlace> {
        let mut known = self.known();
        let client = known.of(name, role)?.clone();
        client.set(limits, &known.defaults, now_ns);
        Ok(client)
    }

    /// Whether there is a place for a client of that name.
    pub fn has_place(&self, name: &str) -> Result<(), NoPlace> {
        check_name(name)?;
        let clients = &self.known().clients;
        match clients.len() == CLIENTS_MAX && !clients.contains_key(name) {
            true => Err(NoPlace::Full),
            false => Ok(()),
        }
    }

    /// The limits of a role.
    pub fn role_limits(&self, role: Role) -> Limits {
        *self.known().defaults.of(role)
    }

    /// Other limits by role, at once for all who have none of their own.
    pub fn set_defaults(&self, defaults: RoleLimits, now_ns: u64) {
        let mut known = self.known();
        known.defaults = defaults;
        let all = known.clients.values().chain(&self.others);
        all.for_each(|client| client.renew(&known.defaults, now_ns));
    }

    /// Those who are known, by name.
    pub fn all(&self) -> Vec<Arc<ClientQuota>> {
        self.known().clients.values().cloned().collect()
    }

    /// What each client uses, by name; those who found no place, and what was refused to those who left, are summed up by role.
    pub fn usage(&self, now_ns: u64) -> Vec<Use> {
        let others = self.others.iter().map(|other| other.usage(now_ns));
        let all = self.all();
        let known = all.iter().map(|client| client.usage(now_ns));
        let is_used =
            |other: &Use| other.requests.total != 0 || other.refusals.iter().any(|count| *count != 0);
        others.filter(is_used).chain(known).collect()
    }

    /// To be called about once a second. Whom nobody holds any more leaves, unless limits of its own are kept for it.
    pub fn sample(&self, now_ns: u64) {
        let mut known = self.known();
        known.clients.retain(|_, client| {
            let stays = Arc::get_mut(client).is_none() || client.is_own();
            if !stays {
                self.others[client.role() as usize].inherit_refusals(client);
            }
            stays
        });
        for client in known.clients.values().chain(&self.others) {
            client.sample(now_ns);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
    use crate::quota::Meter;

    fn limits(requests_per_min: u64) -> Limits {
        Limits { requests_per_min: Some(requests_per_min), burst_ms: 60_000, ..Limits::default() }
    }

    fn passing(client: &ClientQuota) -> usize {
        (0..100).filter(|_| client.charge_request(0).is_ok()).count()
    }

    #[test]
    fn each_client_has_its_own_and_what_comes_when_all_is_full_shares_one() {
        let quotas = Quotas::new(RoleLimits { reader: limits(3), ..RoleLimits::default() });
        let each = (0..CLIENTS_MAX).map(|number| quotas.of(&format!("c{number}"), Role::Reader));
        let each: Vec<_> = each.collect();
        assert!(each.iter().all(|client| passing(client) == 3));
        assert_eq!(quotas.all().len(), CLIENTS_MAX);
        let late: Vec<usize> =
            ["x", "y"].map(|name| passing(&quotas.of(name, Role::Reader))).into_iter().collect();
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
        let as_role = |name, role| {
            let client = quotas.of(name, role);
            quotas.set_role(&client, role, 0);
            passing(&client)
        };
        assert_eq!(as_role("a", Role::Reader), 3);
        assert_eq!(as_role("a", Role::Operator), 2, "three of five are used");
        assert_eq!(as_role("a", Role::Admin), 100);
        quotas.set("b", Role::Reader, Some(limits(7)), 0).unwrap();
        assert_eq!(as_role("b", Role::Operator), 7);
        quotas.set("b", Role::Reader, None, 0).unwrap();
        assert_eq!(quotas.find("b").unwrap().usage(0).limits, limits(5));
        assert!(quotas.find("c").is_none());
        quotas.set("c", Role::Operator, Some(limits(7)), 0).unwrap();
        quotas.set_defaults(RoleLimits { operator: limits(9), ..RoleLimits::default() }, 0);
        assert_eq!(quotas.find("b").unwrap().usage(0).limits, limits(9));
        assert_eq!(passing(&quotas.find("b").unwrap()), 2, "seven are used");
        assert_eq!(quotas.find("c").unwrap().usage(0).limits, limits(7));
        assert_eq!(
            quotas.set("c", Role::Reader, None, 0).unwrap().usage(0).limits,
            limits(9),
            "it has a role"
        );
    }

    #[test]
    fn whom_nobody_holds_leaves_unless_it_has_limits_of_its_own() {
        let quotas = Quotas::new(RoleLimits { reader: limits(3), ..RoleLimits::default() });
        let names =
            || -> Vec<String> { quotas.all().iter().map(|client| client.name().to_owned()).collect() };
        let gone = quotas.of("gone", Role::Reader);
        quotas.set("own", Role::Reader, Some(limits(7)), 0).unwrap();
        quotas.sample(0);
        assert_eq!(names(), ["gone", "own"]);
        assert_eq!(passing(&gone), 3);
        let refused = || -> u64 {
            let all = quotas.usage(0).into_iter();
            all.map(|client| client.refusals[Meter::Requests as usize]).sum()
        };
        assert_eq!(refused(), 97);
        let stream = gone.open_subscription().unwrap();
        drop(gone);
        quotas.sample(0);
        assert_eq!(names(), ["gone", "own"], "something of it is open");
        drop(stream);
        quotas.sample(0);
        assert_eq!((names(), refused()), (vec!["own".to_owned()], 97), "a counter does not fall");
        quotas.set("own", Role::Reader, None, 0).unwrap();
        quotas.sample(0);
        assert!(names().is_empty());
        assert_eq!(passing(&quotas.of("gone", Role::Reader)), 3, "it is another one");
    }
}
