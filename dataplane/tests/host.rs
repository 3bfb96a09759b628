//! The host against frames that another implementation made: the queries and the ARP request are a script's,
//! the expected answers are what Linux 6.18 sent on a veth link with the same addresses, memberships and queries,
//! padded to Ethernet's minimum. tcpdump reads all of them without complaint.

use dataplane::host::{Host, HostConfig, HostCounters, HostError, IgmpVersion, MEMBERSHIPS_MAX};
use dataplane::port::Membership;
use dataplane::time::NS_PER_S;
use dataplane::wire::checksum;
use dataplane::wire::datagram::{Parsed, parse};
use dataplane::wire::ethernet::MacAddress;
use proptest::prelude::*;
use std::net::Ipv4Addr;

// From the router at 10.0.0.254.
const QUERY_V3: &str = "01005e0000010200000000020800\
    46c00024000040000102f9140a0000fee000000194040000 1105ec7d00000000027d0000";
const QUERY_V3_SOURCES: &str = "01005e0102030200000000020800\
    46c0002c000040000102ef090a0000fee801020394040000 1105dc53e8010203027d00020a0909090a090908";
const QUERY_V3_SOURCES_ANY: &str = "01005e360c6f0200000000020800\
    46c0002c000040000102e3680a0000fee9360c6f94040000 1105d0b2e9360c6f027d00020a0909090a090908";
const QUERY_V2: &str = "01005e0000010200000000020800\
    46c00020000040000102f9180a0000fee000000194040000 1105eefa00000000";
const ARP_REQUEST: &str =
    "ffffffffffff0200000000020806 0001080006040001 0200000000020a0000fe 0000000000000a000001";

// From Linux at 10.0.0.1.
const JOIN_ANY: &str = "01005e0000160200000000010800\
    46c00028000040000102f9f80a000001e000001694040000 2200e45800000001 04000000e9360c6f";
const JOIN_SOURCE: &str = "01005e0000160200000000010800\
    46c0002c000040000102f9f40a000001e000001694040000 2200dbe600000001 05000001e80102030a090909";
const ANSWER_GENERAL: &str = "01005e0000160200000000010800\
    46c00034000040000102f9ec0a000001e000001694040000 2200e83f00000002 01000001e80102030a090909 02000000e9360c6f";
const ANSWER_SOURCES: &str = "01005e0000160200000000010800\
    46c0002c000040000102f9f40a000001e000001694040000 2200dfe600000001 01000001e80102030a090909";
const LEAVE_SOURCE: &str = "01005e0000160200000000010800\
    46c0002c000040000102f9f40a000001e000001694040000 2200dae600000001 06000001e80102030a090909";
const LEAVE_ANY: &str = "01005e0000160200000000010800\
    46c00028000040000102f9f80a000001e000001694040000 2200e55800000001 03000000e9360c6f";
const REPORT_V2_ANY: &str = "01005e360c6f0200000000010800\
    46c00020000040000102e4710a000001e9360c6f94040000 1600f459e9360c6f";
const REPORT_V2_SOURCE: &str = "01005e0102030200000000010800\
    46c00020000040000102f0120a000001e801020394040000 1600fffae8010203";
const LEAVE_V2_ANY: &str = "01005e0000020200000000010800\
    46c00020000040000102fa140a000001e000000294040000 1700f359e9360c6f";
const LEAVE_V2_SOURCE: &str = "01005e0000020200000000010800\
    46c00020000040000102fa140a000001e000000294040000 1700fefae8010203";
const ARP_REPLY: &str =
    "0200000000020200000000010806 0001080006040002 0200000000010a000001 0200000000020a0000fe";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let byte = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
    let mut frame: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    frame.resize(frame.len().max(60), 0);
    frame
}

const ANY: Membership = Membership { group: Ipv4Addr::new(233, 54, 12, 111), source: None };
const ONE: Membership =
    Membership { group: Ipv4Addr::new(232, 1, 2, 3), source: Some(Ipv4Addr::new(10, 9, 9, 9)) };

