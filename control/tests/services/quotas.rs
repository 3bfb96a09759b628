//! Quotas over a real connection: what is refused, for how long, and what a change does.

use super::desk::{Desk, PATIENCE, client as client_of};
use control::access::{ANONYMOUS, Caller, Client, Clients, Role, Token};
use control::config::ClientConfig;
use control::proto::quotas_client::QuotasClient;
use control::proto::quotas_server::Quotas as Service;
use control::proto::{
    ClientQuota, ExcessPolicy, GetRequest, QuotaLimits, QuotasGetRequest, QuotasListRequest,
    ResetQuotaRequest, SetQuotaRequest, WatchQuotasRequest, WatchQuotasResponse,
};
use control::quota::RETRY_AFTER_MS;
use control::service::quotas::Quotas;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// A client that may call twice a minute, all at once.
const TWO_A_MINUTE: &str = "[quota.admin]\nrequests_per_min = 2\nburst_ms = 60000\n";
const MS_NS: u64 = 1_000_000;

fn client(desk: &Desk) -> QuotasClient<Channel> {
    QuotasClient::new(desk.channel.clone())
}

fn get(name: &str) -> QuotasGetRequest {
    QuotasGetRequest { name: name.to_owned() }
}

fn set(name: &str, limits: QuotaLimits) -> SetQuotaRequest {
    SetQuotaRequest { name: name.to_owned(), limits: Some(limits), only: Vec::new() }
}

async fn call(desk: &Desk) -> Result<(), Status> {
    desk.market_data().get(GetRequest { symbols: vec!["AAPL".to_owned()] }).await.map(drop)
}

/// The time to wait, as both places tell it.
fn retry_after_ns(status: &Status) -> u64 {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let wait = status.get_details_retry_info().expect("google.rpc.RetryInfo").retry_delay.expect("a delay");
    let wait_ms: u64 = status.metadata().get(RETRY_AFTER_MS).unwrap().to_str().unwrap().parse().unwrap();
    let wait_ns = wait.as_nanos() as u64;
    assert_eq!(wait_ms, wait_ns.div_ceil(MS_NS));
    wait_ns
}

#[tokio::test]
async fn a_call_too_many_is_told_when_to_come_back_and_that_is_true() {
    let desk = Desk::open_with(TWO_A_MINUTE).await;
    call(&desk).await.unwrap();
    call(&desk).await.unwrap();
    let before_ns = desk.node.now_ns();
    let refused = call(&desk).await.unwrap_err();
    let after_ns = desk.node.now_ns();
    let wait_ns = retry_after_ns(&refused);
    assert!(refused.message().contains("requests_per_min = 2"), "{}", refused.message());
    let violations = refused.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, format!("client:{ANONYMOUS}"));
    // The same meter by a clock of our own: it admits the call once that time is over, and not before.
    let quota = desk.node.quotas.find(ANONYMOUS).unwrap();
    assert!(quota.charge_request(before_ns + wait_ns - 1).is_err());
    assert!(quota.charge_request(after_ns + wait_ns).is_ok());
    // Health and reflection are nobody's.
    let mut health = tonic_health::pb::health_client::HealthClient::new(desk.channel.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let page = desk.metrics_page().await;
    for line in [
        "tickplane_quota_client_refusals_total{client=\"anonymous\",limit=\"requests_per_min\"} 2",
        "tickplane_quota_refusals_total{role=\"admin\",limit=\"requests_per_min\"} 2",
        "tickplane_quota_used_ratio{client=\"anonymous\",limit=\"requests_per_min\"} ",
        "tickplane_quota_clients{role=\"admin\"} 1",
        "tickplane_quota_others_last_minute{role=\"reader\",of=\"bytes\"} 0",
    ] {
        assert!(page.lines().any(|found| found.starts_with(line)), "{line} is not in {page}");
    }
}

#[tokio::test]
async fn a_change_holds_at_once_and_a_reset_takes_it_back() {
    let desk = Desk::open_with(TWO_A_MINUTE).await;
    let mut quotas = client(&desk);
    let found = quotas.get(get("")).await.unwrap().into_inner();
    assert_eq!((found.name.as_str(), found.role.as_str(), found.is_own), (ANONYMOUS, "admin", false));
    assert_eq!((found.limits.unwrap().requests_per_min, found.requests.unwrap().total), (Some(2), 1));
    let wide = QuotaLimits { requests_per_min: Some(600), burst_ms: 60_000, ..QuotaLimits::default() };
    let told = quotas.set(set(ANONYMOUS, wide)).await.unwrap().into_inner();
    assert_eq!((told.is_own, told.limits.unwrap().on_excess()), (true, ExcessPolicy::Refuse));
    for _ in 0..100 {
        call(&desk).await.unwrap();
    }
    // What was used stays used: 102 of 2.
    let told = quotas.reset(ResetQuotaRequest { name: ANONYMOUS.to_owned() }).await.unwrap().into_inner();
    assert!(!told.is_own);
    assert!(told.requests.unwrap().minute >= 100 && told.requests.unwrap().peak_second > 0, "{told:?}");
    assert!(retry_after_ns(&call(&desk).await.unwrap_err()) > 2_000 * 1_000 * MS_NS);
    // Without a limit nothing is held against it.
    let (limits, now_ns) = (control::quota::Limits::default(), desk.node.now_ns());
    desk.node.quotas.set(ANONYMOUS, Role::Admin, Some(limits), now_ns).unwrap();
    let found = quotas.get(get(ANONYMOUS)).await.unwrap().into_inner();
    assert_eq!(found.refusals["requests_per_min"], 1);
    assert_eq!(found.limits.unwrap().requests_per_min, None);
}

