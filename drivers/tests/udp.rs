//! The kernel UDP port against the sender, by multicast on loopback.

use dataplane::port::{Medium, Membership, Port};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::interface::Interface;
use drivers::mmsg::SendFault;
use drivers::udp::{Subscription, UdpConfig, UdpError, UdpPort};
use drivers::udp_sender::{Datagram, UdpSender};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// How long a datagram on loopback may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> Interface {
    Interface::find("127.0.0.1").unwrap()
}

/// A group that no other process of this machine uses, and a port that nobody was bound to.
fn group(line: u8) -> SocketAddrV4 {
    let pid = std::process::id();
    let group = Ipv4Addr::new(239, 192 + line, (pid >> 8) as u8, pid as u8);
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    SocketAddrV4::new(group, port)
}

fn subscription(destination: SocketAddrV4, source: Option<Ipv4Addr>) -> Subscription {
    Subscription { membership: Membership { group: *destination.ip(), source }, port: destination.port() }
}

fn port(subscriptions: &[Subscription]) -> UdpPort {
    let config = UdpConfig { subscriptions: subscriptions.to_vec(), ..UdpConfig::new(loopback()) };
    UdpPort::new(&config).unwrap()
}

#[derive(Debug, PartialEq, Eq)]
struct Got {
    destination: SocketAddrV4,
    source: Ipv4Addr,
    bytes: Vec<u8>,
    stamp_ns: u64,
}

/// Receives until `count` datagrams are there.
fn receive(port: &mut UdpPort, count: usize) -> Vec<Got> {
    let start = Instant::now();
    let mut got = Vec::new();
    while got.len() < count && start.elapsed() < PATIENCE {
        let burst = port.rx_burst();
        if burst == 0 {
            port.wait(Duration::from_secs(1));
        }
        for frame in (0..burst).map(|index| port.frame(index)) {
            got.push(Got {
                destination: frame.destination,
                source: frame.source,
                bytes: frame.bytes.to_vec(),
                stamp_ns: frame.stamp_ns,
            });
        }
    }
    assert_eq!(got.len(), count);
    got
}

fn send(sender: &mut UdpSender, destination: SocketAddrV4, payloads: &[&[u8]]) {
    let datagrams: Vec<_> = payloads.iter().map(|bytes| Datagram { destination, bytes }).collect();
    assert_eq!(sender.send(&datagrams).unwrap(), payloads.len());
}

#[test]
fn datagrams_arrive_in_order_with_source_destination_and_stamp() {
    let line = group(0);
    let mut port = port(&[subscription(line, None)]);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    assert_eq!(port.medium(), Medium::Udp);
    assert_eq!(port.rx_burst(), 0);
    let before_ns = SystemClock.unix_ns();

    let payloads: Vec<[u8; 2]> = (0..200u8).map(|index| [index, 7]).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(|payload| &payload[..]).collect();
    send(&mut sender, line, &payloads);
    let got = receive(&mut port, 200);
    let after_ns = SystemClock.unix_ns();

    for (got, payload) in got.iter().zip(payloads) {
        assert_eq!((got.destination, got.source), (line, Ipv4Addr::LOCALHOST));
        assert_eq!(got.bytes, payload);
        assert!((before_ns..=after_ns).contains(&got.stamp_ns), "{before_ns} {} {after_ns}", got.stamp_ns);
    }
    let counters = port.counters();
    assert_eq!(
        (counters.rx_frames, counters.rx_bytes, counters.missed, counters.oversized),
        (200, 400, 0, 0)
    );
    assert_eq!(port.receive_errors(), 0);
    assert!(!port.tx(b"frame"), "a kernel does the control frames");
}

#[test]
fn two_lines_come_by_their_own_groups_and_take_turns() {
    let (a, b, other) = (group(0), group(1), group(2));
    // Another group on the same UDP port must not be heard.
    let other = SocketAddrV4::new(*other.ip(), a.port());
    let mut port = port(&[subscription(a, None), subscription(b, None)]);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    for _ in 0..100 {
        send(&mut sender, a, &[b"a"]);
        send(&mut sender, b, &[b"b"]);
        send(&mut sender, other, &[b"other"]);
    }
    // All of it is queued: loopback delivers within the call. Bursts of 64 alternate between the sockets.
    let got = receive(&mut port, 200);
    let order: String = got.iter().map(|got| str::from_utf8(&got.bytes).unwrap()).collect();
    assert_eq!(order, ["a".repeat(64), "b".repeat(64), "a".repeat(36), "b".repeat(36)].concat());
    assert!(got.iter().all(|got| got.destination == if got.bytes == b"a" { a } else { b }));
    assert_eq!(port.rx_burst(), 0);
}

#[test]
fn a_source_specific_line_hears_its_source_alone() {
    let line = group(0);
    let (wanted, unwanted) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let mut port = port(&[subscription(line, Some(wanted))]);
    for source in [unwanted, wanted] {
        let from = Interface { address: Some(source), ..loopback() };
        send(&mut UdpSender::new(&from, 1).unwrap(), line, &[&source.octets()]);
    }
    let got = receive(&mut port, 1);
    assert_eq!((got[0].source, &got[0].bytes[..]), (wanted, &wanted.octets()[..]));
    assert_eq!(port.rx_burst(), 0);
}

#[test]
fn a_line_that_is_named_twice_is_delivered_once() {
    let line = group(0);
    let twice = subscription(line, None);
    let mut port = port(&[subscription(line, Some(Ipv4Addr::LOCALHOST)), twice, twice]);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    send(&mut sender, line, &[b"once"]);
    receive(&mut port, 1);
    assert_eq!(port.rx_burst(), 0);
}

