//! The layer that every call passes: who calls, may it, and how much of it.

use super::guesses::Guesses;
use super::standing::{FinalAnswer, Standings, Unread};
use super::{Caller, Client, Clients, ClientsError, Role, certificate, method};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::proto::KeptClient;
use crate::quota::{self, Quotas};
use crate::store::Object;
use crate::trace::Findings;
use dataplane::counters::SharedCounter;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Extensions, HeaderMap, Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

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
    guesses: Mutex<Guesses>,
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
    pub fn open(config: &Config, ledger: &mut Ledger) -> Result<Arc<Access>, ClientsError> {
        let made_of = MadeOf { config: config.clone(), kept: BTreeMap::new(), is_complete: false };
        let access = Arc::new(Access {
            made_of: Mutex::new(made_of),
            clients: RwLock::default(),
            guesses: Mutex::default(),
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

    /// The caller of a method, and whether it may; `None` = nobody has to say who calls.
    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<Caller>, Box<Status>> {
        let Some(needed) = method::needs(path) else { return Ok(None) };
        let Peer { from, certificate } = Peer::of(extensions);
        let caller = self.identify(headers, from, certificate.as_deref())?;
        if let Some(findings) = extensions.get::<Findings>() {
            findings.client(&caller.name);
        }
        if caller.role < needed {
            self.refusals.denied.add(1);
            let (name, role, needed) = (&caller.name, caller.role.name(), needed.name());
            return Err(Box::new(Status::permission_denied(format!(
                "role {needed} is needed, {name} has {role}"
            ))));
        }
        Ok(Some(caller))
    }

    /// A token goes before a certificate: it is of who calls, while a machine may show the certificate for all who work there.
    fn identify(
        &self,
        headers: &HeaderMap,
        from: Option<SocketAddr>,
        certificate: Option<&[u8]>,
    ) -> Result<Caller, Box<Status>> {
        let clients = self.clients();
        if let Some(value) = headers.get(AUTHORIZATION) {
            let token = value.to_str().ok().and_then(bearer);
            let found = token.and_then(|token| clients.by_token(token));
            return match found {
                Some(client) => self.caller(client, from),
                None => Err(self.guessed(from, token.is_some())),
            };
        }
        if let Some(der) = certificate {
            let name = certificate::name(der).unwrap_or_default();
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

    fn caller(&self, client: &Client, from: Option<SocketAddr>) -> Result<Caller, Box<Status>> {
        let entitlement = client.entitlement.clone().map_err(|cause| {
            self.refusals.denied.add(1);
            let name = client.name();
            Box::new(Status::failed_precondition(format!(
                "client {name} can't call as the node is configured now: {cause}: an admin can update it"
            )))
        })?;
        let (name, standing) = (client.name().to_owned(), client.standing.clone());
        Ok(Caller { name, role: client.role(), entitlement, from, standing })
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
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
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

/// The other end of a connection.
struct Peer {
    from: Option<SocketAddr>,
    certificate: Option<Vec<u8>>,
}

impl Peer {
    fn of(extensions: &Extensions) -> Peer {
        let certificates =
            extensions.get::<TlsConnectInfo<TcpConnectInfo>>().and_then(|tls| tls.peer_certs());
        let certificate = certificates.and_then(|all| Some(all.first()?.to_vec()));
        Peer { from: address_of(extensions), certificate }
    }
}

/// Charges each call that may go on to its client, puts the [`Caller`] into its extensions, and answers the others. What goes
/// on for long ends with its caller's [`Standing`].
#[derive(Clone)]
pub struct AccessLayer {
    pub access: Arc<Access>,
    pub quotas: Arc<Quotas>,
}

impl AccessLayer {
    fn admit(&self, request: &Request<Body>) -> Result<Option<Caller>, Box<Status>> {
        let path = request.uri().path();
        let caller = self.access.admit(path, request.headers(), request.extensions())?;
        if let Some(caller) = &caller {
            quota::charge(&self.quotas, request, caller, SystemClock.monotonic_ns())?;
        }
        Ok(caller)
    }

    /// Where the answer to a method (its path) is counted.
    fn unread(&self, path: &str, caller: &Caller) -> Option<Unread> {
        let quota = self.quotas.of(&caller.name, caller.role, SystemClock.monotonic_ns());
        let counted = || Unread { answers: quota.answers().clone(), access: self.access.clone() };
        (!method::is_stream(path)).then(counted)
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { layer: self.clone(), inner }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    layer: AccessLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.layer.admit(&request) {
            Ok(None) => Box::pin(self.inner.call(request)),
            Ok(Some(caller)) => {
                let (name, standing) = (caller.name.clone(), caller.standing.clone());
                let unread = self.layer.unread(request.uri().path(), &caller);
                request.extensions_mut().insert(caller);
                let answered = self.inner.call(request);
                Box::pin(async move {
                    let answer = answered.await?;
                    match answer.extensions().get::<FinalAnswer>() {
                        Some(_) => Ok(answer),
                        None => {
                            Ok(answer.map(|body| Body::new(Standings::new(body, name, standing, unread))))
                        }
                    }
                })
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
