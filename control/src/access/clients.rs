//! Who the clients are: those of the configuration, and those that admins made, as they are now.

use super::kept::{self, History};
use super::{ANONYMOUS, Entitlement, Role, Standing, TokenHash};
use crate::config::{ClientConfig, Config};
use crate::proto::KeptClient;
use crate::quota::{ClientQuota, Quotas};
use crate::selection::Selection;
use crate::service::{kind_named, kind_of};
use crate::store::StoreError;
use dataplane::cache::tick::Kind;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("client `{name}`: {cause}")]
    Client { name: String, cause: String },
    #[error("client `{name}` has the {what} of `{other}`: give each its own")]
    Shared { name: String, other: String, what: &'static str },
    #[error(
        "client `{0}` is in the configuration's file, and an admin has made one of that name: give that in the file another \
         name, or take it out, and delete the other one by `tickplane client delete`"
    )]
    Twice(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A client as it is until it is changed.
#[derive(Debug)]
pub struct Client {
    /// What it was made of.
    pub made_of: ClientConfig,
    /// `None` = it is of the file, or of nobody.
    pub history: Option<History>,
    /// An error is why it can't call as the node is configured now.
    pub entitlement: Result<Entitlement, String>,
    /// It is the same however the client is changed.
    pub quota: Arc<ClientQuota>,
    pub standing: Arc<Standing>,
    pub token: Option<TokenHash>,
}

impl ClientConfig {
    /// What of the configured feeds it may see.
    pub fn rows(&self, config: &Config) -> Result<Selection, String> {
        let kind = |name: &String| kind_named(name).map_err(|error| format!("kinds: {error}"));
        let kinds: Result<Vec<_>, String> = self.kinds.iter().map(kind).collect();
        let kinds: Vec<Kind> = kinds?.into_iter().filter_map(kind_of).collect();
        Selection::new(config, &self.venues, &self.feeds, &self.patterns, &kinds)
            .map_err(|error| error.to_string())
    }
}

impl Client {
    pub fn new(
        made_of: ClientConfig,
        history: Option<History>,
        config: &Config,
        before: &Clients,
        quotas: &Quotas,
    ) -> Client {
        let delay = Duration::from_millis(made_of.delay_ms);
        let rows = made_of.check(config).and_then(|()| made_of.rows(config));
        let entitlement = rows.map(|rows| Entitlement { rows, delay });
        Client::of(made_of, history, entitlement, before, quotas)
    }

    /// Whoever calls without saying who it is.
    fn anonymous(before: &Clients, quotas: &Quotas) -> Client {
        let made_of =
            ClientConfig { name: ANONYMOUS.to_owned(), role: Role::Admin, ..ClientConfig::default() };
        Client::of(made_of, None, Ok(Entitlement::everything()), before, quotas)
    }

    /// One that is made of the same as it was `before` goes on.
    fn of(
        made_of: ClientConfig,
        history: Option<History>,
        entitlement: Result<Entitlement, String>,
        before: &Clients,
        quotas: &Quotas,
    ) -> Client {
        let quota = quotas.of(&made_of.name, made_of.role);
        let token = made_of.token_sha256.as_ref().and_then(|hash| hash.parse().ok());
        let standing = match before.get(&made_of.name) {
            Some(old) if old.made_of == made_of => old.standing.clone(),
            _ => Arc::default(),
        };
        Client { made_of, history, entitlement, quota, standing, token }
    }

    pub fn name(&self) -> &str {
        &self.made_of.name
    }

    pub fn role(&self) -> Role {
        self.made_of.role
    }
}

/// All of them at one time; whatever changes makes another of it.
#[derive(Debug, Default)]
pub struct Clients {
    by_name: BTreeMap<String, Arc<Client>>,
    by_certificate: HashMap<String, Arc<Client>>,
    by_token: HashMap<u64, Arc<Client>>,
}

impl Clients {
    /// Those of the file, and those that are kept; whoever calls, if there is none of them, and the configuration lets it.
    pub fn of(
        config: &Config,
        kept: &BTreeMap<String, KeptClient>,
        before: &Clients,
        quotas: &Quotas,
    ) -> Result<Clients, ClientsError> {
        let mut clients = Clients::default();
        for made_of in &config.clients {
            let client = Client::new(made_of.clone(), None, config, before, quotas);
            if let Err(cause) = &client.entitlement {
                return Err(ClientsError::Client { name: made_of.name.clone(), cause: cause.clone() });
            }
            clients.add(client)?;
        }
        for (name, kept) in kept {
            let read = kept::read(kept);
            let (made_of, history) =
                read.map_err(|cause| ClientsError::Client { name: name.clone(), cause })?;
            clients.add(Client::new(made_of, Some(history), config, before, quotas))?;
        }
        if config.is_anonymous() && kept.is_empty() {
            clients.add(Client::anonymous(before, quotas))?;
        }
        Ok(clients)
    }

    /// Those of `before` that are not as they were any more.
    pub fn gone<'b>(&'b self, before: &'b Clients) -> impl Iterator<Item = &'b Arc<Client>> {
        let goes_on = |old: &Client| self.get(old.name()).is_some_and(|new| new.made_of == old.made_of);
        before.all().filter(move |old| !goes_on(old))
    }

    /// Refuses a client that has something of another's.
    fn add(&mut self, client: Client) -> Result<(), ClientsError> {
        let name = client.name().to_owned();
        if self.by_name.contains_key(&name) {
            return Err(ClientsError::Twice(name));
        }
        let client = Arc::new(client);
        let by_token = client.token.and_then(|hash| self.by_token.insert(hash.key(), client.clone()));
        let certificate = client.made_of.certificate.clone();
        let by_certificate = certificate.and_then(|name| self.by_certificate.insert(name, client.clone()));
        let shared = by_token.map(|other| (other, "token"));
        if let Some((other, what)) = shared.or(by_certificate.map(|other| (other, "certificate"))) {
            return Err(ClientsError::Shared { name, other: other.name().to_owned(), what });
        }
        self.by_name.insert(name, client);
        Ok(())
    }

    /// Who calls without showing anything; `None` = nobody may.
    pub fn anonymous(&self) -> Option<&Arc<Client>> {
        self.get(ANONYMOUS)
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
