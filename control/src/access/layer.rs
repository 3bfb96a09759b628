//! The layer that every call passes: who calls, may it, and how much of it.

use super::guesses::Guesses;
use super::standing::{FinalAnswer, Standings};
use super::{Caller, Client, Clients, ClientsError, Role, certificate, method};
use crate::config::Config;
use crate::store::Store;
use dataplane::counters::Counter;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
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
    pub unauthenticated: Counter,
    /// Nobody knows who called, and its source has tried too often.
    pub guesses: Counter,
    /// It may not: its role is not enough, or it can't call as the node is configured.
    pub denied: Counter,
}

/// Who may call, and who was refused.
pub struct Access {
    /// As it was read last. Clients change one at a time: whoever makes others of them holds it.
    pub(super) config: Mutex<Config>,
    pub(super) store: Arc<Store>,
    pub(super) clients: RwLock<Arc<Clients>>,
    guesses: Mutex<Guesses>,
    pub refusals: Refusals,
}

impl Access {
    /// The clients of the configuration, and those that the store has.
    pub fn open(config: &Config, store: Arc<Store>) -> Result<Access, ClientsError> {
        let access = Access {
            config: Mutex::new(config.clone()),
            store,
            clients: RwLock::default(),
            guesses: Mutex::default(),
            refusals: Refusals::default(),
        };
        access.take_stored()?;
        Ok(access)
    }

    /// All clients, as they are now.
    pub fn clients(&self) -> Arc<Clients> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The role of a client that may call; `None` = nobody who is called so may.
    pub fn role_of(&self, name: &str) -> Option<Role> {
        let clients = self.clients();
        let anonymous = clients.anonymous().filter(|anonymous| anonymous.name() == name);
        clients.get(name).or(anonymous).map(|client| client.role())
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

/// The other end of a connection.
struct Peer {
    from: Option<SocketAddr>,
    certificate: Option<Vec<u8>>,
}

impl Peer {
    fn of(extensions: &Extensions) -> Peer {
        if let Some(tls) = extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
            let certificates = tls.peer_certs();
            let certificate = certificates.and_then(|all| Some(all.first()?.to_vec()));
            return Peer { from: tls.get_ref().remote_addr(), certificate };
        }
        let from = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Peer { from, certificate: None }
    }
}

/// Puts the [`Caller`] into the extensions of each call that may go on, and answers the others. What goes on for long ends
/// with its caller's [`Standing`].
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
        match self.access.admit(request.uri().path(), request.headers(), request.extensions()) {
            Ok(None) => Box::pin(self.inner.call(request)),
            Ok(Some(caller)) => {
                let (name, standing) = (caller.name.clone(), caller.standing.clone());
                request.extensions_mut().insert(caller);
                let answered = self.inner.call(request);
                Box::pin(async move {
                    let answer = answered.await?;
                    match answer.extensions().get::<FinalAnswer>() {
                        Some(_) => Ok(answer),
                        None => Ok(answer.map(|body| Body::new(Standings::new(body, name, standing)))),
                    }
                })
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
