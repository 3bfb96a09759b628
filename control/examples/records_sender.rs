//! Sends this host's interface counters as records, once a second, on lines A and B: what a feed with
//! `protocol = "records"` takes.
//!
//! ```text
//! tickplane run --config configs/records.toml &
//! cargo run -p control --example records_sender -- 127.0.0.1 239.255.0.3:26480 239.255.0.4:26480
//! tickplane get '*'
//! ```
//!
//! `eth0.rx` and `eth0.tx` are trades: `size` = bytes so far, `price` = bytes a second since the last look.

use dataplane::time::{Clock, NS_PER_S};
use dataplane::wire::moldudp64::Header;
use dataplane::wire::record::{Record, Trade};
use drivers::clock::SystemClock;
use drivers::interface::Interface;
use drivers::udp_sender::{Datagram, UdpSender};
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddrV4;
use zerocopy::IntoBytes;

/// Records of one packet, so that it fits into 1,472 bytes: 20 of the header and 58 for each.
const RECORDS_MAX: usize = 25;

/// A MoldUDP64 packet of records `sequence`, `sequence + 1`, …; without any it is a heartbeat.
pub fn packet(session: &[u8; 10], sequence: u64, records: &[Record]) -> Vec<u8> {
    let message_count = (records.len() as u16).into();
    let mut packet =
        Header { session: *session, sequence: sequence.into(), message_count }.as_bytes().to_vec();
    for record in records {
        packet.extend_from_slice(&(size_of::<Record>() as u16).to_be_bytes());
        packet.extend_from_slice(record.as_bytes());
    }
    packet
}

/// The text of /proc/net/dev as records; `before` holds each counter's last value and when it was looked at.
pub fn records(
    text: &str,
    now_ns: u64,
    number: u64,
    before: &mut HashMap<String, (u64, u64)>,
) -> Vec<Record> {
    let counters = text.lines().skip(2).filter_map(|line| line.split_once(':')).flat_map(|(name, values)| {
        let mut values = values.split_whitespace().map(|value| value.parse().unwrap_or(0));
        let (received, sent) = (values.next().unwrap_or(0), values.nth(7).unwrap_or(0));
        [(format!("{}.rx", name.trim()), received), (format!("{}.tx", name.trim()), sent)]
    });
    let record = |(name, bytes): (String, u64)| {
        let (bytes_before, then_ns) = before.insert(name.clone(), (bytes, now_ns)).unwrap_or((bytes, 0));
        let elapsed_ns = i128::from(now_ns - then_ns).max(1);
        let rate_e9 =
            i128::from(bytes.saturating_sub(bytes_before)) * i128::from(NS_PER_S).pow(2) / elapsed_ns;
        let price = i64::try_from(rate_e9).unwrap_or(i64::MAX).into();
        Record::trade(&name, now_ns, &Trade { price, size: bytes.into(), trade_id: number.into() })
    };
    counters.filter_map(record).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, groups @ ..] = &arguments[..] else {
        return Err("usage: records_sender INTERFACE GROUP:PORT...".into());
    };
    let groups: Vec<SocketAddrV4> = groups.iter().map(|group| group.parse()).collect::<Result<_, _>>()?;
    let mut sender = UdpSender::new(&Interface::find(interface)?, 1)?;
    // Each run is a session of its own, so that its first record is number 1.
    let session = format!("{:<10}", SystemClock.unix_ns() / NS_PER_S);
    let session = session.as_bytes().first_chunk().ok_or("a year beyond 2286")?;
    let (mut sequence, mut before) = (1, HashMap::new());
    for number in 1.. {
        let text = std::fs::read_to_string("/proc/net/dev")?;
        for chunk in records(&text, SystemClock.unix_ns(), number, &mut before).chunks(RECORDS_MAX) {
            let packet = packet(session, sequence, chunk);
            let datagrams = groups.iter().map(|group| Datagram { destination: *group, bytes: &packet });
            sender.send(&datagrams.collect::<Vec<_>>())?;
            sequence += chunk.len() as u64;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    Ok(())
}
