//! Traces of calls by OTLP: a span for each gRPC call, sent to a collector. Without `[traces]` there is none of it.
//!
//! A span begins with the call's headers, which may say whose part it is (W3C Trace Context), and ends with its answer, however long
//! that goes on. It then waits in a bounded queue for the task that sends. The attributes are those of OpenTelemetry's semantic
//! conventions for RPC, and `tickplane.quota.outcome` (admitted or refused, and then `tickplane.quota.limit`). The standard's
//! variables of the environment hold: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` and so on.

mod call;
mod layer;
mod sender;

pub use call::Findings;
pub use layer::TraceLayer;
pub use sender::SpanCounts;

use crate::config::TracesConfig;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as _};
use sender::{Queue, send};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How long the collector may take to be reached, and to answer.
const COLLECTOR_MAX: Duration = Duration::from_secs(5);
/// How long the node's end may wait for the collector.
const FLUSH_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("[traces] otlp = {url:?}: {cause}: give the collector's URL, as in http://127.0.0.1:4317")]
    Url { url: String, cause: tonic::transport::Error },
    #[error("[traces] what the environment's OTEL_ variables say can't be used: {0}")]
    Environment(#[from] ExporterBuildError),
}

/// What makes spans, and sends them.
pub struct Traces {
    provider: SdkTracerProvider,
    sender: JoinHandle<()>,
}

impl Traces {
    /// Within a runtime, in which the sender then runs.
    pub fn start(config: &TracesConfig, node: &str, counts: Arc<SpanCounts>) -> Result<Traces, TraceError> {
        let url = config.otlp.clone();
        let collector = collector(&url).map_err(|cause| TraceError::Url { url: url.clone(), cause })?;
        let mut exporter = SpanExporter::builder().with_tonic().with_channel(collector).build()?;
        let resource = Resource::builder()
            .with_service_name("tickplane")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
            .build();
        exporter.set_resource(&resource);
        let (queue, waiting) = Queue::new(counts.clone());
        let provider =
            SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource).build();
        Ok(Traces { provider, sender: tokio::spawn(send(waiting, exporter, url, counts)) })
    }

    pub fn layer(&self) -> TraceLayer {
        TraceLayer::new(self.provider.tracer("tickplane"))
    }

    /// Sends what waits. Calls that are still open are not told any more.
    pub async fn flush(self) {
        let _ = self.provider.shutdown();
        if tokio::time::timeout(FLUSH_MAX, self.sender).await.is_err() {
            tracing::warn!(
                "the last traces were not sent: the collector did not take them within {FLUSH_MAX:?}"
            );
        }
    }
}

/// A connection that is made once there is something to send, and again as often as needed.
fn collector(url: &str) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint =
        Endpoint::from_shared(url.to_owned())?.timeout(COLLECTOR_MAX).connect_timeout(COLLECTOR_MAX);
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(endpoint.connect_lazy())
}
