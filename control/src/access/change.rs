//! How clients become others: by the ledger, where their admins and other nodes change them, and by the configuration's file.

use super::kept::{self, History};
use super::layer::MadeOf;
use super::{ANONYMOUS, Access, Caller, Client, Clients, ClientsError, Role, Token, told};
use crate::audit;
use crate::config::{ClientConfig, Config};
use crate::ledger::{Ledger, LedgerError};
use crate::proto::{self, KeptClient};
use crate::store::{Changes, Object};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use prost::Message;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Of those that admins make.
const CLIENTS_MAX: usize = 4_096;
/// Of one of them, as it is kept: some thousand patterns.
const CLIENT_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("there is no client {0:?}: `tickplane client list` shows those that there are")]
    Unknown(String),
    #[error("there is a client {0:?} already: choose another name, or update that one")]
    Taken(String),
    #[error(
        "client {0:?} is of the configuration's file: change it there, then SIGHUP or `tickplane config apply`"
    )]
    OfFile(String),
    #[error(
        "{0:?} is the caller, and nobody updates or deletes himself: let another admin do it, or the configuration's file"
    )]
    Own(String),
    #[error(
        "nobody must say who calls, and from the first client on everybody must: make an admin first, it can make the others"
    )]
    FirstIsNoAdmin,
    #[error("{0} was deleted, or what it may do was changed: call again, if it still may")]
    Over(String),
    #[error("there are {CLIENTS_MAX} clients: delete those that nobody needs")]
    TooMany,
    #[error("it takes {0} bytes, at most {CLIENT_BYTES_MAX} are kept: give fewer patterns")]
    TooLong(usize),
    #[error("the client is at revision {now}, not {expected}: read it again, and update that")]
    Revision { now: u64, expected: u64 },
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is done to one.
#[derive(Clone, Debug)]
pub enum Change {
    /// With a token if it has no certificate.
    Create {
        made_of: ClientConfig,
        with_token: bool,
    },
    Update {
        made_of: ClientConfig,
        revision: u64,
    },
    RenewToken,
    Delete,
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Change::Create { .. } => "client.create",
            Change::Update { .. } => "client.update",
            Change::RenewToken => "client.renew_token",
            Change::Delete => "client.delete",
        }
    }
}

impl Access {
    /// Does a change by the ledger, and tells what the client is then, or was last, and the token that was made for it. Waits for
    /// the disk.
    pub fn change(
        &self,
        ledger: &Ledger,
        caller: &Caller,
        name: &str,
        change: Change,
    ) -> Result<(proto::Client, Option<Token>), ClientError> {
        let action = change.name();
        let mut made = None;
        ledger.change(|| {
            // The change before may have been of who asks for this one.
            if caller.standing().is_over() {
                return Err(ClientError::Over(caller.name().to_owned()));
            }
            let is_deletion = matches!(change, Change::Delete);
            let MadeOf { config, kept, .. } = &*self.made_of();
            let (mut kept, before) = (kept.clone(), self.clients());
            let now_ns = SystemClock.unix_ns();
            let (made_of, history, token) = changed(config, caller, name, kept.get(name), change, now_ns)?;
            let client = Client::new(made_of, Some(history), config, &before, &self.quotas);
            let shown = told(&client);
            let (changes, now) = if is_deletion {
                kept.remove(name);
                (Changes::default().remove(Object::Client, name), String::new())
            } else {
                let one = kept::keep(&client);
                let changes = Changes::default().put(Object::Client, name, &one);
                check_size(&one)?;
                if kept.insert(name.to_owned(), one).is_none() && kept.len() > CLIENTS_MAX {
                    return Err(ClientError::TooMany);
                }
                (changes, format!("{shown:?}"))
            };
            // Whether all of them together can be.
            Clients::of(config, &kept, &before, &self.quotas)?;
            made = Some((shown, token));
            Ok((changes, audit::record(caller, now_ns, action, name, now)))
        })?;
        tracing::info!(caller = caller.name(), client = name, "{action}");
        Ok(made.expect("a change that was made"))
    }

    /// From the next call on the clients are those of another configuration, and those that are kept. What is open of those
    /// who are not as they were ends.
    pub fn reload(&self, config: &Config) -> Result<(), ClientsError> {
        let mut made_of = self.made_of();
        self.take(Clients::of(config, &made_of.kept, &self.clients(), &self.quotas)?);
        made_of.config.clone_from(config);
        Ok(())
    }

