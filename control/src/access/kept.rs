//! Clients as they are told, asked for, and kept.

use super::{Client, Role};
use crate::config::ClientConfig;
use crate::proto::{self, ClientEntitlement, ClientRole, ClientSource, KeptClient, RowKind};
use crate::service::{kind_name, kind_named};

/// What became of a client that an admin made; times in ns of Unix UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub created_ns: u64,
    pub changed_ns: u64,
    /// 1 = as it was created.
    pub revision: u64,
}

impl History {
    pub fn begin(now_ns: u64) -> History {
        History { created_ns: now_ns, changed_ns: now_ns, revision: 1 }
    }

    pub fn changed(self, now_ns: u64) -> History {
        History { changed_ns: now_ns, revision: self.revision + 1, ..self }
    }
}

/// A client as it is asked for, without a token; whether it can be is not looked at.
pub fn asked(
    name: String,
    role: i32,
    certificate: String,
    entitlement: Option<ClientEntitlement>,
) -> Result<ClientConfig, String> {
    let role = match ClientRole::try_from(role) {
        Ok(ClientRole::Reader) => Role::Reader,
        Ok(ClientRole::Operator) => Role::Operator,
        Ok(ClientRole::Admin) => Role::Admin,
        _ => return Err("role: give reader, operator or admin".to_owned()),
    };
    let ClientEntitlement { venues, feeds, patterns, kinds, delay_ms } = entitlement.unwrap_or_default();
    let kind = |kind: i32| match RowKind::try_from(kind) {
        Ok(kind) if kind != RowKind::Unspecified => Ok(kind_name(kind)),
        _ => Err(format!("kinds: there is no row kind {kind}")),
    };
    let kinds = kinds.into_iter().map(kind).collect::<Result<_, _>>()?;
    let certificate = (!certificate.is_empty()).then_some(certificate);
    Ok(ClientConfig { name, role, token_sha256: None, certificate, venues, feeds, patterns, kinds, delay_ms })
}

/// A client as it is told: all but the hash of its token.
pub fn told(client: &Client) -> proto::Client {
    let made_of = client.made_of.clone();
    let role = match made_of.role {
        Role::Reader => ClientRole::Reader,
        Role::Operator => ClientRole::Operator,
        Role::Admin => ClientRole::Admin,
    };
    let is_known = client.token.is_some() || made_of.certificate.is_some();
    let source = match client.history {
        Some(_) => ClientSource::Made,
        None if is_known => ClientSource::File,
        None => ClientSource::Unspecified,
    };
    let kinds = made_of.kinds.iter().filter_map(|name| kind_named(name).ok()).map(i32::from).collect();
    let ClientConfig { name, certificate, venues, feeds, patterns, delay_ms, .. } = made_of;
    let history = client.history.unwrap_or(History { created_ns: 0, changed_ns: 0, revision: 0 });
    proto::Client {
        name,
        role: role.into(),
        certificate: certificate.unwrap_or_default(),
        entitlement: Some(ClientEntitlement { venues, feeds, patterns, kinds, delay_ms }),
        has_token: client.token.is_some(),
        source: source.into(),
        created_ns: history.created_ns,
        changed_ns: history.changed_ns,
        revision: history.revision,
        trouble: client.entitlement.as_ref().err().cloned().unwrap_or_default(),
    }
}

/// A client as it is kept.
pub fn keep(client: &Client) -> KeptClient {
    KeptClient {
        client: Some(told(client)),
        token_sha256: client.made_of.token_sha256.clone().unwrap_or_default(),
    }
}

/// What was kept; an error is that another version kept it.
pub fn read(kept: &KeptClient) -> Result<(ClientConfig, History), String> {
    let KeptClient { client, token_sha256 } = kept.clone();
    let client = client.unwrap_or_default();
    let made_of = asked(client.name, client.role, client.certificate, client.entitlement)
        .map_err(|error| format!("{error}: was it kept by a later version?"))?;
    let token_sha256 = (!token_sha256.is_empty()).then_some(token_sha256);
    let proto::Client { created_ns, changed_ns, revision, .. } = client;
    Ok((ClientConfig { token_sha256, ..made_of }, History { created_ns, changed_ns, revision }))
}
