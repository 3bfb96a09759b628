//! `Quotas`: what each client may use, and what it uses.

use super::waited;
use super::watch::{self, Place};
use crate::access::{Caller, Role};
use crate::audit;
use crate::node::Node;
use crate::proto::quotas_server::Quotas as Service;
use crate::proto::{
    ClientQuota, QuotaLimits, QuotasGetRequest, QuotasListRequest, QuotasListResponse, ResetQuotaRequest,
    SetQuotaRequest, Usage, WatchQuotasRequest, WatchQuotasResponse,
};
use crate::quota::{self, Limits, Meter, NoPlace, Use};
use crate::store::{Changes, Object};
use dataplane::quota::Windows;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;
/// Clients of one stream.
const WATCHED_MAX: usize = 1_000;

pub struct Quotas {
    node: Arc<Node>,
}

impl Quotas {
    pub fn new(node: Arc<Node>) -> Quotas {
        Quotas { node }
    }

    /// The client whom the caller asks for; whoever is a reader sees itself alone.
    fn client(&self, caller: &Caller, name: &str) -> Result<Arc<quota::ClientQuota>, Status> {
        if name.is_empty() || name == caller.name() {
            return Ok(caller.quota().clone());
        }
        require_operator(caller)?;
        let clients = self.node.access.clients();
        let held = clients.get(name).map(|client| client.quota.clone());
        // It may be of nobody yet, and have limits of its own.
        held.or_else(|| self.node.quotas.find(name)).ok_or_else(|| unknown(name))
    }
}

/// Gives a client limits of its own, those that are named in `only`, or all of them.
fn set(
    node: &Node,
    caller: &Caller,
    name: &str,
    limits: Limits,
    only: &[String],
) -> Result<ClientQuota, Status> {
    node.ledger.change(|| {
        node.quotas.has_place(name).map_err(|error| match error {
            NoPlace::Full => Status::resource_exhausted(error.to_string()),
            NoPlace::Name => Status::invalid_argument(format!("name: {error}")),
        })?;
        let before = match node.quotas.find(name) {
            Some(client) => client.usage(node.now_ns()).limits,
            None => node.quotas.role_limits(node.access.role_of(name).unwrap_or_default()),
        };
        let limits = limits.only(only, &before).map_err(Status::invalid_argument)?;
        let record = audit::record(caller, node.unix_ns(), "quota.set", name, limits.to_string());
        Ok::<_, Status>((Changes::default().put(Object::Quota, name, &QuotaLimits::from(limits)), record))
    })?;
    now(node, name)
}

/// Gives a client its role's limits again.
fn reset(node: &Node, caller: &Caller, name: &str) -> Result<ClientQuota, Status> {
    let client = node.quotas.find(name).ok_or_else(|| unknown(name))?;
    if client.usage(node.now_ns()).is_own {
        node.ledger.change(|| {
            let record = audit::record(caller, node.unix_ns(), "quota.reset", name, String::new());
            Ok::<_, Status>((Changes::default().remove(Object::Quota, name), record))
        })?;
    }
    now(node, name)
}

/// A client after a change of it; the last place may have been taken meanwhile.
fn now(node: &Node, name: &str) -> Result<ClientQuota, Status> {
    let found = node.quotas.find(name).map(|client| told(client.usage(node.now_ns())));
    found.ok_or_else(|| Status::resource_exhausted(NoPlace::Full.to_string()))
}

fn require_operator(caller: &Caller) -> Result<(), Status> {
    if caller.role() >= Role::Operator {
        return Ok(());
    }
    let message = "a reader sees its own quota, and changes none: ask an operator";
    Err(Status::permission_denied(message))
}

fn unknown(name: &str) -> Status {
    let name: String = name.chars().take(quota::NAME_BYTES_MAX).collect();
    Status::not_found(format!(
        "there is no client {name:?}, and none of that name has limits of its own: see `tickplane quota list`"
    ))
}

