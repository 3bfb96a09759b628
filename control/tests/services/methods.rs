//! Every method of every service: what it answers to whoever may call it, and to everybody and everything else.

use super::desk::{Desk, PATIENCE};
use control::access::{Role, Token};
use control::proto::{DESCRIPTORS, GetRequest};
use control::quota::{Limits, RETRY_AFTER_MS};
use http_body::{Body, Frame};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tower::Service;

/// An instrument that `nat` is not entitled to; its name is in no request but one.
const HIDDEN: &str = "HIDDEN";
/// Longer than a node takes (4 MiB).
const HUGE_BYTES: usize = 5 << 20;

struct Case {
    path: &'static str,
    /// What it is asked, as JSON.
    request: &'static str,
    needs: Role,
    /// What an admin gets: the service itself answers.
    code: Code,
    /// Whether an admin is told of [`HIDDEN`].
    shows: bool,
}

const fn case(path: &'static str, request: &'static str, needs: Role, code: Code, shows: bool) -> Case {
    Case { path, request, needs, code, shows }
}

/// In an order in which each can be done: what is made is changed after that, and deleted last.
const CASES: &[Case] = &[
    case("MarketData/Get", r#"{"symbols": ["HIDDEN"]}"#, Role::Reader, Code::Ok, true),
    case("MarketData/List", r#"{"pattern": "*"}"#, Role::Reader, Code::Ok, true),
    case("MarketData/Subscribe", r#"{"patterns": ["*"]}"#, Role::Reader, Code::Ok, true),
    case("Feeds/List", "{}", Role::Reader, Code::Ok, false),
    case("Node/GetStatus", "{}", Role::Reader, Code::Ok, false),
    case("Telemetry/GetLatency", "{}", Role::Reader, Code::Ok, false),
    case("Telemetry/WatchLatency", r#"{"intervalMs": 100}"#, Role::Reader, Code::Ok, false),
    case("Telemetry/Stalls", "{}", Role::Reader, Code::Ok, false),
    case("Cluster/Get", "{}", Role::Reader, Code::Ok, false),
    // This node is alone.
    case("Cluster/Promote", "{}", Role::Admin, Code::FailedPrecondition, false),
    case("Cluster/HandOver", r#"{"to": "b"}"#, Role::Admin, Code::FailedPrecondition, false),
    case("Cluster/AddPeer", r#"{"name": "b"}"#, Role::Admin, Code::FailedPrecondition, false),
    case("Cluster/RemovePeer", r#"{"name": "b"}"#, Role::Admin, Code::FailedPrecondition, false),
    case("Admin/GetConfig", "{}", Role::Admin, Code::Ok, false),
    // There is no such key.
    case("Admin/Apply", r#"{"toml": "nix = 1"}"#, Role::Admin, Code::InvalidArgument, false),
    case("Clients/Create", r#"{"name": "c", "role": "CLIENT_ROLE_READER"}"#, Role::Admin, Code::Ok, false),
    case("Clients/Update", r#"{"name": "c", "role": "CLIENT_ROLE_OPERATOR"}"#, Role::Admin, Code::Ok, false),
    case("Clients/RenewToken", r#"{"name": "c"}"#, Role::Admin, Code::Ok, false),
    case("Clients/Get", r#"{"name": "c"}"#, Role::Admin, Code::Ok, false),
    case("Clients/List", "{}", Role::Admin, Code::Ok, false),
    case("Clients/WhoAmI", "{}", Role::Reader, Code::Ok, false),
    case("Clients/Delete", r#"{"name": "c"}"#, Role::Admin, Code::Ok, false),
    case("Quotas/Get", "{}", Role::Reader, Code::Ok, false),
    case("Quotas/List", "{}", Role::Operator, Code::Ok, false),
    case("Quotas/Set", r#"{"name": "rob", "limits": {}}"#, Role::Operator, Code::Ok, false),
    case("Quotas/Reset", r#"{"name": "rob"}"#, Role::Operator, Code::Ok, false),
    case("Quotas/Watch", r#"{"intervalMs": 100}"#, Role::Reader, Code::Ok, false),
    case(
        "Subscriptions/Create",
        r#"{"id": "s", "plan": {"patterns": ["*"]}}"#,
        Role::Reader,
        Code::Ok,
        false,
    ),
    case(
        "Subscriptions/Update",
        r#"{"id": "s", "plan": {"patterns": ["?*"]}}"#,
        Role::Reader,
        Code::Ok,
        false,
    ),
    case("Subscriptions/Pause", r#"{"id": "s"}"#, Role::Reader, Code::Ok, false),
    case("Subscriptions/Resume", r#"{"id": "s"}"#, Role::Reader, Code::Ok, false),
    case("Subscriptions/Get", r#"{"id": "s"}"#, Role::Reader, Code::Ok, false),
    case("Subscriptions/List", "{}", Role::Reader, Code::Ok, false),
    case("Subscriptions/Watch", "{}", Role::Reader, Code::Ok, false),
    case("Subscriptions/Stream", r#"{"id": "s"}"#, Role::Reader, Code::Ok, true),
    case("Subscriptions/Delete", r#"{"id": "s"}"#, Role::Reader, Code::Ok, false),
    case("Audit/List", "{}", Role::Admin, Code::Ok, false),
    case("Audit/Watch", r#"{"from": "1"}"#, Role::Admin, Code::Ok, false),
];

/// A node with clients of every role, and what they may see.
struct Rig {
    desk: Desk,
    admin: Token,
    operator: Token,
    reader: Token,
    /// A reader that may see symbols that begin with A.
    nat: Token,
}

impl Rig {
    async fn open() -> Rig {
        let [admin, operator, reader, nat] = std::array::from_fn(|_| Token::generate());
        let client = |name: &str, role: &str, token: &Token, more: &str| {
            format!(
                "[[clients]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken_sha256 = \"{}\"\n{more}",
                token.hash()
            )
        };
        let clients = [
            client("ann", "admin", &admin, ""),
            client("oli", "operator", &operator, ""),
            client("rob", "reader", &reader, ""),
            client("nat", "reader", &nat, "patterns = [\"A*\"]\n"),
        ];
        let mut desk = Desk::open_with(&clients.concat()).await;
        for symbol in ["AAPL", HIDDEN] {
            let instrument = desk.define(symbol);
            desk.quote(instrument, 1);
        }
        desk.commit();
        Rig { desk, admin, operator, reader, nat }
    }

    /// The first answer, if there is any. What was opened is given back when this returns.
    async fn call(&self, token: Option<&Token>, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        let answer = tokio::time::timeout(PATIENCE, async {
            let mut stream = open(&self.desk.channel, token, path, body).await?;
            Ok(stream.message().await?.unwrap_or_default())
        });
        let answer = answer.await.unwrap_or_else(|_| panic!("{path} answers"));
        self.nothing_is_open(path).await;
        answer
    }

    async fn nothing_is_open(&self, path: &str) {
        let given_back = async {
            while self.desk.node.delivery.subscriptions.load(Ordering::Relaxed) != 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, given_back).await.unwrap_or_else(|_| panic!("{path} is given back"));
    }

    async fn answers_still(&self) {
        let get = GetRequest { symbols: vec![HIDDEN.to_owned()] };
        let told = self.call(Some(&self.admin), "MarketData/Get", get.encode_to_vec()).await.unwrap();
        assert!(shows(&told));
    }

    fn requests(&self, client: &str) -> u64 {
        let known = self.desk.node.quotas.find(client);
        known.map_or(0, |quota| quota.usage(self.desk.node.now_ns()).requests.total)
    }
}

async fn open(
    channel: &Channel,
    token: Option<&Token>,
    path: &str,
    body: Vec<u8>,
) -> Result<Streaming<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone()).max_encoding_message_size(usize::MAX);
    client.ready().await.unwrap();
    let mut request = Request::new(body);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", bearer(token).parse().unwrap());
    }
    let path = format!("/tickplane.v1.{path}").parse().unwrap();
    Ok(client.server_streaming(request, path, Bytes).await?.into_inner())
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.text())
}

fn shows(answer: &[u8]) -> bool {
    answer.windows(HIDDEN.len()).any(|window| window == HIDDEN.as_bytes())
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut message);
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// A body of which the rest never comes.
struct Half(Option<&'static [u8]>);

impl Body for Half {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        match self.0.take() {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(part))))),
            None => Poll::Pending,
        }
    }
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// The cases with what they ask, as it goes over the wire.
fn cases() -> Vec<(&'static Case, Vec<u8>)> {
    let methods = methods();
    let of_case = |case: &'static Case| {
        let full_name = format!("tickplane.v1.{}", case.path.replace('/', "."));
        let method = methods.iter().find(|method| method.full_name() == full_name);
        let input = method.unwrap_or_else(|| panic!("there is no {}", case.path)).input();
        let mut json = serde_json::Deserializer::from_str(case.request);
        let request = DynamicMessage::deserialize(input, &mut json).unwrap();
        (case, request.encode_to_vec())
    };
    CASES.iter().map(of_case).collect()
}

#[test]
fn there_is_a_case_for_every_method() {
    let mut known: Vec<String> =
        CASES.iter().map(|case| format!("tickplane.v1.{}", case.path.replace('/', "."))).collect();
    let mut served: Vec<String> = methods().iter().map(|method| method.full_name().to_owned()).collect();
    known.sort_unstable();
    served.sort_unstable();
    assert_eq!(known, served);
}

#[tokio::test]
async fn whoever_may_call_is_answered_by_the_service_itself() {
    let rig = Rig::open().await;
    for (case, request) in cases() {
        let (code, shown) = match rig.call(Some(&rig.admin), case.path, request).await {
            Ok(answer) => (Code::Ok, shows(&answer)),
            Err(status) => (status.code(), false),
        };
        assert_eq!((code, shown), (case.code, case.shows), "{}", case.path);
    }
}

#[tokio::test]
async fn nobody_is_told_what_it_is_not_entitled_to() {
    let rig = Rig::open().await;
    let mut answered = 0;
    for (case, request) in cases() {
        match rig.call(Some(&rig.nat), case.path, request).await {
            Ok(answer) => {
                answered += 1;
                assert!(!shows(&answer), "{}", case.path);
            }
            // It names what the caller asked for.
            Err(status) => assert_eq!(status.code(), Code::PermissionDenied, "{}: {status}", case.path),
        }
    }
    let own = CASES.iter().filter(|case| case.needs == Role::Reader && case.code == Code::Ok).count();
    assert_eq!(answered, own - 1, "all but the one that names what is hidden");
}

#[tokio::test]
async fn nobody_calls_without_saying_who_it_is_nor_beyond_its_role() {
    let rig = Rig::open().await;
    let stranger = Token::generate();
    let mut denied = 0;
    for (case, request) in cases() {
        for token in [None, Some(&stranger)] {
            let refused = rig.call(token, case.path, request.clone()).await.unwrap_err();
            // So many wrong tokens are refused before they are looked at.
            let is_guess = token.is_some() && refused.code() == Code::ResourceExhausted;
            assert!(refused.code() == Code::Unauthenticated || is_guess, "{}: {refused}", case.path);
        }
        for (role, token) in [(Role::Reader, &rig.reader), (Role::Operator, &rig.operator)] {
            if role < case.needs {
                denied += 1;
                let refused = rig.call(Some(token), case.path, request.clone()).await.unwrap_err();
                assert_eq!(refused.code(), Code::PermissionDenied, "{}: {refused}", case.path);
            }
        }
    }
    assert!(denied > 12, "{denied}");
}

#[tokio::test]
async fn a_call_too_many_is_refused_whatever_it_calls() {
    let rig = Rig::open().await;
    let limits = Limits { requests_per_min: Some(1), burst_ms: 60_000, ..Limits::default() };
    rig.desk.node.quotas.set("ann", Role::Admin, Some(limits), rig.desk.node.now_ns()).unwrap();
    rig.answers_still().await;
    for (case, request) in cases() {
        let refused = rig.call(Some(&rig.admin), case.path, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{}: {refused}", case.path);
        let wait_ms = refused.metadata().get(RETRY_AFTER_MS).unwrap().to_str().unwrap();
        assert!(wait_ms.parse::<u64>().unwrap() > 0, "{}", case.path);
    }
}

#[tokio::test]
async fn what_is_no_message_or_too_long_is_refused_and_harms_nothing() {
    let rig = Rig::open().await;
    for (case, _) in cases() {
        let refused = rig.call(Some(&rig.admin), case.path, vec![0xff; 16]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{}: {refused}", case.path);
        let refused = rig.call(Some(&rig.admin), case.path, vec![0; HUGE_BYTES]).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{}: {refused}", case.path);
    }
    rig.answers_still().await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_half_way_leaves_nothing_behind() {
    let rig = Rig::open().await;
    for (case, _) in cases() {
        let before = rig.requests("ann");
        // A message of 64 bytes, of which two come.
        let request = http::Request::post(format!("{}/tickplane.v1.{}", rig.desk.url, case.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", bearer(&rig.admin))
            .body(tonic::body::Body::new(Half(Some(&[0, 0, 0, 0, 64, 1, 2]))))
            .unwrap();
        let mut channel = rig.desk.channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let begun = async {
            while rig.requests("ann") == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = channel.call(request) => panic!("{} answers half a message: {answer:?}", case.path),
            begun = tokio::time::timeout(PATIENCE, begun) => begun.expect("the call is begun"),
        }
        rig.nothing_is_open(case.path).await;
    }
    rig.answers_still().await;
}
