//! `MarketData`: the latest rows, and how they change.

use super::rows;
use super::subscriptions::refusal;
use super::watch::{self, Place as StreamPlace};
use crate::access::Caller;
use crate::delayed::DelayError;
use crate::delivery::{self, Plans};
use crate::node::Node;
use crate::pattern::Pattern;
use crate::proto::market_data_server::MarketData as Service;
use crate::proto::{
    GetRequest, GetResponse, ListRequest, ListResponse, Place, SubscribeRequest, SubscriptionPlan,
};
use crate::selection::NAMES_MAX;
use crate::selection::Selection;
use crate::subscriptions;
use dataplane::limits::SYMBOL_BYTES_MAX;
use std::sync::Arc;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;

pub struct MarketData {
    node: Arc<Node>,
}

impl MarketData {
    pub fn new(node: Arc<Node>) -> MarketData {
        MarketData { node }
    }
}

#[tonic::async_trait]
impl Service for MarketData {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (node, shown) = (&seen_by(&self.node, &caller).await?, &caller.entitlement().rows);
        let symbols = request.into_inner().symbols;
        if !(1..=NAMES_MAX).contains(&symbols.len()) {
            let message = format!("{} symbols: ask for 1 to {NAMES_MAX}", symbols.len());
            return Err(Status::invalid_argument(message));
        }
        let (now_ns, position) = (node.now_ns(), node.reader.tail());
        let mut instruments = Vec::with_capacity(symbols.len());
        for symbol in symbols {
            if !(1..=SYMBOL_BYTES_MAX).contains(&symbol.len()) {
                let message =
                    format!("a symbol of {} bytes: they have 1 to {SYMBOL_BYTES_MAX}", symbol.len());
                return Err(Status::invalid_argument(message));
            }
            may_see(&caller, node, &symbol)?;
            let before = instruments.len();
            let found = node.reader.find(symbol.as_bytes());
            instruments
                .extend(found.filter_map(|instrument| rows::instrument(node, instrument, now_ns, shown)));
            if instruments.len() == before {
                instruments.push(rows::unknown(symbol));
            }
        }
        Ok(Response::new(GetResponse { instruments, position }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (node, shown) = (&seen_by(&self.node, &caller).await?, &caller.entitlement().rows);
        let ListRequest { pattern, page_size, page_token } = request.into_inner();
        let pattern = if pattern.is_empty() { "*" } else { &pattern };
        let pattern = Pattern::new(pattern).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let page_size = super::page_size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let generation = node.reader.generation();
        let start = match page_token.as_str() {
            "" => 0,
            token => start_of(token, generation)?,
        };
        let (now_ns, position) = (node.now_ns(), node.reader.tail());
        let mut response = ListResponse { position, ..ListResponse::default() };
        for instrument in start..node.reader.instruments() {
            let Some((_, definition)) = node.reader.definition(instrument, now_ns) else { continue };
            if !pattern.matches(definition.name()) {
                continue;
            }
            let Some(found) = rows::instrument(node, instrument, now_ns, shown) else { continue };
            if response.instruments.len() == page_size {
                response.next_page_token = format!("{generation:x}-{instrument}");
                break;
            }
            response.instruments.push(found);
        }
        if node.reader.generation() != generation {
            return Err(Status::aborted("the cache began anew while it was listed: begin again"));
        }
        Ok(Response::new(response))
    }

    type SubscribeStream = delivery::Responses;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&request)?;
        let node = seen_by(&self.node, &caller).await?;
        let SubscribeRequest { patterns, kinds, interval_ms, mode, policy, max_updates_per_s, resume } =
            request.into_inner();
        if patterns.is_empty() {
            return Err(Status::invalid_argument("no pattern: \"*\" is everything"));
        }
        let (venues, feeds) = (Vec::new(), Vec::new());
        let asked =
            SubscriptionPlan { patterns, venues, feeds, kinds, mode, policy, max_updates_per_s, interval_ms };
        let plan = subscriptions::plan(&node.config, &asked).map_err(refusal)?;
        open(node, &caller, delivery::fixed(plan), resume)
    }
}

/// The node as the caller may see it.
pub(super) async fn seen_by(node: &Arc<Node>, caller: &Caller) -> Result<Arc<Node>, Status> {
    node.as_it_was(caller.entitlement().delay).await.map_err(|error| match error {
        DelayError::NotYet { .. } => Status::unavailable(error.to_string()),
        _ => Status::resource_exhausted(error.to_string()),
    })
}

/// PERMISSION_DENIED if the caller may see nothing that is called so. A symbol that nothing is called by may be asked for.
fn may_see(caller: &Caller, node: &Node, symbol: &str) -> Result<(), Status> {
    let rows = &caller.entitlement().rows;
    let refused = |what: &str| {
        Err(Status::permission_denied(format!("{} is not entitled to {symbol:?}: {what}", caller.name())))
    };
    if !rows.has_symbol(symbol.as_bytes()) {
        return refused("none of its patterns matches");
    }
    let now_ns = node.now_ns();
    let feeds = node
        .reader
        .find(symbol.as_bytes())
        .filter_map(|instrument| node.reader.definition(instrument, now_ns).map(|(row, _)| row.tick.feed));
    let feeds: Vec<u16> = feeds.collect();
    match feeds.first() {
        Some(first) if !feeds.iter().any(|feed| rows.has_feed(*feed)) => {
            refused(&format!("feed {} is none of its", node.feed_name(*first)))
        }
        _ => Ok(()),
    }
}

/// The same for all symbols that are asked for by name; patterns stand for what may be seen of them.
pub(super) fn may_see_all(caller: &Caller, node: &Node, wanted: &Selection) -> Result<(), Status> {
    let symbols = wanted.symbols().unwrap_or_default();
    symbols.into_iter().try_for_each(|symbol| may_see(caller, node, &String::from_utf8_lossy(symbol)))
}

/// Delivers to the caller what it may see of a plan.
pub(super) fn open(
    node: Arc<Node>,
    caller: &Caller,
    plans: Plans,
    resume: Option<Place>,
) -> Result<Response<delivery::Responses>, Status> {
    let plan = plans.borrow().clone()?;
    may_see_all(caller, &node, &plan.wanted)?;
    let StreamPlace { open, held } = watch::place(&node, caller)?;
    Ok(Response::new(delivery::open(node, open, held, caller, plans, resume)?))
}

fn start_of(token: &str, generation: u64) -> Result<u32, Status> {
    let parts = token.split_once('-').and_then(|(generation, instrument)| {
        Some((u64::from_str_radix(generation, 16).ok()?, instrument.parse().ok()?))
    });
    match parts {
        Some((of, instrument)) if of == generation => Ok(instrument),
        Some(_) => Err(Status::aborted("the page token is of an earlier run of the node: begin again")),
        None => Err(Status::invalid_argument("page_token: give the next_page_token of the page before")),
    }
}
