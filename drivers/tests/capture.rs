//! Recordings as ports: every file form gives the same packets, damaged ones end with a reason, and the real ones
//! give the packets that they are known to hold.

use dataplane::port::{Medium, Port};
use dataplane::wire::datagram::{Parsed, parse};
use dataplane::wire::moldudp64::{END_OF_SESSION, Packet};
use drivers::capture::{CaptureError, CapturePort, open_capture};
use drivers::itch_file::{DESTINATION, SESSION};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A packet as a capture tells it: bytes and stamp in ns.
type Recorded = (Vec<u8>, u64);

fn open(bytes: &[u8], limit: Option<u64>) -> Result<CapturePort, CaptureError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    open_capture(file.path(), limit)
}

fn read(port: &mut CapturePort) -> Vec<Recorded> {
    let mut packets = Vec::new();
    while !port.is_exhausted() {
        let burst = port.rx_burst();
        assert!(burst > 0 || port.is_exhausted());
        packets.extend((0..burst).map(|index| port.frame(index)).map(|f| (f.bytes.to_vec(), f.stamp_ns)));
    }
    assert_eq!(port.rx_burst(), 0);
    packets
}

fn read_whole(bytes: &[u8]) -> Vec<Recorded> {
    let mut port = open(bytes, None).unwrap();
    let packets = read(&mut port);
    assert!(port.error().is_none(), "{:?}", port.error());
    packets
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Form {
    big: bool,
    nanoseconds: bool,
    link_type: u16,
}

const FORMS: [Form; 4] = [
    Form { big: false, nanoseconds: false, link_type: 1 },
    Form { big: true, nanoseconds: false, link_type: 1 },
    Form { big: false, nanoseconds: true, link_type: 1 },
    Form { big: true, nanoseconds: true, link_type: 1 },
];

impl Form {
    fn u16(self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn pcap(self, packets: &[Recorded]) -> Vec<u8> {
        let magic = if self.nanoseconds { 0xA1B2_3C4D } else { 0xA1B2_C3D4 };
        let mut file = self.u32(magic).to_vec();
        file.extend([self.u16(2), self.u16(4)].as_flattened());
        file.extend([0, 0, 100, self.link_type.into()].map(|word| self.u32(word)).as_flattened());
        for (bytes, stamp_ns) in packets {
            let (seconds, fraction) = (stamp_ns / 1_000_000_000, stamp_ns % 1_000_000_000);
            let fraction = if self.nanoseconds { fraction } else { fraction / 1000 };
            // Longer on the wire than what was captured.
            let words = [seconds as u32, fraction as u32, bytes.len() as u32, bytes.len() as u32 + 50];
            file.extend(words.map(|word| self.u32(word)).as_flattened());
            file.extend(bytes);
        }
        file
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = body.len().next_multiple_of(4) + 12;
        let mut block = [self.u32(kind), self.u32(length as u32)].concat();
        block.extend(body);
        block.resize(length - 4, 0);
        block.extend(self.u32(length as u32));
        block
    }

    fn section(self) -> Vec<u8> {
        let body = [&self.u32(0x1A2B_3C4D)[..], &self.u16(1), &self.u16(0), &[0xFF; 8]].concat();
        self.block(0x0A0D_0D0A, &body)
    }

    fn interface(self, options: &[u8]) -> Vec<u8> {
        self.block(1, &[&self.u16(self.link_type)[..], &[0; 2], &self.u32(0), options].concat())
    }

    fn enhanced(self, interface: u32, stamp: u64, bytes: &[u8]) -> Vec<u8> {
        let length = bytes.len() as u32;
        let words = [interface, (stamp >> 32) as u32, stamp as u32, length, length];
        // And an option, a comment, that is no UTF-8.
        let option = [&self.u16(1)[..], &self.u16(2), &[0xFF, 0xFE, 0, 0], &[0; 4]].concat();
        let padding = vec![0; bytes.len().next_multiple_of(4) - bytes.len()];
        self.block(6, &[words.map(|word| self.u32(word)).as_flattened(), bytes, &padding, &option].concat())
    }

    fn pcapng(self, packets: &[Recorded]) -> Vec<u8> {
        let resolution = [&self.u16(9)[..], &self.u16(1), &[9, 0, 0, 0], &[0; 4]].concat();
        let mut file = self.section();
        file.extend(self.interface(if self.nanoseconds { &resolution } else { &[] }));
        file.extend(self.block(0xBAD, b"a block of a kind that nobody knows"));
        for (bytes, stamp_ns) in packets {
            let stamp = if self.nanoseconds { *stamp_ns } else { stamp_ns / 1000 };
            file.extend(self.enhanced(0, stamp, bytes));
        }
        file
    }
}

fn packets(count: usize) -> Vec<Recorded> {
    let stamp_ns = 1_548_835_200_123_456_000;
    (0..count)
        .map(|index| (vec![index as u8; 1 + index * 7 % 1500], stamp_ns + index as u64 * 1000))
        .collect()
}

#[test]
fn every_form_gives_the_same_packets() {
    let expected = packets(5000);
    for form in FORMS {
        for file in [form.pcap(&expected), form.pcapng(&expected)] {
            assert!(file.len() > 3 << 20, "longer than the window");
            assert!(read_whole(&file) == expected, "{form:?}");
        }
        assert!(read_whole(&gzip(&form.pcap(&expected))) == expected, "{form:?}");
    }
    let mut members = gzip(&FORMS[0].pcapng(&expected[..10]));
    members.extend(gzip(&FORMS[1].pcapng(&expected[..7])));
    assert_eq!(read_whole(&members).len(), 17, "members and sections follow one another");
    assert_eq!(read_whole(&FORMS[0].pcap(&[])), []);
}

#[test]
fn counters_and_the_limit_count_packets_of_the_file() {
    let mut recorded = packets(200);
    recorded[3].0 = vec![1; 9217];
    recorded[5].0 = Vec::new();
    let file = FORMS[0].pcap(&recorded);
    let mut port = open(&file, Some(150)).unwrap();
    assert_eq!(port.medium(), Medium::Ethernet);
    let read_packets = read(&mut port);
    recorded.retain(|(bytes, _)| (1..=9216).contains(&bytes.len()));
    assert_eq!(read_packets, &recorded[..148]);
    let counters = port.counters();
    assert_eq!((counters.rx_frames, counters.oversized), (148, 2));
    assert_eq!(counters.rx_bytes, recorded[..148].iter().map(|(bytes, _)| bytes.len() as u64).sum::<u64>());
    assert!(port.error().is_none());
    assert!(open(&file, Some(0)).unwrap().is_exhausted());
    assert!(!port.tx(b"frame"));
}

#[test]
fn stamps_of_other_units_and_offsets_are_ns_of_unix_time() {
    for form in [FORMS[0], FORMS[1]] {
        let option = |code, value: &[u8]| {
            [&form.u16(code)[..], &form.u16(value.len() as u16), value, &vec![0; value.len() * 3 % 4]]
                .concat()
        };
        let mut offset = if form.big { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() };
        let mut file = form.section();
        file.extend(form.interface(&option(9, &[0x80 | 10])));
        file.extend(form.interface(&[option(9, &[0]), option(14, &offset)].concat()));
        offset = if form.big { (-7i64).to_be_bytes() } else { (-7i64).to_le_bytes() };
        file.extend(form.interface(&option(14, &offset)));
        file.extend(form.enhanced(0, 1024 * 5 + 512, b"2^-10 s"));
        file.extend(form.enhanced(1, 23, b"s from 100 on"));
        file.extend(form.enhanced(2, 8_000_000, b"us less 7 s"));
        file.extend(form.enhanced(2, 6_000_000, b"before 1970"));
        file.extend(form.block(3, &[&form.u32(6)[..], b"simple"].concat()));
        let stamps: Vec<_> = read_whole(&file).into_iter().map(|(_, stamp_ns)| stamp_ns).collect();
        assert_eq!(stamps, [5_500_000_000, 123_000_000_000, 1_000_000_000, 0, 0]);
    }
}

#[test]
fn other_link_types_are_named_at_once() {
    for form in FORMS.map(|form| Form { link_type: 113, ..form }) {
        for file in [form.pcap(&[]), form.pcapng(&packets(1))] {
            let message = open(&file, None).unwrap_err().to_string();
            assert!(message.contains("113 (Linux cooked)"), "{message}");
        }
    }
}

#[test]
fn a_cut_file_gives_what_is_whole_and_tells_where_it_ends() {
    let recorded = packets(100);
    for whole in [FORMS[0].pcap(&recorded), FORMS[2].pcapng(&recorded)] {
        let mut port = open(&whole[..whole.len() - 1], None).unwrap();
        assert_eq!(read(&mut port), &recorded[..99]);
        assert!(matches!(port.error(), Some(CaptureError::Cut { packet: 100 })), "{:?}", port.error());

        let packed = gzip(&whole);
        let mut port = open(&packed[..packed.len() / 2], None).unwrap();
        let got = read(&mut port);
        assert!(got.len() < 100 && got == recorded[..got.len()]);
        let Some(CaptureError::Read { packet, .. }) = port.error() else { panic!("{:?}", port.error()) };
        assert_eq!(*packet, got.len() as u64 + 1);
    }
}

#[test]
fn damaged_files_end_where_they_are_damaged() {
    let recorded = packets(3);
    let mut long = FORMS[0].pcap(&recorded);
    long.extend([[0xFF; 4], [0; 4], [0, 0, 16, 0], [0; 4]].as_flattened());
    let mut lengths_differ = FORMS[0].pcapng(&recorded);
    *lengths_differ.last_mut().unwrap() += 4;
    let mut no_length = FORMS[0].pcapng(&recorded);
    no_length.extend([6, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let mut huge = FORMS[0].pcapng(&recorded);
    huge.extend([6, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0]);
    let mut no_interface = FORMS[0].pcapng(&recorded);
    no_interface.extend(FORMS[0].enhanced(1, 0, b"x"));
    for (file, whole) in [(long, 3), (lengths_differ, 2), (no_length, 3), (huge, 3), (no_interface, 3)] {
        let mut port = open(&file, None).unwrap();
        assert_eq!(read(&mut port), &recorded[..whole]);
        let Some(CaptureError::Damaged { packet, .. }) = port.error() else { panic!("{:?}", port.error()) };
        assert_eq!(*packet, whole as u64 + 1);
    }
    assert!(matches!(open(b"", None), Err(CaptureError::Format { .. })));
    assert!(matches!(open(b"no capture at all", None), Err(CaptureError::Format { .. })));
    let absent = open_capture(Path::new("/no/such/file"), None).unwrap_err();
    assert!(matches!(absent, CaptureError::Open { .. }), "{absent}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_damage_makes_a_reader_panic_or_run_on(
        form in prop::sample::select(&FORMS[..]),
        kind in 0..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let recorded = packets(20);
        let mut file = match kind {
            0 => form.pcap(&recorded),
            1 => form.pcapng(&recorded),
            _ => gzip(&form.pcapng(&recorded)),
        };
        for (index, value) in &damage {
            let index = index.index(file.len());
            file[index] = *value;
        }
        if let Ok(mut port) = open(&file, None) {
            read(&mut port);
        }
    }
}

fn records(messages: &[&[u8]]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&(message.len() as u16).to_be_bytes()[..], message].concat())
        .collect()
}

#[test]
fn an_itch_file_plays_as_a_session_of_single_messages() {
    let messages: Vec<Vec<u8>> = (0..1000).map(|index| vec![b'A'; 1 + index % 50]).collect();
    let file = records(&messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // The end of the file and a record without length both end the session.
    for file in [file.clone(), gzip(&file), [&file[..], &[0, 0]].concat()] {
        let mut port = open(&file, None).unwrap();
        assert_eq!((port.medium(), port.rx_burst()), (Medium::Udp, 64));
        assert_eq!(port.frame(63).destination, DESTINATION);
        let mut port = open(&file, None).unwrap();
        let packets = read(&mut port);
        assert_eq!(packets.len(), 1001);
        for (index, ((bytes, stamp_ns), sequence)) in packets.iter().zip(1..).enumerate() {
            let packet = Packet::parse(bytes).unwrap();
            assert_eq!((packet.session(), packet.sequence(), *stamp_ns), (&SESSION, sequence, 0));
            if index < 1000 {
                assert_eq!((packet.message_count(), packet.validate()), (1, Ok(())));
                assert_eq!(packet.blocks()[2..], messages[index]);
            } else {
                assert_eq!(packet.header().message_count.get(), END_OF_SESSION);
            }
        }
        assert!(port.error().is_none());
    }
    let mut port = open(&file, Some(3)).unwrap();
    assert_eq!(read(&mut port).len(), 3, "no end of the session before it");
}

#[test]
fn an_itch_file_that_was_cut_does_not_end_its_session() {
    let file = records(&[b"Aone", b"Btwo", b"Cthree"]);
    for cut in [1, 5, 6, 7] {
        let mut port = open(&file[..file.len() - cut], None).unwrap();
        assert_eq!(read(&mut port).len(), 2, "{cut}");
        assert!(matches!(port.error(), Some(CaptureError::Cut { packet: 3 })), "{:?}", port.error());
    }
    let mut port = open(&[&file[..], &[0xFF, 0xFF, 1]].concat(), None).unwrap();
    assert_eq!(read(&mut port).len(), 3);
    assert!(matches!(port.error(), Some(CaptureError::Damaged { packet: 4, .. })));
}

fn recording(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let beside = ["../shared/captures", "../../shared/captures"].map(|folder| workspace.join(folder));
    let folders = std::env::var_os("TICKPLANE_CAPTURES").map(PathBuf::from).into_iter().chain(beside);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no {name}; set TICKPLANE_CAPTURES to the folder of the recordings");
    }
    found
}

#[test]
fn real_captures_hold_the_packets_that_they_are_known_to_hold() {
    for (name, count, udp) in [
        ("cme/mdp3-schema8-ab.pcapng", 10_000, 10_000),
        // One of them is a router's PIM hello.
        ("cme/mdp3-schema9-mixed.pcap", 100, 99),
        ("iex/tops16.pcapng.gz", 13_022, 13_022),
        ("nasdaq/StockTradingActionMessage.pcap", 1, 1),
    ] {
        let Some(path) = recording(name) else { continue };
        let mut port = open_capture(&path, None).unwrap();
        let packets = read(&mut port);
        assert!(port.error().is_none(), "{name}: {:?}", port.error());
        assert_eq!(packets.len(), count, "{name}");
        let is_udp = |bytes| matches!(parse(bytes), Ok(Parsed::Udp(_)));
        assert_eq!(packets.iter().filter(|(bytes, _)| is_udp(bytes)).count(), udp, "{name}");
        assert!(packets.is_sorted_by_key(|(_, stamp_ns)| stamp_ns / 1_000_000_000), "{name}");
        assert!(packets[0].1 > 1_000_000_000_000_000_000, "{name}: {}", packets[0].1);
    }
}

#[test]
fn the_real_nasdaq_packets_are_tagged_and_hold_their_messages() {
    let Some(path) = recording("nasdaq/Multiple.Packets.pcap") else { return };
    let mut port = open_capture(&path, None).unwrap();
    let mut held = Vec::new();
    for (bytes, _) in read(&mut port) {
        let Ok(Parsed::Udp(datagram)) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
        assert_eq!(datagram.vlan, Some(141));
        assert_eq!(datagram.destination.to_string(), "233.54.12.111:26477");
        let packet = Packet::parse(datagram.payload).unwrap();
        assert_eq!((packet.session(), packet.validate()), (b"000010059B", Ok(())));
        held.push((packet.sequence(), packet.message_count()));
    }
    assert_eq!(held, [(14_764_496, 1), (19_009_117, 38)]);
}

#[test]
fn the_real_itch_files_play_to_their_ends() {
    for (name, messages, whole) in
        [("itch/preopen-directory.itch", 35_581, false), ("itch/synthetic-3-symbols.itch", 12_012, true)]
    {
        let Some(path) = recording(name) else { continue };
        let mut port = open_capture(&path, None).unwrap();
        assert_eq!(read(&mut port).len(), messages + usize::from(whole), "{name}");
        assert_eq!(port.error().is_none(), whole, "{name}: {:?}", port.error());
    }
}
