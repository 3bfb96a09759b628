//! The servers: gRPC with health and reflection, and the metrics page.

use crate::access::AccessLayer;
use crate::config::{Config, GrpcTlsConfig};
use crate::connection::QUIET_MAX;
use crate::idle::Idle;
use crate::node::Node;
use crate::objective::HEALTH_PREFIX;
use crate::proto::ObjectiveState;
use crate::proto::admin_server::AdminServer;
use crate::proto::audit_server::AuditServer;
use crate::proto::clients_server::ClientsServer;
use crate::proto::cluster_server::ClusterServer;
use crate::proto::feeds_server::FeedsServer;
use crate::proto::market_data_server::MarketDataServer;
use crate::proto::node_server::NodeServer;
use crate::proto::quotas_server::QuotasServer;
use crate::proto::subscriptions_server::SubscriptionsServer;
use crate::proto::telemetry_server::TelemetryServer;
use crate::trace::{TraceError, Traces};
use crate::{metrics, proto, retention, service};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tower::util::option_layer;

/// More would rarely help, and take cores from the worker.
const THREADS_DEFAULT_MAX: usize = 4;
/// How often rates and health are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody vouches for the cache.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long connections may take to end.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Calls and streams that a connection may have at once; a client waits before it opens more (RFC 9113, 5.1.2).
const STREAMS_MAX: u32 = 1_000;
/// How long a client may take to agree on TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "{section} listen = \"{address}\": {cause}: is another process there? choose another port, or 0 for any"
    )]
    Bind { section: &'static str, address: SocketAddr, cause: std::io::Error },
    #[error("[grpc.tls] {file:?}: {cause}: name a PEM file that this node may read")]
    Pem { file: PathBuf, cause: std::io::Error },
    #[error(
        "[grpc.tls] {certificate:?} with {key:?}: {cause}: name PEM files of a certificate and of its key, and as client_ca \
         one of who signed the clients'"
    )]
    Tls { certificate: PathBuf, key: PathBuf, cause: String },
    #[error("the gRPC server ended: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("{0}")]
    Traces(#[from] TraceError),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Sockets that are bound, before anything is served: a port that is taken is an error at the start.
pub struct Listeners {
    grpc: TcpListener,
    tls: Option<ServerTlsConfig>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Where gRPC is served; the port is known even if any was asked for.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.local_addr().expect("a bound socket has an address")
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|listener| listener.local_addr().expect("a bound socket has an address"))
    }
}

/// The threads that serve: they share what there is to do. The worker's core is not for them, nor the replication's if that spins.
pub fn runtime(config: &Config) -> std::io::Result<Runtime> {
    let spins = config.replica.as_ref().is_some_and(|replica| replica.idle != Idle::Park);
    let taken = 1 + usize::from(spins);
    let threads = match config.grpc.threads {
        0 => std::thread::available_parallelism()
            .map_or(1, |cores| cores.get().saturating_sub(taken).clamp(1, THREADS_DEFAULT_MAX)),
        threads => threads,
    };
    let mut runtime = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    runtime.worker_threads(threads).thread_name("grpc").enable_all().build()
}

pub async fn bind(config: &Config) -> Result<Listeners, ServerError> {
    let bind = |section, address| async move {
        TcpListener::bind(address).await.map_err(|cause| ServerError::Bind { section, address, cause })
    };
    let metrics = match &config.metrics {
        Some(metrics) => Some(bind("[metrics]", metrics.listen).await?),
        None => None,
    };
    let tls = config.grpc.tls.as_ref().map(read_tls).transpose()?;
    Ok(Listeners { grpc: bind("[grpc]", config.grpc.listen).await?, tls, metrics })
}

