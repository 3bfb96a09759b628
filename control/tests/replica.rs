//! A primary and its standbys as processes: fed by an exchange, compared with it and with each other, killed, and started
//! again.

#[path = "../../drivers/tests/authority/mod.rs"]
mod authority;
mod group;
mod process;

use dataplane::cache::reader::Reader;
use dataplane::cache::tick::Kind;
use drivers::region::RegionMapping;
use group::{LOG_TICKS, Node, Rig, compare, copy_of, fail_over, live_of, peer, roles};
use process::{Process, tickplane, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn standbys_hold_what_the_primary_and_the_exchange_hold_also_after_a_restart() {
    let rig = Rig::new(0);
    let mut primary = rig.primary("127.0.0.1:0");
    let mut early = rig.standby("early", primary.replica());
    early.wait_cluster("the first standby is level", |seen| seen["level"] == true);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    early.wait_cluster("ticks come", |seen| seen["source"]["counters"]["ticks"].as_u64() > Some(2_000));
    // In the middle of the flow: one joins, one dies and comes again.
    let late = rig.standby("late", primary.replica());
    early.kill();
    let early = rig.standby("early", primary.replica());
    for (name, node) in [("primary", &primary), ("early", &early), ("late", &late)] {
        wait_for(&format!("{name} is the exchange's book"), || node.is_right(&dump).then_some(()));
    }
    for standby in [&early, &late] {
        let (rows, ticks) = wait_for("the regions are the same", || compare(&primary, standby));
        assert!(rows >= 50 * (Kind::ROWS - 4) && ticks > 1_000, "{rows} rows, {ticks} ticks");
    }

    let seen = primary.wait_cluster("both are level", |seen| {
        let peers = seen["peers"].as_array().map_or(&[][..], Vec::as_slice);
        let is_good =
            |peer: &&Value| peer["connected"] == true && peer["level"] == true && peer["lag_ticks"] == 0;
        peers.iter().filter(is_good).count() == 2
    });
    assert_eq!(
        (&seen["role"], &seen["term"], &seen["later_term"]),
        (&"primary".into(), &1.into(), &0.into())
    );
    let sum = |name: &str| -> u64 {
        let peers = seen["peers"].as_array().unwrap();
        peers.iter().map(|peer| peer["counters"][name].as_u64().unwrap()).sum()
    };
    let measured = |peer: &Value| peer["published_to_acknowledged"]["count"].as_u64() > Some(0);
    assert_eq!(seen["peers"].as_array().unwrap().iter().filter(|peer| measured(peer)).count(), 2, "{seen}");
    assert!(sum("bytes") > sum("ticks") * 64, "{seen}");
    let lag_ns = early.cluster()["source"]["lag_ns"].as_u64();
    assert!(lag_ns > Some(0), "{lag_ns:?}");
    assert!(seen["peers"][0]["headroom_ticks"].as_u64() > Some(LOG_TICKS / 2), "{seen}");
    assert_eq!((sum("connections"), sum("images"), sum("refused")), (3, 3, 0), "{seen}");
    assert!(sum("rows") > 0 && sum("ticks") > 2_000, "{seen}");
    let seen = early.cluster();
    assert_eq!((&seen["role"], &seen["term"]), (&"standby".into(), &1.into()));
    let status: Value = serde_json::from_slice(&early.client(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&status["role"], &status["term"]), (&"standby".into(), &1.into()));
    let text = String::from_utf8(primary.client(&["cluster"]).stdout).unwrap();
    assert!(
        text.contains("primary, term 1: 2 standbys") && text.contains("level, 0 updates behind"),
        "{text}"
    );
    let latency: Value =
        serde_json::from_slice(&primary.client(&["latency", "--json", "--peer", "late"]).stdout).unwrap();
    let latencies = latency["latencies"].as_array().unwrap();
    assert_eq!((latencies.len(), &latencies[0]["peer"]), (1, &"late".into()), "{latency}");
    assert!(latencies[0]["count"].as_u64() > Some(0), "{latency}");
    let (metrics, of_standby) = (primary.metrics(), early.metrics());
    assert!(metrics.contains("tickplane_replica_peer_level{peer=\"late\"} 1.0"), "{metrics}");
    let measured = "tickplane_replica_peer_acknowledged_seconds_bucket{le=\"+Inf\",peer=\"late\"}";
    assert!(metrics.contains(measured) && !metrics.contains(&format!("{measured} 0")), "{metrics}");
    assert!(of_standby.contains("tickplane_replica_role{} 3.0"), "{of_standby}");
    assert!(primary.signal(rustix::process::Signal::TERM).success());
    for mut standby in [early, late] {
        assert!(standby.signal(rustix::process::Signal::TERM).success());
        assert!(!standby.region.exists(), "its name is gone");
    }
}

#[test]
fn a_primary_that_dies_is_believed_no_more_and_begins_a_new_term() {
    let rig = Rig::new(1);
    let mut primary = rig.primary("127.0.0.1:0");
    let standbys = ["one", "two"].map(|name| rig.standby(name, primary.replica()));
    let (dump, second_dump) = (rig.dump("first.jsonl"), rig.dump("second.jsonl"));
    let exchange = rig.exchange("ONE", &dump);
    let watched = rig.dump("watched.jsonl");
    for standby in &standbys {
        wait_for("the standby is the exchange's book", || standby.is_right(&dump).then_some(()));
    }
    let mut watch = tickplane();
    watch.args(["watch", "--json", "*", "--server", &standbys[0].server]).stderr(Stdio::null());
    let _watch = Process(watch.stdout(File::create(&watched).unwrap()).spawn().unwrap());
    wait_for("the image is watched", || (std::fs::metadata(&watched).unwrap().len() > 0).then_some(()));
    let mappings = standbys.each_ref().map(|standby| RegionMapping::open(&standby.region).unwrap());
    let readers = mappings.each_ref().map(|mapping| Reader::open(mapping.cells()).unwrap());
    for reader in &readers {
        wait_for("every row is live", || (live_of(reader) == (50, 50)).then_some(()));
    }
    let listen = primary.replica().to_owned();
    primary.kill();
    for reader in &readers {
        wait_for("every row is stale", || (live_of(reader) == (0, 50)).then_some(()));
    }
    let seen = standbys[0].wait_cluster("the loss is told", |seen| seen["source"]["connected"] == false);
    assert!(seen["valid_for_ns"].as_i64() <= Some(0) && seen["source"]["error"] != "", "{seen}");
    assert_eq!(live_of(&readers[0]), (0, 50), "nothing makes them live again");
    let generation = readers[0].generation();

    drop(exchange);
    let primary = rig.primary(&listen);
    for standby in &standbys {
        standby.wait_cluster("the standby is level in the new term", |seen| {
            seen["term"] == 2 && seen["level"] == true && seen["source"]["connected"] == true
        });
    }
    assert_ne!(readers[0].generation(), generation);
    let _exchange = rig.exchange("TWO", &second_dump);
    for node in standbys.iter().chain([&primary]) {
        wait_for("the node is the second book", || node.is_right(&second_dump).then_some(()));
    }
    for standby in &standbys {
        assert!(wait_for("the regions are the same", || compare(&primary, standby)).0 >= 100);
        let images = standby.cluster()["source"]["counters"]["images"].as_u64();
        assert!(images >= Some(2), "{images:?}");
    }
    wait_for("the subscriber is told that all began anew, and what there is now", || {
        let lines = std::fs::read_to_string(&watched).unwrap();
        let (before, after) = lines.split_once("{\"lapped\":true,\"image\":true}\n")?;
        let is_told = before.contains("\"writer_alive\":false") && after.contains("\"session\":\"TWO\"");
        is_told.then_some(())
    });
}

#[test]
fn a_standby_of_other_sizes_is_refused_and_both_say_why() {
    let rig = Rig::new(2);
    let primary = rig.primary("127.0.0.1:0");
    let other = rig.start("other", LOG_TICKS / 2, &copy_of(primary.replica()));
    let says = |error: &Value| error.as_str().is_some_and(|error| error.contains("same [region] sizes"));
    let seen = primary.wait_cluster("the primary says why", |seen| says(&peer(seen, "other")["error"]));
    assert_eq!(peer(&seen, "other")["connected"], false);
    assert!(peer(&seen, "other")["counters"]["refused"].as_u64() > Some(0), "{seen}");
    let seen = other.wait_cluster("the standby says why", |seen| says(&seen["source"]["error"]));
    assert_eq!((&seen["level"], &seen["source"]["connected"]), (&false.into(), &false.into()));
    let text = String::from_utf8(other.client(&["cluster"]).stdout).unwrap();
    assert!(text.contains("NOT CONNECTED, NOT LEVEL") && text.contains("same [region] sizes"), "{text}");
    let mut stranger = TcpStream::connect(primary.replica()).unwrap();
    stranger.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(10)).unwrap();
    assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)), "a stranger is sent away");
    primary.wait_cluster("and counted", |seen| seen["counters"]["strangers"] == 1);
    let unknown = rig.standby("unknown", primary.replica());
    unknown.wait_cluster("a node that is none of the peers is told so", |seen| {
        seen["source"]["error"].as_str().is_some_and(|error| error.contains("not among the primary's peers"))
    });
    // One of the right sizes is taken beside it.
    let good = rig.standby("good", primary.replica());
    good.wait_cluster("it is level", |seen| seen["level"] == true && seen["source"]["connected"] == true);
}

