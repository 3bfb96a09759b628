//! Seeds: all that can happen, in an order that the seed determines.

use crate::cluster::{Cluster, LAYOUT, MS, NODES, Role, Seen};
use dataplane::cache::cell::Cell;

const STEPS: usize = 400;
const REGIONS: usize = 16;

/// Prints the seed if the test dies of it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let again = "cargo test -p dataplane --features sim --test replica seeds";
            eprintln!("again: TICKPLANE_SEED={} TICKPLANE_SEEDS=1 {again}", self.0);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One thing that happens between two steps.
fn happen(cluster: &mut Cluster<'_>) {
    let node = cluster.random.below(NODES as u64) as usize;
    let other = cluster.random.below(NODES as u64) as usize;
    match cluster.random.below(100) {
        0..2 if cluster.spare_regions() > NODES => cluster.crash(node),
        2..6 if matches!(cluster.nodes[node].role, Role::Down) => cluster.restart(node),
        6..8 => cluster.nodes[node].paused_until_ns = cluster.now_ns + cluster.random.below(300 * MS),
        8..12 => cluster.disconnect(node, other),
        12..18 => {
            let (one, two) = (cluster.random.percent(50), cluster.random.percent(50));
            if let Some(connection) = cluster.connections.get_mut(&(node, other)) {
                (connection.to_standby.stalled, connection.to_primary.stalled) = (one, two);
            }
        }
        18..30 => {
            for connection in cluster.connections.values_mut() {
                (connection.to_standby.stalled, connection.to_primary.stalled) = (false, false);
            }
        }
        // Any primary may reach any node, also one whose time is over.
        30..50 => {
            cluster.connect(node, other);
            if cluster.is_up(other) && cluster.random.percent(30) {
                cluster.tell_term(other);
            }
        }
        66..74 => {
            if let Some(primary) = cluster.primary() {
                cluster.connect(primary, other);
            }
        }
        50..54 => cluster.nodes[node].cut_until_ns = cluster.now_ns + cluster.random.below(300 * MS),
        54..58 if cluster.is_up(node) => cluster.tell_term(node),
        58..66 if cluster.lease_is_free() && cluster.is_up(node) => {
            cluster.promote(node);
        }
        // A burst that no window holds.
        74..76 => cluster.write(node, 300, true),
        _ => {}
    }
}

fn run(seed: u64, arena: &[Vec<Cell>]) -> Seen {
    let _seed = Seed(seed);
    let mut cluster = Cluster::new(arena, seed);
    cluster.promote(0);
    for _ in 0..STEPS {
        cluster.now_ns += cluster.random.below(4 * MS);
        happen(&mut cluster);
        for node in 0..NODES {
            if cluster.is_up(node) {
                let (ticks, commit) = (cluster.random.below(12), cluster.random.percent(70));
                cluster.write(node, ticks, commit);
            }
        }
        if let Some(primary) = cluster.primary()
            && cluster.is_up(primary)
            && cluster.random.percent(90)
        {
            cluster.renew_lease(primary);
        }
        cluster.step();
    }
    settle(&mut cluster);
    std::mem::take(&mut cluster.seen)
}

/// Once nothing fails any more, all nodes have the same, and are live.
fn settle(cluster: &mut Cluster<'_>) {
    cluster.heal();
    (0..NODES).for_each(|node| cluster.tell_term(node));
    for round in 0..2_000 {
        cluster.now_ns += MS;
        if cluster.primary().is_none() && cluster.lease_is_free() {
            (0..NODES).find(|node| cluster.promote(*node));
        }
        if let Some(primary) = cluster.primary() {
            cluster.renew_lease(primary);
            cluster.write(primary, u64::from(round < 100), true);
        } else if (0..NODES).all(|node| !is_promotable(cluster, node)) {
            // All that had everything are gone: a group that lost every copy begins anew, and says so; not this test's.
            return;
        }
        cluster.connect_all();
        cluster.step();
        if round > 200 && cluster.is_level() {
            return;
        }
    }
    panic!("the nodes did not become level: {}", cluster.describe());
}

fn is_promotable(cluster: &Cluster<'_>, node: usize) -> bool {
    match &cluster.nodes[node].role {
        Role::Standby(standby) => standby.status().level,
        Role::Primary(_) => true,
        Role::Down => false,
    }
}

/// Runs the seeds from `first` up to `end`, every `step`-th of them.
fn run_all(first: u64, end: u64, step: usize) -> Seen {
    let mut all = Seen::default();
    for seed in (first..end).step_by(step) {
        let arena: Vec<Vec<Cell>> =
            (0..REGIONS).map(|_| (0..LAYOUT.cells()).map(|_| Cell::default()).collect()).collect();
        all += run(seed, &arena);
    }
    all
}

#[test]
fn whatever_happens_no_node_shows_what_is_not_so() {
    let (first, count) = (number("TICKPLANE_SEED", 1), number("TICKPLANE_SEEDS", 20));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let all = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || run_all(first + thread, first + count, threads)))
            .collect();
        running.into_iter().map(|run| run.join().expect("its seed is printed above")).fold(
            Seen::default(),
            |mut all, seen| {
                all += seen;
                all
            },
        )
    });
    eprintln!("{count} seeds: {all:?}");
    if count >= 20 {
        all.assert_looked(count);
    }
}