#[tokio::test]
async fn a_client_that_has_not_called_yet_has_what_its_role_has_and_keeps_what_is_not_named() {
    let (of_rob, rob) = client_of("rob", "reader");
    let (of_ann, ann) = client_of("ann", "admin");
    let (of_olga, _) = client_of("olga", "operator");
    let limits =
        "[quota.reader]\nupdates_per_s = 1000\nsubscriptions = 2\n[quota.operator]\nupdates_per_s = 5000\n";
    let desk = Desk::open_with(&[of_rob, of_ann, of_olga, limits.to_owned()].concat()).await;
    let mut quotas = QuotasClient::new(desk.connect_as(&ann).await);
    let found = quotas.get(get("olga")).await.unwrap().into_inner();
    assert_eq!((found.role.as_str(), found.is_own), ("operator", false));
    assert_eq!(found.limits.unwrap().updates_per_s, Some(5_000));
    let only = |name: &str, requests, only: &str| SetQuotaRequest {
        only: vec![only.to_owned()],
        ..set(name, QuotaLimits { requests_per_min: requests, ..QuotaLimits::default() })
    };
    // "new" is nobody's name yet: a reader's limits, unless it comes as something else.
    for (name, role, updates_per_s, subscriptions) in [
        ("rob", "reader", 1_000, Some(2)),
        ("olga", "operator", 5_000, None),
        ("new", "reader", 1_000, Some(2)),
    ] {
        let told = quotas.set(only(name, Some(600), "requests_per_min")).await.unwrap().into_inner();
        let limits = told.limits.unwrap();
        assert_eq!((told.role.as_str(), told.is_own), (role, true));
        assert_eq!((limits.requests_per_min, limits.updates_per_s), (Some(600), Some(updates_per_s)));
        assert_eq!(limits.subscriptions, subscriptions);
        let told = quotas.set(only(name, None, "updates_per_s")).await.unwrap().into_inner();
        let limits = told.limits.unwrap();
        assert_eq!((limits.requests_per_min, limits.updates_per_s), (Some(600), None), "it was lifted");
    }
    // It holds from the first call on.
    let mut own = QuotasClient::new(desk.connect_as(&rob).await);
    let found = own.get(get("")).await.unwrap().into_inner();
    assert_eq!((found.requests.unwrap().total, found.limits.unwrap().requests_per_min), (1, Some(600)));
    let reset = quotas.reset(ResetQuotaRequest { name: "rob".to_owned() }).await.unwrap().into_inner();
    assert_eq!((reset.is_own, reset.limits.unwrap().updates_per_s), (false, Some(1_000)));
}

