//! One client's meters.

use super::answers::Answers;
use super::excess::Excess;
use super::limits::{Limits, Meter, Policy, RoleLimits};
use crate::access::Role;
use dataplane::quota::{Gcra, History, Windows};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What a client may use, and what it uses. Charging takes no lock and allocates nothing, unless something is refused.
///
/// What every call touches is one cache line; all else is behind it, so that the meters of many clients lie close together.
#[derive(Debug)]
#[repr(align(64))]
pub struct ClientQuota {
    requests: Gcra,
    rest: Box<Rest>,
}

#[derive(Debug)]
struct Rest {
    name: String,
    updates: Gcra,
    bytes: Gcra,
    subscriptions: Level,
    instruments: Level,
    /// By [`Meter`].
    refusals: [AtomicU64; Meter::ALL.len()],
    /// How often all subscriptions were to end.
    cuts: AtomicU64,
    settings: Mutex<Settings>,
    /// The [`Policy`] of the settings, which every wait of a stream looks at.
    on_excess: AtomicU8,
    /// Of requests, updates and bytes.
    histories: Mutex<[History; 3]>,
    answers: Arc<Answers>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    role: Role,
    /// Set for this client, in place of its role's.
    own: Option<Limits>,
    /// Those that hold.
    limits: Limits,
}

/// What may be held at once.
#[derive(Debug)]
struct Level {
    held: AtomicU64,
    max: AtomicU64,
}

impl Default for Level {
    fn default() -> Level {
        Level { held: AtomicU64::new(0), max: AtomicU64::new(u64::MAX) }
    }
}

