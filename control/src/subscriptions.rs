//! The subscriptions that a node keeps, and those who follow them.

use crate::access::Caller;
use crate::audit;
use crate::config::Config;
use crate::delivery::{Plan, PlanError, Plans};
use crate::ledger::{Ledger, LedgerError};
use crate::proto::{ManagedSubscription, RowKind, SubscriptionEvent, SubscriptionPlan};
use crate::selection::{Selection, SelectionError};
use crate::service::rows;
use crate::service::subscriptions::may_see;
use crate::store::{Changes, Object, StoreError};
use dataplane::cache::tick::Kind;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};
use tonic::Status;

/// Of all clients.
const SUBSCRIPTIONS_MAX: usize = 10_000;
const ID_BYTES_MAX: usize = 64;
/// Changes that one who watches may be behind.
const EVENTS_QUEUED: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    #[error("there is no subscription {0:?}")]
    Unknown(String),
    #[error("there is a subscription {0:?} already: choose another id, or update that one")]
    Taken(String),
    #[error("id {0:?}: must have 1 to {ID_BYTES_MAX} letters, digits, dots, dashes and underscores")]
    Id(String),
    #[error("there are {SUBSCRIPTIONS_MAX} subscriptions: delete those that nobody needs")]
    TooMany,
    #[error("the subscription is at revision {now}, not {expected}: read it again, and update that")]
    Revision { now: u64, expected: u64 },
    #[error("there is no row kind {0}")]
    Kind(i32),
    #[error(transparent)]
    Selection(#[from] SelectionError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is wanted, and how it is to be delivered; what is allowed is not looked at.
pub fn plan(config: &Config, asked: &SubscriptionPlan) -> Result<Plan, SubscriptionError> {
    let kind = |kind: &i32| {
        let known = RowKind::try_from(*kind).ok().and_then(rows::kind_of);
        known.ok_or(SubscriptionError::Kind(*kind))
    };
    let kinds: Result<Vec<Kind>, _> = asked.kinds.iter().map(kind).collect();
    let wanted = Selection::new(config, &asked.venues, &asked.feeds, &asked.patterns, &kinds?)?;
    let plan = Plan::new(wanted);
    Ok(plan.delivered(asked.mode, asked.policy, asked.max_updates_per_s, asked.interval_ms)?)
}

/// What is done to one.
pub enum Change {
    Create { client: String, plan: SubscriptionPlan },
    Update { plan: SubscriptionPlan, revision: u64 },
    Pause(bool),
    Delete,
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Change::Create { .. } => "subscription.create",
            Change::Update { .. } => "subscription.update",
            Change::Pause(true) => "subscription.pause",
            Change::Pause(false) => "subscription.resume",
            Change::Delete => "subscription.delete",
        }
    }
}

struct Kept {
    object: ManagedSubscription,
    plans: watch::Sender<Result<Arc<Plan>, Status>>,
}

impl Kept {
    fn shown(&self) -> ManagedSubscription {
        ManagedSubscription { streams: self.plans.receiver_count() as u32, ..self.object.clone() }
    }
}

/// Those that are there, and who is told of them.
struct Known {
    kept: Mutex<BTreeMap<String, Kept>>,
    events: broadcast::Sender<SubscriptionEvent>,
}

impl Known {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What one is from now on, `None` = it is gone. What is open of it follows, and whoever watches is told.
    fn take(&self, config: &Config, id: &str, object: Option<ManagedSubscription>) {
        let mut kept = self.kept();
        let (subscription, deleted) = match object {
            Some(object) => {
                let plan = live_plan(config, &object);
                match kept.get_mut(id) {
                    Some(known) => {
                        known.object = object;
                        drop(known.plans.send_replace(plan));
                    }
                    None => {
                        let plans = watch::channel(plan).0;
                        kept.insert(id.to_owned(), Kept { object, plans });
                    }
                }
                (kept[id].shown(), false)
            }
            None => {
                let Some(mut known) = kept.remove(id) else { return };
                let status = Status::not_found(format!("subscription {id:?} was deleted"));
                drop(known.plans.send_replace(Err(status)));
                // That is a change, too.
                known.object.revision += 1;
                (known.shown(), true)
            }
        };
        // An error is that nobody watches.
        let _ = self.events.send(SubscriptionEvent { subscription: Some(subscription), deleted });
    }
}

pub struct Subscriptions {
    config: Arc<Config>,
    known: Arc<Known>,
}

