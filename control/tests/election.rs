//! Elections in a real etcd, which each test starts for itself: who leads, for how long, and what happens when nodes or etcd are
//! stopped, paused, killed, and come back.

mod etcd;
#[path = "election/hand_over.rs"]
mod hand_over;

use control::config::EtcdConfig;
use control::election::{Candidacy, Election, ElectionError, Leader, Leadership, Wishes};
use dataplane::time::{Clock, NS_PER_MS};
use drivers::clock::SystemClock;
use etcd::{Etcd, Process};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);
/// By these a node is made in a process of its own: see `node_in_a_process_of_its_own`.
const ENDPOINT: &str = "TICKPLANE_TEST_ETCD";
const NODE: &str = "TICKPLANE_TEST_NODE";

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

fn config(endpoint: &str, group: &str) -> EtcdConfig {
    EtcdConfig {
        endpoints: vec![endpoint.to_owned()],
        group: group.to_owned(),
        lease_ttl_s: 2,
        advertise: None,
    }
}

fn yes(heard: u64) -> Wishes {
    Wishes { candidacy: Candidacy::Yes, heard }
}

/// What a node said, and when that was seen.
struct Seen {
    node: String,
    leadership: Leadership,
    at_ns: u64,
}

/// Nodes of this process, and what all of them say, in the order in which it was seen.
struct Group {
    endpoint: String,
    name: String,
    nodes: Vec<(String, Election, JoinHandle<()>)>,
    said: mpsc::UnboundedSender<Seen>,
    seen: mpsc::UnboundedReceiver<Seen>,
    runtime: tokio::runtime::Runtime,
}

impl Group {
    fn new(etcd: &Etcd, name: &str) -> Group {
        let (said, seen) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Group { endpoint: etcd.endpoint(), name: name.to_owned(), nodes: Vec::new(), said, seen, runtime }
    }

    fn of(etcd: &Etcd, name: &str, nodes: &[&str]) -> Group {
        let mut group = Group::new(etcd, name);
        nodes.iter().for_each(|node| group.join(node, yes(0)));
        group
    }

    fn join(&mut self, node: &str, wishes: Wishes) {
        self.join_by(&self.endpoint.clone(), node, wishes);
    }

    /// The same for a node that reaches etcd in a way of its own.
    fn join_by(&mut self, endpoint: &str, node: &str, wishes: Wishes) {
        let (election, thread) = Election::start(&config(endpoint, &self.name), node, node).unwrap();
        election.wish(wishes);
        let (mut leadership, said, name) = (election.leadership.clone(), self.said.clone(), node.to_owned());
        self.runtime.spawn(async move {
            loop {
                let known = leadership.borrow_and_update().clone();
                let seen = Seen { node: name.clone(), leadership: known, at_ns: now_ns() };
                if said.send(seen).is_err() || leadership.changed().await.is_err() {
                    return;
                }
            }
        });
        self.nodes.push((node.to_owned(), election, thread));
    }

    /// The next thing said of which `is_it` is true.
    fn wait(&mut self, what: &str, mut is_it: impl FnMut(&Seen) -> bool) -> Seen {
        let Group { runtime, seen, .. } = self;
        let next = async {
            loop {
                let seen = seen.recv().await.expect("the group holds a sender itself");
                if is_it(&seen) {
                    return seen;
                }
            }
        };
        let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, next).await });
        found.unwrap_or_else(|_| panic!("{what} within {PATIENCE:?}"))
    }

    /// The leader of a term later than `after`: its name, its term, until when, and when that was seen.
    fn wait_leader(&mut self, after: u64) -> (String, u64, u64, u64) {
        let later = |leadership: &Leadership| match leadership {
            Leadership::Leader { term, until_ns } if *term > after => Some((*term, *until_ns)),
            _ => None,
        };
        let seen = self.wait("a leader", |seen| later(&seen.leadership).is_some());
        let (term, until_ns) = later(&seen.leadership).unwrap();
        (seen.node, term, until_ns, seen.at_ns)
    }

    /// Lets a node name its successor, and returns what comes of it.
    fn name(&self, node: &str, successor: &str) -> Result<(), ElectionError> {
        let named = self.election(node).hand_over(successor);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, named).await }).unwrap().unwrap()
    }

    /// Who is named to lead a term later than `after`, that term, and when that was seen.
    fn wait_successor(&mut self, after: u64) -> (String, u64, u64) {
        let later = |leadership: &Leadership| match leadership {
            Leadership::Successor { term, .. } if *term > after => Some(*term),
            _ => None,
        };
        let seen = self.wait("a successor", |seen| later(&seen.leadership).is_some());
        (seen.node, later(&seen.leadership).unwrap(), seen.at_ns)
    }

    /// Whether a node says now that it leads that term.
    fn leads(&self, node: &str, term: u64) -> bool {
        matches!(*self.election(node).leadership.borrow(), Leadership::Leader { term: now, .. } if now == term)
    }

    /// Waits until a node says so, or takes it that it does already: what several nodes say comes in any order.
    fn wait_follower(&self, node: &str, leader: Option<(&str, u64)>) {
        let leader =
            leader.map(|(name, term)| Leader { node: name.to_owned(), address: name.to_owned(), term });
        let expected = Leadership::Follower { leader };
        let mut leadership = self.election(node).leadership.clone();
        let says_so = async { leadership.wait_for(|known| *known == expected).await.map(drop) };
        let waited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, says_so).await });
        waited.unwrap_or_else(|_| panic!("{node} says {expected:?} within {PATIENCE:?}")).unwrap();
    }

    fn election(&self, name: &str) -> &Election {
        &self.nodes.iter().find(|(node, ..)| node == name).unwrap().1
    }

    /// Ends a node in order.
    fn stop(&mut self, name: &str) {
        let at = self.nodes.iter().position(|(node, ..)| node == name).unwrap();
        let (_, election, thread) = self.nodes.remove(at);
        drop(election);
        thread.join().unwrap();
    }

    /// How many nodes say now that they lead.
    fn leaders(&self) -> usize {
        let leads = |election: &Election| matches!(*election.leadership.borrow(), Leadership::Leader { .. });
        self.nodes.iter().filter(|(_, election, _)| leads(election)).count()
    }
}