impl Level {
    fn take(&self, count: u64) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |held: u64| held.checked_add(count).filter(|held| *held <= max);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, count: u64) {
        self.held.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A client's use, as it is told.
#[derive(Clone, Debug)]
pub struct Use {
    pub name: String,
    pub role: Role,
    pub limits: Limits,
    /// Whether the limits were set for this client.
    pub is_own: bool,
    pub requests: Windows,
    pub updates: Windows,
    pub bytes: Windows,
    /// Held now.
    pub subscriptions: u64,
    pub instruments: u64,
    /// By [`Meter`], since the start.
    pub refusals: [u64; Meter::ALL.len()],
}

impl Use {
    /// How much of a limit is used, 1 = all of it: of rates in the last minute or whole second. `None` = there is no limit.
    pub fn share(&self, meter: Meter) -> Option<f64> {
        let used = match meter {
            Meter::Requests => self.requests.minute,
            Meter::Subscriptions => self.subscriptions,
            Meter::Instruments => self.instruments,
            Meter::Updates => self.updates.second,
            Meter::Bytes => self.bytes.second,
        };
        self.limits.get(meter).map(|limit| used as f64 / limit as f64)
    }
}

impl ClientQuota {
    pub(super) fn new(name: &str, role: Role, defaults: &RoleLimits) -> ClientQuota {
        let limits = *defaults.of(role);
        let rest = Rest {
            name: name.to_owned(),
            updates: Gcra::default(),
            bytes: Gcra::default(),
            subscriptions: Level::default(),
            instruments: Level::default(),
            refusals: Default::default(),
            cuts: AtomicU64::new(0),
            settings: Mutex::new(Settings { role, own: None, limits }),
            on_excess: AtomicU8::default(),
            histories: Mutex::default(),
            answers: Arc::default(),
        };
        let quota = ClientQuota { requests: Gcra::default(), rest: Box::new(rest) };
        quota.apply(&limits, 0);
        quota
    }

    pub fn name(&self) -> &str {
        &self.rest.name
    }

    /// Those that wait to be read.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.rest.answers
    }

    /// Charges one call.
    #[inline]
    pub fn charge_request(&self, now_ns: u64) -> Result<(), Excess> {
        self.requests.check(now_ns, 1).map_err(|wait_ns| self.excess(Meter::Requests, Some(wait_ns)))
    }

    /// Charges what is about to be sent on a subscription: all of it passes, or nothing. What is larger than the burst passes when all of
    /// the burst is there, and is paid for after.
    #[inline]
    pub fn charge_delivery(&self, now_ns: u64, updates: u64, bytes: u64) -> Result<(), Excess> {
        let waits = |meter| move |wait_ns| self.excess(meter, Some(wait_ns));
        self.rest.bytes.look_whole(now_ns, bytes).map_err(waits(Meter::Bytes))?;
        self.rest.updates.check_whole(now_ns, updates).map_err(waits(Meter::Updates))?;
        // Only another delivery of the client, just now, can have taken them.
        self.rest.bytes.check_whole(now_ns, bytes).map_err(|wait_ns| {
            self.rest.updates.give_back(updates);
            waits(Meter::Bytes)(wait_ns)
        })
    }

    /// How long to wait until so much would pass, or all of the burst if that is less; zero = now.
    #[inline]
    pub fn delivery_wait(&self, now_ns: u64, updates: u64, bytes: u64) -> Duration {
        let wait_ns = |meter: &Gcra, cost| meter.look_whole(now_ns, cost).err().unwrap_or(0);
        Duration::from_nanos(wait_ns(&self.rest.updates, updates).max(wait_ns(&self.rest.bytes, bytes)))
    }

    /// Updates and bytes that would pass now; `u64::MAX` = any.
    pub fn deliverable(&self, now_ns: u64) -> (u64, u64) {
        (self.rest.updates.credit(now_ns), self.rest.bytes.credit(now_ns))
    }

    /// Takes a place for one more stream, without instruments as yet.
    pub fn open_subscription(self: &Arc<Self>) -> Result<HeldSubscription, Excess> {
        if !self.rest.subscriptions.take(1) {
            return Err(self.excess(Meter::Subscriptions, None));
        }
        let cuts = self.rest.cuts.load(Ordering::Relaxed);
        Ok(HeldSubscription { quota: self.clone(), instruments: 0, cuts })
    }

    pub fn policy(&self) -> Policy {
        Policy::ALL[usize::from(self.rest.on_excess.load(Ordering::Relaxed))]
    }

    /// Counts it, and by its policy ends the client's subscriptions.
    #[cold]
    fn excess(&self, meter: Meter, wait_ns: Option<u64>) -> Excess {
        self.rest.refusals[meter as usize].fetch_add(1, Ordering::Relaxed);
        let limits = self.settings().limits;
        if limits.on_excess == Policy::Disconnect {
            self.rest.cuts.fetch_add(1, Ordering::Relaxed);
        }
        Excess {
            client: self.rest.name.clone(),
            meter,
            // It may have been lifted just now.
            limit: limits.get(meter).unwrap_or(u64::MAX),
            retry_after: wait_ns.map(Duration::from_nanos),
            policy: limits.on_excess,
        }
    }

    /// Limits of its own, or by `None` its role's.
    pub(super) fn set(&self, own: Option<Limits>, defaults: &RoleLimits, now_ns: u64) {
        let mut settings = self.settings();
        settings.own = own;
        settings.limits = own.unwrap_or(*defaults.of(settings.role));
        self.apply(&settings.limits, now_ns);
    }

    /// The role that it has now.
    pub(super) fn set_role(&self, role: Role, defaults: &RoleLimits, now_ns: u64) {
        let mut settings = self.settings();
        if settings.role != role {
            settings.role = role;
            settings.limits = settings.own.unwrap_or(*defaults.of(role));
            self.apply(&settings.limits, now_ns);
        }
    }

    /// Whether its limits were set for it.
    pub(super) fn is_own(&self) -> bool {
        self.settings().own.is_some()
    }

    pub(super) fn role(&self) -> Role {
        self.settings().role
    }

    /// What was refused to another one counts as refused to this one.
    pub(super) fn inherit_refusals(&self, other: &ClientQuota) {
        for (own, others) in self.rest.refusals.iter().zip(&other.rest.refusals) {
            own.fetch_add(others.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Its role's limits again, which are others now, unless it has its own.
    pub(super) fn renew(&self, defaults: &RoleLimits, now_ns: u64) {
        let mut settings = self.settings();
        if settings.own.is_none() {
            settings.limits = *defaults.of(settings.role);
            self.apply(&settings.limits, now_ns);
        }
    }

    /// One caller at a time: who has the settings.
    fn apply(&self, limits: &Limits, now_ns: u64) {
        self.requests.set(limits.rate(Meter::Requests), now_ns);
        self.rest.updates.set(limits.rate(Meter::Updates), now_ns);
        self.rest.bytes.set(limits.rate(Meter::Bytes), now_ns);
        self.rest.on_excess.store(limits.on_excess as u8, Ordering::Relaxed);
        // What is held already stays.
        self.rest.subscriptions.max.store(limits.subscriptions.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.rest.instruments.max.store(limits.instruments.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Tells the histories what the totals are.
    pub(super) fn sample(&self, now_ns: u64) -> [Windows; 3] {
        let mut histories = self.rest.histories.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let meters = [&self.requests, &self.rest.updates, &self.rest.bytes];
        for (history, meter) in histories.iter_mut().zip(meters) {
            history.tell(now_ns, meter.taken());
        }
        [histories[0].windows(), histories[1].windows(), histories[2].windows()]
    }

    pub fn usage(&self, now_ns: u64) -> Use {
        let Settings { role, own, limits } = *self.settings();
        let [requests, updates, bytes] = self.sample(now_ns);
        Use {
            name: self.rest.name.clone(),
            role,
            limits,
            is_own: own.is_some(),
            requests,
            updates,
            bytes,
            subscriptions: self.rest.subscriptions.held.load(Ordering::Relaxed),
            instruments: self.rest.instruments.held.load(Ordering::Relaxed),
            refusals: std::array::from_fn(|meter| self.rest.refusals[meter].load(Ordering::Relaxed)),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.rest.settings.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One stream's place and its instruments, given back when it is dropped.
#[derive(Debug)]
pub struct HeldSubscription {
    quota: Arc<ClientQuota>,
    instruments: u64,
    cuts: u64,
}

impl HeldSubscription {
    /// The stream has so many instruments now, in place of as many as before. If they are too many it has as many as before; having
    /// fewer always passes.
    #[inline]
    pub fn set_instruments(&mut self, count: u64) -> Result<(), Excess> {
        if count == self.instruments {
            return Ok(());
        }
        match count.checked_sub(self.instruments) {
            Some(more) if !self.quota.rest.instruments.take(more) => {
                return Err(self.quota.excess(Meter::Instruments, None));
            }
            Some(_) => {}
            None => self.quota.rest.instruments.give_back(self.instruments - count),
        }
        self.instruments = count;
        Ok(())
    }

    /// Whether the client asked for too much since the stream was opened, and is to be disconnected for it.
    pub fn is_cut(&self) -> bool {
        self.quota.rest.cuts.load(Ordering::Relaxed) != self.cuts
    }

    pub fn quota(&self) -> &Arc<ClientQuota> {
        &self.quota
    }
}

impl Drop for HeldSubscription {
    fn drop(&mut self) {
        self.quota.rest.instruments.give_back(self.instruments);
        self.quota.rest.subscriptions.give_back(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn client(limits: Limits) -> Arc<ClientQuota> {
        let defaults = RoleLimits { reader: limits, ..RoleLimits::default() };
        Arc::new(ClientQuota::new("ann", Role::Reader, &defaults))
    }

    #[test]
    fn what_a_call_touches_is_one_cache_line() {
        assert_eq!((size_of::<ClientQuota>(), align_of::<ClientQuota>()), (64, 64));
    }

    #[test]
    fn a_delivery_passes_whole_or_not_at_all_and_the_time_told_is_true() {
        let limits = Limits { updates_per_s: Some(100), bytes_per_s: Some(10_000), ..Limits::default() };
        let quota = client(limits);
        assert_eq!(quota.deliverable(0), (100, 10_000));
        quota.charge_delivery(0, 60, 1_000).unwrap();
        let excess = quota.charge_delivery(0, 60, 1_000).unwrap_err();
        assert_eq!((excess.meter, excess.limit), (Meter::Updates, 100));
        assert_eq!(quota.deliverable(0), (40, 9_000), "what was refused took nothing");
        let wait_ns = excess.retry_after.unwrap().as_nanos() as u64;
        assert_eq!(wait_ns, SECOND_NS / 5);
        assert!(quota.charge_delivery(wait_ns - 1, 60, 1_000).is_err());
        quota.charge_delivery(wait_ns, 60, 1_000).unwrap();
        // An image larger than a second's worth: it waits for all of it, and is paid for after.
        let excess = quota.charge_delivery(wait_ns, 0, 25_000).unwrap_err();
        let full_ns = wait_ns + excess.retry_after.unwrap().as_nanos() as u64;
        quota.charge_delivery(full_ns, 0, 25_000).unwrap();
        assert_eq!(quota.deliverable(full_ns + 3 * SECOND_NS / 2), (100, 0));
        assert_eq!(quota.deliverable(full_ns + 5 * SECOND_NS / 2), (100, 10_000));
        let used = quota.usage(full_ns);
        assert_eq!((used.updates.total, used.bytes.total), (120, 27_000));
        assert_eq!(used.refusals, [0, 0, 0, 2, 1]);
    }

    #[test]
    fn what_is_held_is_given_back() {
        let quota = client(Limits { subscriptions: Some(2), instruments: Some(10), ..Limits::default() });
        let mut one = quota.open_subscription().unwrap();
        let mut two = quota.open_subscription().unwrap();
        let excess = quota.open_subscription().unwrap_err();
        assert_eq!((excess.meter, excess.retry_after), (Meter::Subscriptions, None));
        one.set_instruments(7).unwrap();
        two.set_instruments(3).unwrap();
        assert_eq!(two.set_instruments(4).unwrap_err().meter, Meter::Instruments);
        assert!(two.set_instruments(u64::MAX).is_err());
        one.set_instruments(6).unwrap();
        two.set_instruments(4).unwrap();
        assert!(!one.is_cut(), "its policy is to refuse");
        drop(one);
        let used = quota.usage(0);
        assert_eq!((used.subscriptions, used.instruments), (1, 4));
        drop((two, quota.open_subscription().unwrap()));
        let used = quota.usage(0);
        assert_eq!((used.subscriptions, used.instruments), (0, 0));
    }

    #[test]
    fn who_is_to_be_disconnected_loses_what_was_open_before() {
        let limits = Limits { requests_per_min: Some(1), on_excess: Policy::Disconnect, ..Limits::default() };
        let quota = client(limits);
        let before = quota.open_subscription().unwrap();
        quota.charge_request(0).unwrap();
        assert!(!before.is_cut());
        assert_eq!(quota.charge_request(0).unwrap_err().policy, Policy::Disconnect);
        assert!(before.is_cut() && !quota.open_subscription().unwrap().is_cut());
    }

    #[test]
    fn usage_is_of_its_time() {
        let quota = client(Limits { requests_per_min: Some(60), burst_ms: 10_000, ..Limits::default() });
        let mut passed = 0;
        for second in 0..100 {
            quota.sample(second * SECOND_NS);
            passed += u64::from(quota.charge_request(second * SECOND_NS).is_ok());
        }
        assert_eq!(passed, 100);
        let used = quota.usage(100 * SECOND_NS);
        assert_eq!((used.requests.total, used.requests.peak, used.requests.second), (100, 1, 1));
        // Second 100 has just begun.
        assert_eq!((used.requests.minute, used.requests.hour), (59, 100));
        assert_eq!((used.share(Meter::Requests), used.share(Meter::Bytes)), (Some(59.0 / 60.0), None));
    }
}
