//! The appliance as a process: started, fed by an exchange, read, stopped in order, and killed.

mod process;

use dataplane::cache::reader::{Reader, State};
use dataplane::cache::tick::Quote;
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::interface::Interface;
use drivers::region::RegionMapping;
use drivers::udp_sender::{Datagram, UdpSender};
use process::{Process, start_appliance, tickplane, wait_for};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

const VALID_FOR_MS: u64 = 400;

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the process ends", || self.0.try_wait().unwrap())
    }
}

struct Appliance {
    process: Process,
    grpc: String,
    region: PathBuf,
    groups: [String; 2],
    folder: tempfile::TempDir,
}

impl Appliance {
    fn start(number: u32, protocol: &str) -> Appliance {
        let folder = tempfile::tempdir().unwrap();
        let region = folder.path().join("region");
        let process = std::process::id() * 8 + number;
        let groups = [0, 1]
            .map(|line| format!("239.254.{}.{}:26477", process >> 7 & 0xff, (process & 0x7f) << 1 | line));
        let text = format!(
            "node = \"test\"\n[region]\npath = {region:?}\ninstruments_max = 1000\nlog_ticks = 65536\n\
             [worker]\nvalid_for_ms = {VALID_FOR_MS}\n[[ports]]\nname = \"lo\"\nkind = \"udp\"\ninterface = \"127.0.0.1\"\n\
             [[feeds]]\nname = \"feed\"\nprotocol = \"{protocol}\"\norders_max = 100000\n\
             [[feeds.lines]]\nname = \"A\"\nport = \"lo\"\ngroup = \"{}\"\n\
             [[feeds.lines]]\nname = \"B\"\nport = \"lo\"\ngroup = \"{}\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n",
            groups[0], groups[1]
        );
        let (process, grpc) = start_appliance(folder.path(), &text);
        Appliance { process, grpc, region, groups, folder }
    }