#[tokio::test]
async fn what_can_not_be_is_refused_by_the_right_code() {
    let desk = Desk::open().await;
    let mut quotas = client(&desk);
    let limits = QuotaLimits::default();
    let many = |requests| QuotaLimits { requests_per_min: Some(requests), ..limits };
    let bad = [
        set("", limits),
        set(&"n".repeat(65), limits),
        set("a\nb", limits),
        set("a", many(0)),
        set("a", many(u64::MAX)),
        set("a", QuotaLimits { burst_ms: u32::MAX, ..limits }),
        set("a", QuotaLimits { on_excess: 99, ..limits }),
        SetQuotaRequest { name: "a".to_owned(), limits: None, only: Vec::new() },
        SetQuotaRequest { only: vec!["updates_per_min".to_owned()], ..set("a", limits) },
    ];
    for request in bad {
        let refused = quotas.set(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    assert_eq!(quotas.get(get("a")).await.unwrap_err().code(), Code::NotFound, "nothing was kept of them");
    assert_eq!(quotas.get(get(&"x".repeat(100_000))).await.unwrap_err().code(), Code::NotFound);
    let reset = quotas.reset(ResetQuotaRequest { name: "a".to_owned() }).await;
    assert_eq!(reset.unwrap_err().code(), Code::NotFound);
    let list = QuotasListRequest { page_size: 10_001, page_token: String::new() };
    assert_eq!(quotas.list(list).await.unwrap_err().code(), Code::InvalidArgument);
    for request in [
        WatchQuotasRequest { interval_ms: 99, ..WatchQuotasRequest::default() },
        WatchQuotasRequest { names: vec![String::new(); 1_001], ..WatchQuotasRequest::default() },
    ] {
        assert_eq!(quotas.watch(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // The largest that can be.
    let largest =
        QuotaLimits { burst_ms: 600_000, bytes_per_s: Some(1_000_000_000_000), ..many(1_000_000_000_000) };
    quotas.set(set(&"n".repeat(64), largest)).await.unwrap();
}

#[tokio::test]
async fn all_clients_are_listed_page_by_page() {
    let desk = Desk::open().await;
    let mut quotas = client(&desk);
    for number in 0..25 {
        quotas.set(set(&format!("c{number:02}"), QuotaLimits::default())).await.unwrap();
    }
    let mut request = QuotasListRequest { page_size: 10, page_token: String::new() };
    let mut sizes = Vec::new();
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = quotas.list(request.clone()).await.unwrap().into_inner();
        sizes.push(page.clients.len());
        names.extend(page.clients.into_iter().map(|client| client.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(sizes, [10, 10, 6]);
    assert_eq!((names[0].as_str(), names[25].as_str()), (ANONYMOUS, "c24"));
    assert!(names.is_sorted());
}

async fn next(
    stream: &mut tonic::Streaming<WatchQuotasResponse>,
) -> Result<Option<WatchQuotasResponse>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("something within its time")
}

#[tokio::test]
async fn usage_is_watched_and_a_client_that_is_cut_off_is_told() {
    let desk = Desk::open().await;
    let mut quotas = client(&desk);
    let names = vec![String::new(), "other".to_owned()];
    let request = WatchQuotasRequest { names, interval_ms: 100 };
    assert_eq!(quotas.watch(request.clone()).await.unwrap_err().code(), Code::NotFound);
    let limits = QuotaLimits { subscriptions: Some(1), ..QuotaLimits::default() };
    quotas.set(set("other", limits)).await.unwrap();
    let cut = QuotaLimits { on_excess: ExcessPolicy::Disconnect.into(), ..limits };
    quotas.set(set(ANONYMOUS, cut)).await.unwrap();
    let mut stream = quotas.watch(request.clone()).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(first.clients[1].name, "other");
    assert_eq!((first.clients[0].subscriptions, first.clients[1].subscriptions), (1, 0));
    call(&desk).await.unwrap();
    let calls = |told: &WatchQuotasResponse| told.clients[0].requests.unwrap().total;
    while calls(&next(&mut stream).await.unwrap().unwrap()) <= calls(&first) {}
    // One too many: both end, and nobody says when a place is free.
    let refused = quotas.watch(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().get(RETRY_AFTER_MS).is_none() && refused.get_details_retry_info().is_none());
    let end = loop {
        match next(&mut stream).await {
            Ok(told) => assert!(told.is_some(), "it ends by a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_reader_sees_itself_and_changes_nothing() {
    let desk = Desk::open().await;
    let service = Quotas::new(desk.node.clone());
    let [ann, olga] = [("ann", Role::Reader), ("olga", Role::Operator)].map(|(name, role)| {
        let token_sha256 = Some(Token::generate().hash().to_string());
        let made_of = ClientConfig { name: name.to_owned(), role, token_sha256, ..ClientConfig::default() };
        let before = Clients::default();
        let client = Client::new(made_of, None, &desk.node.config, &before, &desk.node.quotas);
        Caller::new(&Arc::new(client), None).unwrap()
    });
    fn by<T>(caller: &Caller, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(caller.clone());
        request
    }
    let _bob = desk.node.quotas.of("bob", Role::Reader);
    let own: ClientQuota = service.get(by(&ann, get(""))).await.unwrap().into_inner();
    assert_eq!((own.name.as_str(), own.role.as_str()), ("ann", "reader"));
    assert!(service.get(by(&ann, get("ann"))).await.is_ok());
    assert!(service.get(by(&olga, get("bob"))).await.is_ok());
    let limits = QuotaLimits::default();
    let watch = WatchQuotasRequest { names: vec!["bob".to_owned()], interval_ms: 0 };
    let refused = [
        service.get(by(&ann, get("bob"))).await.map(drop),
        service.set(by(&ann, set("ann", limits))).await.map(drop),
        service.reset(by(&ann, ResetQuotaRequest { name: "ann".to_owned() })).await.map(drop),
        service.list(by(&ann, QuotasListRequest::default())).await.map(drop),
        service.watch(by(&ann, watch)).await.map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
}