#[test]
fn a_datagram_that_does_not_fit_is_counted_and_an_empty_one_delivered() {
    let line = group(0);
    let config = UdpConfig {
        subscriptions: vec![subscription(line, None)],
        datagram_bytes_max: 100,
        ..UdpConfig::new(loopback())
    };
    let mut port = UdpPort::new(&config).unwrap();
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    send(&mut sender, line, &[&[1; 101], &[2; 100], b""]);
    let got = receive(&mut port, 2);
    assert_eq!((&got[0].bytes[..], &got[1].bytes[..]), (&[2u8; 100][..], &b""[..]));
    assert_eq!(port.counters().oversized, 1);
    assert_eq!(port.counters().rx_frames, 2);
}

#[test]
fn what_the_kernel_drops_is_counted_as_missed() {
    let line = group(0);
    let config = UdpConfig {
        subscriptions: vec![subscription(line, None)],
        receive_buffer_bytes: 16 << 10,
        ..UdpConfig::new(loopback())
    };
    let mut port = UdpPort::new(&config).unwrap();
    assert_eq!(port.receive_buffer_bytes(), 16 << 10);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    for _ in 0..100 {
        send(&mut sender, line, &[&[0; 1000]]);
    }
    let mut queued = 0;
    loop {
        match port.rx_burst() {
            0 => break,
            burst => queued += burst,
        }
    }
    assert!(queued > 0 && queued < 100, "{queued}");
    // The count of drops comes with the next datagram.
    send(&mut sender, line, &[b"next"]);
    receive(&mut port, 1);
    assert_eq!(port.counters().missed, 100 - queued as u64);
}

#[test]
fn waiting_ends_when_nothing_comes() {
    let port = port(&[subscription(group(0), None)]);
    assert!(!port.wait(Duration::from_millis(1)));
}

#[test]
fn a_port_of_the_machines_own_address_needs_no_group() {
    let mut port = port(&[subscription(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), None)]);
    assert_eq!(port.rx_burst(), 0);
}

#[test]
fn bad_set_ups_are_told() {
    let line = subscription(group(0), None);
    let config = UdpConfig { subscriptions: vec![line], ..UdpConfig::new(loopback()) };
    let refused = |config: UdpConfig| UdpPort::new(&config).unwrap_err();
    let none = UdpConfig { subscriptions: vec![], ..config.clone() };
    assert!(matches!(refused(none), UdpError::Subscriptions { count: 0 }));
    assert!(matches!(refused(UdpConfig { burst: 0, ..config.clone() }), UdpError::Burst { .. }));
    let long = UdpConfig { datagram_bytes_max: 65_508, ..config.clone() };
    assert!(matches!(refused(long), UdpError::DatagramBytes { .. }));
    let absent = Interface { name: "gone0".into(), index: 999_999, address: None };
    let message = refused(UdpConfig { interface: absent.clone(), ..config.clone() }).to_string();
    assert!(message.contains("gone0") && message.contains("IP_ADD_MEMBERSHIP"), "{message}");
    let membership = Membership { source: Some(Ipv4Addr::LOCALHOST), ..line.membership };
    let from_one = vec![Subscription { membership, ..line }];
    let config = UdpConfig { interface: absent, subscriptions: from_one, ..config };
    assert!(matches!(refused(config), UdpError::NoAddress { .. }));
}

#[test]
fn datagrams_that_went_in_one_buffer_arrive_one_by_one() {
    let (a, b) = (group(0), group(1));
    let mut port = port(&[subscription(a, None), subscription(b, None)]);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    sender.segment();
    // Runs of one length, shorter ends, an empty one, another destination in between.
    let lengths = [100, 100, 100, 40, 40, 0, 100, 101, 101, 7];
    let payloads: Vec<Vec<u8>> = (0u8..).zip(lengths).map(|(index, length)| vec![index; length]).collect();
    let to = |index: usize| if index == 2 || index == 8 { b } else { a };
    let datagrams: Vec<_> = payloads
        .iter()
        .enumerate()
        .map(|(index, bytes)| Datagram { destination: to(index), bytes })
        .collect();
    assert_eq!(sender.send(&datagrams).unwrap(), datagrams.len());
    let got = receive(&mut port, datagrams.len());
    for destination in [a, b] {
        let got = got.iter().filter(|got| got.destination == destination).map(|got| &got.bytes[..]);
        let sent = datagrams.iter().filter(|sent| sent.destination == destination).map(|sent| sent.bytes);
        assert!(got.eq(sent));
    }
    match sender.segmentation_error() {
        None => assert_eq!(sender.segments(), 4, "two and two: {datagrams:?}"),
        Some(error) => eprintln!("this kernel does not segment: {error}"),
    }
}

#[test]
fn what_can_not_go_is_told_apart_from_what_has_gone() {
    let line = group(0);
    let mut port = port(&[subscription(line, None)]);
    let mut sender = UdpSender::new(&loopback(), 1).unwrap();
    sender.segment();
    let nowhere = SocketAddrV4::new(*line.ip(), 0);
    let to = |destination| Datagram { destination, bytes: b"tick" };
    let datagrams = [to(line), to(line), to(nowhere), to(nowhere), to(line)];
    assert_eq!(sender.send(&datagrams).unwrap(), 2);
    let error = sender.send(&datagrams[2..]).unwrap_err();
    assert_eq!(SendFault::of(&error), SendFault::Packet, "{error}");
    assert_eq!(sender.send(&datagrams[4..]).unwrap(), 1);
    assert!(sender.segmentation_error().is_none(), "the port was wrong, not the common buffer");
    receive(&mut port, 3);
}
