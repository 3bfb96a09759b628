//! What was acknowledged is there after the node was killed, and nothing is half there.

use super::clients::{create, one};
use super::rig::{Rig, clients, records};
use control::client::{Connection, ServerArgs};
use control::proto::clients_client::ClientsClient;
use control::proto::subscriptions_client::SubscriptionsClient;
use control::proto::{
    AuditRecord, ClientRole, CreateSubscriptionRequest, KeptClient, ListClientsRequest,
    ListSubscriptionsRequest, ManagedSubscription, SubscriptionPlan, SubscriptionRequest,
    UpdateClientRequest, UpdateSubscriptionRequest, WhoAmIRequest,
};
use control::store::{Object, Store};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Acknowledged changes after which the node is killed.
const BURST: usize = 60;
const ROUNDS: usize = 6;

/// The objects of a kind that the records tell of, and the revision of each.
fn replay(records: &[AuditRecord], kind: &str) -> BTreeMap<String, u64> {
    let mut objects = BTreeMap::new();
    for AuditRecord { action, object, now, .. } in records {
        let Some(action) = action.strip_prefix(kind) else { continue };
        match action {
            ".create" => assert_eq!(objects.insert(object.clone(), 1), None),
            ".delete" => assert!(objects.remove(object).is_some() && now.is_empty()),
            _ => *objects.get_mut(object).unwrap() += 1,
        }
    }
    objects
}

pub fn replay_clients(records: &[AuditRecord]) -> BTreeMap<String, u64> {
    replay(records, "client")
}

/// The clients that the store has, and the revision of each.
pub fn stored_clients(store: &Store) -> BTreeMap<String, u64> {
    let kept: Vec<(String, KeptClient)> = store.all(Object::Client).unwrap();
    let revision = |(name, kept): (String, KeptClient)| {
        let client = kept.client.unwrap();
        assert_eq!((client.name, kept.token_sha256.len()), (name.clone(), 64));
        (name, client.revision)
    };
    kept.into_iter().map(revision).collect()
}

/// A change that was acknowledged: action, object, and the token that was made.
type Acknowledged = (&'static str, String, String);

struct Operator {
    told: mpsc::UnboundedSender<Acknowledged>,
}

impl Operator {
    fn told<T>(
        &self,
        action: &'static str,
        name: &str,
        token: &str,
        answer: Result<T, Status>,
    ) -> Result<(), Status> {
        answer?;
        self.told.send((action, name.to_owned(), token.to_owned())).unwrap();
        Ok(())
    }

    /// Makes and changes clients until the node does not answer any more.
    async fn change_clients(
        &self,
        prefix: String,
        mut clients: ClientsClient<Connection>,
    ) -> Result<(), Status> {
        for number in 0.. {
            let name = format!("{prefix}.{number}");
            let made = clients.create(create(&name, ClientRole::Reader)).await?.into_inner();
            self.told("client.create", &name, &made.token, Ok(()))?;
            let to = UpdateClientRequest { name: name.clone(), role: 2, revision: 1, ..Default::default() };
            self.told("client.update", &name, "", clients.update(to).await)?;
            let renewed = clients.renew_token(one(&name)).await?.into_inner();
            self.told("client.renew_token", &name, &renewed.token, Ok(()))?;
            if number % 3 == 0 {
                self.told("client.delete", &name, "", clients.delete(one(&name)).await)?;
            }
        }
        Ok(())
    }

    /// The same with subscriptions.
    async fn change_subscriptions(&self, prefix: String, connection: Connection) -> Result<(), Status> {
        let mut subscriptions = SubscriptionsClient::new(connection);
        for number in 0.. {
            let id = format!("{prefix}.{number}");
            let one = || SubscriptionRequest { id: id.clone() };
            let made = CreateSubscriptionRequest { id: id.clone(), ..Default::default() };
            self.told("subscription.create", &id, "", subscriptions.create(made).await)?;
            let plan = Some(SubscriptionPlan { patterns: vec!["A*".to_owned()], ..Default::default() });
            let to = UpdateSubscriptionRequest { id: id.clone(), plan, revision: 1 };
            self.told("subscription.update", &id, "", subscriptions.update(to).await)?;
            self.told("subscription.pause", &id, "", subscriptions.pause(one()).await)?;
            if number % 3 == 0 {
                self.told("subscription.delete", &id, "", subscriptions.delete(one()).await)?;
            }
        }
        Ok(())
    }
}

/// Kills the node in the midst of a burst of changes over several connections, and returns those that were acknowledged.
async fn burst(rig: &mut Rig, round: usize) -> Vec<Acknowledged> {
    let (told, mut heard) = mpsc::unbounded_channel();
    let admin: ServerArgs = rig.certificate("ann.example");
    let mut operators = JoinSet::new();
    for number in 0..5 {
        let (operator, prefix) = (Operator { told: told.clone() }, format!("r{round}.{number}"));
        let connection = admin.connect().await.unwrap();
        operators.spawn(async move {
            match number % 2 {
                0 => operator.change_clients(prefix, ClientsClient::new(connection)).await,
                _ => operator.change_subscriptions(prefix, connection).await,
            }
        });
    }
    drop(told);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < BURST {
        acknowledged.push(heard.recv().await.expect("nobody ends before the node"));
    }
    rig.kill();
    // What came before the end was acknowledged, too.
    while let Some(one) = heard.recv().await {
        acknowledged.push(one);
    }
    while let Some(ended) = operators.join_next().await {
        let code = ended.unwrap().expect_err("each was in the midst of a change").code();
        assert!(
            matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal),
            "{code:?}"
        );
    }
    acknowledged
}

