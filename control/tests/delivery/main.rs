//! Subscriptions by hand: over a region that a real writer fills, without a server; whatever happens, each client is delivered
//! what a plain memory of the log says.

mod client;
mod world;

use client::{Client, Seen};
use control::proto::{BehindPolicy, DeliveryMode};
use dataplane::cache::tick::Kind;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use world::{MS, Wish, World};

const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Happening {
    Ticks { count: u64, seed: u64 },
    Instrument,
    Session,
    Time { ms: u64 },
    Read { client: usize, responses: usize },
    Create { client: usize, wish: Wish },
    Update { client: usize, wish: Wish },
    Pause { client: usize, is_paused: bool },
    Reconnect { client: usize },
}

fn wish() -> impl Strategy<Value = Wish> {
    let modes = [
        DeliveryMode::Unspecified,
        DeliveryMode::Conflated,
        DeliveryMode::TradeSafe,
        DeliveryMode::EveryTick,
        DeliveryMode::EveryTick,
    ];
    let symbols: [&'static [&'static str]; 5] = [&["*"], &["A*"], &["B*", "C0"], &["A0"], &["A1", "B0"]];
    let kinds: [&'static [Kind]; 4] = [&[], &[Kind::Quote], &[Kind::Trade], &[Kind::Quote, Kind::Trade]];
    let policies = [BehindPolicy::Gap, BehindPolicy::Gap, BehindPolicy::End];
    let chosen = (
        prop::sample::select(modes.to_vec()),
        prop::sample::select(policies.to_vec()),
        prop::sample::select(symbols.to_vec()),
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(vec![0, 10, 100]),
    );
    chosen.prop_map(|(mode, policy, symbols, kinds, rate_per_s)| Wish {
        mode,
        policy,
        symbols,
        kinds,
        rate_per_s,
        is_paused: false,
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => (1..20_u64, any::<u32>()).prop_map(|(count, seed)| Happening::Ticks { count, seed: seed.into() }),
        1 => (60..200_u64, any::<u32>()).prop_map(|(count, seed)| Happening::Ticks { count, seed: seed.into() }),
        2 => Just(Happening::Instrument),
        1 => Just(Happening::Session),
        2 => (1..150_u64).prop_map(|ms| Happening::Time { ms }),
        10 => (client(), 1..4_usize).prop_map(|(client, responses)| Happening::Read { client, responses }),
        4 => client().prop_map(|client| Happening::Read { client, responses: usize::MAX }),
        1 => (client(), wish()).prop_map(|(client, wish)| Happening::Create { client, wish }),
        2 => (client(), wish()).prop_map(|(client, wish)| Happening::Update { client, wish }),
        2 => (client(), any::<bool>()).prop_map(|(client, is_paused)| Happening::Pause { client, is_paused }),
        3 => client().prop_map(|client| Happening::Reconnect { client }),
    ]
}

fn live(wishes: [Wish; CLIENTS], happenings: Vec<Happening>, seen: &mut Seen) {
    let mut world = World::new();
    world.add();
    world.add();
    let mut clients = wishes.map(|wish| Client::new(&world, wish));
    let read = |client: &mut Client, world: &World, responses, seen: &mut Seen| {
        if !client.read(world, responses, seen) {
            *client = Client::new(world, client.wish.clone());
        }
    };
    for happening in happenings {
        match happening {
            Happening::Ticks { count, seed } => world.tick(count, seed),
            Happening::Instrument => world.add(),
            Happening::Session => world.begin_session(),
            Happening::Time { ms } => world.now_ns += ms * MS,
            Happening::Read { client, responses } => read(&mut clients[client], &world, responses, seen),
            Happening::Create { client, wish } => clients[client] = Client::new(&world, wish),
            Happening::Update { client, wish } => clients[client].change(&world, wish),
            Happening::Pause { client, is_paused } => {
                let wish = Wish { is_paused, ..clients[client].wish.clone() };
                clients[client].change(&world, wish);
            }
            Happening::Reconnect { client } => clients[client].reconnect(&world),
        }
    }
    for client in &mut clients {
        client.change(&world, Wish { is_paused: false, ..client.wish.clone() });
        // One that has ended begins again.
        for _ in 0..2 {
            read(client, &world, usize::MAX, seen);
            world.now_ns += 1_000 * MS;
            read(client, &world, usize::MAX, seen);
        }
        client.check_knows_all(&world);
    }
}

#[test]
fn whatever_happens_each_client_is_delivered_what_its_mode_says() {
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let seen = std::cell::RefCell::new(Seen::default());
    let lives = ([wish(), wish(), wish()], prop::collection::vec(happening(), 1..80));
    let ran = runner.run(&lives, |(wishes, happenings)| {
        live(wishes, happenings, &mut seen.borrow_mut());
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner();
    println!("{seen:?}");
    let Seen { updates, images, gaps, ends, resumed, grown } = seen;
    assert!(
        updates > 4_000 && images > 400 && gaps > 20 && ends > 5 && resumed > 20 && grown > 20,
        "{seen:?}"
    );
}
