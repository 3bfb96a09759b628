//! `Audit`: who changed what.

use super::{waited, watch};
use crate::access::Caller;
use crate::ledger::{Ledger, LedgerError};
use crate::node::Node;
use crate::proto::audit_server::Audit as Service;
use crate::proto::{AuditFilter, AuditListRequest, AuditListResponse, AuditRecord, AuditWatchRequest};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Records that are read at once.
const CHUNK: usize = 500;
/// Records that are looked at for one page.
const LOOKED_AT_MAX: usize = 50_000;
/// Records that wait for a slow client.
const RECORDS_QUEUED: usize = 16;

pub struct Audit {
    node: Arc<Node>,
}

impl Audit {
    pub fn new(node: Arc<Node>) -> Audit {
        Audit { node }
    }
}

fn is_wanted(filter: &AuditFilter, record: &AuditRecord) -> bool {
    (filter.client.is_empty() || filter.client == record.client)
        && record.action.starts_with(&filter.action)
        && (filter.object.is_empty() || filter.object == record.object)
}

/// What is asked for, checked.
struct Query {
    filter: AuditFilter,
    since_ns: u64,
    until_ns: u64,
    newest_first: bool,
    /// Those that are left.
    numbers: RangeInclusive<u64>,
    page_size: usize,
}

impl Query {
    fn new(asked: AuditListRequest) -> Result<Query, Status> {
        let AuditListRequest { filter, from, since_ns, until_ns, newest_first, page_size, page_token } =
            asked;
        let page_size = super::page_size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let from = match page_token.as_str() {
            "" => from,
            token => token.parse().map_err(|_| {
                Status::invalid_argument("page_token: give the next_page_token of the page before")
            })?,
        };
        let numbers = match from {
            0 => 1..=u64::MAX,
            from if newest_first => 1..=from,
            from => from..=u64::MAX,
        };
        let until_ns = if until_ns == 0 { u64::MAX } else { until_ns };
        let filter = filter.unwrap_or_default();
        Ok(Query { filter, since_ns, until_ns, newest_first, numbers, page_size })
    }

    fn wants(&self, record: &AuditRecord) -> bool {
        (self.since_ns..self.until_ns).contains(&record.at_ns) && is_wanted(&self.filter, record)
    }

    /// What is left once a number was looked at.
    fn pass(&mut self, number: u64) {
        let (first, last) = (*self.numbers.start(), *self.numbers.end());
        self.numbers = if self.newest_first { first..=number - 1 } else { number + 1..=last };
    }

    /// The next page.
    fn page(mut self, ledger: &Ledger) -> Result<AuditListResponse, LedgerError> {
        let (mut records, mut looked_at) = (Vec::new(), 0);
        while looked_at < LOOKED_AT_MAX {
            let chunk = ledger.records(self.numbers.clone(), self.newest_first, CHUNK)?;
            let is_last = chunk.len() < CHUNK;
            looked_at += chunk.len();
            for record in chunk {
                if records.len() == self.page_size {
                    return Ok(self.with_more(records));
                }
                self.pass(record.number);
                if self.wants(&record) {
                    records.push(record);
                }
            }
            if is_last {
                return Ok(AuditListResponse { records, next_page_token: String::new() });
            }
        }
        Ok(self.with_more(records))
    }

    fn with_more(self, records: Vec<AuditRecord>) -> AuditListResponse {
        let next = if self.newest_first { self.numbers.end() } else { self.numbers.start() };
        AuditListResponse { records, next_page_token: next.to_string() }
    }
}

/// Tells the records from a number on, until the watcher is gone.
async fn tell(
    node: Arc<Node>,
    filter: AuditFilter,
    mut from: u64,
    sender: mpsc::Sender<Sent>,
) -> Result<(), Status> {
    let (mut latest, mut stopping) = (node.ledger.latest(), node.stopping.clone());
    loop {
        let known = *latest.borrow_and_update();
        while from <= known {
            let ledger = node.clone();
            let chunk = waited(move || ledger.ledger.records(from..=known, false, CHUNK)).await??;
            // Where a number has no record there is none to come.
            from = chunk.last().map_or(known, |last| last.number) + 1;
            for record in chunk.into_iter().filter(|record| is_wanted(&filter, record)) {
                if sender.send(Ok(record)).await.is_err() {
                    return Ok(());
                }
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() {
                return Ok(());
            },
            () = sender.closed() => return Ok(()),
            _ = stopping.wait_for(|stopping| *stopping) => {
                return Err(Status::unavailable("the node shuts down"));
            }
        }
    }
}

type Sent = Result<AuditRecord, Status>;

#[tonic::async_trait]
impl Service for Audit {
    async fn list(&self, request: Request<AuditListRequest>) -> Result<Response<AuditListResponse>, Status> {
        Caller::of(&request)?;
        let query = Query::new(request.into_inner())?;
        let node = self.node.clone();
        Ok(Response::new(waited(move || query.page(&node.ledger)).await??))
    }

    type WatchStream = ReceiverStream<Sent>;

    async fn watch(
        &self,
        request: Request<AuditWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let AuditWatchRequest { filter, from } = request.into_inner();
        let from = if from == 0 { *self.node.ledger.latest().borrow() + 1 } else { from };
        let held = watch::held(&caller)?;
        let open = watch::place(&self.node)?;
        let (sender, receiver) = mpsc::channel(RECORDS_QUEUED);
        let node = self.node.clone();
        tokio::spawn(async move {
            let _held = (held, open);
            if let Err(status) = tell(node, filter.unwrap_or_default(), from, sender.clone()).await {
                let _ = sender.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
