//! Replication over TLS on loopback: nodes that know each other, and those that must not be taken.

mod authority;

use authority::Authority;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::Reader;
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{Definition, Quote, Tick};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Lineage, Primary, PrimaryLimits, Standby};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::tcp_link::{Channel, Identity, IdentityError, LinkError, PrimaryEnd, StandbyEnd};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const LAYOUT: Layout = Layout { instruments: 32, feeds: 1, log_ticks: 1 << 12, bursts: 16 };
const LIMITS: PrimaryLimits = PrimaryLimits { window_ticks: 1 << 10, valid_for_ns: 400_000_000 };
const PATIENCE: Duration = Duration::from_secs(60);

fn identity(authority: &Authority, node: &str) -> Identity {
    let (certificate, key) = authority.sign(node);
    Identity::read(&certificate, &key, &authority.file("ca.pem")).unwrap()
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

fn primary_round(primary: &mut Primary<'_>, end: &mut PrimaryEnd) -> Result<(), LinkError> {
    end.fill()?;
    primary.poll(end, now_ns());
    end.flush().map(drop)
}

/// A primary's and a standby's end of one connection, and how it ended.
fn run(
    accepted: Channel,
    connected: Channel,
    ticks: u64,
) -> (Result<(), LinkError>, Result<(), LinkError>, bool) {
    let cells = [(); 2].map(|()| (0..LAYOUT.cells()).map(|_| Cell::default()).collect::<Vec<_>>());
    let mut writer = Writer::format(&cells[0], LAYOUT, 1).unwrap();
    for index in 0..LAYOUT.instruments {
        let instrument = writer.allocate().unwrap();
        writer.define(instrument, &Tick::default(), Definition::new(index, format!("I{index}").as_bytes()));
    }
    writer.commit();
    let (reader, copy) = (
        Reader::open(&cells[0]).unwrap(),
        Follower::format(&cells[1], LAYOUT, 1).map(|follower| (follower, Reader::open(&cells[1]).unwrap())),
    );
    let (follower, copy) = copy.unwrap();
    let (mut primary, mut standby) =
        (Primary::new(reader, Lineage::first(1, 7), LIMITS), Standby::new(follower, 0));
    primary.connected();
    let mut from = PrimaryEnd::new(accepted).unwrap();
    let mut to = StandbyEnd::new(connected, &mut standby).unwrap();
    let started = Instant::now();
    let (mut value, mut ours, mut theirs) = (0, Ok(()), Ok(()));
    while ours.is_ok() && theirs.is_ok() {
        assert!(started.elapsed() < PATIENCE, "{:?}", primary.status());
        if value < ticks && reader.tail() - primary.status().acknowledged < LIMITS.window_ticks {
            for _ in 0..100 {
                value += 1;
                let quote = Quote { bid_price: value as i64, ..Quote::EMPTY };
                writer.publish(
                    &Tick { instrument: (value % 32) as u32, sequence: value, ..Tick::default() }
                        .with_payload(quote),
                );
            }
            writer.commit();
        }
        writer.keep_alive(now_ns(), 60_000_000_000);
        ours = primary_round(&mut primary, &mut from);
        theirs = to.poll(&mut standby, now_ns, &mut |_| true).map(drop);
        let is_level = standby.status().level;
        if is_level && value >= ticks && copy.tail() == reader.tail() && copy.valid_until_ns() > now_ns() {
            let rows = (0..reader.image_rows())
                .filter(|row| reader.image_row(*row).is_some_and(|held| copy.image_row(*row) == Some(held)));
            assert_eq!(rows.count(), 64, "every row is the same");
            break;
        }
    }
    (ours, theirs, from.is_from("standby"))
}

#[test]
fn nodes_of_one_authority_replicate_and_know_each_other_by_name() {
    let authority = Authority::new();
    let (primary, standby) = (identity(&authority, "primary"), identity(&authority, "standby"));
    let (here, there) = connection();
    let accepted = primary.accept(here).unwrap();
    let connected = standby.connect(there, "primary").unwrap();
    let (ours, theirs, is_standby) = run(accepted, connected, 100_000);
    ours.unwrap();
    theirs.unwrap();
    assert!(is_standby);
    // A node with a certificate of its own may not say that it is another one.
    let (here, there) = connection();
    let other = identity(&authority, "other").connect(there, "primary").unwrap();
    let (ours, theirs, is_standby) = run(primary.accept(here).unwrap(), other, 10_000);
    assert!(ours.is_ok() && theirs.is_ok() && !is_standby);
    let (plain, _there) = connection();
    assert!(PrimaryEnd::new(plain).unwrap().is_from("anybody"), "without TLS nobody is asked");
}

#[test]
fn strangers_and_impostors_are_not_taken() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let primary = identity(&authority, "primary");
    let text = |result: Result<(), LinkError>| result.map_err(|error| error.to_string());
    let standby = identity(&authority, "standby");

    let (here, there) = connection();
    let stranger = identity(&foreign, "standby").connect(there, "primary").unwrap();
    let (ours, theirs, is_standby) = run(primary.accept(here).unwrap(), stranger, 100);
    assert!(ours.is_err() || theirs.is_err());
    assert!(!is_standby);

    let (here, there) = connection();
    let misled = standby.connect(there, "another").unwrap();
    let (ours, theirs, _) = run(primary.accept(here).unwrap(), misled, 100);
    let errors = [text(ours), text(theirs)];
    assert!(
        errors.iter().any(|error| error.as_ref().is_err_and(|error| error.contains("ertificate"))),
        "{errors:?}"
    );

    // One that speaks no TLS, at either end.
    let (here, there) = connection();
    let (ours, theirs, _) = run(primary.accept(here).unwrap(), there.into(), 100);
    assert!(ours.is_err() || theirs.is_err());
    let (here, mut there) = connection();
    there.write_all(&[0xff; 4_096]).unwrap();
    let mut end = PrimaryEnd::new(primary.accept(here).unwrap()).unwrap();
    let started = Instant::now();
    while end.fill().is_ok() {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[test]
fn what_is_no_identity_says_which_file_is_wrong() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.sign("a"), authority.sign("b"));
    let ca = authority.file("ca.pem");
    let error = |certificate: &Path, key: &Path, ca: &Path| {
        let error = Identity::read(certificate, key, ca).unwrap_err();
        (error.to_string(), error)
    };
    let nowhere = authority.file("nowhere.pem");
    assert!(error(&nowhere, &key, &ca).0.contains("nowhere.pem"));
    assert!(error(&certificate, &nowhere, &ca).0.contains("nowhere.pem"));
    assert!(error(&certificate, &key, &nowhere).0.contains("nowhere.pem"));
    assert!(matches!(error(&key, &key, &ca).1, IdentityError::Empty { .. }));
    let (text, error) = error(&certificate, &other_key, &ca);
    assert!(matches!(error, IdentityError::Pair { .. }) && text.contains("belong together"), "{text}");
    assert!(Identity::read(&certificate, &key, &ca).is_ok());
}
