//! `Subscriptions`: those that the node keeps.

use super::market_data::{may_see_all, open, seen_by};
use super::{waited, watch};
use crate::access::{Caller, Role};
use crate::delivery;
use crate::node::Node;
use crate::proto::subscriptions_server::Subscriptions as Service;
use crate::proto::{
    CreateSubscriptionRequest, ListSubscriptionsRequest, ListSubscriptionsResponse, ManagedSubscription,
    StreamSubscriptionRequest, SubscriptionEvent, SubscriptionRequest, UpdateSubscriptionRequest,
};
use crate::subscriptions::{self, Change, SubscriptionError};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events that wait for a slow client.
const EVENTS_QUEUED: usize = 16;

pub struct Subscriptions {
    node: Arc<Node>,
}

impl Subscriptions {
    pub fn new(node: Arc<Node>) -> Subscriptions {
        Subscriptions { node }
    }

    /// One that the caller may see and change.
    fn of(&self, caller: &Caller, id: &str) -> Result<ManagedSubscription, Status> {
        let found = self.node.subscriptions.get(id);
        let found = found.ok_or_else(|| refusal(SubscriptionError::Unknown(id.to_owned())))?;
        match may_see(caller, &found) {
            true => Ok(found),
            false => Err(Status::permission_denied(format!("subscription {id:?} is another client's"))),
        }
    }

    /// Refuses what the one whose it is may not see, if that is the caller: of another one it is known when it calls.
    fn check(
        &self,
        caller: &Caller,
        client: &str,
        asked: &crate::proto::SubscriptionPlan,
    ) -> Result<(), Status> {
        let plan = subscriptions::plan(&self.node.config, asked).map_err(refusal)?;
        if client == caller.name() {
            may_see_all(caller, &self.node, &plan.wanted)?;
        }
        Ok(())
    }

    async fn change(
        &self,
        caller: Caller,
        id: String,
        change: Change,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let node = self.node.clone();
        let changed = waited(move || node.subscriptions.change(&node.ledger, &caller, &id, change)).await?;
        Ok(Response::new(changed.map_err(refusal)?))
    }

    async fn change_known(
        &self,
        request: Request<SubscriptionRequest>,
        change: Change,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let caller = Caller::of(&request)?;
        let id = request.into_inner().id;
        self.of(&caller, &id)?;
        self.change(caller, id, change).await
    }

    /// What the caller may see of what it asks for.
    fn seen(&self, caller: &Caller, client: &str) -> Vec<ManagedSubscription> {
        let mut all = self.node.subscriptions.all();
        all.retain(|one| may_see(caller, one) && (client.is_empty() || one.client == client));
        all
    }
}

/// Whether the caller may see and change one.
pub(crate) fn may_see(caller: &Caller, subscription: &ManagedSubscription) -> bool {
    caller.role() >= Role::Operator || caller.name() == subscription.client
}

pub(super) fn refusal(error: SubscriptionError) -> Status {
    let text = error.to_string();
    match error {
        SubscriptionError::Ledger(error) => error.into(),
        SubscriptionError::Unknown(_) => Status::not_found(text),
        SubscriptionError::Taken(_) => Status::already_exists(text),
        SubscriptionError::TooMany => Status::resource_exhausted(text),
        SubscriptionError::Revision { .. } => Status::aborted(text),
        SubscriptionError::Id(_)
        | SubscriptionError::Kind(_)
        | SubscriptionError::Selection(_)
        | SubscriptionError::Plan(_) => Status::invalid_argument(text),
    }
}

#[tonic::async_trait]
impl Service for Subscriptions {
    async fn create(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let caller = Caller::of(&request)?;
        let CreateSubscriptionRequest { mut id, mut client, plan } = request.into_inner();
        if client.is_empty() {
            client = caller.name().to_owned();
        }
        if client != caller.name() && caller.role() < Role::Operator {
            return Err(Status::permission_denied("only an operator makes another client's subscriptions"));
        }
        if id.is_empty() {
            id = format!("{:x}", self.node.unix_ns());
        }
        let plan = plan.unwrap_or_default();
        self.check(&caller, &client, &plan)?;
        self.change(caller, id, Change::Create { client, plan }).await
    }

    async fn update(
        &self,
        request: Request<UpdateSubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let caller = Caller::of(&request)?;
        let UpdateSubscriptionRequest { id, plan, revision } = request.into_inner();
        let before = self.of(&caller, &id)?;
        let plan = plan.unwrap_or_default();
        self.check(&caller, &before.client, &plan)?;
        self.change(caller, id, Change::Update { plan, revision }).await
    }

    async fn pause(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        self.change_known(request, Change::Pause(true)).await
    }

    async fn resume(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        self.change_known(request, Change::Pause(false)).await
    }

    async fn delete(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        self.change_known(request, Change::Delete).await
    }

    async fn get(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let caller = Caller::of(&request)?;
        self.of(&caller, &request.into_inner().id).map(Response::new)
    }

    async fn list(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let subscriptions = self.seen(&caller, &request.into_inner().client);
        Ok(Response::new(ListSubscriptionsResponse { subscriptions }))
    }

    type WatchStream = ReceiverStream<Result<SubscriptionEvent, Status>>;

    async fn watch(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let client = request.into_inner().client;
        let place = watch::place(&self.node, &caller)?;
        // Changes first: one that comes between is told twice rather than never.
        let mut events = self.node.subscriptions.events();
        let all = self.seen(&caller, &client);
        let node = self.node.clone();
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
        tokio::spawn(async move {
            for subscription in all {
                let event = SubscriptionEvent { subscription: Some(subscription), deleted: false };
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = sender.closed() => return,
                    end = place.over(&node) => {
                        let _ = sender.send(Err(end)).await;
                        return;
                    }
                };
                let sent = match event {
                    Ok(event) => {
                        let is_seen = event.subscription.as_ref().is_some_and(|one| {
                            may_see(&caller, one) && (client.is_empty() || one.client == client)
                        });
                        if !is_seen {
                            continue;
                        }
                        sender.send(Ok(event)).await
                    }
                    Err(RecvError::Lagged(lost)) => {
                        let status = Status::data_loss(format!("{lost} changes were missed: watch again"));
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                    Err(RecvError::Closed) => return,
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type StreamStream = delivery::Responses;

    async fn stream(
        &self,
        request: Request<StreamSubscriptionRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = Caller::of(&request)?;
        let node = seen_by(&self.node, &caller).await?;
        let StreamSubscriptionRequest { id, resume } = request.into_inner();
        // Plans first: those of one that is gone when it is asked whose it is have ended.
        let plans = self.node.subscriptions.plans(&id);
        let found = self.of(&caller, &id)?;
        if found.client != caller.name() {
            let text =
                format!("subscription {id:?} is {}'s: only that client has it delivered", found.client);
            return Err(Status::failed_precondition(text));
        }
        let plans = plans.ok_or_else(|| refusal(SubscriptionError::Unknown(id)))?;
        open(node, &caller, plans, resume)
    }
}
