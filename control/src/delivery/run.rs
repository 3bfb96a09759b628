//! Runs a subscription for a client's connection.

use super::{Client, Plan, Response, Step, Subscription};
use crate::access::Caller;
use crate::node::{Node, OpenSubscription};
use crate::proto::Place;
use crate::quota::{HeldSubscription, Policy};
use crate::selection::Selection;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Permit, Sender};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Responses that wait for a slow client; what comes meanwhile stays in the cache.
const RESPONSES_QUEUED: usize = 2;
/// About what a response has at most, for which there is to be room in a client's quota.
const RESPONSE_UPDATES: u64 = 512;
const RESPONSE_BYTES: u64 = 64 << 10;
/// How often the worker's liveness is looked at when nothing happens.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a client that is to be told why its subscription ends may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

type Sent = Result<Response, Status>;
pub type Responses = ReceiverStream<Sent>;

/// A plan as it changes; an error is the end of the subscription.
pub type Plans = watch::Receiver<Result<Arc<Plan>, Status>>;

/// A plan that never changes.
pub fn fixed(plan: Plan) -> Plans {
    watch::channel(Ok(Arc::new(plan))).1
}

/// Delivers what the caller may see of a plan to whoever reads the responses.
pub fn open(
    node: Arc<Node>,
    place: OpenSubscription,
    held: HeldSubscription,
    caller: &Caller,
    mut plans: Plans,
    resume: Option<Place>,
) -> Result<Responses, Status> {
    let allowed = caller.entitlement.rows.clone();
    let plan = narrowed(plans.borrow_and_update().clone()?, &allowed);
    let client = Client { name: caller.name.clone(), role: caller.role.name() };
    let (sender, receiver) = mpsc::channel(RESPONSES_QUEUED);
    let (tail, stopping) = (node.tail.clone(), node.stopping.clone());
    let subscription = Subscription::new(node, client, plan, resume);
    let run = Run { subscription, allowed, plans, tail, stopping, responses: sender, held, _place: place };
    tokio::spawn(run.run());
    Ok(ReceiverStream::new(receiver))
}

/// A plan, as far as the client may see what it wants.
fn narrowed(plan: Arc<Plan>, allowed: &Selection) -> Arc<Plan> {
    Arc::new(Plan { allowed: allowed.clone(), ..(*plan).clone() })
}

struct Run {
    subscription: Subscription,
    /// What the client may see.
    allowed: Selection,
    plans: Plans,
    tail: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    responses: Sender<Sent>,
    /// What the client's quota has for it.
    held: HeldSubscription,
    _place: OpenSubscription,
}

/// Why it ends.
enum End {
    ClientGone,
    Told(Box<Status>),
}

impl From<Status> for End {
    fn from(status: Status) -> End {
        End::Told(Box::new(status))
    }
}

impl Run {
    async fn run(mut self) {
        if let End::Told(status) = self.deliver().await {
            let _ = tokio::time::timeout(GOODBYE_MAX, self.responses.send(Err(*status))).await;
        }
    }

