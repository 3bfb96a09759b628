//! Spans that have ended: they wait in a queue, and a task sends them.

use dataplane::counters::SharedCounter;
use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Spans that may wait; more are dropped. OpenTelemetry's own default.
const WAITING_MAX: usize = 2_048;
/// Spans that are sent together.
const BATCH_MAX: usize = 512;
/// For how long a batch may fill.
const FILL_MAX: Duration = Duration::from_secs(1);

/// What became of spans, since the start.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector took them.
    pub sent: SharedCounter,
    /// It was not reached, or refused them. They are not sent again.
    pub failed: SharedCounter,
    /// They found the queue full.
    pub dropped: SharedCounter,
}

impl SpanCounts {
    /// Every counter by name, for whoever shows them all.
    pub fn entries(&self) -> [(&'static str, u64); 3] {
        [("sent", self.sent.get()), ("failed", self.failed.get()), ("dropped", self.dropped.get())]
    }
}

/// Where spans go when they end. The SDK's own would send from a thread of its own, and tell nobody how many it dropped.
#[derive(Debug)]
pub struct Queue {
    /// `None` = no more are taken.
    sender: Mutex<Option<mpsc::Sender<SpanData>>>,
    counts: Arc<SpanCounts>,
}

impl Queue {
    pub fn new(counts: Arc<SpanCounts>) -> (Queue, mpsc::Receiver<SpanData>) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        (Queue { sender: Mutex::new(Some(sender)), counts }, waiting)
    }

    fn sender(&self) -> MutexGuard<'_, Option<mpsc::Sender<SpanData>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let is_taken = self.sender().as_ref().is_some_and(|sender| sender.try_send(span).is_ok());
        if !is_taken {
            self.counts.dropped.add(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        *self.sender() = None;
        Ok(())
    }
}

/// Sends until the queue is closed and empty. `url` is the collector's, for the log.
pub async fn send(
    mut waiting: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    url: String,
    counts: Arc<SpanCounts>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut is_reached = true;
    while !(waiting.is_closed() && waiting.is_empty()) {
        let fill = async {
            let mut room = BATCH_MAX;
            while room > 0 {
                match waiting.recv_many(&mut batch, room).await {
                    0 => break,
                    came => room -= came,
                }
            }
        };
        // Too late for more, or full, or closed: whichever it is, what is there goes.
        let _ = tokio::time::timeout(FILL_MAX, fill).await;
        if batch.is_empty() {
            continue;
        }
        let spans = batch.len() as u64;
        let was_reached = is_reached;
        match exporter.export(std::mem::take(&mut batch)).await {
            Ok(()) => {
                counts.sent.add(spans);
                is_reached = true;
            }
            Err(error) => {
                counts.failed.add(spans);
                is_reached = false;
                // Once: the same again is not worth a line, and calls go on as they were.
                if was_reached {
                    tracing::warn!("[traces] {url} takes no spans, they are lost until it does: {error}");
                }
            }
        }
        if is_reached && !was_reached {
            tracing::info!("[traces] {url} takes spans again");
        }
    }
}