fn report(what: &str, from_ns: u64, to_ns: u64) {
    eprintln!("{what}: {} ms", to_ns.saturating_sub(from_ns) / NS_PER_MS);
}

#[test]
fn one_of_three_leads_and_twenty_terms_grow() {
    let etcd = Etcd::start();
    let started_ns = now_ns();
    let mut group = Group::of(&etcd, "g", &["a", "b", "c"]);
    let mut last = 0;
    for round in 0..20 {
        let (leader, term, until_ns, at_ns) = group.wait_leader(last);
        if round == 0 {
            report("start of etcd and three nodes to a leader", started_ns, at_ns);
        }
        assert!(term > last && at_ns < until_ns, "{term} after {last}, {at_ns} before {until_ns}");
        assert_eq!(group.leaders(), 1);
        last = term;
        group.election(&leader).resign();
    }
    assert_eq!(last, 20, "each leadership took one term");
}

#[test]
fn a_leader_that_stops_is_followed_at_once() {
    let etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a", "b"]);
    let (first, term, ..) = group.wait_leader(0);
    let other = if first == "a" { "b" } else { "a" };
    group.wait_follower(other, Some((&first, term)));
    let stopped_ns = now_ns();
    group.stop(&first);
    let (second, later, _, at_ns) = group.wait_leader(term);
    report("clean stop to the next leader", stopped_ns, at_ns);
    assert_eq!((second.as_str(), later), (other, term + 1));
}

#[test]
fn of_two_that_race_one_leads_each_time() {
    let etcd = Etcd::start();
    for round in 0..50 {
        let mut group = Group::of(&etcd, &format!("race{round}"), &["a", "b"]);
        let (leader, term, ..) = group.wait_leader(0);
        let other = if leader == "a" { "b" } else { "a" };
        group.wait_follower(other, Some((&leader, term)));
        assert_eq!((group.leaders(), term), (1, 1));
    }
}

#[test]
fn terms_begin_above_what_was_heard_of_and_end_with_a_reason() {
    let etcd = Etcd::start();
    let mut group = Group::new(&etcd, "heard");
    group.join("a", yes(1000));
    assert_eq!(group.wait_leader(0).1, 1001);
    let mut group = Group::new(&etcd, "out");
    group.join("a", yes(u64::MAX));
    group.wait("a reason", |seen| {
        assert!(!matches!(seen.leadership, Leadership::Leader { .. }));
        matches!(&seen.leadership, Leadership::Unknown { why } if why.contains("no term is left"))
    });
}

#[test]
fn who_may_not_lead_never_does() {
    let etcd = Etcd::start();
    let mut group = Group::new(&etcd, "g");
    group.join("unfit", Wishes::default());
    group.wait_follower("unfit", None);
    let mut last = 0;
    for fit in ["a", "b", "c"] {
        group.join(fit, yes(0));
        // Were it the unfit one, this would say so.
        let (leader, term, ..) = group.wait_leader(last);
        assert_eq!(leader, fit);
        group.wait_follower("unfit", Some((fit, term)));
        last = term;
        group.stop(fit);
        group.wait_follower("unfit", None);
    }
    assert_eq!(group.leaders(), 0);
}

