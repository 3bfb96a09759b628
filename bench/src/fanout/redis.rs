//! Debian's redis-server and its publish/subscribe, with clients of our own: RESP says how long everything is before it comes
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use super::{Contender, INSTRUMENTS, payload, subject};
use crate::server::Server;
use crate::subscriber::{Connection, Subscriber};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const PROGRAM: &str = "/usr/bin/redis-server";
const READY: &str = "Ready to accept connections";
/// Somebody else may take a free port first.
const PORTS_MAX: usize = 10;

pub struct Redis {
    address: String,
    publisher: TcpStream,
    commands: Vec<u8>,
    /// Ended last.
    _server: Server,
}

/// A command as an array of strings.
fn put_command(words: &[&[u8]], commands: &mut Vec<u8>) {
    write!(commands, "*{}\r\n", words.len()).expect("memory");
    for word in words {
        write!(commands, "${}\r\n", word.len()).expect("memory");
        commands.extend_from_slice(word);
        commands.extend_from_slice(b"\r\n");
    }
}

fn start() -> Result<(Server, String), String> {
    let mut last = String::new();
    for _ in 0..PORTS_MAX {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port().to_string();
        // Nothing is kept on the disk.
        let args = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        match Server::start(PROGRAM, &args, &[], |line| line.contains(READY).then_some(())) {
            Ok((server, ())) => return Ok((server, format!("127.0.0.1:{port}"))),
            Err(error) => last = error,
        }
    }
    Err(format!("{last} (Debian: apt-get install redis-server)"))
}

impl Contender for Redis {
    type Subscriber = RedisSubscriber;

    fn start() -> Redis {
        let (server, address) = start().unwrap_or_else(|error| panic!("{error}"));
        let mut publisher = TcpStream::connect(&address).expect("it listens");
        publisher.set_nodelay(true).expect("it is TCP");
        // Or it would answer each command.
        let mut commands = Vec::new();
        put_command(&[b"PING"], &mut commands);
        put_command(&[b"CLIENT", b"REPLY", b"OFF"], &mut commands);
        publisher.write_all(&commands).expect("it is open");
        let mut pong = [0; 7];
        publisher.read_exact(&mut pong).expect("it answers");
        assert_eq!(&pong, b"+PONG\r\n");
        Redis { address, publisher, commands, _server: server }
    }

    fn subscriber(&self) -> impl Future<Output = RedisSubscriber> + Send + 'static {
        let address = self.address.clone();
        async move {
            let names: Vec<String> = (0..u64::from(INSTRUMENTS)).map(subject).collect();
            let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE"];
            words.extend(names.iter().map(String::as_bytes));
            let mut hello = Vec::new();
            put_command(&words, &mut hello);
            let mut connection = Connection::open(&address, &hello).await;
            // Each is confirmed, with how many there are by then.
            let all = format!(":{INSTRUMENTS}\r\n");
            let is_there = |bytes: &[u8]| bytes.ends_with(all.as_bytes());
            while !connection
                .read(|bytes| (if is_there(bytes) { bytes.len() } else { 0 }, is_there(bytes)))
                .await
            {}
            RedisSubscriber(connection)
        }
    }

    fn publish(&mut self, number: u64, count: u64) {
        self.commands.clear();
        for number in number..number + count {
            put_command(&[b"PUBLISH", subject(number).as_bytes(), &payload::of(number)], &mut self.commands);
        }
        self.publisher.write_all(&self.commands).expect("it takes what is published");
    }
}

pub struct RedisSubscriber(Connection);

impl Subscriber for RedisSubscriber {
    async fn next(&mut self, numbers: &mut Vec<u64>) {
        self.0.read(|bytes| (parse(bytes, numbers), ())).await;
    }
}

/// The length behind `mark`, and what comes after its line; `None` = it is not whole.
fn length(bytes: &[u8], mark: u8) -> Option<(usize, &[u8])> {
    let (first, mut bytes) = bytes.split_first()?;
    assert_eq!(*first, mark, "{}", String::from_utf8_lossy(bytes));
    let mut length = 0;
    while let Some(digit) = bytes.first().filter(|byte| byte.is_ascii_digit()) {
        length = length * 10 + usize::from(digit - b'0');
        bytes = &bytes[1..];
    }
    Some((length, bytes.get(2..)?))
}

/// A string with its length before it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = length(bytes, b'$')?;
    Some((bytes.get(..length)?, bytes.get(length + 2..)?))
}

/// An array of `message`, the channel and the payload.
fn message(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (words, bytes) = length(bytes, b'*')?;
    assert_eq!(words, 3, "a message has three words");
    let (kind, bytes) = string(bytes)?;
    assert_eq!(kind, b"message");
    let (_, bytes) = string(bytes)?;
    let (payload, bytes) = string(bytes)?;
    Some((payload::parse(payload), bytes))
}

/// Returns where the last whole message ends.
fn parse(bytes: &[u8], numbers: &mut Vec<u64>) -> usize {
    let mut rest = bytes;
    while let Some((number, behind)) = message(rest) {
        numbers.push(number);
        rest = behind;
    }
    bytes.len() - rest.len()
}
