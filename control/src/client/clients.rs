//! `tickplane client`: who may call, and what each may see.

use super::{ClientError, Connection, RESPONSE_BYTES_MAX, ServerArgs};
use crate::access::Token;
use crate::proto::clients_client::ClientsClient;
use crate::proto::{
    Client, ClientEntitlement, ClientRequest, ClientRole, ClientSource, ClientToken, CreateClientRequest,
    ListClientsRequest, RowKind, UpdateClientRequest, WhoAmIRequest,
};
use crate::service::{kind_name, kind_named};
use serde_json::{Value, json};
use std::io::{BufWriter, Write, stdout};

const PAGE: u32 = 5_000;
const EXAMPLES: &str = "\
Examples:
  A client that reads the trades of one venue a quarter of an hour late; its token is shown this once:
      tickplane client create desk-7 --role reader --venue XNAS --kind trade --delay-ms 900000

  An admin that is known by its certificate, and one to begin with on a node that asks nobody who calls:
      tickplane client create ann --role admin --certificate ann.example
      export TICKPLANE_TOKEN=$(tickplane client create root --role admin --json | jq -r .token)

  Other patterns, the rest as it is; another token; gone:
      tickplane client update desk-7 --pattern 'A*' --pattern 'B*'
      tickplane client renew-token desk-7
      tickplane client delete desk-7

  As whom I call, and everybody who may:
      tickplane client whoami
      tickplane client list

  A token for a client of the configuration file, and the line that goes there:
      tickplane client hash";