#[test]
fn a_leader_without_etcd_leads_to_its_deadline_and_goes_on_when_etcd_is_back() {
    let mut etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a"]);
    let mut last = 0;
    for is_killed in [false, true] {
        let (_, term, mut until_ns, _) = group.wait_leader(last);
        etcd.process.signal(if is_killed { Signal::KILL } else { Signal::STOP });
        let lost = group.wait("etcd is missed", |seen| {
            if let Leadership::Leader { until_ns: later_ns, .. } = seen.leadership {
                until_ns = later_ns;
            }
            matches!(seen.leadership, Leadership::Unknown { .. })
        });
        assert!(lost.at_ns >= until_ns, "it was the leader until its deadline");
        report("deadline to unknown", until_ns, lost.at_ns);
        let Leadership::Unknown { why } = lost.leadership else { unreachable!() };
        assert!(!why.is_empty());
        if is_killed {
            etcd.restart();
        } else {
            etcd.process.signal(Signal::CONT);
        }
        last = term;
    }
    assert!(group.wait_leader(last).1 > last);
}

#[test]
fn a_leader_whose_key_is_taken_away_stands_again() {
    let etcd = Etcd::start();
    let mut group = Group::of(&etcd, "g", &["a", "b"]);
    let (leader, term, ..) = group.wait_leader(0);
    let mut client = group
        .runtime
        .block_on(async { etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap() });
    let deleted = group.runtime.block_on(async { client.delete("tickplane/g/leader", None).await.unwrap() });
    assert_eq!(deleted.deleted(), 1);
    group.wait("it leads no more", |seen| {
        seen.node == leader
            && matches!(seen.leadership, Leadership::Unknown { .. } | Leadership::Follower { .. })
    });
    // Whoever it is: of a later term, and alone.
    let settled = || {
        let now: Vec<_> =
            group.nodes.iter().map(|(_, election, _)| election.leadership.borrow().clone()).collect();
        now.iter().any(|known| matches!(known, Leadership::Leader { term: later, .. } if *later > term))
            && group.leaders() == 1
    };
    let waited_ns = now_ns();
    while !settled() {
        assert!(now_ns() - waited_ns < PATIENCE.as_nanos() as u64, "one leader of a later term");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test of its own: the others start it as a process, to pause and kill it. It says each leadership in a line.
#[test]
#[ignore = "the node of other tests"]
fn node_in_a_process_of_its_own() {
    let (Ok(endpoint), Ok(node)) = (std::env::var(ENDPOINT), std::env::var(NODE)) else { return };
    let (election, _thread) = Election::start(&config(&endpoint, "g"), &node, &node).unwrap();
    election.wish(yes(0));
    let mut leadership = election.leadership.clone();
    std::thread::spawn(move || {
        // A line is the name of the successor.
        for successor in std::io::stdin().lines().map_while(Result::ok) {
            println!("named {}", matches!(election.hand_over(&successor).blocking_recv(), Ok(Ok(()))));
        }
        // It ends with the test that started it, however that ends.
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        while leadership.changed().await.is_ok() {
            match *leadership.borrow_and_update() {
                Leadership::Leader { term, until_ns } => println!("leads {term} {until_ns}"),
                _ => println!("leads not"),
            }
        }
    });
}

type Lines = std::io::Lines<BufReader<std::process::ChildStdout>>;

fn start_process(etcd: &Etcd, node: &str) -> (Process, Lines) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["node_in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"]);
    command.env(ENDPOINT, etcd.endpoint()).env(NODE, node).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Process(child), lines)
}

/// The term and the deadline that a line tells.
fn leads(line: &str) -> Option<(u64, u64)> {
    let (term, until_ns) = line.split_once("leads ")?.1.split_once(' ')?;
    Some((term.parse().ok()?, until_ns.parse().ok()?))
}

#[test]
fn after_a_killed_or_paused_leader_another_leads_once_its_time_is_over() {
    for signal in [Signal::KILL, Signal::STOP] {
        let etcd = Etcd::start();
        let (process, mut lines) = start_process(&etcd, "first");
        let mut told = lines.by_ref().map_while(Result::ok).filter_map(|line| leads(&line));
        let (term, _) = told.next().expect("it leads");
        let (_, mut until_ns) = told.next().expect("it renews its lease");
        let mut group = Group::of(&etcd, "g", &["second"]);
        group.wait_follower("second", Some(("first", term)));
        process.signal(signal);
        let stopped_ns = now_ns();
        let (_, later, _, at_ns) = group.wait_leader(term);
        report(&format!("{signal:?} to the next leader"), stopped_ns, at_ns);
        assert_eq!(later, term + 1);
        if signal == Signal::STOP {
            process.signal(Signal::CONT);
            // Its leadership is over, whatever answers were waiting for it.
            for line in lines.by_ref().map_while(Result::ok) {
                match leads(&line) {
                    Some((told, later_ns)) => {
                        assert_eq!(told, term);
                        until_ns = later_ns;
                    }
                    None if line.contains("leads not") => break,
                    None => {}
                }
            }
        } else {
            drop(process);
            // The pipe ends with the process, so this is all that it ever said.
            for (told, later_ns) in told {
                assert_eq!(told, term);
                until_ns = later_ns;
            }
        }
        assert!(until_ns <= at_ns, "{until_ns} is later than {at_ns}");
    }
}