/// Reads the files, and sees whether they can be used.
fn read_tls(config: &GrpcTlsConfig) -> Result<ServerTlsConfig, ServerError> {
    let read =
        |file: &Path| std::fs::read(file).map_err(|cause| ServerError::Pem { file: file.to_owned(), cause });
    let GrpcTlsConfig { certificate, key, client_ca } = config;
    let identity = Identity::from_pem(read(certificate)?, read(key)?);
    let mut tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_MAX);
    if let Some(client_ca) = client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(client_ca)?)).client_auth_optional(true);
    }
    let tried = Server::builder().tls_config(tls.clone());
    tried.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
        ServerError::Tls { certificate: certificate.clone(), key: key.clone(), cause }
    })?;
    Ok(tls)
}

/// Serves until `ended`, then lets connections end in order.
pub async fn serve(
    node: Arc<Node>,
    listeners: Listeners,
    ended: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    let market_data = MarketDataServer::new(service::market_data::MarketData::new(node.clone()));
    let routes = Routes::new(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(market_data)
        .add_service(SubscriptionsServer::new(service::subscriptions::Subscriptions::new(node.clone())))
        .add_service(TelemetryServer::new(service::telemetry::Telemetry::new(node.clone())))
        .add_service(FeedsServer::new(service::feeds::Feeds::new(node.clone())))
        .add_service(AdminServer::new(service::admin::Admin::new(node.clone())))
        .add_service(AuditServer::new(service::audit::Audit::new(node.clone())))
        .add_service(ClientsServer::new(service::clients::Clients::new(node.clone())))
        .add_service(ClusterServer::new(service::cluster::Cluster::new(node.clone())))
        .add_service(QuotasServer::new(service::quotas::Quotas::new(node.clone())))
        .add_service(NodeServer::new(service::node::NodeService::new(node.clone())));

    let traces = &node.config.traces;
    let traces =
        traces.as_ref().map(|to| Traces::start(to, &node.config.node, node.spans.clone())).transpose()?;
    let sampler = tokio::spawn(sample(node.clone(), health));
    let watcher = tokio::spawn(watch_over(node.clone()));
    let retention = tokio::spawn(retention::keep(node.clone()));
    let page = listeners.metrics.map(|listener| tokio::spawn(metrics::serve(node.clone(), listener)));
    let mut stopping = node.stopping.clone();
    let shutdown = async move {
        // An error means that the sender is gone: the end, too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let incoming = node.connections.clone().incoming(listeners.grpc);
    let mut builder = Server::builder();
    if let Some(tls) = listeners.tls {
        builder = builder.tls_config(tls)?;
    }
    let server = builder
        .layer(option_layer(traces.as_ref().map(Traces::layer)))
        .layer(AccessLayer(node.access.clone()))
        .http2_keepalive_interval(Some(QUIET_MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown);
    let drained = async {
        ended.await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::pin!(server);
    let served = tokio::select! {
        served = &mut server => served,
        () = drained => Ok(()),
    };
    sampler.abort();
    watcher.abort();
    retention.abort();
    page.inspect(|page| page.abort());
    if let Some(traces) = traces {
        traces.flush().await;
    }
    Ok(served?)
}

async fn watch_over(node: Arc<Node>) {
    let mut stopping = node.stopping.clone();
    loop {
        node.watch_over();
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            Ok(()) = stopping.changed() => {}
        }
    }
}

async fn sample(node: Arc<Node>, mut health: tonic_health::server::HealthReporter) {
    let mut told = BTreeSet::new();
    loop {
        node.sample();
        let status = if node.is_alive() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "tickplane.v1.MarketData"] {
            health.set_service_status(service, status).await;
        }
        let mut before = std::mem::take(&mut told);
        for objective in node.objectives() {
            let status = match objective.state() {
                ObjectiveState::Missed => ServingStatus::NotServing,
                _ => ServingStatus::Serving,
            };
            let name = format!("{HEALTH_PREFIX}{}", objective.name);
            health.set_service_status(&name, status).await;
            before.remove(&name);
            told.insert(name);
        }
        for gone in before {
            health.clear_service_status(&gone).await;
        }
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
}
