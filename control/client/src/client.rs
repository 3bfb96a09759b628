//! The client: where the nodes are, and what it shows them.

use crate::Subscription;
use crate::proto::market_data_client::MarketDataClient;
use crate::proto::{GetRequest, Instrument};
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is asked so often whether it is there still, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// An image in one piece is some megabytes.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why something can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is none.
    #[error("{url}: {cause}: give it as http://HOST:PORT or https://HOST:PORT")]
    Url { url: String, cause: String },
    /// There are no addresses.
    #[error("no node is named: give the URL of at least one")]
    NoNode,
    /// A token can't be sent.
    #[error("the token has characters that none has: letters, digits, - and _ only")]
    Token,
    /// Certificates can't be used.
    #[error("TLS: {0}: are these PEM texts?")]
    Tls(String),
    /// No node can be reached.
    #[error("no answer from {url}: {cause}")]
    Connect { url: String, cause: String },
    /// The node refuses, for good.
    #[error("the node answered {code:?}: {message}", code = .0.code(), message = .0.message())]
    Refused(Box<Status>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Refused(Box::new(status))
    }
}

/// What a client shows to a node, and what it wants to see of it; all are PEM texts.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who has signed the node's certificate; `None` = one of those that the system trusts.
    pub ca: Option<String>,
    /// The client's own certificate and its key, if it is known by these.
    pub identity: Option<(String, String)>,
}

/// One node, or several of one group: whichever answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    nodes: Arc<[Endpoint]>,
    bearer: Bearer,
}

pub(crate) type Service = MarketDataClient<InterceptedService<Channel, Bearer>>;

/// Puts `authorization: Bearer TOKEN` (RFC 6750) into each request, if there is a token.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub fn new(token: &str) -> Result<Bearer, Error> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// A client of the nodes at these URLs, which all have the same cache. Nothing is connected yet.
    pub fn new<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Result<Client, Error> {
        let endpoint = |url: U| {
            let url = url.into();
            let bad =
                |cause: tonic::transport::Error| Error::Url { url: url.clone(), cause: cause.to_string() };
            let endpoint = Endpoint::from_shared(url.clone()).map_err(bad)?;
            Ok(endpoint
                .connect_timeout(CONNECT_MAX)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true))
        };
        let nodes = urls.into_iter().map(endpoint).collect::<Result<Arc<[_]>, Error>>()?;
        if nodes.is_empty() { Err(Error::NoNode) } else { Ok(Client { nodes, bearer: Bearer::default() }) }
    }

    /// Shows a bearer token.
    pub fn with_token(self, token: &str) -> Result<Client, Error> {
        Ok(Client { bearer: Bearer::new(token)?, ..self })
    }

    /// Encrypts, and shows a certificate if there is one; the URLs are `https://`.
    pub fn with_tls(self, tls: &Tls) -> Result<Client, Error> {
        let mut config = ClientTlsConfig::new();
        config = match &tls.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
            None => config.with_enabled_roots(),
        };
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let with_tls = |node: &Endpoint| {
            node.clone().tls_config(config.clone()).map_err(|error| Error::Tls(error.to_string()))
        };
        let nodes = self.nodes.iter().map(with_tls).collect::<Result<Arc<[_]>, Error>>()?;
        Ok(Client { nodes, ..self })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Connects to the node of that number.
    pub(crate) async fn connect(&self, node: usize) -> Result<Service, Error> {
        let endpoint = &self.nodes[node % self.nodes.len()];
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
            Error::Connect { url: endpoint.uri().to_string(), cause }
        })?;
        let service = MarketDataClient::with_interceptor(channel, self.bearer.clone());
        Ok(service.max_decoding_message_size(RESPONSE_BYTES_MAX))
    }

    /// The latest rows of the named instruments, of the first node that answers. An unknown symbol's row is absent.
    pub async fn get<S: Into<String>>(
        &self,
        symbols: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Instrument>, Error> {
        let request = GetRequest { symbols: symbols.into_iter().map(Into::into).collect() };
        let mut last = Error::NoNode;
        for node in 0..self.nodes() {
            match self.connect(node).await {
                Ok(mut service) => return Ok(service.get(request).await?.into_inner().instruments),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Follows the instruments that match one of the patterns (`*` any run of characters, `?` one). What is delivered
    /// is said by the methods of [`Subscription`]; without them every change, and to a client that does not keep up the latest.
    pub fn subscribe<S: Into<String>>(&self, patterns: impl IntoIterator<Item = S>) -> Subscription {
        Subscription::new(self.clone(), patterns.into_iter().map(Into::into).collect())
    }
}
