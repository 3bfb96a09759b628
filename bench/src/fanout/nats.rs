//! Debian's nats-server, with clients of our own: the protocol is lines of text, and nothing parses them faster than what knows
//! what it is going to read (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).

use super::{Contender, payload, subject};
use crate::server::Server;
use crate::subscriber::{Connection, Subscriber};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

const PROGRAM: &str = "/usr/sbin/nats-server";
const LISTENING: &str = "Listening for client connections on ";
/// No acknowledgement of each line.
const CONNECT: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"echo":false,"lang":"rust","version":"0"}"#;

pub struct Nats {
    address: String,
    publisher: TcpStream,
    lines: Vec<u8>,
    /// Ended last.
    _server: Server,
}

impl Contender for Nats {
    type Subscriber = NatsSubscriber;

    fn start() -> Nats {
        let listening = |line: &str| Some(line.split_once(LISTENING)?.1.trim().to_owned());
        let (server, address) = Server::start(PROGRAM, &["-a", "127.0.0.1", "-p", "-1"], &[], listening)
            .unwrap_or_else(|error| panic!("{error} (Debian: apt-get install nats-server)"));
        let mut publisher = TcpStream::connect(&address).expect("it listens");
        publisher.set_nodelay(true).expect("it is TCP");
        write!(publisher, "{CONNECT}\r\nPING\r\n").expect("it is open");
        let lines = BufReader::new(publisher.try_clone().expect("a file more")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "PONG"), "it answers");
        Nats { address, publisher, lines: Vec::new(), _server: server }
    }

    fn subscriber(&self) -> impl Future<Output = NatsSubscriber> + Send + 'static {
        let address = self.address.clone();
        async move {
            // One subscription to all that there is, as Tickplane's subscribers have.
            let hello = format!("{CONNECT}\r\nSUB > 1\r\nPING\r\n");
            let mut connection = Connection::open(&address, hello.as_bytes()).await;
            let is_there = |bytes: &[u8]| bytes.ends_with(b"PONG\r\n");
            while !connection
                .read(|bytes| (if is_there(bytes) { bytes.len() } else { 0 }, is_there(bytes)))
                .await
            {}
            NatsSubscriber(connection)
        }
    }

    fn publish(&mut self, number: u64, count: u64) {
        self.lines.clear();
        for number in number..number + count {
            write!(self.lines, "PUB {} {}\r\n", subject(number), payload::BYTES).expect("memory");
            self.lines.extend_from_slice(&payload::of(number));
            self.lines.extend_from_slice(b"\r\n");
        }
        self.publisher.write_all(&self.lines).expect("it takes what is published");
    }
}

pub struct NatsSubscriber(Connection);

impl Subscriber for NatsSubscriber {
    async fn next(&mut self, numbers: &mut Vec<u64>) {
        self.0.read(|bytes| (parse(bytes, numbers), ())).await;
    }
}

/// `MSG subject sid bytes\r\n`, the payload, `\r\n`; returns where the last whole message ends.
fn parse(bytes: &[u8], numbers: &mut Vec<u64>) -> usize {
    let mut done = 0;
    while let Some(line_bytes) = bytes[done..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[done..done + line_bytes - 1];
        if line == b"PING" {
            // It asks again long after all is over.
            done += line_bytes + 1;
            continue;
        }
        assert!(line.starts_with(b"MSG S"), "{}", String::from_utf8_lossy(line));
        let digits = line.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let payload_bytes =
            line[line.len() - digits..].iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
        let begin = done + line_bytes + 1;
        let Some(payload) = bytes.get(begin..begin + payload_bytes) else { break };
        if bytes.len() < begin + payload_bytes + 2 {
            break;
        }
        numbers.push(payload::parse(payload));
        done = begin + payload_bytes + 2;
    }
    done
}