    async fn deliver(&mut self) -> End {
        let responses = self.responses.clone();
        let mut waited_for_quota = false;
        loop {
            // Room first: what is told then is as new as it can be.
            let permit = match self.room(&responses).await {
                Ok(permit) => permit,
                Err(end) => return end,
            };
            if let Err(end) = self.stay() {
                return end;
            }
            let now_ns = self.subscription.node.now_ns();
            if let Some(wait) = self.quota_wait(now_ns) {
                drop(permit);
                waited_for_quota = true;
                if let Err(end) = self.wait(&responses, wait, false).await {
                    return end;
                }
                continue;
            }
            if std::mem::take(&mut waited_for_quota) {
                self.subscription.conflate(now_ns);
            }
            match self.subscription.step(now_ns) {
                Step::Send(response) => {
                    if let Err(end) = self.charge(&response, now_ns).await {
                        return end;
                    }
                    permit.send(Ok(*response));
                }
                Step::Again => {
                    drop(permit);
                    tokio::task::yield_now().await;
                }
                Step::End(status) => return status.into(),
                Step::Wait { until_ns, is_prompt } => {
                    drop(permit);
                    let wait = Duration::from_nanos(until_ns.saturating_sub(now_ns));
                    if let Err(end) = self.wait(&responses, wait, is_prompt).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Ends it if the client is to be disconnected, whichever of its streams asked for too much.
    fn stay(&self) -> Result<(), End> {
        if !self.held.is_cut() {
            return Ok(());
        }
        let text = "the client asked for more than its limits, and is to be disconnected for it";
        Err(Status::resource_exhausted(text).into())
    }

    /// How long to leave alone a client that is to be conflated, so that its quota has room for a response: what is told
    /// then is as new as it can be.
    fn quota_wait(&self, now_ns: u64) -> Option<Duration> {
        let quota = self.held.quota();
        let wait = quota.delivery_wait(now_ns, RESPONSE_UPDATES, RESPONSE_BYTES);
        (!wait.is_zero() && quota.policy() == Policy::Conflate).then_some(wait)
    }

    /// Takes a response out of the client's quota. If that has too little, the client's policy says what becomes of it.
    async fn charge(&mut self, response: &Response, now_ns: u64) -> Result<(), End> {
        let instruments = self.held.set_instruments(self.subscription.instruments());
        instruments.map_err(|excess| excess.status())?;
        let (mut now_ns, bytes) = (now_ns, response.encoded_len() as u64);
        loop {
            self.stay()?;
            let Err(excess) = self.held.quota().charge_delivery(now_ns, response.updates, bytes) else {
                return Ok(());
            };
            let Some(wait) = excess.retry_after.filter(|_| excess.policy == Policy::Conflate) else {
                return Err(excess.status().into());
            };
            tokio::time::sleep(wait).await;
            now_ns = self.subscription.node.now_ns();
        }
    }

    /// Waits for the client, if it must.
    async fn room<'r>(&mut self, responses: &'r Sender<Sent>) -> Result<Permit<'r, Sent>, End> {
        loop {
            if *self.stopping.borrow() {
                let status = Status::unavailable("the node shuts down: subscribe again when it is back");
                return Err(status.into());
            }
            self.follow_plans()?;
            if let Ok(permit) = responses.try_reserve() {
                return Ok(permit);
            }
            tokio::select! {
                permit = responses.reserve() => return permit.map_err(|_| End::ClientGone),
                _ = self.stopping.changed() => {}
                () = changed(&mut self.plans) => {}
            }
        }
    }

    fn follow_plans(&mut self) -> Result<(), End> {
        if self.plans.borrow().has_changed() {
            let plan = narrowed(self.plans.borrow_and_update().clone()?, &self.allowed);
            let now_ns = self.subscription.node.now_ns();
            self.subscription.change(plan, now_ns);
        }
        Ok(())
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, responses: &Sender<Sent>, wait: Duration, is_prompt: bool) -> Result<(), End> {
        let interval = self.subscription.plan().interval;
        let is_prompt = is_prompt && interval.is_zero();
        let most = if interval.is_zero() { LIVENESS_INTERVAL } else { interval };
        tokio::select! {
            _ = self.tail.changed(), if is_prompt => Ok(()),
            _ = self.stopping.changed() => Ok(()),
            () = changed(&mut self.plans) => Ok(()),
            () = responses.closed() => Err(End::ClientGone),
            () = tokio::time::sleep(wait.min(most)) => Ok(()),
        }
    }
}

/// Waits for another plan, without taking it.
async fn changed(plans: &mut Plans) {
    match plans.changed().await {
        Ok(()) => plans.mark_changed(),
        // Whoever could change it is gone.
        Err(_) => std::future::pending().await,
    }
}
