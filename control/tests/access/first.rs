//! Clients on a node that asks nobody who calls, until the first of them is made.

use super::clients::{all, create, end, one, subscribe, who_am_i};
use super::process::{Process, field, tickplane, wait_for};
use super::rig::{Rig, clients};
use control::access::TokenHash;
use control::proto::{ClientRole, ClientSource, CreateClientRequest};
use serde_json::Value;
use std::path::Path;
use tonic::Code;

#[tokio::test]
async fn from_the_first_client_on_everybody_says_who_calls() {
    let mut rig = Rig::anonymous();
    let anyone = who_am_i(rig.nobody()).await.unwrap();
    assert_eq!((anyone.name.as_str(), anyone.role()), ("anonymous", ClientRole::Admin));
    assert_eq!(anyone.source(), ClientSource::Unspecified);
    let mut nobody = clients(rig.nobody()).await;
    let refused = nobody.create(create("rob", ClientRole::Reader)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("make an admin first"), "{refused}");
    let certified = CreateClientRequest { certificate: "x".to_owned(), ..create("ann", ClientRole::Admin) };
    assert_eq!(
        nobody.create(certified).await.unwrap_err().code(),
        Code::InvalidArgument,
        "nobody could show it"
    );
    assert_eq!(nobody.delete(one("anonymous")).await.unwrap_err().code(), Code::NotFound);
    let open = subscribe(rig.nobody()).await;
    // Two at once: one is the first, and the other one is nobody by then.
    let mut other = clients(rig.nobody()).await;
    let (first, second) = tokio::join!(
        nobody.create(create("ann", ClientRole::Admin)),
        other.create(create("bea", ClientRole::Admin))
    );
    assert!(first.is_ok() != second.is_ok(), "one of them");
    let (made, refused) = match (first, second) {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made.into_inner(), refused),
        _ => unreachable!("one of them"),
    };
    assert!(matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated), "{refused}");
    assert!(made.warnings[0].contains("from now on everybody must say who calls"), "{:?}", made.warnings);
    assert_eq!(end(open).await.code(), Code::PermissionDenied);
    assert_eq!(who_am_i(rig.nobody()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut admin = clients(rig.bearer(&made.token)).await;
    let reader = admin.create(create("rob", ClientRole::Reader)).await.unwrap().into_inner();
    assert!(reader.warnings.is_empty() && !reader.token.is_empty());
    assert_eq!(all(&mut admin).await.len(), 2, "nobody is no client any more");
    rig.kill();
    rig.restart(&rig.text());
    assert_eq!(
        who_am_i(rig.nobody()).await.unwrap_err().code(),
        Code::Unauthenticated,
        "after a restart, too"
    );
    assert_eq!(who_am_i(rig.bearer(&made.token)).await.unwrap().role(), ClientRole::Admin);
    // Its file gives an admin to who has lost the token.
    let text =
        format!("{}[[clients]]\nname = \"root\"\nrole = \"admin\"\ntoken_sha256 = \"{}\"\n", rig.text(), {
            TokenHash::of("lost and found")
        });
    rig.kill();
    rig.restart(&text);
    let mut root = clients(rig.bearer("lost and found")).await;
    let name = made.client.unwrap().name;
    let renewed = root.renew_token(one(&name)).await.unwrap().into_inner().token;
    assert_eq!(who_am_i(rig.bearer(&renewed)).await.unwrap().name, name);
}

#[tokio::test]
async fn a_token_is_nowhere_but_in_its_answer() {
    let mut rig = Rig::anonymous();
    rig.kill();
    let log = rig.folder.path().join("log");
    let mut run = tickplane();
    run.arg("run").arg("--config").arg(rig.folder.path().join("appliance.toml")).env("RUST_LOG", "trace");
    let said = std::fs::File::create(&log).unwrap();
    rig.node = Process(run.stderr(said).spawn().unwrap());
    let line = wait_for("it runs", || {
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        text.lines().find(|line| line.contains(" grpc=") && line.contains(" region=")).map(str::to_owned)
    });
    let address = field(&line, "grpc").unwrap();
    rig.server = format!("http://{address}");
    let first = clients(rig.nobody()).await.create(create("ann", ClientRole::Admin)).await;
    let first = first.unwrap().into_inner().token;
    let renewed = clients(rig.bearer(&first)).await.renew_token(one("ann")).await.unwrap().into_inner().token;
    who_am_i(rig.bearer(&renewed)).await.unwrap();
    rig.kill();
    let has = |file: &Path, text: &str| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(has(&log, "client.renew_token"), "it was looked at");
    let stored = rig.folder.path().join("store/tickplane.redb");
    assert!(has(&stored, &TokenHash::of(&renewed).to_string()), "it was looked at");
    for token in [&first, &renewed] {
        // Its random part, too.
        let bits = token.trim_start_matches("tickplane_");
        assert!(!has(&log, bits) && !has(&stored, bits));
    }
}

/// `tickplane client …` at a node: what it says, as JSON.
fn command(rig: &Rig, token: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = tickplane();
    command.env_remove("RUST_LOG").args(["client", "--json", "--server", &rig.server]).args(arguments);
    if !token.is_empty() {
        command.env("TICKPLANE_TOKEN", token);
    }
    let output = command.output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let lines = String::from_utf8(output.stdout).unwrap();
    Ok(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn the_command_line_does_it_all() {
    let rig = Rig::anonymous();
    assert_eq!(command(&rig, "", &["whoami"]).unwrap()[0]["name"], "anonymous");
    let made = command(&rig, "", &["create", "ann", "--role", "admin"]).unwrap().remove(0);
    assert!(made["warnings"][0].as_str().unwrap().contains("everybody must say who calls"), "{made}");
    let admin = made["token"].as_str().unwrap();
    let error = command(&rig, "", &["list"]).unwrap_err();
    assert!(error.contains("Unauthenticated"), "{error}");
    let given = ["--feed", "two", "--pattern", "A*", "--kind", "quote", "--delay-ms", "5"];
    let made = command(&rig, admin, &[&["create", "desk", "--role", "reader"], &given[..]].concat());
    let desk = made.unwrap().remove(0);
    let token = desk["token"].as_str().unwrap();
    let who = command(&rig, token, &["whoami"]).unwrap().remove(0);
    assert_eq!(
        (&who["role"], &who["delay_ms"], &who["kinds"][0]),
        (&"reader".into(), &5.into(), &"quote".into())
    );
    assert!(who.get("token").is_none());
    let error = command(&rig, token, &["get", "ann"]).unwrap_err();
    assert!(error.contains("role admin is needed"), "{error}");
    let changed = command(&rig, admin, &["update", "desk", "--role", "operator", "--pattern", "B*"]).unwrap();
    assert_eq!((&changed[0]["role"], &changed[0]["patterns"][0]), (&"operator".into(), &"B*".into()));
    assert_eq!(
        (&changed[0]["feeds"][0], &changed[0]["revision"]),
        (&"two".into(), &2.into()),
        "the rest stays"
    );
    let changed = command(&rig, admin, &["update", "desk", "--everything", "--delay-ms", "0"]).unwrap();
    assert_eq!((&changed[0]["feeds"], &changed[0]["delay_ms"]), (&Value::Array(Vec::new()), &0.into()));
    let error = command(&rig, admin, &["update", "desk", "--role", "reader", "--revision", "1"]).unwrap_err();
    assert!(error.contains("at revision 3, not 1"), "{error}");
    let renewed = command(&rig, admin, &["renew-token", "desk"]).unwrap().remove(0);
    assert!(command(&rig, token, &["whoami"]).is_err());
    assert_eq!(command(&rig, renewed["token"].as_str().unwrap(), &["whoami"]).unwrap()[0]["name"], "desk");
    assert_eq!(command(&rig, admin, &["list"]).unwrap().len(), 2);
    command(&rig, admin, &["delete", "desk"]).unwrap();
    let error = command(&rig, admin, &["get", "desk"]).unwrap_err();
    assert!(error.contains("there is no client \"desk\""), "{error}");
    // For people it is a table, with the token below.
    let text = tickplane()
        .args(["client", "create", "rob", "--role", "reader", "--server", &rig.server])
        .env("TICKPLANE_TOKEN", admin)
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("CLIENT ") && text.contains("shown this once: tickplane_"), "{text}");
}
