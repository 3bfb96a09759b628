//! The connection to the node: made, kept and made again; what comes over it are events.
//!
//! What it asks of the node does not depend on how often a picture is drawn: one subscription, one stream of latencies, and
//! two small questions a second.

use super::state::Event;
use crate::client::{ClientError, Connection, ServerArgs};
use crate::proto::feeds_client::FeedsClient;
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::node_client::NodeClient;
use crate::proto::telemetry_client::TelemetryClient;
use crate::proto::{FeedsListRequest, GetStatusRequest, RowKind, SubscribeRequest, WatchLatencyRequest};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::{Code, Status};

/// Events that wait to be taken; what comes meanwhile waits at the node, which conflates it.
const EVENTS_QUEUED: usize = 16;
/// Updates come together: a picture is not drawn more often either.
const UPDATES_INTERVAL: Duration = Duration::from_millis(100);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take before the connection is made anew.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The rows that are shown, and the definition, which says what feed they are of.
const KINDS: [RowKind; 4] = [RowKind::Quote, RowKind::Trade, RowKind::Status, RowKind::Definition];

pub struct Link {
    events: mpsc::Receiver<Event>,
    pattern: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl Link {
    /// Connects to the node, and follows what matches `pattern`.
    pub fn start(server: &ServerArgs, pattern: &str) -> Link {
        let (sender, events) = mpsc::channel(EVENTS_QUEUED);
        let (pattern, wanted) = watch::channel(pattern.to_owned());
        let task = tokio::spawn(keep(server.clone(), wanted, sender));
        Link { events, pattern, task }
    }

    /// What comes next. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends with this only.
            None => std::future::pending().await,
        }
    }

    /// Subscribes anew, to `pattern`.
    pub fn subscribe(&self, pattern: &str) {
        self.pattern.send_replace(pattern.to_owned());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a connection is no more.
enum End {
    Lost(ClientError),
    /// Nobody wants to hear more.
    Unwanted,
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> End {
        End::Lost(error)
    }
}

impl From<Status> for End {
    fn from(status: Status) -> End {
        End::Lost(status.into())
    }
}

impl From<mpsc::error::SendError<Event>> for End {
    fn from(_: mpsc::error::SendError<Event>) -> End {
        End::Unwanted
    }
}

type Events = mpsc::Sender<Event>;

async fn keep(server: ServerArgs, mut pattern: watch::Receiver<String>, events: Events) {
    loop {
        let End::Lost(error) = follow(&server, &mut pattern, &events).await else { return };
        if events.send(Event::Lost(error)).await.is_err() {
            return;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn follow(server: &ServerArgs, pattern: &mut watch::Receiver<String>, events: &Events) -> End {
    let channel = match server.connect().await {
        Ok(channel) => channel,
        Err(error) => return error.into(),
    };
    tokio::select! {
        end = rows(channel.clone(), pattern, events) => end,
        end = latencies(channel.clone(), events) => end,
        end = polls(channel, events) => end,
    }
    .err()
    .unwrap_or(End::Unwanted)
}

/// What is answered in time.
async fn answer<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match timeout(ANSWER_MAX, call).await {
        Ok(response) => Ok(response?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {ANSWER_MAX:?}"))),
    }
}

fn ended() -> Status {
    Status::new(Code::Unavailable, "the stream ended")
}

async fn rows(channel: Connection, wanted: &mut watch::Receiver<String>, events: &Events) -> Result<(), End> {
    let mut client = MarketDataClient::new(channel);
    loop {
        let pattern = wanted.borrow_and_update().clone();
        let kinds = KINDS.map(i32::from).to_vec();
        let interval_ms = UPDATES_INTERVAL.as_millis() as u32;
        let request = SubscribeRequest {
            patterns: vec![pattern.clone()],
            kinds,
            interval_ms,
            ..SubscribeRequest::default()
        };
        let mut responses = answer(client.subscribe(request)).await?;
        events.send(Event::Subscribed(pattern)).await?;
        loop {
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Err(End::Unwanted),
                },
                response = responses.message() => {
                    events.send(Event::Updates(response?.ok_or_else(ended)?)).await?;
                }
            }
        }
    }
}

async fn latencies(channel: Connection, events: &Events) -> Result<(), End> {
    let request = WatchLatencyRequest::default();
    let mut responses = answer(TelemetryClient::new(channel).watch_latency(request)).await?;
    loop {
        events.send(Event::Latency(responses.message().await?.ok_or_else(ended)?)).await?;
    }
}

async fn polls(channel: Connection, events: &Events) -> Result<(), End> {
    let (mut node, mut feeds) = (NodeClient::new(channel.clone()), FeedsClient::new(channel));
    let mut due = interval(POLL_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        events.send(Event::Status(answer(node.get_status(GetStatusRequest {})).await?)).await?;
        events.send(Event::Feeds(answer(feeds.list(FeedsListRequest {})).await?)).await?;
    }
}