/// Who may call a node, and what each may see
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClientArgs {
    #[command(subcommand)]
    pub what: ClientWhat,

    /// One JSON object a client
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum ClientWhat {
    /// Make a client, and a token for it, which is shown this once
    Create {
        /// Its name
        #[arg(value_name = "CLIENT")]
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Role,
        /// The name in its certificate; without one it has a token
        #[arg(long, value_name = "NAME")]
        certificate: Option<String>,
        /// Make a token, too, for one with a certificate
        #[arg(long, requires = "certificate")]
        with_token: bool,
        #[command(flatten)]
        entitlement: EntitlementArgs,
    },
    /// Change a client at once: what is not given stays as it is
    Update(UpdateArgs),
    /// End what a client has open, and forget it
    Delete {
        /// The client
        #[arg(value_name = "CLIENT")]
        name: String,
    },
    /// Make another token in the place of the one that a client has; it is shown this once
    RenewToken {
        /// The client
        #[arg(value_name = "CLIENT")]
        name: String,
    },
    /// Show a client
    Get {
        /// The client
        #[arg(value_name = "CLIENT")]
        name: String,
    },
    /// Show all clients
    List,
    /// Show as whom I call
    #[command(name = "whoami")]
    WhoAmI,
    /// Make a token, and the line for [[clients]] in the configuration; asks no node
    Hash,
}

#[derive(Clone, Debug, clap::Args)]
pub struct UpdateArgs {
    /// The client
    #[arg(value_name = "CLIENT")]
    pub name: String,

    /// What it may do
    #[arg(long, value_enum)]
    pub role: Option<Role>,

    /// The name in its certificate
    #[arg(long, value_name = "NAME", conflicts_with = "no_certificate")]
    pub certificate: Option<String>,

    /// It has a token, and shows no certificate any more
    #[arg(long)]
    pub no_certificate: bool,

    /// Only if it is at this revision [default: the one that is read first]
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,

    /// It may see everything, or only what is given beside this
    #[arg(long)]
    pub everything: bool,

    #[command(flatten)]
    pub entitlement: EntitlementArgs,
}

/// Each may also do what those before it may
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Role {
    /// Read market data, and its own subscriptions, quota and latencies
    Reader,
    /// See and change what clients have
    Operator,
    /// Change who the clients are, the configuration, and the group
    Admin,
}

impl From<Role> for ClientRole {
    fn from(role: Role) -> ClientRole {
        match role {
            Role::Reader => ClientRole::Reader,
            Role::Operator => ClientRole::Operator,
            Role::Admin => ClientRole::Admin,
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct EntitlementArgs {
    /// It sees instruments of this venue, or of one of the feeds that are given [default: all]
    #[arg(long = "venue", value_name = "VENUE")]
    pub venues: Vec<String>,

    /// It sees instruments of this feed, or of one of the venues that are given [default: all]
    #[arg(long = "feed", value_name = "FEED")]
    pub feeds: Vec<String>,

    /// It sees symbols like this: * stands for any characters, ? for one [default: all]
    #[arg(long = "pattern", value_name = "PATTERN")]
    pub patterns: Vec<String>,

    /// quote, trade, status, definition, implied_quote or contract [default: all]
    #[arg(long = "kind", value_name = "KIND", value_parser = kind_named)]
    pub kinds: Vec<RowKind>,

    /// How late it sees them
    #[arg(long, value_name = "MS")]
    pub delay_ms: Option<u64>,
}

impl EntitlementArgs {
    /// What is given goes into the place of what was.
    fn onto(self, entitlement: &mut ClientEntitlement) {
        let EntitlementArgs { venues, feeds, patterns, kinds, delay_ms } = self;
        if !(venues.is_empty() && feeds.is_empty()) {
            (entitlement.venues, entitlement.feeds) = (venues, feeds);
        }
        if !patterns.is_empty() {
            entitlement.patterns = patterns;
        }
        if !kinds.is_empty() {
            entitlement.kinds = kinds.into_iter().map(i32::from).collect();
        }
        entitlement.delay_ms = delay_ms.unwrap_or(entitlement.delay_ms);
    }
}

/// One without anything that was made for it.
fn alone(client: Client) -> ClientToken {
    ClientToken { client: Some(client), ..ClientToken::default() }
}

pub async fn run(args: &ClientArgs) -> Result<(), ClientError> {
    if matches!(args.what, ClientWhat::Hash) {
        return Ok(hash(args.json)?);
    }
    let channel = args.server.connect().await?;
    let mut clients = ClientsClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let one = |name: &String| ClientRequest { name: name.clone() };
    let shown: Vec<ClientToken> = match &args.what {
        ClientWhat::Create { name, role, certificate, with_token, entitlement } => {
            let mut given = ClientEntitlement::default();
            entitlement.clone().onto(&mut given);
            let request = CreateClientRequest {
                name: name.clone(),
                role: ClientRole::from(*role).into(),
                certificate: certificate.clone().unwrap_or_default(),
                entitlement: Some(given),
                with_token: *with_token,
            };
            vec![clients.create(request).await?.into_inner()]
        }
        ClientWhat::Update(given) => vec![alone(update(&mut clients, given.clone()).await?)],
        ClientWhat::Delete { name } => vec![alone(clients.delete(one(name)).await?.into_inner())],
        ClientWhat::RenewToken { name } => vec![clients.renew_token(one(name)).await?.into_inner()],
        ClientWhat::Get { name } => vec![alone(clients.get(one(name)).await?.into_inner())],
        ClientWhat::List => list(&mut clients).await?.into_iter().map(alone).collect(),
        ClientWhat::WhoAmI => vec![alone(clients.who_am_i(WhoAmIRequest {}).await?.into_inner())],
        ClientWhat::Hash => return Ok(()),
    };
    let mut out = BufWriter::new(stdout().lock());
    match args.json {
        true => shown.iter().try_for_each(|client| writeln!(out, "{}", json_of(client)))?,
        false => print(&shown, &mut out)?,
    }
    Ok(out.flush()?)
}

fn hash(json: bool) -> std::io::Result<()> {
    let token = Token::generate();
    let (text, hash) = (token.text(), token.hash().to_string());
    match json {
        true => writeln!(stdout(), "{}", json!({ "token": text, "token_sha256": hash })),
        false => writeln!(stdout(), "token, for the client alone: {text}\ntoken_sha256 = \"{hash}\""),
    }
}

/// To what it is, with what is given in its place.
async fn update(clients: &mut ClientsClient<Connection>, given: UpdateArgs) -> Result<Client, ClientError> {
    let UpdateArgs { name, role, certificate, no_certificate, revision, everything, entitlement } = given;
    let was = clients.get(ClientRequest { name: name.clone() }).await?.into_inner();
    let mut to = was.entitlement.unwrap_or_default();
    if everything {
        to = ClientEntitlement { delay_ms: to.delay_ms, ..ClientEntitlement::default() };
    }
    entitlement.onto(&mut to);
    let kept = if no_certificate { String::new() } else { was.certificate };
    let request = UpdateClientRequest {
        name,
        role: role.map_or(was.role, |role| ClientRole::from(role).into()),
        certificate: certificate.unwrap_or(kept),
        entitlement: Some(to),
        revision: revision.unwrap_or(was.revision),
    };
    Ok(clients.update(request).await?.into_inner())
}

async fn list(clients: &mut ClientsClient<Connection>) -> Result<Vec<Client>, ClientError> {
    let mut all = Vec::new();
    let mut request = ListClientsRequest { page_size: PAGE, page_token: String::new() };
    loop {
        let page = clients.list(request.clone()).await?.into_inner();
        all.extend(page.clients);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

fn role_name(client: &Client) -> String {
    client.role().as_str_name().trim_start_matches("CLIENT_ROLE_").to_lowercase()
}

/// file, made, or anyone.
fn source_name(client: &Client) -> &'static str {
    match client.source() {
        ClientSource::Unspecified => "anyone",
        ClientSource::File => "file",
        ClientSource::Made => "made",
    }
}

fn kind_names(entitlement: &ClientEntitlement) -> Vec<String> {
    entitlement.kinds().map(kind_name).collect()
}

fn json_of(shown: &ClientToken) -> Value {
    let ClientToken { client, token, warnings } = shown.clone();
    let client = client.unwrap_or_default();
    let entitlement = client.entitlement.clone().unwrap_or_default();
    let mut object = json!({
        "name": client.name, "role": role_name(&client), "certificate": client.certificate,
        "venues": entitlement.venues, "feeds": entitlement.feeds, "patterns": entitlement.patterns,
        "kinds": kind_names(&entitlement), "delay_ms": entitlement.delay_ms, "has_token": client.has_token,
        "source": source_name(&client), "created_ns": client.created_ns, "changed_ns": client.changed_ns,
        "revision": client.revision, "trouble": client.trouble,
    });
    if !token.is_empty() {
        object["token"] = token.into();
    }
    if !warnings.is_empty() {
        object["warnings"] = warnings.into();
    }
    object
}

fn print(shown: &[ClientToken], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "CLIENT           ROLE      FROM    TOKEN  CERTIFICATE           REVISION  LATE ms  SEES")?;
    for ClientToken { client, token, warnings } in shown {
        let client = client.clone().unwrap_or_default();
        let entitlement = client.entitlement.clone().unwrap_or_default();
        let ClientEntitlement { venues, feeds, patterns, delay_ms, .. } = &entitlement;
        let sees = [venues.clone(), feeds.clone(), patterns.clone(), kind_names(&entitlement)].concat();
        let sees = if sees.is_empty() { "everything".to_owned() } else { sees.join(" ") };
        let certificate = if client.certificate.is_empty() { "-" } else { &client.certificate };
        let (role, from) = (role_name(&client), source_name(&client));
        let has_token = if client.has_token { "yes" } else { "-" };
        let Client { name, revision, trouble, .. } = &client;
        writeln!(
            out,
            "{name:<16} {role:<9} {from:<7} {has_token:<6} {certificate:<20} {revision:>9} {delay_ms:>8}  {sees}"
        )?;
        if !trouble.is_empty() {
            writeln!(out, "  it can't call: {trouble}")?;
        }
        if !token.is_empty() {
            writeln!(out, "token, for the client alone, and shown this once: {token}")?;
        }
        for warning in warnings {
            writeln!(out, "mind: {warning}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let was = ClientEntitlement {
            venues: names(&["XNAS"]),
            patterns: names(&["A*"]),
            kinds: vec![RowKind::Trade.into()],
            delay_ms: 5,
            ..ClientEntitlement::default()
        };
        let none = EntitlementArgs {
            venues: Vec::new(),
            feeds: Vec::new(),
            patterns: Vec::new(),
            kinds: Vec::new(),
            delay_ms: None,
        };
        let mut entitlement = was.clone();
        none.clone().onto(&mut entitlement);
        assert_eq!(entitlement, was);
        let some = EntitlementArgs { feeds: names(&["one"]), delay_ms: Some(0), ..none };
        some.onto(&mut entitlement);
        let feeds = names(&["one"]);
        assert_eq!(entitlement, ClientEntitlement { venues: Vec::new(), feeds, delay_ms: 0, ..was });
    }
}
