//! Who the clients are: those of the configuration, as it is now.

use super::{ANONYMOUS, Entitlement, Role, Standing, TokenHash};
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
    ) -> Result<Client, ClientsError> {
        let rows = made_of
            .check(config)
            .and_then(|()| made_of.rows(config))
            .map_err(|cause| ClientsError::Client { name: made_of.name.clone(), cause })?;
        let entitlement = Entitlement { rows, delay: Duration::from_millis(made_of.delay_ms) };
        Ok(Client::of(made_of, token, entitlement))
    }

    fn of(made_of: ClientConfig, token: Option<TokenHash>, entitlement: Entitlement) -> Client {
        let (revoke, standing) = Standing::new();
        Client { made_of, entitlement: Arc::new(entitlement), standing, token, revoke }
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

/// All of them at one time; another configuration makes another of it.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    by_name: BTreeMap<String, Arc<Client>>,
    by_certificate: HashMap<String, Arc<Client>>,
    by_token: HashMap<u64, Arc<Client>>,
    anonymous: Option<Arc<Client>>,
}

impl Clients {
    /// Those of the file.
    pub fn of(config: &Config) -> Result<Clients, ClientsError> {
        let mut clients = Clients::default();
        for made_of in &config.clients {
            let token = made_of.token_sha256.as_ref().map(|hash| hash.parse().expect("it was checked"));
            let client = Client::new(made_of.clone(), token, config)?;
            clients.check(&client)?;
            clients.put(Arc::new(client));
        }
        if config.is_anonymous() {
            let anonymous =
                ClientConfig { name: ANONYMOUS.to_owned(), role: Role::Admin, ..ClientConfig::default() };
            clients.anonymous = Some(Arc::new(Client::of(anonymous, None, Entitlement::everything())));
        }
        Ok(clients)
    }

    /// Takes those of `before` that are made of the same into the places of their likes, so that what they have open goes on, and
    /// returns the others of `before`.
    pub fn keep(&mut self, before: &Clients) -> Vec<Arc<Client>> {
        let mut gone = Vec::new();
        for old in before.by_name.values().chain(&before.anonymous) {
            let is_anonymous = old.name() == ANONYMOUS;
            let place = if is_anonymous { self.anonymous.as_ref() } else { self.by_name.get(old.name()) };
            match place {
                Some(new) if new.made_of == old.made_of && is_anonymous => self.anonymous = Some(old.clone()),
                Some(new) if new.made_of == old.made_of => self.put(old.clone()),
                _ => gone.push(old.clone()),
            }
        }
        gone
    }

    /// Adds a client, or puts it in the place of the one of that name, which has the same token and certificate.
    fn put(&mut self, client: Arc<Client>) {
        if let Some(hash) = client.token {
            self.by_token.insert(hash.key(), client.clone());
        }
        if let Some(certificate) = client.made_of.certificate.clone() {
            self.by_certificate.insert(certificate, client.clone());
        }
        self.by_name.insert(client.name().to_owned(), client);
    }

    /// Refuses a client that has something of another's.
    fn check(&self, client: &Client) -> Result<(), ClientsError> {
        let (token, certificate) = (client.token, &client.made_of.certificate);
        let by_token = token.and_then(|hash| self.by_token.get(&hash.key())).map(|other| (other, "token"));
        let by_certificate = certificate.as_ref().and_then(|name| self.by_certificate.get(name));
        match by_token.or(by_certificate.map(|other| (other, "certificate"))) {
            None => Ok(()),
            Some((other, what)) => {
                let (name, other) = (client.name().to_owned(), other.name().to_owned());
                Err(ClientsError::Shared { name, other, what })
            }
        }
    }

    /// Who calls without showing anything; `None` = nobody may.
    pub fn anonymous(&self) -> Option<&Arc<Client>> {
        self.anonymous.as_ref()
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
