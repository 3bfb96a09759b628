//! An objective that can't be met, and one that can't be missed, of a node that is fed.

use super::process::wait_for;
use super::rig::Rig;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const OBJECTIVES: &str = r#"
[[objectives]]
name = "never"
stage = "exchange_to_received"
feed = "feed"
quantile = 0.01
limit_us = 1
over_s = 5

[[objectives]]
name = "always"
stage = "received_to_published"
quantile = 0.99
limit_us = 60000000
over_s = 60

[[objectives]]
name = "nobody"
stage = "published_to_delivered"
quantile = 0.99
limit_us = 1
over_s = 60
"#;

#[test]
fn an_objective_that_is_missed_is_told_by_status_health_and_metrics() {
    let rig = Rig::start(1, "idle = \"park\"", OBJECTIVES);
    let exchange = rig.exchange(true, &[]);
    let states = || {
        let status = rig.json(&["status"]);
        let objectives = status["objectives"].as_array().unwrap().iter();
        objectives.map(|objective| objective["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("both are judged", || (states() == ["missed", "met", "idle"]).then_some(()));
    let never = rig.json(&["status"])["objectives"][0].clone();
    assert!(never["count"].as_u64() > Some(0) && never["value_ns"].as_u64() > Some(1_000), "{never}");
    assert!(never["since_ns"].as_u64() > Some(0), "{never}");
    let page = rig.page();
    for line in [
        "tickplane_objective_missed{objective=\"never\"} 1.0",
        "tickplane_objective_missed{objective=\"always\"} 0.0",
        "tickplane_objective_limit_seconds{objective=\"always\"} 60.0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in {page}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let health = |name: &str| {
        let request = HealthCheckRequest { service: format!("tickplane.objective/{name}") };
        runtime.block_on(async {
            let channel = Channel::from_shared(rig.grpc.clone()).unwrap().connect().await.unwrap();
            HealthClient::new(channel).check(request).await.map(|answer| answer.into_inner().status())
        })
    };
    let serving = |name: &str| health(name).unwrap_or(ServingStatus::ServiceUnknown);
    let is_unknown = |name: &str| health(name).is_err_and(|status| status.code() == Code::NotFound);
    assert_eq!((serving("never"), serving("always")), (ServingStatus::NotServing, ServingStatus::Serving));
    // They change while the node runs: one is another one, of another name.
    rig.reload("name = \"always\"", "name = \"ever\"");
    wait_for("the other one is judged, and the first as it was", || {
        let names = rig.json(&["status"])["objectives"].clone();
        (names[1]["name"] == "ever" && states() == ["missed", "met", "idle"]).then_some(())
    });
    wait_for("health knows it", || (serving("ever") == ServingStatus::Serving).then_some(()));
    wait_for("and the one that is gone no more", || is_unknown("always").then_some(()));
    drop(exchange);
    wait_for("what came is out of its seconds", || (states()[0] == "idle").then_some(()));
    wait_for("health follows", || (serving("never") == ServingStatus::Serving).then_some(()));
}
