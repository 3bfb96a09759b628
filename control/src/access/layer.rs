//! The layer that every call passes: who calls, may it, and how much of it.

use super::guesses::Guesses;
use super::method::{self, Answer};
use super::standing::Standings;
use super::unread::Unread;
use super::{Caller, Client, Clients, ClientsError, Role, certificate};
use crate::bell::Bell;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::proto::KeptClient;
use crate::quota::Quotas;
use crate::store::Object;
use crate::trace::Findings;
use dataplane::counters::SharedCounter;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use pin_project_lite::pin_project;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

/// What is charged: all but health and reflection, which belong to whoever looks after the node.
const CHARGED: &str = "/tickplane.";

/// Calls that were not let through, since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Nobody knows who called.
    pub unauthenticated: SharedCounter,
    /// Nobody knows who called, and its source has tried too often.
    pub guesses: SharedCounter,
    /// It may not: its role is not enough, or it can't call as the node is configured.
    pub denied: SharedCounter,
    /// It has not read enough of the answers before.
    pub unread: SharedCounter,
}

/// Who may call, and who was refused.
pub struct Access {
    /// Whoever makes other clients of it holds it.
    pub(super) made_of: Mutex<MadeOf>,
    pub(super) clients: RwLock<Arc<Clients>>,
    /// What the clients may use.
    pub(super) quotas: Arc<Quotas>,
    guesses: Mutex<Guesses>,
    /// Rung once clients are not any more who they were.
    pub(super) news_bell: Arc<Bell>,
    pub refusals: Refusals,
}

/// What the clients are made of.
pub(super) struct MadeOf {
    /// As it was read last.
    pub config: Config,
    /// What the ledger has, once it has told all.
    pub kept: BTreeMap<String, KeptClient>,
    pub is_complete: bool,
}

impl Access {
    /// The clients of the configuration, and those that the ledger has.
    pub fn open(
        config: &Config,
        ledger: &mut Ledger,
        quotas: Arc<Quotas>,
        news_bell: Arc<Bell>,
    ) -> Result<Arc<Access>, ClientsError> {
        let made_of = MadeOf { config: config.clone(), kept: BTreeMap::new(), is_complete: false };
        let access = Arc::new(Access {
            made_of: Mutex::new(made_of),
            clients: RwLock::default(),
            quotas,
            guesses: Mutex::default(),
            news_bell,
            refusals: Refusals::default(),
        });
        let taking = access.clone();
        ledger.follow(Object::Client, move |changed| taking.take_kept(changed))?;
        access.complete()?;
        Ok(access)
    }

    /// All clients, as they are now.
    pub fn clients(&self) -> Arc<Clients> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The role of a client that may call; `None` = nobody who is called so may.
    pub fn role_of(&self, name: &str) -> Option<Role> {
        self.clients().get(name).map(|client| client.role())
    }

    /// The caller of a method that needs a role, if it may; the call is charged to it.
    fn admit(&self, needed: Role, request: &Request<Body>) -> Result<Caller, Box<Status>> {
        let caller = self.identify(request.headers(), request.extensions())?;
        let findings = request.extensions().get::<Findings>();
        if let Some(findings) = findings {
            findings.client(caller.name());
        }
        if caller.role() < needed {
            self.refusals.denied.add(1);
            let (name, role, needed) = (caller.name(), caller.role().name(), needed.name());
            return Err(Box::new(Status::permission_denied(format!(
                "role {needed} is needed, {name} has {role}"
            ))));
        }
        if request.uri().path().starts_with(CHARGED) {
            let charged = caller.quota().charge_request(SystemClock.monotonic_ns());
            charged.map_err(|excess| Box::new(excess.status()))?;
            if let Some(findings) = findings {
                findings.charged();
            }
        }
        Ok(caller)
    }

