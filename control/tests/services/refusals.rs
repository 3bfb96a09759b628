//! Calls that are not let through are counted by their reason.

use super::desk::Desk;
use control::access::TokenHash;
use control::client::ServerArgs;
use control::proto::clients_client::ClientsClient;
use control::proto::{ListClientsRequest, WhoAmIRequest};
use tonic::Code;

#[tokio::test]
async fn each_refused_call_is_on_the_page_once() {
    let hash = TokenHash::of("rob's");
    let rob = format!("[[clients]]\nname = \"rob\"\nrole = \"reader\"\ntoken_sha256 = \"{hash}\"\n");
    let desk = Desk::open_with(&rob).await;
    let who = async |token: Option<&str>| {
        let args = ServerArgs { token: token.map(str::to_owned), ..ServerArgs::at(&desk.url) };
        let mut clients = ClientsClient::new(args.connect().await.unwrap());
        (clients.who_am_i(WhoAmIRequest {}).await.map(drop), clients)
    };
    assert_eq!(who(None).await.0.unwrap_err().code(), Code::Unauthenticated);
    let mut codes = Vec::new();
    for _ in 0..14 {
        codes.push(who(Some("a guess")).await.0.unwrap_err().code());
    }
    let guesses = codes.iter().filter(|code| **code == Code::ResourceExhausted).count();
    assert!(guesses > 0 && codes[0] == Code::Unauthenticated, "{codes:?}");
    let (known, mut rob) = who(Some("rob's")).await;
    known.unwrap();
    let refused = rob.list(ListClientsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let page = desk.metrics_page().await;
    for (reason, count) in [("unauthenticated", 1 + 14 - guesses), ("guesses", guesses), ("denied", 1)] {
        let line = format!("tickplane_calls_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line} is not in {page}");
    }
}
