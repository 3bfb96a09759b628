//! Several who do something at once, on several threads.

use super::desk::{Desk, PATIENCE, client};
use control::access::{Caller, Token};
use control::proto::market_data_server::MarketData as _;
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::{
    CreateSubscriptionRequest, DeliveryMode, ListSubscriptionsRequest, ManagedSubscription, SubscribeRequest,
    SubscriptionPlan, SubscriptionRequest, UpdateSubscriptionRequest,
};
use control::service::market_data::MarketData;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio_stream::Stream;
use tonic::{Code, Request};

const READERS: usize = 3;
const LIVES: usize = 20;
/// All want these few.
const IDS: [&str; 2] = ["x", "y"];

fn plan(pattern: &str) -> Option<SubscriptionPlan> {
    Some(SubscriptionPlan { patterns: vec![pattern.to_owned()], ..SubscriptionPlan::default() })
}

/// Has so many subscriptions, one after the other, each of an id that nobody else has at the time.
async fn live(desk: Arc<Desk>, name: String, token: Token) {
    let client = SubscriptionsClient::new(desk.connect_as(&token).await);
    let (mut lives, mut tries) = (0, 0);
    while lives < LIVES {
        let (mut client, id) = (client.clone(), IDS[tries % IDS.len()].to_owned());
        tries += 1;
        let create = CreateSubscriptionRequest {
            id: id.clone(),
            plan: plan("A*"),
            ..CreateSubscriptionRequest::default()
        };
        match client.create(create).await {
            Ok(made) => assert_eq!((made.get_ref().revision, &made.get_ref().client), (1, &name)),
            Err(status) => {
                assert_eq!(status.code(), Code::AlreadyExists, "{status}");
                continue;
            }
        }
        lives += 1;
        let update = UpdateSubscriptionRequest { id: id.clone(), plan: plan("B*"), revision: 1 };
        assert_eq!(client.update(update).await.unwrap().get_ref().revision, 2);
        let one = || Request::new(SubscriptionRequest { id: id.clone() });
        assert_eq!(client.pause(one()).await.unwrap().get_ref().revision, 3);
        // Whichever comes second finds none, or another's.
        let mut again = client.clone();
        let (first, second) = tokio::join!(client.delete(one()), again.delete(one()));
        let refused: Vec<Code> =
            [&first, &second].iter().filter_map(|it| it.as_ref().err()).map(|it| it.code()).collect();
        assert!(matches!(refused[..], [Code::NotFound | Code::PermissionDenied]), "{first:?}, {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_changed_at_once_stays_its_own_client_s_and_is_told_in_order() {
    let (of_ann, ann) = client("ann", "admin");
    let readers: Vec<_> = (0..READERS).map(|number| client(&format!("r{number}"), "reader")).collect();
    let sections: String = readers.iter().map(|(section, _)| section.as_str()).collect();
    let desk = Arc::new(Desk::open_with(&format!("{of_ann}{sections}")).await);
    let mut watching = SubscriptionsClient::new(desk.connect_as(&ann).await);
    let mut events = watching.watch(ListSubscriptionsRequest::default()).await.unwrap().into_inner();
    let living: Vec<_> = (0..)
        .zip(readers)
        .map(|(number, (_, token))| tokio::spawn(live(desk.clone(), format!("r{number}"), token)))
        .collect();
    let (mut known, mut ended) = (BTreeMap::<String, ManagedSubscription>::new(), 0);
    while ended < READERS * LIVES {
        let event =
            tokio::time::timeout(PATIENCE, events.message()).await.expect("something within its time");
        let event = event.unwrap().expect("not the end");
        let now = event.subscription.unwrap();
        let before = known.insert(now.id.clone(), now.clone());
        assert_eq!(
            now.revision,
            before.as_ref().map_or(1, |before| before.revision + 1),
            "{before:?}, {now:?}"
        );
        assert!(before.is_none_or(|before| before.client == now.client), "{now:?}");
        if event.deleted {
            known.remove(&now.id);
            ended += 1;
        }
    }
    for one in living {
        one.await.unwrap();
    }
    assert!(known.is_empty() && desk.node.subscriptions.all().is_empty());
}

#[tokio::test]
async fn who_is_always_told_something_lets_others_have_their_turn() {
    let mut desk = Desk::open().await;
    let instrument = desk.define("AAPL");
    let clients = desk.node.access.clients();
    let caller = Caller::new(clients.anonymous().unwrap(), None).unwrap();
    let mut request = Request::new(SubscribeRequest {
        patterns: vec!["*".to_owned()],
        mode: DeliveryMode::EveryTick.into(),
        ..SubscribeRequest::default()
    });
    request.extensions_mut().insert(caller);
    let mut stream = MarketData::new(desk.node.clone()).subscribe(request).await.unwrap().into_inner();
    let mut told = 0;
    poll_fn(|context| {
        loop {
            desk.quote(instrument, told + 1);
            desk.commit();
            match Pin::new(&mut stream).poll_next(context) {
                Poll::Ready(response) => assert!(response.unwrap().is_ok()),
                Poll::Pending => return Poll::Ready(()),
            }
            told += 1;
            assert!(told < 1_000, "it goes on and on");
        }
    })
    .await;
    assert!(told > 1);
}
