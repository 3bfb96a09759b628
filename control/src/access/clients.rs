//! Who the clients are: those of the file, and those that admins made.

use super::{Entitlement, Role, Standing, TokenHash};
use crate::config::{ClientConfig, Config};
use crate::proto::RowKind;
use crate::selection::Selection;
use crate::service::kind_of;
use dataplane::cache::tick::Kind;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("client `{name}`: {cause}")]
    Client { name: String, cause: String },
    #[error("client `{name}` has the {what} of `{other}`: give each its own")]
    Shared { name: String, other: String, what: &'static str },
}

/// A client as it is until it is changed.
#[derive(Debug)]
pub struct Client {
    /// What it was made of.
    pub made_of: ClientConfig,
    pub entitlement: Arc<Entitlement>,
    pub standing: Standing,
    /// Whether it is of the file.
    pub is_configured: bool,
    pub token: Option<TokenHash>,
    revoke: watch::Sender<bool>,
}

impl ClientConfig {
    /// What of the configured feeds it may see.
    pub fn rows(&self, config: &Config) -> Result<Selection, String> {
        let kind = |name: &String| {
            let known =
                RowKind::from_str_name(&format!("ROW_KIND_{}", name.to_uppercase())).and_then(kind_of);
            known.ok_or_else(|| {
                format!("kinds: there is no {name:?}: there is quote, trade, status, definition, implied_quote, contract")
            })
        };
        let kinds: Vec<Kind> = self.kinds.iter().map(kind).collect::<Result<_, _>>()?;
        Selection::new(config, &self.venues, &self.feeds, &self.patterns, &kinds)
            .map_err(|error| error.to_string())
    }
}

impl Client {
    pub fn new(
        made_of: ClientConfig,
        token: Option<TokenHash>,
        config: &Config,
        is_configured: bool,
    ) -> Result<Client, ClientsError> {
        let rows = made_of
            .check(config)
            .and_then(|()| made_of.rows(config))
            .map_err(|cause| ClientsError::Client { name: made_of.name.clone(), cause })?;
        let entitlement = Arc::new(Entitlement { rows, delay: Duration::from_millis(made_of.delay_ms) });
        let (revoke, standing) = Standing::new();
        Ok(Client { made_of, entitlement, standing, is_configured, token, revoke })
    }

    pub fn name(&self) -> &str {
        &self.made_of.name
    }

    pub fn role(&self) -> Role {
        self.made_of.role
    }

    /// Ends what it has open.
    pub fn revoke(&self) {
        self.revoke.send_replace(true);
    }
}

/// All of them at one time; a change makes another of it.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    by_name: BTreeMap<String, Arc<Client>>,
    by_certificate: HashMap<String, Arc<Client>>,
    by_token: HashMap<u64, Arc<Client>>,
}

impl Clients {
    /// Those of the file.
    pub fn of(config: &Config) -> Result<Clients, ClientsError> {
        let mut clients = Clients::default();
        for made_of in &config.clients {
            let token = made_of.token_sha256.as_ref().map(|hash| hash.parse().expect("it was checked"));
            clients.put(Arc::new(Client::new(made_of.clone(), token, config, true)?))?;
        }
        Ok(clients)
    }

    /// Adds a client, or puts it in the place of the one of that name, which is returned.
    pub fn put(&mut self, client: Arc<Client>) -> Result<Option<Arc<Client>>, ClientsError> {
        let shared = |other: &Arc<Client>, what| {
            let (name, other) = (client.name().to_owned(), other.name().to_owned());
            if name == other { Ok(()) } else { Err(ClientsError::Shared { name, other, what }) }
        };
        if let Some(other) = client.token.and_then(|hash| self.by_token.get(&hash.key())) {
            shared(other, "token")?;
        }
        let certificate = client.made_of.certificate.clone();
        if let Some(other) = certificate.as_ref().and_then(|name| self.by_certificate.get(name)) {
            shared(other, "certificate")?;
        }
        let before = self.remove(client.name());
        if let Some(hash) = client.token {
            self.by_token.insert(hash.key(), client.clone());
        }
        if let Some(certificate) = certificate {
            self.by_certificate.insert(certificate, client.clone());
        }
        self.by_name.insert(client.name().to_owned(), client);
        Ok(before)
    }

    pub fn remove(&mut self, name: &str) -> Option<Arc<Client>> {
        let client = self.by_name.remove(name)?;
        self.by_token.retain(|_, other| other.name() != name);
        self.by_certificate.retain(|_, other| other.name() != name);
        Some(client)
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Client>> {
        self.by_name.get(name)
    }

    /// By name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.by_name.values()
    }

    pub fn by_token(&self, token: &str) -> Option<&Arc<Client>> {
        let hash = TokenHash::of(token);
        let found = self.by_token.get(&hash.key())?;
        found.token.is_some_and(|own| own.is(&hash)).then_some(found)
    }

    pub fn by_certificate(&self, name: &str) -> Option<&Arc<Client>> {
        self.by_certificate.get(name)
    }
}