    /// A token goes before a certificate: it is of who calls, while a machine may show the certificate for all who work there.
    fn identify(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, Box<Status>> {
        let from = address_of(extensions);
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = headers.get(AUTHORIZATION) {
            let token = bearer(value);
            return match token.and_then(|token| clients.by_token(token)) {
                Some(client) => self.caller(client, from),
                None => Err(self.guessed(from, token.is_some())),
            };
        }
        if let Some(name) = certificate_of(extensions) {
            if let Some(client) = clients.by_certificate(&name) {
                return self.caller(client, from);
            }
            self.refusals.unauthenticated.add(1);
            let name: String = name.chars().take(64).collect();
            return Err(Box::new(Status::unauthenticated(format!(
                "no client has the certificate of {name:?}: give one that name as its certificate, or show a token"
            ))));
        }
        if let Some(anonymous) = clients.anonymous() {
            return self.caller(anonymous, from);
        }
        self.refusals.unauthenticated.add(1);
        Err(Box::new(Status::unauthenticated(
            "nobody said who calls: send `authorization: Bearer TOKEN` (--token), or show a certificate (--tls-cert)",
        )))
    }

    fn caller(&self, client: &Arc<Client>, from: Option<SocketAddr>) -> Result<Caller, Box<Status>> {
        Caller::new(client, from).map_err(|cause| {
            self.refusals.denied.add(1);
            let name = client.name();
            Box::new(Status::failed_precondition(format!(
                "client {name} can't call as the node is configured now: {cause}: an admin can update it"
            )))
        })
    }

    /// What whoever shows a wrong token is told.
    fn guessed(&self, from: Option<SocketAddr>, is_bearer: bool) -> Box<Status> {
        let source = from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.ip());
        let now_ns = SystemClock.monotonic_ns();
        let tried = self.guesses.lock().unwrap_or_else(PoisonError::into_inner).failed(source, now_ns);
        if tried.is_ok() {
            self.refusals.unauthenticated.add(1);
        }
        Box::new(match tried {
            Err(wait_ns) => {
                self.refusals.guesses.add(1);
                let wait_s = wait_ns.div_ceil(1_000_000_000);
                Status::resource_exhausted(format!(
                    "{source} has shown too many wrong tokens: wait {wait_s} s"
                ))
            }
            Ok(()) if is_bearer => Status::unauthenticated(
                "the token is no client's: was it renewed, or the client deleted? an admin can renew it",
            ),
            Ok(()) => Status::unauthenticated("authorization: give it as `Bearer TOKEN`"),
        })
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, 2.1; the scheme's case does not matter, RFC 9110, 11.1).
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where the other end of a connection is.
pub fn address_of(extensions: &Extensions) -> Option<SocketAddr> {
    let tcp = match extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
        Some(tls) => Some(tls.get_ref()),
        None => extensions.get::<TcpConnectInfo>(),
    };
    tcp?.remote_addr()
}

/// The name in the certificate that the other end has shown, empty = there is none in it.
fn certificate_of(extensions: &Extensions) -> Option<String> {
    let shown = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.peer_certs()?;
    Some(certificate::name(shown.first()?).unwrap_or_default())
}

/// Charges each call that may go on to its client, puts the [`Caller`] into its extensions, and answers the others. A stream
/// ends with its caller's [`Standing`](super::Standing), any other answer is counted until it is read.
#[derive(Clone)]
pub struct AccessLayer(pub Arc<Access>);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { access: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering<S::Future> {
        let (needed, answer) = method::of(request.uri().path());
        let mut answered_to = None;
        if let Some(needed) = needed {
            let caller = match self.access.admit(needed, &request) {
                Ok(caller) => caller,
                Err(status) => return Answering::Refused { status: Some(status) },
            };
            answered_to = Some((caller.clone(), self.access.clone()));
            request.extensions_mut().insert(caller);
        }
        Answering::Admitted { answered: self.inner.call(request), answer, answered_to }
    }
}

pin_project! {
    /// A call that goes on, or was refused.
    #[project = AnsweringNow]
    pub enum Answering<F> {
        Refused { status: Option<Box<Status>> },
        Admitted { #[pin] answered: F, answer: Answer, answered_to: Option<(Caller, Arc<Access>)> },
    }
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnsweringNow::Refused { status } => {
                let status = status.take().expect("a future that has ended is not polled again");
                Poll::Ready(Ok(status.into_http()))
            }
            AnsweringNow::Admitted { answered, answer, answered_to } => {
                let response = ready!(answered.poll(context))?;
                Poll::Ready(Ok(match (answered_to.take(), answer) {
                    (Some((caller, access)), Answer::Stream) => {
                        response.map(|body| Body::new(Standings::new(body, caller, &access.news_bell)))
                    }
                    (Some((caller, access)), Answer::Once) => {
                        response.map(|body| Body::new(Unread::new(body, caller, access)))
                    }
                    (None, _) => response,
                }))
            }
        }
    }
}