#[test]
fn a_primary_takes_so_many_standbys_and_no_more_and_the_silent_ones_not_for_long() {
    let rig = Rig::new(3);
    let primary = rig.primary("127.0.0.1:0");
    let _silent: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(primary.replica()).unwrap()).collect();
    primary.wait_cluster("two are turned away", |seen| seen["counters"]["turned_away"] == 2);
    let standby = rig.standby("late", primary.replica());
    standby
        .wait_cluster("it is turned away", |seen| seen["source"]["counters"]["failures"].as_u64() > Some(0));
    standby.wait_cluster("there is room for it", |seen| {
        seen["level"] == true && seen["source"]["connected"] == true
    });
    primary
        .wait_cluster("the silent ones are gone", |seen| seen["counters"]["strangers"].as_u64() >= Some(8));
}

#[test]
fn a_primary_hands_over_and_back_while_ticks_flow_and_nobody_needs_an_image() {
    let rig = Rig::new(4);
    let nodes = rig.group(&["a", "b", "c"]);
    let [a, b, c] = &nodes[..] else { unreachable!("three were asked for") };
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    c.wait_cluster("ticks come", |seen| seen["source"]["counters"]["ticks"].as_u64() > Some(1_000));
    assert!(b.refuses(&["handover", "c"]).contains("not the primary"));
    assert!(b.refuses(&["promote"]).contains("the primary a answers"));
    assert!(a.refuses(&["promote"]).contains("the primary already, of term 1"));
    assert!(a.refuses(&["handover", "x"]).contains("no peer `x`"));
    assert!(a.obeys(&["handover", "b"]).contains("b is the primary; term 2"));
    assert_eq!(roles(&nodes), ["standby", "primary", "standby"]);
    b.wait_cluster("both others are level", |seen| {
        ["a", "c"].iter().all(|name| peer(seen, name)["level"] == true)
    });
    assert!(b.obeys(&["handover", "a"]).contains("a is the primary; term 3"));
    a.wait_cluster("both others are level", |seen| {
        ["b", "c"].iter().all(|name| peer(seen, name)["level"] == true)
    });
    // The one that lacks least, whichever that is.
    let third = a.obeys(&["handover"]);
    assert!(third.contains("is the primary; term 4"), "{third}");
    for node in &nodes {
        wait_for("the node is the exchange's book", || node.is_right(&dump).then_some(()));
        let seen = node.cluster();
        assert_eq!(seen["counters"]["gaps"], 0, "{seen}");
    }
    let primary = nodes.iter().find(|node| node.cluster()["role"] == "primary").unwrap();
    for node in nodes.iter().filter(|node| node.name != primary.name) {
        let seen = node.wait_cluster("the node is level", |seen| seen["level"] == true);
        assert!(seen["source"]["counters"]["images"].as_u64() <= Some(1), "{seen}");
        assert!(wait_for("the regions are the same", || compare(primary, node)).0 >= 100);
    }
}