const CONFIG: HostConfig = HostConfig {
    mac: MacAddress([2, 0, 0, 0, 0, 1]),
    address: Ipv4Addr::new(10, 0, 0, 1),
    vlan: None,
    igmp: IgmpVersion::V3,
    seed: 7,
};

/// A host, its clock, and what it sent when.
struct Bench {
    host: Host,
    now_ns: u64,
    sent: Vec<(u64, Vec<u8>)>,
}

impl Bench {
    fn new(config: HostConfig, memberships: &[Membership]) -> Self {
        let host = Host::new(&config, memberships).unwrap();
        Bench { host, now_ns: 1_000 * NS_PER_S, sent: Vec::new() }
    }

    /// Past the announcements and joins at the start.
    fn settled(config: HostConfig, memberships: &[Membership]) -> Self {
        let mut bench = Bench::new(config, memberships);
        bench.run(60 * NS_PER_S);
        bench.sent.clear();
        bench
    }

    fn handle(&mut self, frame: &[u8]) -> bool {
        let (now_ns, sent) = (self.now_ns, &mut self.sent);
        self.host.handle(frame, now_ns, &mut |frame: &[u8]| {
            sent.push((now_ns, frame.to_vec()));
            true
        })
    }

    fn poll(&mut self) {
        let (now_ns, sent) = (self.now_ns, &mut self.sent);
        self.host.poll(now_ns, &mut |frame: &[u8]| {
            sent.push((now_ns, frame.to_vec()));
            true
        });
    }

    /// Runs all that is due within `duration_ns`.
    fn run(&mut self, duration_ns: u64) {
        let end_ns = self.now_ns + duration_ns;
        while self.host.next_ns() <= end_ns {
            self.now_ns = self.host.next_ns().max(self.now_ns);
            let before_ns = self.host.next_ns();
            self.poll();
            assert!(self.host.next_ns() > before_ns, "what was due is done");
        }
        self.now_ns = end_ns;
        self.poll();
    }

    fn leave(&mut self) {
        let (now_ns, sent) = (self.now_ns, &mut self.sent);
        self.host.leave(now_ns, &mut |frame: &[u8]| {
            sent.push((now_ns, frame.to_vec()));
            true
        });
    }

    /// What was sent, IGMP only, and forgets it.
    fn igmp(&mut self) -> Vec<Vec<u8>> {
        let is_igmp = |frame: &[u8]| matches!(parse(frame), Ok(Parsed::Igmp { .. }));
        self.sent.drain(..).map(|(_, frame)| frame).filter(|frame| is_igmp(frame)).collect()
    }
}

#[test]
fn version_3_joins_answers_and_leaves_as_linux_does() {
    let mut any = Bench::new(CONFIG, &[ANY]);
    any.run(60 * NS_PER_S);
    assert_eq!(any.igmp(), [bytes(JOIN_ANY), bytes(JOIN_ANY)]);
    any.leave();
    assert!(!any.host.has_left());
    any.run(NS_PER_S);
    assert!(any.host.has_left());
    assert_eq!(any.igmp(), [bytes(LEAVE_ANY), bytes(LEAVE_ANY)]);

    let mut one = Bench::new(CONFIG, &[ONE]);
    one.run(60 * NS_PER_S);
    assert_eq!(one.igmp(), [bytes(JOIN_SOURCE), bytes(JOIN_SOURCE)]);
    one.leave();
    one.run(NS_PER_S);
    assert_eq!(one.igmp(), [bytes(LEAVE_SOURCE), bytes(LEAVE_SOURCE)]);

    let mut both = Bench::settled(CONFIG, &[ANY, ONE]);
    for (query, answer) in [(QUERY_V3, ANSWER_GENERAL), (QUERY_V3_SOURCES, ANSWER_SOURCES)] {
        assert!(both.handle(&bytes(query)));
        assert_eq!(both.igmp(), [] as [Vec<u8>; 0], "not at once");
        both.run(NS_PER_S / 2);
        assert_eq!(both.igmp(), [bytes(answer)]);
    }
    // Linux answers this one for the whole group; the specification says IS_IN of the sources asked for.
    both.handle(&bytes(QUERY_V3_SOURCES_ANY));
    both.run(NS_PER_S / 2);
    assert_eq!(both.igmp()[0][46..], bytes("01000002e9360c6f0a0909090a090908")[..16]);
    assert_eq!(both.host.counters().igmp_queries, 3);
}