/// By object, in order.
fn by_object<'a>(actions: impl Iterator<Item = (&'a str, &'a String)>) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for (action, object) in actions {
        all.entry(object.clone()).or_default().push(action.to_owned());
    }
    all
}

#[tokio::test]
async fn after_kill_9_each_acknowledged_change_is_there_with_its_record_and_no_half_one() {
    let mut rig = Rig::start();
    let mut acknowledged = Vec::new();
    let (mut looked_at, mut tokens) = ((0, 0), 0);
    for round in 0..ROUNDS {
        acknowledged.extend(burst(&mut rig, round).await);
        let store = rig.store();
        let records = records(&store);
        // Each has its record; beyond them there is at most the one that each operator waited for.
        let recorded = by_object(records.iter().map(|record| (record.action.as_str(), &record.object)));
        let told = by_object(acknowledged.iter().map(|(action, name, _)| (*action, name)));
        for (object, actions) in &told {
            let found = recorded.get(object).map_or(&[][..], Vec::as_slice);
            assert!(found.starts_with(actions), "{object}: {actions:?} were told, {found:?} are recorded");
            assert!(found.len() <= actions.len() + 1, "{object}: {found:?}");
        }
        assert!(records.len() <= acknowledged.len() + 5 * (round + 1));
        assert!(records.iter().all(|record| record.client == "ann" && record.at_ns > 0));
        // And what is there is what the records tell, all of it.
        assert_eq!(replay_clients(&records), stored_clients(&store));
        let kept: Vec<(String, ManagedSubscription)> = store.all(Object::Subscription).unwrap();
        let kept: BTreeMap<String, u64> = kept.into_iter().map(|(id, one)| (id, one.revision)).collect();
        assert_eq!(replay(&records, "subscription"), kept);
        looked_at = (kept.len(), stored_clients(&store).len());
        drop(store);
        rig.restart(&rig.text());
        let mut admin = rig.admin().await;
        let shown = admin.list(ListClientsRequest { page_size: 10_000, ..Default::default() }).await;
        let shown = shown.unwrap().into_inner().clients;
        let made = shown.into_iter().filter(|client| client.revision > 0);
        let shown: BTreeMap<String, u64> = made.map(|client| (client.name, client.revision)).collect();
        assert_eq!(shown, replay_clients(&records));
        let connection = rig.certificate("ann.example").connect().await.unwrap();
        let listed = SubscriptionsClient::new(connection).list(ListSubscriptionsRequest::default()).await;
        let listed = listed.unwrap().into_inner().subscriptions;
        let listed: BTreeMap<String, u64> = listed.into_iter().map(|one| (one.id, one.revision)).collect();
        assert_eq!(listed, kept);
        // The last tokens that were told are those that hold, unless a change was on its way.
        let enough = tokens + 10;
        for (action, name, token) in acknowledged.iter().rev() {
            let is_last = *action == "client.renew_token" && recorded[name].len() == told[name].len();
            if !is_last || !shown.contains_key(name) || tokens == enough {
                continue;
            }
            let who = clients(rig.bearer(token)).await.who_am_i(WhoAmIRequest {}).await.unwrap();
            assert_eq!(&who.into_inner().name, name);
            tokens += 1;
        }
    }
    // In one round alone one kind may be slow; in all of them there was something to look at.
    assert!(looked_at.0 > 5 && looked_at.1 > 5 && tokens > 10, "{looked_at:?} {tokens}");
}
