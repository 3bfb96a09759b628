//! Runs a subscription for a client's connection.
//!
//! What runs is the stream of responses itself: it is asked for the next one when the connection has room for it, by the task that
//! sends it. So what is told then is as new as it can be, and nothing waits between two tasks.

use super::subscription::BODY_BYTES;
use super::{Client, Plan, Response, Step, Subscription};
use crate::access::Caller;
use crate::node::{Node, OpenSubscription};
use crate::proto::Place;
use crate::quota::{HeldSubscription, Policy};
use crate::selection::Selection;
use futures_util::stream;
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

/// About what a response has at most, for which there is to be room in a client's quota.
const RESPONSE_UPDATES: u64 = 512;
const RESPONSE_BYTES: u64 = 64 << 10;
/// How often the worker's liveness is looked at when nothing happens.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(100);

type Sent = Result<Response, Status>;
pub type Responses = Pin<Box<dyn Stream<Item = Sent> + Send>>;

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
    let (tail, stopping) = (node.tail.clone(), node.stopping.clone());
    let subscription = Subscription::new(node, client, plan, resume);
    let run = Run { subscription, allowed, plans, tail, stopping, was_full: false, held, _place: place };
    Ok(Box::pin(stream::unfold(Some(Box::new(run)), |run| async { Some(run?.next().await) })))
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
    /// A response was full, and others did not have their turn since.
    was_full: bool,
    /// What the client's quota has for it.
    held: HeldSubscription,
    _place: OpenSubscription,
}

impl Run {
    /// The next response, and what tells those behind it; none are behind the end.
    async fn next(mut self: Box<Self>) -> (Sent, Option<Box<Self>>) {
        match self.deliver().await {
            Ok(response) => (Ok(*response), Some(self)),
            Err(status) => (Err(*status), None),
        }
    }

    async fn deliver(&mut self) -> Result<Box<Response>, Box<Status>> {
        if std::mem::take(&mut self.was_full) {
            // It is sent first, and others have their turn.
            tokio::task::yield_now().await;
        }
        let mut waited_for_quota = false;
        loop {
            if *self.stopping.borrow() {
                let status = Status::unavailable("the node shuts down: subscribe again when it is back");
                return Err(status.into());
            }
            self.follow_plans()?;
            self.stay()?;
            let now_ns = self.subscription.node.now_ns();
            if let Some(wait) = self.quota_wait(now_ns) {
                waited_for_quota = true;
                self.wait(wait, false).await;
                continue;
            }
            if std::mem::take(&mut waited_for_quota) {
                self.subscription.conflate(now_ns);
            }
            match self.subscription.step(now_ns) {
                Step::Send(response) => {
                    self.charge(&response, now_ns).await?;
                    self.was_full = response.body_bytes() >= BODY_BYTES;
                    return Ok(response);
                }
                Step::Again => tokio::task::yield_now().await,
                Step::End(status) => return Err(status.into()),
                Step::Wait { until_ns, is_prompt } => {
                    let wait = Duration::from_nanos(until_ns.saturating_sub(now_ns));
                    self.wait(wait, is_prompt).await;
                }
            }
        }
    }

    /// Ends it if the client is to be disconnected, whichever of its streams asked for too much.
    fn stay(&self) -> Result<(), Box<Status>> {
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
    async fn charge(&mut self, response: &Response, now_ns: u64) -> Result<(), Box<Status>> {
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

    fn follow_plans(&mut self) -> Result<(), Box<Status>> {
        if self.plans.borrow().has_changed() {
            let plan = narrowed(self.plans.borrow_and_update().clone()?, &self.allowed);
            let now_ns = self.subscription.node.now_ns();
            self.subscription.change(plan, now_ns);
        }
        Ok(())
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, wait: Duration, is_prompt: bool) {
        let interval = self.subscription.plan().interval;
        let is_prompt = is_prompt && interval.is_zero();
        let most = if interval.is_zero() { LIVENESS_INTERVAL } else { interval };
        tokio::select! {
            _ = self.tail.changed(), if is_prompt => {}
            _ = self.stopping.changed() => {}
            () = changed(&mut self.plans) => {}
            () = tokio::time::sleep(wait.min(most)) => {}
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