impl Subscriptions {
    /// Those that the ledger has. One that the configuration does not allow any more (its feed is gone) is kept, and
    /// refused when it is to deliver.
    pub fn open(config: Arc<Config>, ledger: &mut Ledger) -> Result<Subscriptions, StoreError> {
        let (events, _) = broadcast::channel(EVENTS_QUEUED);
        let known = Arc::new(Known { kept: Mutex::default(), events });
        let (taking, of) = (known.clone(), config.clone());
        ledger.follow(Object::Subscription, move |changed| {
            changed.into_iter().for_each(|(id, object)| taking.take(&of, &id, object));
        })?;
        Ok(Subscriptions { config, known })
    }

    pub fn get(&self, id: &str) -> Option<ManagedSubscription> {
        self.known.kept().get(id).map(Kept::shown)
    }

    /// By id.
    pub fn all(&self) -> Vec<ManagedSubscription> {
        self.known.kept().values().map(Kept::shown).collect()
    }

    /// Every change from now on.
    pub fn events(&self) -> broadcast::Receiver<SubscriptionEvent> {
        self.known.events.subscribe()
    }

    /// What one is to deliver, as it changes.
    pub fn plans(&self, id: &str) -> Option<Plans> {
        self.known.kept().get(id).map(|kept| kept.plans.subscribe())
    }

    /// Does a change by the ledger, and waits for it.
    pub fn change(
        &self,
        ledger: &Ledger,
        caller: &Caller,
        id: &str,
        change: Change,
    ) -> Result<ManagedSubscription, SubscriptionError> {
        let mut made = ManagedSubscription::default();
        ledger.change(|| {
            let (action, is_deletion) = (change.name(), matches!(change, Change::Delete));
            // The one that it was asked for may be gone by now, and another client's be called so.
            let before = self.get(id);
            if !matches!(change, Change::Create { .. })
                && before.as_ref().is_some_and(|one| !may_see(caller, one))
            {
                return Err(SubscriptionError::Unknown(id.to_owned()));
            }
            made = self.changed(before, id, change)?;
            let now = if is_deletion { String::new() } else { format!("{:?}", made.plan) };
            let changes = match is_deletion {
                true => Changes::default().remove(Object::Subscription, id),
                false => Changes::default().put(Object::Subscription, id, &made),
            };
            Ok::<_, SubscriptionError>((changes, audit::record(caller, made.changed_ns, action, id, now)))
        })?;
        made.streams = self.get(id).map_or(0, |kept| kept.streams);
        Ok(made)
    }

    /// What one is after a change.
    fn changed(
        &self,
        before: Option<ManagedSubscription>,
        id: &str,
        change: Change,
    ) -> Result<ManagedSubscription, SubscriptionError> {
        let now_ns = SystemClock.unix_ns();
        if let Change::Create { client, plan: asked } = change {
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if !(1..=ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(is_good) {
                return Err(SubscriptionError::Id(id.chars().take(ID_BYTES_MAX).collect()));
            }
            if before.is_some() {
                return Err(SubscriptionError::Taken(id.to_owned()));
            }
            if self.known.kept().len() >= SUBSCRIPTIONS_MAX {
                return Err(SubscriptionError::TooMany);
            }
            plan(&self.config, &asked)?;
            return Ok(ManagedSubscription {
                id: id.to_owned(),
                client,
                plan: Some(asked),
                paused: false,
                created_ns: now_ns,
                changed_ns: now_ns,
                revision: 1,
                streams: 0,
            });
        }
        let mut object = before.ok_or_else(|| SubscriptionError::Unknown(id.to_owned()))?;
        match change {
            Change::Update { revision, .. } if revision != 0 && revision != object.revision => {
                return Err(SubscriptionError::Revision { now: object.revision, expected: revision });
            }
            Change::Update { plan: asked, .. } => {
                plan(&self.config, &asked)?;
                object.plan = Some(asked);
            }
            Change::Pause(paused) => object.paused = paused,
            Change::Create { .. } | Change::Delete => {}
        }
        (object.changed_ns, object.revision, object.streams) = (now_ns, object.revision + 1, 0);
        Ok(object)
    }
}

/// What is delivered of it.
fn live_plan(config: &Config, object: &ManagedSubscription) -> Result<Arc<Plan>, Status> {
    let asked = object.plan.clone().unwrap_or_default();
    let plan = plan(config, &asked).map_err(|error| Status::failed_precondition(error.to_string()))?;
    Ok(Arc::new(Plan { is_paused: object.paused, ..plan }))
}