    /// All that are kept have been told.
    pub(super) fn complete(&self) -> Result<(), ClientsError> {
        let mut made_of = self.made_of();
        made_of.is_complete = true;
        self.take(Clients::of(&made_of.config, &made_of.kept, &self.clients(), &self.quotas)?);
        Ok(())
    }

    /// These are kept as they are here from now on, `None` = no more, whoever changed them.
    pub(super) fn take_kept(&self, changed: Vec<(String, Option<KeptClient>)>) {
        let mut made_of = self.made_of();
        for (name, kept) in changed {
            match kept {
                Some(kept) => made_of.kept.insert(name, kept),
                None => made_of.kept.remove(&name),
            };
        }
        if !made_of.is_complete {
            return;
        }
        match Clients::of(&made_of.config, &made_of.kept, &self.clients(), &self.quotas) {
            Ok(fresh) => self.take(fresh),
            // It was changed where the file has other clients.
            Err(error) => tracing::error!("the clients stay as they were: {error}"),
        }
    }

    fn made_of(&self) -> MutexGuard<'_, MadeOf> {
        self.made_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, fresh: Clients) {
        let now_ns = SystemClock.monotonic_ns();
        fresh.all().for_each(|client| self.quotas.set_role(&client.quota, client.role(), now_ns));
        let fresh = Arc::new(fresh);
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *clients, fresh.clone());
        drop(clients);
        let mut gone = fresh.gone(&before).peekable();
        if gone.peek().is_some() {
            gone.for_each(|client| client.standing.end());
            self.news_bell.ring();
        }
    }
}

/// What a client is after a change, and the token that is made for it.
fn changed(
    config: &Config,
    caller: &Caller,
    name: &str,
    before: Option<&KeptClient>,
    change: Change,
    now_ns: u64,
) -> Result<(ClientConfig, History, Option<Token>), ClientError> {
    if config.clients.iter().any(|client| client.name == name) {
        return Err(match change {
            Change::Create { .. } => ClientError::Taken(name.to_owned()),
            _ => ClientError::OfFile(name.to_owned()),
        });
    }
    let read = |kept| kept::read(kept).map_err(|cause| ClientsError::Client { name: name.to_owned(), cause });
    let (made_of, history, token) = match (before.map(read).transpose()?, change) {
        (Some(_), Change::Create { .. }) => return Err(ClientError::Taken(name.to_owned())),
        (None, Change::Create { mut made_of, with_token }) => {
            if caller.name() == ANONYMOUS && made_of.role < Role::Admin {
                return Err(ClientError::FirstIsNoAdmin);
            }
            let token = (with_token || made_of.certificate.is_none()).then(Token::generate);
            made_of.token_sha256 = token.as_ref().map(|token| token.hash().to_string());
            (made_of, History::begin(now_ns), token)
        }
        (None, _) => return Err(ClientError::Unknown(name.to_owned())),
        (Some(_), Change::Update { .. } | Change::Delete) if name == caller.name() => {
            return Err(ClientError::Own(name.to_owned()));
        }
        (Some((_, history)), Change::Update { revision, .. })
            if revision != 0 && revision != history.revision =>
        {
            return Err(ClientError::Revision { now: history.revision, expected: revision });
        }
        (Some((was, history)), Change::Update { made_of, .. }) => {
            (ClientConfig { token_sha256: was.token_sha256, ..made_of }, history.changed(now_ns), None)
        }
        (Some((was, history)), Change::RenewToken) => {
            let token = Token::generate();
            let token_sha256 = Some(token.hash().to_string());
            return Ok((ClientConfig { token_sha256, ..was }, history.changed(now_ns), Some(token)));
        }
        (Some((was, history)), Change::Delete) => return Ok((was, history, None)),
    };
    made_of.check(config).map_err(ClientError::Malformed)?;
    Ok((made_of, history, token))
}

fn check_size(kept: &KeptClient) -> Result<(), ClientError> {
    match kept.encoded_len() {
        ..=CLIENT_BYTES_MAX => Ok(()),
        bytes => Err(ClientError::TooLong(bytes)),
    }
}
