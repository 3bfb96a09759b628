//! Nodes that are processes of their own, and are killed: this program, started again.

use crate::group::{Copy, LAYOUT, Main, impatient, mapping, now_ns, until};
use crate::nodes::{PATIENCE, devices};
use drivers::rdma::link::PrimaryEnd;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What the other process is: `primary TERM ADDRESS` or `standby ADDRESS`.
const ROLE: &str = "TICKPLANE_TEST_RDMA_ROLE";

/// The other process; it is killed (SIGKILL) when this is dropped.
struct Other(Child);

impl Other {
    fn start(role: String) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "processes::the_other_process", "--nocapture"]).env(ROLE, role);
        Other(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// The stream that it opens.
    fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        let mut stream = None;
        until("the other process connects", || {
            assert_eq!(self.0.try_wait().unwrap(), None, "it has ended");
            stream = listener.accept().ok();
            stream.is_some()
        });
        stream.unwrap().0
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What the other process does, until it is killed or its connection ends; without a role nothing.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let Some(devices) = devices() else { return };
    let (started, mapping) = (Instant::now(), mapping());
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["primary", term, address] => {
            let mut main = Main::new(&devices[0], &mapping, term.parse().unwrap());
            main.primary.connected();
            let mut end =
                PrimaryEnd::new(TcpStream::connect(address).unwrap(), &main.log, &impatient()).unwrap();
            main.write(300);
            while started.elapsed() < PATIENCE && main.poll(&mut end).is_ok() {
                // Level at times, so that the other one sees that.
                if is_sent(&main) {
                    main.write(20);
                }
                std::thread::yield_now();
            }
        }
        ["standby", address] => {
            let mut copy = Copy::new(&devices[1], &mapping);
            copy.linked.connect(TcpStream::connect(address).unwrap()).unwrap();
            while started.elapsed() < PATIENCE && copy.poll().is_ok() {
                std::thread::yield_now();
            }
        }
        _ => panic!("{ROLE}={role}"),
    }
}

fn is_sent(main: &Main<'_>) -> bool {
    main.primary.status().level && main.primary.status().acknowledged == main.reader.tail()
}

#[test]
fn a_standby_that_is_killed_is_noticed_and_its_successor_catches_up() {
    let Some(devices) = devices() else { return };
    let mapping = mapping();
    let mut main = Main::new(&devices[0], &mapping, 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let role = format!("standby {}", listener.local_addr().unwrap());
    for images in 1..3 {
        let mut other = Other::start(role.clone());
        main.primary.connected();
        let mut end = PrimaryEnd::new(other.accept(&listener), &main.log, &impatient()).unwrap();
        for _ in 0..20 {
            main.write(70);
            until("the standby is level", || {
                main.poll(&mut end).unwrap();
                std::thread::yield_now();
                is_sent(&main)
            });
        }
        assert!(end.is_connected(), "ticks go by the device");
        assert_eq!(main.primary.counters().images, images);
        // With ticks under way.
        main.write(60);
        main.primary.poll(&mut end, now_ns());
        drop(other);
        until("the primary notices", || main.poll(&mut end).is_err());
        assert_ne!(main.primary.status().acknowledged, main.reader.tail());
    }
}

#[test]
fn a_primary_that_is_killed_is_noticed_and_its_successor_is_followed() {
    let Some(devices) = devices() else { return };
    let mapping = mapping();
    let mut copy = Copy::new(&devices[1], &mapping);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for term in 1..3u64 {
        let mut other = Other::start(format!("primary {term} {}", listener.local_addr().unwrap()));
        copy.linked.connect(other.accept(&listener)).unwrap();
        let before = copy.counters().ticks;
        until("level, and followed", || {
            copy.poll().unwrap();
            copy.status().level
                && copy.status().term == term
                && copy.counters().ticks > before + 2 * LAYOUT.log_ticks
                && copy.reader.valid_until_ns() > now_ns()
        });
        assert!(copy.linked.is_by_device());
        drop(other);
        until("the standby notices", || copy.poll().is_err());
        assert!(!copy.linked.is_connected());
        let rows = |copy: &Copy<'_>| {
            (0..copy.reader.image_rows()).map(|index| copy.reader.image_row(index)).collect::<Vec<_>>()
        };
        let (tail, kept, believed_ns) = (copy.reader.tail(), rows(&copy), copy.reader.valid_until_ns());
        assert!(kept.iter().flatten().count() >= LAYOUT.instruments as usize);
        until("it is stale", || {
            copy.poll().unwrap();
            now_ns() > believed_ns
        });
        assert!(copy.reader.tail() == tail && rows(&copy) == kept, "what it has it keeps");
        assert_eq!(copy.reader.valid_until_ns(), believed_ns, "nobody lends it more");
    }
    assert_eq!(copy.counters().images, 2, "another primary's region is another one");
}
