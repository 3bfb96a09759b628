//! `[grpc]` and `[[clients]]`: where gRPC is served, and to whom.

use super::Config;
use super::check::check_unique;
use crate::access::{Role, TokenHash};
use crate::delayed::DELAY_MAX;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

const CONNECTIONS_MAX: usize = 1_000_000;
const THREADS_MAX: usize = 64;
const CERTIFICATE_BYTES_MAX: usize = 253;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    pub listen: SocketAddr,
    /// Subscriptions that may be open at once.
    pub subscriptions_max: usize,
    /// Connections that may be open at once; one more is closed as soon as it has come.
    pub connections_max: usize,
    /// Threads that answer calls and deliver to subscribers; 0 = as many as there are cores besides the worker's, 4 at most.
    pub threads: usize,
    /// Encrypts what goes between the node and its clients.
    pub tls: Option<GrpcTlsConfig>,
    /// Tokens and prices may go beyond this machine unencrypted: for a network that nobody else reaches.
    pub plaintext: bool,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 50_051));
        GrpcConfig {
            listen,
            subscriptions_max: 256,
            connections_max: 4_096,
            threads: 0,
            tls: None,
            plaintext: false,
        }
    }
}

/// What the node shows to its clients, and whose certificates they may show; all are PEM files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcTlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The certificate of who signed those of clients; without it they show tokens.
    pub client_ca: Option<PathBuf>,
}

/// A client. Those of the file can change while the node runs: change the file, and send SIGHUP, or `tickplane config apply`;
/// others are made by `tickplane client create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    pub name: String,
    pub role: Role,
    /// SHA-256 of its token, as `tickplane client hash` prints it.
    pub token_sha256: Option<String>,
    /// The name in its certificate: the first DNS name, else the common one.
    pub certificate: Option<String>,
    /// What it may see: these venues and these feeds [default: all]
    #[serde(default)]
    pub venues: Vec<String>,
    #[serde(default)]
    pub feeds: Vec<String>,
    /// … of which the symbols that match one of these [default: all]
    #[serde(default)]
    pub patterns: Vec<String>,
    /// … and of those these rows: quote, trade, status, definition, implied_quote, contract [default: all]
    #[serde(default)]
    pub kinds: Vec<String>,
    /// How late it sees them.
    #[serde(default)]
    pub delay_ms: u64,
}

impl Config {
    /// Whether whoever reaches the port may do everything, and need not say who it is, until an admin makes the first client.
    pub fn is_anonymous(&self) -> bool {
        self.grpc.listen.ip().is_loopback() && self.grpc.tls.is_none() && self.clients.is_empty()
    }

    pub(super) fn check_grpc(&self) -> Result<(), String> {
        let GrpcConfig { listen, tls, plaintext, connections_max, threads, .. } = &self.grpc;
        if *threads > THREADS_MAX {
            return Err(format!(
                "[grpc] threads = {threads}: at most {THREADS_MAX}; 0 = as many as there are cores besides the worker's, 4 at most"
            ));
        }
        if !(1..=CONNECTIONS_MAX).contains(connections_max) {
            return Err(format!(
                "[grpc] connections_max = {connections_max}: must be 1 to {CONNECTIONS_MAX}"
            ));
        }
        if !listen.ip().is_loopback() && tls.is_none() && !plaintext {
            return Err(format!(
                "[grpc] {listen}: without [grpc.tls] only loopback is allowed, since tokens and prices could be read on the way: name a certificate and a key \
                 there, or use 127.0.0.1 or [::1], or, where nobody else reaches the network, plaintext = true"
            ));
        }
        if self.clients.is_empty() && !self.is_anonymous() {
            return Err(format!(
                "[grpc] {listen}: nobody could call, since only on loopback without TLS need nobody say who calls: add \
                 [[clients]] with name, role = \"admin\", and token_sha256 (by `tickplane client hash`) or certificate"
            ));
        }
        self.check_clients()
    }

    fn check_clients(&self) -> Result<(), String> {
        check_unique("[[clients]]", self.clients.iter().map(|client| client.name.as_str()))?;
        for client in &self.clients {
            client.check(self).map_err(|error| format!("[[clients]] `{}`: {error}", client.name))?;
        }
        Ok(())
    }
}

impl ClientConfig {
    /// Whether it can be this, whoever made it.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        super::check::check_name("name", &self.name)?;
        if self.name == crate::access::ANONYMOUS {
            return Err(format!("`{}` is whoever does not say who it is: choose another name", self.name));
        }
        if let Some(hash) = &self.token_sha256 {
            hash.parse::<TokenHash>().map_err(|error| format!("token_sha256: {error}"))?;
        }
        let takes_certificates = config.grpc.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let is_name = |name: &String| {
            (1..=CERTIFICATE_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        match &self.certificate {
            None if self.token_sha256.is_none() => {
                return Err("how is it known? give token_sha256 (by `tickplane client hash`) or certificate"
                    .to_owned());
            }
            Some(name) if !is_name(name) => {
                return Err(format!(
                    "certificate: give the name in it, of 1 to {CERTIFICATE_BYTES_MAX} bytes"
                ));
            }
            Some(_) if !takes_certificates => {
                let cure = "name there who signs them";
                return Err(format!("certificate: none is asked for without [grpc.tls] client_ca: {cure}"));
            }
            _ => {}
        }
        let most_ms = DELAY_MAX.as_millis() as u64;
        if self.delay_ms > most_ms {
            return Err(format!("delay_ms: {} is more than a day: at most {most_ms}", self.delay_ms));
        }
        self.rows(config).map(drop)
    }
}
