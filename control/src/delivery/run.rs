//! Runs a subscription for a client's connection.
//!
//! What runs is the stream of responses itself: it is asked for the next one when the connection has room for it, by the task that
//! sends it. So what is told then is as new as it can be, and nothing waits between two tasks. It is a stream by hand rather
//! than of an `async` function, since a wait is then a look at two bells, and makes and drops nothing.

use super::subscription::BODY_BYTES;
use super::{Client, Plan, Response, Step, Subscription};
use crate::access::Caller;
use crate::bell::Listener;
use crate::node::{Node, OpenSubscription};
use crate::proto::Place;
use crate::quota::{HeldSubscription, Policy};
use crate::selection::Selection;
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

/// About what a response has at most, for which there is to be room in a client's quota.
const RESPONSE_UPDATES: u64 = 512;
const RESPONSE_BYTES: u64 = 64 << 10;
/// Nobody waits so long for a time.
const FOR_EVER: Duration = Duration::from_secs(86_400);
/// How often a subscription looks whether its client is to be disconnected, if that can be.
const CUT_INTERVAL: Duration = Duration::from_millis(100);

type Sent = Result<Response, Status>;

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
    let allowed = caller.entitlement().rows.clone();
    let plan = narrowed(plans.borrow_and_update().clone()?, &allowed);
    let client = Client { name: caller.name().to_owned(), role: caller.role().name() };
    let (log, news) = (Listener::new(&node.log_bell), Listener::new(&node.news_bell));
    let subscription = Subscription::new(node, client, plan, resume);
    Ok(Responses {
        subscription,
        allowed,
        plans: Some(WatchStream::from_changes(plans)),
        log,
        news,
        timer: None,
        wait: None,
        was_full: false,
        waited_for_quota: false,
        unpaid: None,
        has_ended: false,
        held,
        _place: place,
    })
}

/// A plan, as far as the client may see what it wants.
fn narrowed(plan: Arc<Plan>, allowed: &Selection) -> Arc<Plan> {
    Arc::new(Plan { allowed: allowed.clone(), ..(*plan).clone() })
}

/// What one client is told; nothing comes behind an error.
pub struct Responses {
    subscription: Subscription,
    /// What the client may see.
    allowed: Selection,
    /// `None` = it can't change any more.
    plans: Option<WatchStream<Result<Arc<Plan>, Status>>>,
    log: Listener,
    news: Listener,
    /// Made by the first wait that has an end.
    timer: Option<Pin<Box<Sleep>>>,
    /// `None` = there may be something to do.
    wait: Option<Wait>,
    /// A response was full, and others did not have their turn since.
    was_full: bool,
    waited_for_quota: bool,
    /// A response for which the client's quota has had too little so far.
    unpaid: Option<Box<Response>>,
    has_ended: bool,
    /// What the client's quota has for it.
    held: HeldSubscription,
    _place: OpenSubscription,
}

/// What comes of one look at everything.
enum Turn {
    Send(Box<Response>),
    /// Others have their turn first.
    Again,
    /// There is nothing to do before the [`Wait`] is over.
    Wait,
}

/// What is waited for: news, and what is said here.
#[derive(Clone, Copy)]
struct Wait {
    /// Until the log grows.
    is_prompt: bool,
    /// For the timer.
    is_timed: bool,
}

impl Stream for Responses {
    type Item = Sent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Sent>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.was_full) {
            // It is sent first, and others have their turn.
            return again(context);
        }
        loop {
            let turn = match self.follow_plans(context) {
                Ok(()) => {
                    ready!(self.poll_wait(context));
                    // While other threads send what this one makes there may be no end of it: others are to have their turn.
                    ready!(coop::poll_proceed(context)).made_progress();
                    self.turn()
                }
                Err(status) => Err(status),
            };
            match turn {
                Ok(Turn::Send(response)) => {
                    self.was_full = response.body_bytes() >= BODY_BYTES;
                    return Poll::Ready(Some(Ok(*response)));
                }
                Ok(Turn::Again) => return again(context),
                Ok(Turn::Wait) => {}
                Err(status) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(*status)));
                }
            }
        }
    }
}