#[test]
fn a_hot_standby_is_promoted_after_the_primary_was_killed_and_goes_on_where_it_was() {
    let rig = Rig::new(5);
    let mut nodes = rig.group(&["a", "b", "c"]);
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    nodes[1].wait_cluster("ticks come", |seen| seen["source"]["counters"]["ticks"].as_u64() > Some(1_000));
    fail_over(&mut nodes, &dump);
    let seen = nodes[1].cluster();
    assert_eq!(
        (&seen["counters"]["promotions"], &seen["counters"]["gaps"]),
        (&1.into(), &0.into()),
        "{seen}"
    );
    // The old one comes back, configured as the primary as it was: it finds that there is one.
    let b = format!("{{ name = \"b\", address = {:?} }}", nodes[1].replica());
    let replica = format!("role = \"primary\"\nlisten = \"127.0.0.1:0\"\nvalid_for_ms = 400\npeers = [{b}]");
    nodes[0] = rig.start("a", LOG_TICKS, &replica);
    let seen = nodes[0].wait_cluster("the old one follows", |seen| {
        seen["level"] == true && seen["source"]["connected"] == true
    });
    assert_eq!((&seen["role"], &seen["term"]), (&"standby".into(), &2.into()));
    // It has not heard the day from its beginning, so it is not who goes on unless that is ordered.
    let peer = |seen: &Value, name: &str| {
        seen["peers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|peer| peer["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    let seen = nodes[1].wait_cluster("both are level, and one is whole", |seen| {
        peer(seen, "a")["level"] == true && peer(seen, "c")["whole"] == true
    });
    assert_eq!(peer(&seen, "a")["whole"], false, "{seen}");
    assert!(nodes[1].obeys(&["handover"]).contains("c is the primary"));
    assert_eq!(nodes[2].cluster()["counters"]["gaps"], 0);
}

#[test]
fn a_primary_that_is_put_aside_steps_down_as_soon_as_it_is_told() {
    let rig = Rig::new(6);
    let nodes = rig.group(&["a", "b"]);
    let [a, b] = &nodes[..] else { unreachable!("two were asked for") };
    b.obeys(&["promote", "--force"]);
    let seen = a.wait_cluster("the old primary is a standby", |seen| {
        seen["role"] == "standby" && seen["level"] == true && seen["source"]["connected"] == true
    });
    assert_eq!((&seen["term"], &seen["counters"]["demotions"]), (&3.into(), &1.into()), "{seen}");
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in &nodes {
        wait_for("the node is the exchange's book", || node.is_right(&dump).then_some(()));
    }
    // A peer that is taken out is sent away, and one that is added comes back.
    b.obeys(&["peer", "remove", "a"]);
    a.wait_cluster("a is sent away", |seen| {
        seen["source"]["error"].as_str().is_some_and(|error| error.contains("not among the primary's peers"))
    });
    assert!(b.refuses(&["peer", "remove", "a"]).contains("no peer `a`"));
    assert!(b.refuses(&["peer", "add", "b", "127.0.0.1:1"]).contains("this node itself"));
    assert!(b.refuses(&["peer", "add", "x", "10.0.0.1:1"]).contains("only loopback"));
    b.obeys(&["peer", "add", "a", a.replica()]);
    a.wait_cluster("a is back", |seen| seen["level"] == true && seen["source"]["connected"] == true);
}

#[test]
fn nodes_with_certificates_replicate_and_those_of_others_are_sent_away() {
    let rig = Rig::new(7);
    let authority = authority::Authority::new();
    let tls = |node: &str| {
        let (certificate, key) = authority.sign(node);
        format!(
            "[replica.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {:?}",
            authority.file("ca.pem")
        )
    };
    let peers = "peers = [{ name = \"good\" }, { name = \"other\" }]";
    let replica = format!("role = \"primary\"\nlisten = \"127.0.0.1:0\"\n{peers}\n{}", tls("primary"));
    let primary = rig.start("primary", LOG_TICKS, &replica);
    let copy = |name: &str, certified: &str| {
        rig.start(name, LOG_TICKS, &format!("{}\n{}", copy_of(primary.replica()), tls(certified)))
    };
    let good = copy("good", "good");
    let dump = rig.dump("book.jsonl");
    let _exchange = rig.exchange("ONE", &dump);
    for node in [&primary, &good] {
        wait_for("the node is the exchange's book", || node.is_right(&dump).then_some(()));
    }
    assert!(wait_for("the regions are the same", || compare(&primary, &good)).0 >= 100);
    let says = |node: &Node, expected: &str| {
        node.wait_cluster(expected, |seen| {
            seen["source"]["error"].as_str().is_some_and(|error| error.contains(expected))
        });
    };
    // One that has another's certificate, and one that has none.
    says(&copy("other", "good"), "not among the primary's peers");
    let plain = rig.standby("other", primary.replica());
    plain.wait_cluster("it is not taken", |seen| seen["source"]["counters"]["failures"].as_u64() > Some(1));
    assert_eq!(plain.cluster()["level"], false);
}
