//! The `Clients` service: what an admin makes holds at once, is kept, and is recorded.

use super::process::tickplane;
use super::rig::{Rig, clients, records};
use super::{feeds, rows};
use control::client::{Connection, ServerArgs};
use control::proto::admin_client::AdminClient;
use control::proto::clients_client::ClientsClient;
use control::proto::market_data_client::MarketDataClient;
use control::proto::{
    ApplyRequest, Client, ClientEntitlement, ClientRequest, ClientRole, ClientSource, CreateClientRequest,
    GetConfigRequest, GetRequest, ListClientsRequest, RowKind, SubscribeRequest, SubscribeResponse,
    UpdateClientRequest, WhoAmIRequest,
};
use std::process::Stdio;
use tonic::{Code, Status, Streaming};

pub fn create(name: &str, role: ClientRole) -> CreateClientRequest {
    CreateClientRequest { name: name.to_owned(), role: role.into(), ..Default::default() }
}

pub fn one(name: &str) -> ClientRequest {
    ClientRequest { name: name.to_owned() }
}

fn update(client: &Client) -> UpdateClientRequest {
    let Client { name, role, certificate, entitlement, revision, .. } = client.clone();
    UpdateClientRequest { name, role, certificate, entitlement, revision }
}

fn only(feed: &str) -> Option<ClientEntitlement> {
    Some(ClientEntitlement { feeds: vec![feed.to_owned()], ..Default::default() })
}

pub async fn who_am_i(args: ServerArgs) -> Result<Client, Status> {
    Ok(clients(args).await.who_am_i(WhoAmIRequest {}).await?.into_inner())
}

pub async fn subscribe(args: ServerArgs) -> Streaming<SubscribeResponse> {
    let mut client = MarketDataClient::new(args.connect().await.unwrap());
    let request = SubscribeRequest { patterns: vec!["*".to_owned()], ..Default::default() };
    let mut stream = client.subscribe(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    stream
}

pub async fn end(mut stream: Streaming<SubscribeResponse>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it says why it ends"),
            Err(status) => return status,
        }
    }
}

pub async fn all(clients: &mut ClientsClient<Connection>) -> Vec<Client> {
    clients.list(ListClientsRequest::default()).await.unwrap().into_inner().clients
}