#[test]
fn version_2_joins_answers_and_leaves_as_linux_does() {
    for igmp in [IgmpVersion::V2, IgmpVersion::V3] {
        let mut bench = Bench::new(CONFIG, &[ANY, ONE]);
        if igmp == IgmpVersion::V2 {
            bench = Bench::new(HostConfig { igmp, ..CONFIG }, &[ANY, ONE]);
            bench.run(60 * NS_PER_S);
            let joins = [REPORT_V2_SOURCE, REPORT_V2_ANY, REPORT_V2_SOURCE, REPORT_V2_ANY];
            assert_eq!(bench.igmp(), joins.map(bytes));
        } else {
            bench.run(60 * NS_PER_S);
            bench.sent.clear();
        }
        // A host that speaks version 3 changes over when it hears the older router.
        bench.handle(&bytes(QUERY_V2));
        assert_eq!(bench.host.igmp_version(), IgmpVersion::V2);
        bench.run(NS_PER_S / 2);
        let mut answers = bench.igmp();
        answers.sort();
        assert_eq!(answers, [bytes(REPORT_V2_SOURCE), bytes(REPORT_V2_ANY)]);
        bench.leave();
        bench.run(NS_PER_S);
        let leaves = [LEAVE_V2_SOURCE, LEAVE_V2_ANY, LEAVE_V2_SOURCE, LEAVE_V2_ANY];
        assert_eq!(bench.igmp(), leaves.map(bytes));
    }
}

#[test]
fn the_older_router_is_forgotten_when_it_is_silent() {
    let mut bench = Bench::settled(CONFIG, &[ANY]);
    bench.handle(&bytes(QUERY_V2));
    bench.run(250 * NS_PER_S);
    assert_eq!(bench.host.igmp_version(), IgmpVersion::V2);
    bench.run(NS_PER_S);
    assert_eq!(bench.host.igmp_version(), IgmpVersion::V3);
    bench.sent.clear();
    bench.handle(&bytes(QUERY_V3));
    bench.run(NS_PER_S);
    assert_eq!(bench.igmp()[0][38], 0x22);
}