    fn exchange(&self, dump: &Path) -> Process {
        let mut command = tickplane();
        command.arg("exchange").args(["--line-a", &self.groups[0], "--line-b", &self.groups[1]]);
        command.args([
            "--instruments",
            "50",
            "--rate",
            "20000",
            "--messages",
            "20000",
            "--loss",
            "0.01",
            "--linger",
        ]);
        Process(command.arg("--dump").arg(dump).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn client(&self, arguments: &[&str]) -> std::process::Output {
        tickplane().args(arguments).args(["--server", &self.grpc]).output().unwrap()
    }

    fn is_right(&self, dump: &Path) -> bool {
        dump.exists() && self.client(&["verify", dump.to_str().unwrap()]).status.success()
    }
}

#[test]
fn an_exchange_is_taken_in_served_and_left_in_order() {
    let mut appliance = Appliance::start(0, "itch50");
    let dump = appliance.folder.path().join("book.jsonl");
    let mut exchange = appliance.exchange(&dump);
    wait_for("the cache is the exchange's book", || appliance.is_right(&dump).then_some(()));
    let status = appliance.client(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["feeds"][0]["gaps"], &status["region"]["instruments"]), (&0.into(), &50.into()));
    let rows = appliance.client(&["get", "--json", "A*", "NOPE"]);
    let rows = String::from_utf8(rows.stdout).unwrap();
    assert!(rows.lines().count() > 1 && rows.contains(r#""instrument":"NOPE""#), "{rows}");
    let watched = appliance.client(&["watch", "--json", "--updates", "5", "*"]);
    assert!(watched.status.success());
    assert!(String::from_utf8(watched.stdout).unwrap().lines().count() >= 5);
    exchange.signal(rustix::process::Signal::TERM);
    assert!(exchange.ended().success());
    assert!(appliance.region.exists());
    appliance.process.signal(rustix::process::Signal::TERM);
    assert!(appliance.process.ended().success());
    assert!(!appliance.region.exists(), "its name is gone");
    let error = String::from_utf8(appliance.client(&["get", "A"]).stderr).unwrap();
    assert!(error.contains("is `tickplane run` running"), "{error}");
}

#[test]
fn a_kill_makes_every_row_stale_to_who_has_it_mapped() {
    let mut appliance = Appliance::start(1, "itch50");
    let dump = appliance.folder.path().join("book.jsonl");
    let _exchange = appliance.exchange(&dump);
    wait_for("the cache is the exchange's book", || appliance.is_right(&dump).then_some(()));
    let mapping = RegionMapping::open(&appliance.region).unwrap();
    let reader = Reader::open(mapping.cells()).unwrap();
    let live = |now_ns| {
        let rows = (0..reader.instruments()).filter_map(|instrument| reader.row::<Quote>(instrument, now_ns));
        rows.filter(|row| row.state == State::Live).count()
    };
    assert!(live(SystemClock.monotonic_ns()) > 0, "rows are live as long as it lives");
    appliance.process.signal(rustix::process::Signal::KILL);
    let killed_ns = SystemClock.monotonic_ns();
    assert!(!appliance.process.ended().success());
    let valid_until_ns = reader.valid_until_ns();
    assert!(valid_until_ns <= killed_ns + VALID_FOR_MS * 1_000_000, "no longer than it stated");
    assert_eq!(live(valid_until_ns), 0, "and from then on none");
    assert!(reader.instruments() > 0);
}

/// The example's own code; it is its `main` that sends.
#[allow(dead_code)]
#[path = "../examples/records_sender.rs"]
mod records_sender;

#[test]
fn records_of_ones_own_are_served() {
    let appliance = Appliance::start(2, "records");
    let groups = appliance.groups.clone().map(|group| group.parse().unwrap());
    let mut sender = UdpSender::new(&Interface::find("127.0.0.1").unwrap(), 1).unwrap();
    let (mut sequence, mut before) = (1, HashMap::new());
    let rows = wait_for("the counters are served", || {
        let text = format!("-\n-\n  lo: 5 1 0 0 0 0 0 0 {sequence} 1 0 0 0 0 0 0\neth0: 9\n");
        let records = records_sender::records(&text, 1_704_119_400_000_000_000 + sequence, 1, &mut before);
        assert_eq!(records.len(), 4);
        let packet = records_sender::packet(b"1704119400", sequence, &records);
        let datagrams = groups.map(|destination| Datagram { destination, bytes: &packet });
        sender.send(&datagrams).unwrap();
        sequence += records.len() as u64;
        let rows = appliance.client(&["get", "--json", "lo.rx", "lo.tx", "eth0.rx"]);
        let rows = String::from_utf8(rows.stdout).unwrap();
        rows.contains(r#""last_size":9"#).then_some(rows)
    });
    let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    for (row, name) in rows.iter().zip(["lo.rx", "lo.tx", "eth0.rx"]) {
        assert_eq!((&row["instrument"], &row["state"]), (&name.into(), &"live".into()), "{row}");
    }
    assert_eq!((&rows[0]["last_size"], &rows[2]["last_size"]), (&5.into(), &9.into()));
    let status = appliance.client(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["feeds"][0]["protocol"], &status["feeds"][0]["gaps"]),
        (&"records".into(), &0.into())
    );
    assert_eq!(status["feeds"][0]["session"], "1704119400");
}

#[test]
fn top_prints_a_picture_of_a_living_appliance() {
    let mut appliance = Appliance::start(3, "itch50");
    let dump = appliance.folder.path().join("book.jsonl");
    let _exchange = appliance.exchange(&dump);
    wait_for("the cache is the exchange's book", || appliance.is_right(&dump).then_some(()));
    let output = appliance.client(&["top", "--once", "--size", "100x30"]);
    let picture = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && picture.lines().count() == 30, "{picture}");
    for part in ["test  ALIVE", "*: 50  50 live  by activity", "instruments 50/1.0k 5%"] {
        assert!(picture.contains(part), "{part} is not in {picture}");
    }
    let output = appliance.client(&["top", "--once", "--filter", "NOPE"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("NOPE: 0"), "no instrument is a picture, too");
    let error = String::from_utf8(appliance.client(&["top"]).stderr).unwrap();
    assert!(error.contains("no terminal") && error.contains("--once"), "{error}");
    appliance.process.signal(rustix::process::Signal::KILL);
    appliance.process.ended();
    let output = appliance.client(&["top", "--once"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("is `tickplane run` running"), "{error}");
}

/// `tickplane top` on a terminal of its own.
struct TopOnTerminal {
    process: Process,
    keyboard: File,
    /// The terminal's other end, and how it was before.
    terminal: File,
    was: rustix::termios::Termios,
    written: Arc<Mutex<Vec<u8>>>,
}

impl TopOnTerminal {
    fn start(server: &str) -> TopOnTerminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = File::from(openpt(flags).unwrap());
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let size = rustix::termios::Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        let was = rustix::termios::tcgetattr(&terminal).unwrap();
        let mut command = tickplane();
        command.args(["top", "--server", server]).env("TERM", "xterm-256color");
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
        let process = Process(command.stderr(Stdio::null()).spawn().unwrap());
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, seen) = (keyboard.try_clone().unwrap(), written.clone());
        // It ends with the terminal: a read is an error once nobody holds the other end.
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                seen.lock().unwrap().extend(&bytes[..count]);
            }
        });
        TopOnTerminal { process, keyboard, terminal, was, written }
    }

    fn wait_for(&self, text: &str) {
        let has = || String::from_utf8_lossy(&self.written.lock().unwrap()).contains(text);
        wait_for(text, || has().then_some(()));
    }

    fn is_raw(&self) -> bool {
        rustix::termios::tcgetattr(&self.terminal).unwrap().local_modes != self.was.local_modes
    }

    /// It has ended, well, and the terminal is as it was.
    fn assert_left_in_order(mut self) {
        assert!(self.process.ended().success());
        assert!(!self.is_raw());
        self.wait_for("\u{1b}[?1049l");
        self.wait_for("\u{1b}[?25h");
    }
}

#[test]
fn top_shows_what_goes_away_and_leaves_the_terminal_as_it_was() {
    let appliance = Appliance::start(4, "itch50");
    let dump = appliance.folder.path().join("book.jsonl");
    let _exchange = appliance.exchange(&dump);
    wait_for("the cache is the exchange's book", || appliance.is_right(&dump).then_some(()));
    let (asked, mut pressed) = (TopOnTerminal::start(&appliance.grpc), TopOnTerminal::start(&appliance.grpc));
    asked.wait_for("50 live");
    pressed.wait_for("50 live");
    assert!(asked.is_raw() && pressed.is_raw());
    asked.process.signal(rustix::process::Signal::TERM);
    asked.assert_left_in_order();
    appliance.process.signal(rustix::process::Signal::KILL);
    pressed.wait_for("stale");
    pressed.keyboard.write_all(b"q").unwrap();
    pressed.assert_left_in_order();
}

#[test]
fn a_configuration_is_checked_without_running_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bad.toml");
    std::fs::write(&config, "node = \"x\"\nprots = []\n").unwrap();
    let output = tickplane().args(["run", "--check", "--config"]).arg(&config).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("did you mean `ports`?"), "{error}");
    assert!(tickplane().args(["run", "--check"]).status().unwrap().success());
}