#[tokio::test]
async fn what_an_admin_makes_of_a_client_holds_at_once_and_after_a_restart() {
    let mut rig = Rig::start();
    let mut admin = rig.admin().await;
    let asked = CreateClientRequest { entitlement: only("two"), ..create("desk", ClientRole::Reader) };
    let made = admin.create(asked.clone()).await.unwrap().into_inner();
    let (desk, first) = (made.client.unwrap(), made.token);
    assert!(first.starts_with("tickplane_") && made.warnings.is_empty(), "{:?}", made.warnings);
    assert_eq!((desk.revision, desk.has_token, desk.source()), (1, true, ClientSource::Made));
    assert!(desk.created_ns > 0 && desk.created_ns == desk.changed_ns);
    assert_eq!(who_am_i(rig.bearer(&first)).await.unwrap(), desk, "it sees itself as its admin does");
    assert_eq!(feeds(rig.bearer(&first).connect().await.unwrap()).await.unwrap(), ["two"]);
    // Another entitlement, to what is open as well.
    let open = subscribe(rig.bearer(&first)).await;
    let mut wider = update(&desk);
    wider.entitlement = Some(ClientEntitlement { kinds: vec![RowKind::Trade.into()], ..Default::default() });
    let widened = admin.update(wider.clone()).await.unwrap().into_inner();
    assert_eq!((widened.revision, widened.created_ns), (2, desk.created_ns));
    let ended = end(open).await;
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(ended.message().starts_with("desk was deleted, or what it may do was changed"), "{ended}");
    assert_eq!(feeds(rig.bearer(&first).connect().await.unwrap()).await.unwrap(), ["one", "two"]);
    // From a revision that is over nothing is changed; from any, the same once more: what is open goes on then.
    assert_eq!(admin.update(wider.clone()).await.unwrap_err().code(), Code::Aborted);
    let mut open = subscribe(rig.bearer(&first)).await;
    let same = admin.update(UpdateClientRequest { revision: 0, ..wider }).await.unwrap().into_inner();
    assert_eq!((same.revision, &same.entitlement), (3, &widened.entitlement));
    let is_over = tokio::time::timeout(std::time::Duration::from_millis(1), open.message()).await;
    assert!(!matches!(is_over, Ok(Err(_) | Ok(None))));
    // Another token.
    let renewed = admin.renew_token(one("desk")).await.unwrap().into_inner();
    assert_eq!(end(open).await.code(), Code::PermissionDenied);
    assert_eq!(who_am_i(rig.bearer(&first)).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(who_am_i(rig.bearer(&renewed.token)).await.unwrap().revision, 4);
    // One that is known by a certificate, which was a stranger's, and later by a token alone.
    let certified = CreateClientRequest {
        certificate: "stranger.example".to_owned(),
        ..create("cert", ClientRole::Admin)
    };
    let certified = admin.create(certified).await.unwrap().into_inner();
    assert_eq!((certified.token.as_str(), certified.client.as_ref().unwrap().has_token), ("", false));
    assert_eq!(who_am_i(rig.certificate("stranger.example")).await.unwrap().name, "cert");
    let mut other = clients(rig.certificate("stranger.example")).await;
    let token = other.renew_token(one("cert")).await.unwrap().into_inner().token;
    let mut without = update(&other.get(one("cert")).await.unwrap().into_inner());
    without.certificate = String::new();
    let without = admin.update(without).await.unwrap().into_inner();
    assert!(without.certificate.is_empty() && without.has_token);
    let refused = who_am_i(rig.certificate("stranger.example")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(who_am_i(rig.bearer(&token)).await.unwrap(), without);
    admin.create(create("gone", ClientRole::Operator)).await.unwrap();
    assert_eq!(admin.delete(one("gone")).await.unwrap().into_inner().revision, 1);
    let before = all(&mut admin).await;
    let names: Vec<&str> = before.iter().map(|client| client.name.as_str()).collect();
    assert_eq!(names, ["ann", "cert", "desk", "lou", "nat", "rob"]);
    let late = &before[3];
    assert_eq!(
        (late.source(), late.revision, late.entitlement.as_ref().unwrap().delay_ms),
        (ClientSource::File, 0, 400)
    );

    rig.kill();
    let store = rig.store();
    let told: Vec<(String, String)> =
        records(&store).into_iter().map(|record| (record.action, record.object)).collect();
    let expected = [
        ("create", "desk"),
        ("update", "desk"),
        ("update", "desk"),
        ("renew_token", "desk"),
        ("create", "cert"),
        ("renew_token", "cert"),
        ("update", "cert"),
        ("create", "gone"),
        ("delete", "gone"),
    ];
    assert_eq!(told, expected.map(|(action, name)| (format!("client.{action}"), name.to_owned())));
    let by: Vec<String> = records(&store).into_iter().map(|record| record.client).collect();
    assert_eq!((by[0].as_str(), by[5].as_str()), ("ann", "cert"));
    assert!(records(&store)[1].now.contains("Trade") && records(&store)[8].now.is_empty());
    drop(store);
    rig.restart(&rig.text());
    assert_eq!(all(&mut rig.admin().await).await, before);
    assert_eq!(who_am_i(rig.bearer(&renewed.token)).await.unwrap().name, "desk");
    assert_eq!(who_am_i(rig.bearer(&first)).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn what_can_not_be_is_refused_by_the_right_code_and_changes_nothing() {
    let rig = Rig::start();
    let mut admin = rig.admin().await;
    admin.create(create("op", ClientRole::Operator)).await.unwrap();
    let before = all(&mut admin).await;
    // What is malformed, or more than is kept.
    let huge = "x".repeat(1 << 20);
    let reader = |name: &str| create(name, ClientRole::Reader);
    let seeing = |entitlement| CreateClientRequest { entitlement: Some(entitlement), ..reader("x") };
    let names = |count: usize, length: usize| vec!["A".repeat(length); count];
    let malformed = [
        reader(""),
        reader("a b"),
        reader(".a"),
        reader("anonymous"),
        reader(&"n".repeat(41)),
        reader(&huge),
        CreateClientRequest { role: 0, ..reader("x") },
        CreateClientRequest { role: 99, ..reader("x") },
        CreateClientRequest { certificate: "a\nb".to_owned(), ..reader("x") },
        CreateClientRequest { certificate: huge.clone(), ..reader("x") },
        seeing(ClientEntitlement { feeds: vec!["nix".to_owned()], ..Default::default() }),
        seeing(ClientEntitlement { venues: vec![huge.clone()], ..Default::default() }),
        seeing(ClientEntitlement { patterns: names(1, 65), ..Default::default() }),
        seeing(ClientEntitlement { patterns: names(1, 0), ..Default::default() }),
        seeing(ClientEntitlement { patterns: names(10_001, 1), ..Default::default() }),
        seeing(ClientEntitlement { patterns: names(1_100, 64), ..Default::default() }),
        seeing(ClientEntitlement { kinds: vec![0], ..Default::default() }),
        seeing(ClientEntitlement { kinds: vec![99], ..Default::default() }),
        seeing(ClientEntitlement { delay_ms: 86_400_001, ..Default::default() }),
    ];
    for request in malformed {
        let refused = admin.create(request.clone()).await.unwrap_err();
        let shown = format!("{request:?}").chars().take(200).collect::<String>();
        assert_eq!(refused.code(), Code::InvalidArgument, "{shown}: {refused}");
    }
    for name in ["", "nix", &huge] {
        let to = UpdateClientRequest { name: name.to_owned(), role: 1, ..Default::default() };
        assert_eq!(admin.update(to).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(admin.get(one(name)).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(admin.delete(one(name)).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(admin.renew_token(one(name)).await.unwrap_err().code(), Code::NotFound);
    }
    let page = ListClientsRequest { page_size: 10_001, ..Default::default() };
    assert_eq!(admin.list(page).await.unwrap_err().code(), Code::InvalidArgument);
    // What another one has.
    for request in [
        reader("op"),
        reader("rob"),
        CreateClientRequest { certificate: "ann.example".to_owned(), ..reader("x") },
    ] {
        assert_eq!(admin.create(request).await.unwrap_err().code(), Code::AlreadyExists);
    }
    // The file's are changed in the file.
    for refused in [
        admin.delete(one("rob")).await.map(drop),
        admin.renew_token(one("ann")).await.map(drop),
        admin
            .update(UpdateClientRequest { name: "rob".to_owned(), role: 3, ..Default::default() })
            .await
            .map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("appliance.toml"), "{refused}");
    }
    // A client by which nothing is known any more.
    let mut certified = create("cert", ClientRole::Reader);
    certified.certificate = "stranger.example".to_owned();
    let certified = admin.create(certified).await.unwrap().into_inner().client.unwrap();
    let unknown = UpdateClientRequest { certificate: String::new(), ..update(&certified) };
    let refused = admin.update(unknown).await.unwrap_err();
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("how is it known?"),
        "{refused}"
    );
    admin.delete(one("cert")).await.unwrap();
    assert_eq!(all(&mut admin).await, before, "nothing was changed");
    let mut rig = rig;
    rig.kill();
    assert_eq!(records(&rig.store()).len(), 3, "nothing else was recorded");
}

#[tokio::test]
async fn an_admin_remains_whatever_admins_do() {
    let rig = Rig::start();
    let mut ann = rig.admin().await;
    let mut admins = Vec::new();
    for name in ["bea", "cyd"] {
        let token = ann.create(create(name, ClientRole::Admin)).await.unwrap().into_inner().token;
        admins.push((name, rig.bearer(&token)));
    }
    let (bea, cyd) = (admins[0].1.clone(), admins[1].1.clone());
    // Nobody takes himself away, …
    let mut as_bea = clients(bea.clone()).await;
    let own = as_bea.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    let demoted = UpdateClientRequest { role: ClientRole::Reader.into(), ..update(&own) };
    for refused in [as_bea.update(demoted).await.map(drop), as_bea.delete(one("bea")).await.map(drop)] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("another admin"), "{refused}");
    }
    // … but takes another token, which is told although it ends what is open of him.
    let open = subscribe(bea.clone()).await;
    let token = as_bea.renew_token(one("bea")).await.unwrap().into_inner().token;
    assert_eq!(end(open).await.code(), Code::PermissionDenied);
    let bea = rig.bearer(&token);
    // Two who delete each other at once: one of them is there after that.
    let (mut as_bea, mut as_cyd) = (clients(bea.clone()).await, clients(cyd.clone()).await);
    let (one_of, other) = tokio::join!(as_bea.delete(one("cyd")), as_cyd.delete(one("bea")));
    assert!(one_of.is_ok() != other.is_ok(), "{one_of:?} {other:?}");
    let refused = one_of.err().or(other.err()).unwrap().code();
    assert!(
        matches!(refused, Code::PermissionDenied | Code::Unauthenticated | Code::NotFound),
        "{refused:?}"
    );
    let left = [who_am_i(bea).await.is_ok(), who_am_i(cyd).await.is_ok()];
    assert_eq!(left.iter().filter(|is_there| **is_there).count(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_done_as_a_whole_or_not_at_all() {
    let mut rig = Rig::start();
    let admin = rig.admin().await;
    let mut other = rig.admin().await;
    let (mut given_up, mut answered) = (0, 0);
    for number in 0..60 {
        let mut caller = admin.clone();
        let name = format!("c{}", number % 7);
        let call = async {
            match number % 3 {
                0 => caller.create(create(&name, ClientRole::Reader)).await.map(drop),
                1 => caller.renew_token(one(&name)).await.map(drop),
                _ => caller.delete(one(&name)).await.map(drop),
            }
        };
        tokio::pin!(call);
        // Each is left somewhere else: not yet sent, on its way, waiting for the disk, answered.
        let turns = async {
            for _ in 0..number % 5 {
                other.who_am_i(WhoAmIRequest {}).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            answer = &mut call => answered += usize::from(answer.is_ok()),
            () = turns => given_up += 1,
        }
    }
    assert!(given_up > 10, "{given_up} calls were given up");
    // Nothing is held up by them.
    let mut admin = rig.admin().await;
    admin.create(create("last", ClientRole::Reader)).await.unwrap();
    rig.kill();
    let store = rig.store();
    let done = records(&store).len() - 1;
    assert!(done > answered, "{given_up} were given up, {done} were done, {answered} were answered");
    let found = super::crash::replay_clients(&records(&store));
    assert_eq!(found, super::crash::stored_clients(&store));
    assert_eq!(found["last"], 1);
}

#[tokio::test]
async fn the_file_and_the_store_have_no_client_of_one_name() {
    let mut rig = Rig::start();
    let mut admin = rig.admin().await;
    let token = admin.create(create("desk", ClientRole::Reader)).await.unwrap().into_inner().token;
    let mut open = subscribe(rig.bearer(&token)).await;
    // Another file, another reload: those that were made stay, and so does what they have open.
    let text = rig.text();
    let mut config = AdminClient::new(rig.certificate("ann.example").connect().await.unwrap());
    let fewer = text[..text.find("[[clients]]\nname = \"lou\"").unwrap()].to_owned();
    let apply = |toml: &str| {
        let (mut config, toml) = (config.clone(), toml.to_owned());
        async move { config.apply(ApplyRequest { toml, ..Default::default() }).await }
    };
    apply(&fewer).await.unwrap();
    let names: Vec<String> = all(&mut admin).await.into_iter().map(|client| client.name).collect();
    assert_eq!(names, ["ann", "desk", "nat", "rob"]);
    let is_over = tokio::time::timeout(std::time::Duration::from_millis(1), open.message()).await;
    assert!(!matches!(is_over, Ok(Err(_) | Ok(None))));
    let twice = fewer.replace("name = \"nat\"", "name = \"desk\"");
    let refused = apply(&twice).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("`desk` is in the configuration's file"), "{refused}");
    assert_eq!(rig.text(), fewer, "the file is as it was");
    assert_eq!(who_am_i(rig.bearer(&token)).await.unwrap().source(), ClientSource::Made);
    // An admin who takes his own certificate away is told that it is done.
    let other = fewer.replace("ann.example\"\n", "ann.other\"\n");
    assert!(apply(&other).await.unwrap().into_inner().applied);
    assert_eq!(config.get_config(GetConfigRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    // While the node is down nobody looks; it does not start then, and says why.
    rig.kill();
    std::fs::write(rig.folder.path().join("appliance.toml"), &twice).unwrap();
    let mut run = tickplane();
    run.arg("run").arg("--config").arg(rig.folder.path().join("appliance.toml"));
    let output = run.stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("`desk` is in the configuration's file"), "{said}");
    rig.restart(&fewer);
    assert_eq!(who_am_i(rig.bearer(&token)).await.unwrap().name, "desk");
}

#[tokio::test]
async fn a_client_whose_feed_is_gone_is_kept_and_can_not_call() {
    let mut rig = Rig::start();
    let mut admin = rig.admin().await;
    let narrow = CreateClientRequest { entitlement: only("two"), ..create("narrow", ClientRole::Reader) };
    let narrow = admin.create(narrow).await.unwrap().into_inner().token;
    let wide = admin.create(create("wide", ClientRole::Reader)).await.unwrap().into_inner().token;
    rig.kill();
    let text = rig.text().replace("name = \"two\"", "name = \"deux\"").replace("[\"two\"]", "[\"deux\"]");
    rig.restart(&text);
    assert_eq!(feeds(rig.bearer(&wide).connect().await.unwrap()).await.unwrap(), ["one", "deux"]);
    let refused = feeds(rig.bearer(&narrow).connect().await.unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("no feed \"two\"") && refused.message().contains("admin"),
        "{refused}"
    );
    let mut admin = rig.admin().await;
    let found = admin.get(one("narrow")).await.unwrap().into_inner();
    assert!(found.trouble.contains("no feed \"two\""), "{found:?}");
    assert_eq!(admin.update(update(&found)).await.unwrap_err().code(), Code::InvalidArgument);
    let mended = UpdateClientRequest { entitlement: only("deux"), ..update(&found) };
    assert_eq!(admin.update(mended).await.unwrap().into_inner().trouble, "");
    assert_eq!(feeds(rig.bearer(&narrow).connect().await.unwrap()).await.unwrap(), ["deux"]);
}

#[tokio::test]
async fn clients_are_listed_page_by_page() {
    let rig = Rig::start();
    let mut admin = rig.admin().await;
    let patterns: Vec<String> = (0..900).map(|number| format!("{number:064}")).collect();
    let entitlement = Some(ClientEntitlement { patterns, ..Default::default() });
    for number in 0..20 {
        let name = format!("c{number:02}");
        let request =
            CreateClientRequest { entitlement: entitlement.clone(), ..create(&name, ClientRole::Reader) };
        admin.create(request).await.unwrap();
    }
    for page_size in [0, 3] {
        let mut request = ListClientsRequest { page_size, page_token: String::new() };
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = admin.list(request.clone()).await.unwrap().into_inner();
            names.extend(page.clients.into_iter().map(|client| client.name));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert!(names.len() == 24 && names.is_sorted(), "{names:?}");
        assert_eq!(pages, if page_size == 0 { 2 } else { 8 }, "a page ends after a megabyte");
    }
}

#[tokio::test]
async fn rows_of_a_client_that_was_made_are_those_it_may_see() {
    let rig = Rig::start();
    let patterns = vec!["A*".to_owned()];
    let entitlement = Some(ClientEntitlement { patterns, ..Default::default() });
    let request = CreateClientRequest { entitlement, ..create("desk", ClientRole::Reader) };
    let token = rig.admin().await.create(request).await.unwrap().into_inner().token;
    let mut desk = MarketDataClient::new(rig.bearer(&token).connect().await.unwrap());
    rows(&mut desk).await.unwrap();
    let get = |symbol: &str| GetRequest { symbols: vec![symbol.to_owned()] };
    desk.get(get("AB")).await.unwrap();
    assert_eq!(desk.get(get("ZZ")).await.unwrap_err().code(), Code::PermissionDenied);
}