fn told(client: Use) -> ClientQuota {
    let usage = |Windows { second, minute, hour, peak, total }| {
        Some(Usage { second, minute, hour, peak_second: peak, total })
    };
    let refusals: BTreeMap<String, u64> =
        Meter::ALL.map(|meter| (meter.name().to_owned(), client.refusals[meter as usize])).into();
    ClientQuota {
        name: client.name,
        role: client.role.name().to_owned(),
        limits: Some(client.limits.into()),
        is_own: client.is_own,
        requests: usage(client.requests),
        updates: usage(client.updates),
        bytes: usage(client.bytes),
        subscriptions: client.subscriptions,
        instruments: client.instruments,
        refusals,
    }
}

/// Tells what the clients use until the watcher is gone.
async fn tell(
    node: Arc<Node>,
    clients: Vec<Arc<quota::ClientQuota>>,
    interval: Duration,
    place: Place,
    sender: mpsc::Sender<Result<WatchQuotasResponse, Status>>,
) {
    loop {
        let now_ns = node.now_ns();
        let clients = clients.iter().map(|client| told(client.usage(now_ns))).collect();
        if sender.send(Ok(WatchQuotasResponse { clients, at_ns: node.unix_ns() })).await.is_err() {
            return;
        }
        if !place.pause(&node, interval, &sender).await {
            return;
        }
    }
}

#[tonic::async_trait]
impl Service for Quotas {
    async fn get(&self, request: Request<QuotasGetRequest>) -> Result<Response<ClientQuota>, Status> {
        let client = self.client(&Caller::of(&request)?, &request.get_ref().name)?;
        Ok(Response::new(told(client.usage(self.node.now_ns()))))
    }

    async fn list(
        &self,
        request: Request<QuotasListRequest>,
    ) -> Result<Response<QuotasListResponse>, Status> {
        require_operator(&Caller::of(&request)?)?;
        let QuotasListRequest { page_size, page_token } = request.into_inner();
        let page_size = super::page_size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let now_ns = self.node.now_ns();
        // The token is the name that the page before ended with: whoever comes meanwhile is in its place.
        let mut rest = self.node.quotas.all();
        rest.retain(|client| client.name() > page_token.as_str());
        let clients: Vec<_> = rest.iter().take(page_size).map(|client| told(client.usage(now_ns))).collect();
        let has_more = rest.len() > clients.len();
        let next_page_token =
            clients.last().filter(|_| has_more).map_or_else(String::new, |last| last.name.clone());
        Ok(Response::new(QuotasListResponse { clients, next_page_token }))
    }

    async fn set(&self, request: Request<SetQuotaRequest>) -> Result<Response<ClientQuota>, Status> {
        let caller = Caller::of(&request)?;
        require_operator(&caller)?;
        let SetQuotaRequest { name, limits, only } = request.into_inner();
        let limits = limits.ok_or_else(|| Status::invalid_argument("limits: give those that are to hold"))?;
        let limits = Limits::try_from(&limits).map_err(Status::invalid_argument)?;
        let node = self.node.clone();
        waited(move || set(&node, &caller, &name, limits, &only)).await?.map(Response::new)
    }

    async fn reset(&self, request: Request<ResetQuotaRequest>) -> Result<Response<ClientQuota>, Status> {
        let caller = Caller::of(&request)?;
        require_operator(&caller)?;
        let name = request.into_inner().name;
        let node = self.node.clone();
        waited(move || reset(&node, &caller, &name)).await?.map(Response::new)
    }

    type WatchStream = ReceiverStream<Result<WatchQuotasResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchQuotasRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let WatchQuotasRequest { mut names, interval_ms } = request.into_inner();
        let interval = watch::interval(interval_ms)?;
        if names.len() > WATCHED_MAX {
            return Err(Status::invalid_argument(format!("{} names: at most {WATCHED_MAX}", names.len())));
        }
        if names.is_empty() {
            names.push(String::new());
        }
        let clients: Result<Vec<_>, Status> = names.iter().map(|name| self.client(&caller, name)).collect();
        let clients = clients?;
        let place = watch::place(&self.node, &caller)?;
        let (sender, receiver) = mpsc::channel(1);
        let node = self.node.clone();
        tokio::spawn(async move {
            tell(node, clients, interval, place, sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
