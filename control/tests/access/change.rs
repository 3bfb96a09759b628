//! How clients change, without a node: by an admin, and by what the ledger tells.

use control::access::{Access, Caller, Change, ClientError, Role, TokenHash};
use control::config::{ClientConfig, Config};
use control::ledger::{Ledger, LedgerError};
use control::proto::{AuditRecord, Client, ClientRole, KeptClient};
use control::quota::{Quotas, RoleLimits};
use control::store::{Changes, Object, Store};
use std::sync::Arc;

fn config() -> Config {
    let text = include_str!("../../../configs/embedded.toml");
    Config::parse(std::path::Path::new("embedded.toml"), text).unwrap()
}

fn quotas() -> Arc<Quotas> {
    Arc::new(Quotas::new(RoleLimits::default()))
}

#[test]
fn there_are_never_more_clients_than_the_limit() {
    let config = config();
    let store = Arc::new(Store::in_memory().unwrap());
    let mut changes = Changes::default();
    for number in 0..4_096 {
        let name = format!("c{number}");
        let client =
            Some(Client { name: name.clone(), role: ClientRole::Admin.into(), ..Default::default() });
        let token_sha256 = TokenHash::of(&name).to_string();
        changes = changes.put(Object::Client, &name, &KeptClient { client, token_sha256 });
    }
    store.change(&changes, &AuditRecord::default()).unwrap();
    let mut ledger = Ledger::new(store, "node").unwrap();
    let access = Access::open(&config, &mut ledger, quotas(), Arc::default()).unwrap();
    let caller = Caller::new(access.clients().by_token("c7").unwrap(), None).unwrap();
    let made_of = || ClientConfig { name: "one-more".to_owned(), ..ClientConfig::default() };
    let more = || Change::Create { made_of: made_of(), with_token: true };
    let refused = access.change(&ledger, &caller, "one-more", more()).map(drop).unwrap_err();
    assert!(matches!(refused, ClientError::TooMany), "{refused}");
    access.change(&ledger, &caller, "c8", Change::RenewToken).unwrap();
    access.change(&ledger, &caller, "c8", Change::Delete).unwrap();
    access.change(&ledger, &caller, "one-more", more()).unwrap();
    assert_eq!(access.clients().all().count(), 4_096);
}

#[test]
fn what_another_changed_holds_as_soon_as_the_ledger_tells_it() {
    let config = config();
    let mut ledger = Ledger::new(Arc::new(Store::in_memory().unwrap()), "node").unwrap();
    let access = Access::open(&config, &mut ledger, quotas(), Arc::default()).unwrap();
    let standing = access.clients().anonymous().unwrap().standing.clone();
    let put = |name: &str, kept: &KeptClient| {
        let changes = Changes::default().put(Object::Client, name, kept);
        ledger.change(|| Ok::<_, LedgerError>((changes, AuditRecord::default()))).unwrap();
    };
    let role = ClientRole::Admin.into();
    let client = Some(Client { name: "ann".to_owned(), role, revision: 7, ..Default::default() });
    put("ann", &KeptClient { client, token_sha256: TokenHash::of("a token").to_string() });
    assert!(standing.is_over() && access.clients().anonymous().is_none());
    assert_eq!(access.clients().by_token("a token").unwrap().history.unwrap().revision, 7);
    // What can't be read changes nothing.
    let ann = access.clients().get("ann").unwrap().standing.clone();
    put("bea", &KeptClient::default());
    assert!(!ann.is_over() && access.clients().by_token("a token").is_some());
    assert!(access.clients().get("bea").is_none());
    let error = access.reload(&config).unwrap_err().to_string();
    assert!(error.contains("client `bea`") && error.contains("a later version"), "{error}");
}

#[test]
fn a_client_has_one_quota_whatever_it_becomes_and_it_ends_with_the_client() {
    let config = config();
    let mut ledger = Ledger::new(Arc::new(Store::in_memory().unwrap()), "node").unwrap();
    let quotas = quotas();
    let access = Access::open(&config, &mut ledger, quotas.clone(), Arc::default()).unwrap();
    let known = || -> Vec<String> {
        quotas.sample(0);
        quotas.all().iter().map(|client| client.name().to_owned()).collect()
    };
    assert_eq!(known(), ["anonymous"]);
    let made_of = |name: &str, role| ClientConfig { name: name.to_owned(), role, ..ClientConfig::default() };
    let create = |name: &str, role| Change::Create { made_of: made_of(name, role), with_token: true };
    let anonymous = Caller::new(access.clients().anonymous().unwrap(), None).unwrap();
    access.change(&ledger, &anonymous, "ann", create("ann", Role::Admin)).unwrap();
    drop(anonymous);
    let ann = Caller::new(access.clients().get("ann").unwrap(), None).unwrap();
    access.change(&ledger, &ann, "rob", create("rob", Role::Reader)).unwrap();
    assert_eq!(known(), ["ann", "rob"], "nobody is anonymous any more");
    let rob = quotas.find("rob").unwrap();
    rob.charge_request(0).unwrap();
    let update = |revision| Change::Update { made_of: made_of("rob", Role::Operator), revision };
    access.change(&ledger, &ann, "rob", update(7)).map(drop).unwrap_err();
    assert_eq!(rob.usage(0).role, Role::Reader, "it was not changed");
    access.change(&ledger, &ann, "rob", update(1)).unwrap();
    assert!(Arc::ptr_eq(&rob, &access.clients().get("rob").unwrap().quota));
    assert_eq!((rob.usage(0).role, rob.usage(0).requests.total), (Role::Operator, 1));
    access.change(&ledger, &ann, "rob", Change::Delete).unwrap();
    drop(rob);
    assert_eq!(known(), ["ann"]);
}
