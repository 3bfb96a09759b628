//! The records of changes over a real connection: all there are, in their order, and nothing to whoever may not.

use super::desk::{Desk, PATIENCE, client};
use control::access::ANONYMOUS;
use control::client::Connection;
use control::proto::audit_client::AuditClient;
use control::proto::cluster_client::ClusterClient;
use control::proto::quotas_client::QuotasClient;
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::{
    AddPeerRequest, AuditFilter, AuditListRequest, AuditRecord, AuditWatchRequest, CreateSubscriptionRequest,
    HandOverRequest, PromoteRequest, QuotaLimits, ResetQuotaRequest, SetQuotaRequest, SubscriptionRequest,
};
use control::store::{Changes, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

fn audit(desk: &Desk) -> AuditClient<Channel> {
    AuditClient::new(desk.channel.clone())
}

async fn set_quota(desk: &Desk, name: &str, requests: u64) {
    let limits = Some(QuotaLimits { requests_per_min: Some(requests), ..QuotaLimits::default() });
    let request = SetQuotaRequest { name: name.to_owned(), limits, only: Vec::new() };
    QuotasClient::new(desk.channel.clone()).set(request).await.unwrap();
}

async fn change_this_and_that(desk: &Desk) {
    let mut subscriptions = SubscriptionsClient::new(desk.channel.clone());
    let one = || SubscriptionRequest { id: "desk".to_owned() };
    let create = CreateSubscriptionRequest { id: "desk".to_owned(), ..CreateSubscriptionRequest::default() };
    subscriptions.create(create.clone()).await.unwrap();
    assert_eq!(subscriptions.create(create).await.unwrap_err().code(), Code::AlreadyExists);
    set_quota(desk, "rob", 600).await;
    subscriptions.pause(one()).await.unwrap();
    let mut quotas = QuotasClient::new(desk.channel.clone());
    for _ in 0..2 {
        quotas.reset(ResetQuotaRequest { name: "rob".to_owned() }).await.unwrap();
    }
    subscriptions.delete(one()).await.unwrap();
}

/// All pages of what is asked for.
async fn list(desk: &Desk, asked: &AuditListRequest) -> Vec<AuditRecord> {
    let (mut request, mut found) = (asked.clone(), Vec::new());
    loop {
        let page = audit(desk).list(request.clone()).await.unwrap().into_inner();
        assert!(asked.page_size == 0 || page.records.len() <= asked.page_size as usize);
        found.extend(page.records);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

fn told(records: &[AuditRecord]) -> Vec<(u64, &str, &str)> {
    records.iter().map(|record| (record.number, record.action.as_str(), record.object.as_str())).collect()
}

const THIS_AND_THAT: [(u64, &str, &str); 5] = [
    (1, "subscription.create", "desk"),
    (2, "quota.set", "rob"),
    (3, "subscription.pause", "desk"),
    (4, "quota.reset", "rob"),
    (5, "subscription.delete", "desk"),
];

#[tokio::test]
async fn each_change_is_recorded_once_in_its_order_and_what_is_refused_or_nothing_new_is_not() {
    let desk = Desk::open().await;
    let before_ns = desk.node.unix_ns();
    change_this_and_that(&desk).await;
    let after_ns = desk.node.unix_ns();
    let records = list(&desk, &AuditListRequest::default()).await;
    assert_eq!(told(&records), THIS_AND_THAT);
    for record in &records {
        assert_eq!((record.client.as_str(), record.node.as_str()), (ANONYMOUS, "test"));
        assert!(record.from.starts_with("127.0.0.1:"), "{record:?}");
        assert!((before_ns..=after_ns).contains(&record.at_ns), "{record:?}");
        assert_eq!(record.refused, "");
    }
    assert!(records[1].now.contains("requests_per_min 600, subscriptions none"), "{:?}", records[1]);
    assert_eq!((records[3].now.as_str(), records[4].now.as_str()), ("", ""), "they are gone");
    for page_size in [1, 2, 3, 5, 1_000] {
        let mut asked = AuditListRequest { page_size, ..AuditListRequest::default() };
        assert_eq!(list(&desk, &asked).await, records);
        asked.newest_first = true;
        let mut reversed = list(&desk, &asked).await;
        reversed.reverse();
        assert_eq!(reversed, records);
    }
    let numbers = async |asked: AuditListRequest| {
        list(&desk, &asked).await.iter().map(|record| record.number).collect::<Vec<_>>()
    };
    let asked = AuditListRequest::default();
    assert_eq!(numbers(AuditListRequest { from: 4, ..asked.clone() }).await, [4, 5]);
    let down = AuditListRequest { from: 2, newest_first: true, ..asked.clone() };
    assert_eq!(numbers(down).await, [2, 1]);
    assert!(numbers(AuditListRequest { from: u64::MAX, ..asked.clone() }).await.is_empty());
    let at_ns = records[2].at_ns;
    assert_eq!(numbers(AuditListRequest { since_ns: at_ns, ..asked.clone() }).await, [3, 4, 5]);
    assert_eq!(numbers(AuditListRequest { until_ns: at_ns, page_size: 1, ..asked.clone() }).await, [1, 2]);
    let filters = [
        (("", "quota.", ""), vec![2, 4]),
        (("", "", "desk"), vec![1, 3, 5]),
        ((ANONYMOUS, "subscription.", "desk"), vec![1, 3, 5]),
        (("bob", "", ""), vec![]),
        (("", "quota.", "desk"), vec![]),
    ];
    for ((client, action, object), expected) in filters {
        let [client, action, object] = [client, action, object].map(str::to_owned);
        let filter = Some(AuditFilter { client, action, object });
        let found = numbers(AuditListRequest { filter: filter.clone(), page_size: 1, ..asked.clone() }).await;
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn an_admin_reads_them_and_nobody_else_and_what_can_not_be_is_refused() {
    let roles = ["reader", "operator", "admin"];
    let (sections, tokens): (Vec<String>, Vec<_>) = roles.map(|role| client(role, role)).into_iter().unzip();
    let desk = Desk::open_with(&sections.concat()).await;
    let mut refused = 0;
    for token in &tokens[..2] {
        let mut audit = AuditClient::new(desk.connect_as(token).await);
        let listed = audit.list(AuditListRequest::default()).await.map(drop);
        let watched = audit.watch(AuditWatchRequest::default()).await.map(drop);
        for status in [listed.unwrap_err(), watched.unwrap_err()] {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert!(status.message().starts_with("role admin is needed"), "{status}");
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    let nobody = audit(&desk).list(AuditListRequest::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let mut audit: AuditClient<Connection> = AuditClient::new(desk.connect_as(&tokens[2]).await);
    assert!(audit.list(AuditListRequest::default()).await.unwrap().into_inner().records.is_empty());
    let asked = AuditListRequest::default();
    for bad in [
        AuditListRequest { page_size: 1_001, ..asked.clone() },
        AuditListRequest { page_size: u32::MAX, ..asked.clone() },
        AuditListRequest { page_token: "-1".to_owned(), ..asked.clone() },
        AuditListRequest { page_token: "x".repeat(100_000), ..asked.clone() },
        AuditListRequest { page_token: "99999999999999999999".to_owned(), ..asked },
    ] {
        assert_eq!(audit.list(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn of_too_many_records_the_oldest_are_taken_out_and_that_is_recorded() {
    let store = Arc::new(Store::in_memory().unwrap());
    const BEFORE: u64 = 2_499;
    for number in 1..=BEFORE {
        let record = AuditRecord { object: number.to_string(), ..AuditRecord::default() };
        assert_eq!(store.change(&Changes::default(), &record).unwrap(), number);
    }
    let desk = Desk::open_on(store, "[store]\naudit_records_max = 1500\n").await;
    let page = AuditListRequest { page_size: 1_000, ..AuditListRequest::default() };
    let all = list(&desk, &page).await;
    assert_eq!(all.len() as u64, BEFORE, "there are too many, but few of them");
    set_quota(&desk, "rob", 600).await;
    let mut watched =
        audit(&desk).watch(AuditWatchRequest { filter: None, from: BEFORE + 1 }).await.unwrap().into_inner();
    assert_eq!(next(&mut watched).await.action, "quota.set");
    let pruned = next(&mut watched).await;
    let told = (pruned.client.as_str(), pruned.action.as_str(), pruned.object.as_str());
    assert_eq!(told, ("retention", "audit.prune", "1 to 1000"));
    assert_eq!((pruned.number, pruned.node.as_str()), (BEFORE + 2, "test"));
    let counted = "tickplane_audit_records_pruned_total{} 1000";
    let started = std::time::Instant::now();
    while !desk.metrics_page().await.lines().any(|line| line == counted) {
        assert!(started.elapsed() < PATIENCE, "they are taken out, and counted");
    }
    let left = list(&desk, &page).await;
    assert_eq!(left[..1_499], all[1_000..], "nothing else is changed");
    let numbers: Vec<u64> = left.iter().map(|record| record.number).collect();
    assert_eq!(numbers, (1_001..=BEFORE + 2).collect::<Vec<_>>());
    // What is gone is not waited for.
    let mut first =
        audit(&desk).watch(AuditWatchRequest { filter: None, from: 1 }).await.unwrap().into_inner();
    assert_eq!(next(&mut first).await, all[1_000]);
}

async fn next(stream: &mut Streaming<AuditRecord>) -> AuditRecord {
    let record = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a record in time");
    record.expect("no error").expect("not the end")
}

#[tokio::test]
async fn a_watch_tells_what_there_is_then_what_comes_and_a_slow_one_lacks_nothing() {
    let desk = Desk::open().await;
    change_this_and_that(&desk).await;
    let filter = Some(AuditFilter { action: "quota.".to_owned(), ..AuditFilter::default() });
    let watch = |from, filter: &Option<AuditFilter>| AuditWatchRequest { filter: filter.clone(), from };
    let mut all = audit(&desk).watch(watch(1, &None)).await.unwrap().into_inner();
    let mut quotas = audit(&desk).watch(watch(1, &filter)).await.unwrap().into_inner();
    let mut live = audit(&desk).watch(watch(0, &None)).await.unwrap().into_inner();
    let fourth = audit(&desk).watch(watch(u64::MAX, &None)).await.unwrap_err();
    assert_eq!(fourth.code(), Code::ResourceExhausted, "three streams may be open");
    for expected in THIS_AND_THAT {
        assert_eq!(told(&[next(&mut all).await]), [expected]);
    }
    assert_eq!([next(&mut quotas).await.number, next(&mut quotas).await.number], [2, 4]);
    // None of them reads meanwhile, and what comes is more than a connection holds.
    let long = "n".repeat(64);
    const MORE: u64 = 600;
    for number in 1..=MORE {
        set_quota(&desk, &long, number).await;
    }
    for stream in [&mut all, &mut quotas, &mut live] {
        for number in 1..=MORE {
            let record = next(stream).await;
            assert_eq!((record.number, record.object.as_str()), (5 + number, long.as_str()));
            assert!(record.now.starts_with(&format!("requests_per_min {number},")), "{record:?}");
        }
    }
    // The largest page, and the places of those who have gone half-way are free again.
    assert_eq!(
        list(&desk, &AuditListRequest { page_size: 1_000, ..AuditListRequest::default() }).await.len(),
        605
    );
    drop((all, quotas, live));
    let started = std::time::Instant::now();
    while desk.node.delivery.subscriptions.load(Ordering::Relaxed) != 0 {
        assert!(started.elapsed() < PATIENCE, "their places are given back");
        tokio::task::yield_now().await;
    }
    let mut last = audit(&desk).watch(watch(605, &None)).await.unwrap().into_inner();
    assert_eq!(next(&mut last).await.number, 605);
    desk.stopping.send_replace(true);
    let end = tokio::time::timeout(PATIENCE, last.message()).await.expect("an end").unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "the node ends");
}

#[tokio::test]
async fn what_was_made_and_recorded_is_there_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || Desk::open_on(Arc::new(Store::open(folder.path()).unwrap()), "").await;
    let desk = open().await;
    change_this_and_that(&desk).await;
    set_quota(&desk, "bob", 7).await;
    let before = list(&desk, &AuditListRequest::default()).await;
    assert_eq!(before.len(), 6);
    desk.close().await;
    let desk = open().await;
    assert_eq!(list(&desk, &AuditListRequest::default()).await, before);
    let bob = desk.node.quotas.find("bob").expect("it has not called, and has limits of its own");
    let used = bob.usage(desk.node.now_ns());
    assert_eq!((used.is_own, used.limits.requests_per_min, used.requests.total), (true, Some(7), 0));
    assert!(desk.node.quotas.find("rob").is_none(), "its limits were taken back");
    set_quota(&desk, "bob", 8).await;
    let mut watched =
        audit(&desk).watch(AuditWatchRequest { filter: None, from: 6 }).await.unwrap().into_inner();
    assert_eq!([next(&mut watched).await.number, next(&mut watched).await.number], [6, 7]);
}

#[tokio::test]
async fn orders_to_the_group_are_recorded_with_what_became_of_them() {
    let desk = Desk::open().await;
    let mut cluster = ClusterClient::new(desk.channel.clone());
    let refused = [
        cluster.promote(PromoteRequest { force: true }).await.unwrap_err(),
        cluster.hand_over(HandOverRequest { to: "b".to_owned() }).await.unwrap_err(),
        cluster.add_peer(AddPeerRequest { name: "c".to_owned(), address: String::new() }).await.unwrap_err(),
    ];
    let records = list(&desk, &AuditListRequest::default()).await;
    let expected =
        [(1, "cluster.promote", "test"), (2, "cluster.hand_over", "b"), (3, "cluster.add_peer", "c")];
    assert_eq!(told(&records), expected);
    for (record, status) in records.iter().zip(&refused) {
        assert!(!record.refused.is_empty() && record.now.is_empty());
        assert_eq!(record.refused, status.message());
    }
}