/// An IGMP message in a frame from the router.
fn frame(destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if message.len() >= 4 {
        message[2..4].fill(0);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = bytes(QUERY_V3);
    frame.truncate(38);
    frame[30..34].copy_from_slice(&destination.octets());
    frame[16..18].copy_from_slice(&(24 + message.len() as u16).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::checksum(&frame[14..38]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(message);
    frame
}

#[test]
fn version_1_is_spoken_with_a_router_that_knows_no_other() {
    let mut bench = Bench::settled(CONFIG, &[ANY]);
    bench.handle(&frame(Ipv4Addr::new(224, 0, 0, 1), &[0x11, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(bench.host.igmp_version(), IgmpVersion::V1);
    bench.run(10 * NS_PER_S);
    let reports = bench.igmp();
    assert_eq!((reports.len(), reports[0][38]), (1, 0x12));
    bench.leave();
    bench.run(NS_PER_S);
    assert_eq!(bench.igmp(), [] as [Vec<u8>; 0], "version 1 has no leave");
}

#[test]
fn another_members_report_is_enough_for_version_2() {
    let mut bench = Bench::settled(HostConfig { igmp: IgmpVersion::V2, ..CONFIG }, &[ANY, ONE]);
    bench.handle(&bytes(QUERY_V2));
    let mut other = bytes(REPORT_V2_ANY);
    // From 10.0.0.3: the checksum of its header is less by 2.
    (other[29], other[25]) = (3, other[25] - 2);
    bench.handle(&other);
    bench.run(NS_PER_S);
    assert_eq!(bench.igmp(), [bytes(REPORT_V2_SOURCE)]);
    // Its own frame, handed back by the device, silences nothing.
    bench.handle(&bytes(QUERY_V2));
    bench.handle(&bytes(REPORT_V2_ANY));
    bench.run(NS_PER_S);
    assert_eq!(bench.igmp().len(), 2);
}

#[test]
fn queries_that_come_together_are_answered_together() {
    let mut bench = Bench::settled(CONFIG, &[ANY, ONE]);
    for _ in 0..1000 {
        bench.handle(&bytes(QUERY_V3));
        bench.handle(&bytes(QUERY_V3_SOURCES));
    }
    bench.run(NS_PER_S);
    // One general answer; the group's own query may have been answered before it.
    let answers = bench.igmp();
    assert!((1..=2).contains(&answers.len()) && answers.contains(&bytes(ANSWER_GENERAL)), "{answers:?}");

    // More sources than are remembered: the answer is about the whole group.
    let group = ANY.group;
    for source in 0..100u8 {
        let mut query = vec![0x11, 100, 0, 0];
        query.extend(group.octets());
        query.extend([2, 125, 0, 1, 10, 0, 1, source]);
        bench.handle(&frame(group, &query));
    }
    bench.run(10 * NS_PER_S);
    let answers = bench.igmp();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][46..54], [2, 0, 0, 0, 233, 54, 12, 111]);
}

#[test]
fn delays_are_within_what_the_query_allows_and_differ_by_seed() {
    let mut delays_ns = Vec::new();
    for seed in 0..50 {
        let mut bench = Bench::settled(HostConfig { seed, ..CONFIG }, &[ANY]);
        let asked_ns = bench.now_ns;
        bench.handle(&bytes(QUERY_V3));
        bench.run(NS_PER_S);
        delays_ns.push(bench.sent[0].0 - asked_ns);
    }
    assert!(delays_ns.iter().all(|delay_ns| (1..=NS_PER_S / 2).contains(delay_ns)), "{delays_ns:?}");
    assert!(delays_ns.iter().any(|delay_ns| *delay_ns < NS_PER_S / 8));
    assert!(delays_ns.iter().any(|delay_ns| *delay_ns > 3 * NS_PER_S / 8));
    assert_eq!(delays_ns[0], {
        let mut again = Bench::settled(HostConfig { seed: 0, ..CONFIG }, &[ANY]);
        let asked_ns = again.now_ns;
        again.handle(&bytes(QUERY_V3));
        again.run(NS_PER_S);
        again.sent[0].0 - asked_ns
    });
}

#[test]
fn arp_is_answered_and_the_address_announced_and_defended() {
    let mut bench = Bench::new(CONFIG, &[]);
    bench.run(60 * NS_PER_S);
    let announcement =
        bytes("ffffffffffff0200000000010806 0001080006040001 0200000000010a000001 0000000000000a000001");
    let sent: Vec<_> = bench.sent.drain(..).collect();
    assert_eq!([&sent[0].1, &sent[1].1], [&announcement, &announcement]);
    assert_eq!((sent.len(), sent[1].0 - sent[0].0), (2, 2 * NS_PER_S));

    assert!(bench.handle(&bytes(ARP_REQUEST)));
    assert_eq!(bench.sent.pop().unwrap().1, bytes(ARP_REPLY));
    // A probe has no sender's address, and is answered; a request for another is not.
    let mut probe = bytes(ARP_REQUEST);
    probe[28..32].fill(0);
    bench.handle(&probe);
    assert_eq!(bench.sent.pop().unwrap().1[22..32], bytes(ARP_REPLY)[22..32]);
    let mut other = bytes(ARP_REQUEST);
    other[41] = 9;
    bench.handle(&other);
    assert_eq!(bench.sent, []);

    // Another claims the address: defended at once, then not for 10 s.
    let mut conflict = bytes(ARP_REPLY);
    conflict[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    conflict[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    bench.handle(&conflict);
    bench.handle(&conflict);
    assert_eq!((bench.sent.len(), bench.host.counters().arp_conflicts), (1, 2));
    assert_eq!(bench.sent[0].1, announcement);
    bench.run(10 * NS_PER_S);
    bench.handle(&conflict);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn on_a_vlan_all_is_tagged_and_other_vlans_are_not_heard() {
    let mut bench = Bench::new(HostConfig { vlan: Some(141), ..CONFIG }, &[ANY]);
    let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 141], &frame[12..]].concat();
    bench.run(60 * NS_PER_S);
    for (_, frame) in &bench.sent {
        assert_eq!(frame[12..16], [0x81, 0, 0, 141]);
    }
    let joins = bench.igmp();
    assert_eq!(joins[0][..58], tagged(&bytes(JOIN_ANY))[..58]);
    assert!(bench.handle(&bytes(ARP_REQUEST)));
    assert_eq!((bench.sent.len(), bench.host.counters().other_vlan), (0, 1));
    bench.handle(&tagged(&bytes(ARP_REQUEST)));
    assert_eq!(bench.sent[0].1[..46], tagged(&bytes(ARP_REPLY))[..46]);
}

#[test]
fn malformed_and_misdirected_messages_are_counted_and_not_answered() {
    let mut bench = Bench::settled(CONFIG, &[ANY, ONE]);
    let all = Ipv4Addr::new(224, 0, 0, 1);
    let mut damaged = bytes(QUERY_V3);
    damaged[39] ^= 1;
    let general = [0x11, 5, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
    let malformed = [
        damaged,
        frame(all, &[]),
        frame(all, &[0x11]),
        frame(all, &general[..9]),
        frame(all, &[&general[..10], &[0, 9]].concat()),
        frame(Ipv4Addr::new(239, 9, 9, 9), &general),
        frame(all, &[0x11, 5, 0, 0, 10, 0, 0, 1]),
        frame(all, &[0x16]),
    ];
    for frame in &malformed {
        assert!(bench.handle(frame));
    }
    assert_eq!(bench.host.counters().igmp_malformed, malformed.len() as u64);
    // Not malformed, but not for us: others' version 3 reports, and what will be invented.
    bench.handle(&frame(Ipv4Addr::new(224, 0, 0, 22), &[0x22, 0, 0, 0, 0, 0, 0, 0]));
    bench.handle(&frame(all, &[0x77, 0, 0, 0]));
    // A group that we are not in.
    bench.handle(&frame(Ipv4Addr::new(239, 9, 9, 9), &[0x11, 5, 0, 0, 239, 9, 9, 9]));
    bench.run(10 * NS_PER_S);
    assert_eq!(bench.sent, []);
    assert!(!bench.handle(b"no frame"));
}

#[test]
fn as_many_groups_as_there_can_be_are_all_reported() {
    let groups: Vec<_> = (0..MEMBERSHIPS_MAX)
        .map(|index| Membership { group: Ipv4Addr::from(0xEF00_0000 + index as u32), source: None })
        .collect();
    let mut bench = Bench::settled(CONFIG, &groups);
    bench.handle(&bytes(QUERY_V3));
    bench.run(NS_PER_S);
    let mut reported = Vec::new();
    for report in bench.igmp() {
        let Ok(Parsed::Igmp { message, .. }) = parse(&report) else { panic!() };
        assert!(checksum::is_intact(message) && report.len() <= 1410);
        assert_eq!(message.len(), 8 + 8 * usize::from(u16::from_be_bytes([message[6], message[7]])));
        let records = message[8..].chunks(8);
        reported.extend(records.map(|r| u32::from_be_bytes([r[4], r[5], r[6], r[7]])));
    }
    assert!(reported.into_iter().eq(groups.iter().map(|membership| u32::from(membership.group))));

    let sources: Vec<_> = (1..=MEMBERSHIPS_MAX as u32)
        .map(|source| Membership { source: Some(Ipv4Addr::from(0x0A00_0000 + source)), ..ANY })
        .collect();
    let mut bench = Bench::settled(CONFIG, &sources);
    bench.handle(&bytes(QUERY_V3));
    bench.run(NS_PER_S);
    assert_eq!(bench.igmp()[0].len(), 38 + 8 + 8 + 4 * MEMBERSHIPS_MAX);
}

#[test]
fn a_group_wanted_from_any_source_is_wanted_once() {
    let one = Membership { source: Some(Ipv4Addr::new(10, 9, 9, 9)), ..ANY };
    let mut bench = Bench::new(CONFIG, &[one, ANY, ANY, one]);
    bench.run(60 * NS_PER_S);
    assert_eq!(bench.igmp(), [bytes(JOIN_ANY), bytes(JOIN_ANY)]);
}

#[test]
fn a_device_that_takes_nothing_is_counted() {
    let mut host = Host::new(&CONFIG, &[ANY]).unwrap();
    host.poll(NS_PER_S, &mut |_: &[u8]| false);
    let expected = HostCounters { igmp_reports: 1, tx_dropped: 2, ..HostCounters::default() };
    assert_eq!(host.counters(), expected);
}

#[test]
fn impossible_hosts_are_refused() {
    let refused =
        |config: HostConfig, memberships: &[Membership]| Host::new(&config, memberships).unwrap_err();
    assert_eq!(refused(HostConfig { vlan: Some(4095), ..CONFIG }, &[]), HostError::VlanId { id: 4095 });
    assert_eq!(refused(HostConfig { igmp: IgmpVersion::V1, ..CONFIG }, &[]), HostError::Version);
    for group in [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::new(240, 0, 0, 0)] {
        let error = refused(CONFIG, &[Membership { group, source: None }]);
        assert_eq!(error, HostError::NotMulticast { group });
        assert!(error.to_string().contains(&group.to_string()));
    }
    let source = ANY.group;
    let error = refused(CONFIG, &[Membership { source: Some(source), ..ANY }]);
    assert_eq!(error, HostError::NotUnicast { source });
    let count = MEMBERSHIPS_MAX + 1;
    assert_eq!(refused(CONFIG, &vec![ANY; count]), HostError::TooManyMemberships { count });
}

proptest! {
    /// Whatever arrives: no panic, well-formed frames only, and never more than the timers allow.
    #[test]
    fn any_messages_are_borne(
        steps in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..60), 0..3u8, 0..4usize, 0..2 * NS_PER_S), 0..60),
        igmp in prop::sample::select(&[IgmpVersion::V2, IgmpVersion::V3][..]),
    ) {
        let mut bench = Bench::new(HostConfig { igmp, ..CONFIG }, &[ANY, ONE]);
        let known = [QUERY_V2, QUERY_V3, QUERY_V3_SOURCES, ARP_REQUEST].map(bytes);
        for (noise, what, index, pause_ns) in steps {
            match what {
                0 => bench.handle(&known[index]),
                1 => {
                    let mut query = vec![0x11, 1, 0, 0];
                    query.extend(ANY.group.octets());
                    query.extend(&noise);
                    bench.handle(&frame(ANY.group, &query))
                }
                _ => bench.handle(&frame(Ipv4Addr::new(224, 0, 0, 1), &noise)),
            };
            bench.run(pause_ns);
        }
        for (_, sent) in &bench.sent {
            prop_assert!(sent.len() >= 60);
            match parse(sent) {
                Ok(Parsed::Igmp { message, .. }) => prop_assert!(checksum::is_intact(message)),
                Ok(Parsed::Arp { .. }) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