fn again<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}

impl Responses {
    fn turn(&mut self) -> Result<Turn, Box<Status>> {
        self.log.listen();
        if self.news.listen() && *self.subscription.node.stopping.borrow() {
            let status = Status::unavailable("the node shuts down: subscribe again when it is back");
            return Err(status.into());
        }
        self.stay()?;
        let now_ns = self.subscription.node.now_ns();
        if let Some(response) = self.unpaid.take() {
            return self.charge(response, now_ns);
        }
        if let Some(time) = self.quota_wait(now_ns) {
            self.waited_for_quota = true;
            self.wait(time, false);
            return Ok(Turn::Wait);
        }
        if std::mem::take(&mut self.waited_for_quota) {
            self.subscription.conflate(now_ns);
        }
        match self.subscription.step(now_ns) {
            Step::Send(response) => {
                let turn = self.charge(response, now_ns)?;
                if let Turn::Send(_) = turn
                    && let Step::Wait { until_ns, is_prompt } = self.subscription.after_response(now_ns)
                {
                    self.rest(until_ns, is_prompt, now_ns);
                }
                Ok(turn)
            }
            Step::Again => Ok(Turn::Again),
            Step::End(status) => Err(status.into()),
            Step::Wait { until_ns, is_prompt } => {
                self.rest(until_ns, is_prompt, now_ns);
                Ok(Turn::Wait)
            }
        }
    }

    /// Waits for what the subscription waits for, or as long as the client wants to.
    fn rest(&mut self, until_ns: u64, is_prompt: bool, now_ns: u64) {
        let interval = self.subscription.plan().interval;
        let time = Duration::from_nanos(until_ns.saturating_sub(now_ns));
        match interval.is_zero() {
            true => self.wait(time, is_prompt),
            false => self.wait(time.min(interval), false),
        }
    }

    fn wait(&mut self, time: Duration, is_prompt: bool) {
        let can_be_cut = self.held.quota().policy() == Policy::Disconnect;
        let time = if can_be_cut { time.min(CUT_INTERVAL) } else { time };
        let is_timed = time < FOR_EVER;
        if is_timed {
            let until = Instant::now() + time;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            timer.as_mut().reset(until);
        }
        self.wait = Some(Wait { is_prompt, is_timed });
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
    fn charge(&mut self, response: Box<Response>, now_ns: u64) -> Result<Turn, Box<Status>> {
        let instruments = self.held.set_instruments(self.subscription.instruments());
        instruments.map_err(|excess| excess.status())?;
        let bytes = response.encoded_len() as u64;
        let Err(excess) = self.held.quota().charge_delivery(now_ns, response.updates, bytes) else {
            return Ok(Turn::Send(response));
        };
        match excess.retry_after {
            Some(time) if excess.policy == Policy::Conflate => {
                self.unpaid = Some(response);
                self.wait(time, false);
                Ok(Turn::Wait)
            }
            _ => Err(excess.status().into()),
        }
    }

    fn follow_plans(&mut self, context: &mut Context<'_>) -> Result<(), Box<Status>> {
        while let Some(plans) = &mut self.plans {
            match Pin::new(plans).poll_next(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.plans = None,
                Poll::Ready(Some(plan)) => {
                    let plan = narrowed(plan?, &self.allowed);
                    let now_ns = self.subscription.node.now_ns();
                    self.subscription.change(plan, now_ns);
                    self.wait = None;
                }
            }
        }
        Ok(())
    }

    /// Ready = there may be something to do.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(Wait { is_prompt, is_timed }) = self.wait else { return Poll::Ready(()) };
        let is_over = self.news.poll_rung(context).is_ready()
            || (is_prompt && self.log.poll_rung(context).is_ready())
            || (is_timed && self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready()));
        if !is_over {
            return Poll::Pending;
        }
        self.wait = None;
        Poll::Ready(())
    }
}
