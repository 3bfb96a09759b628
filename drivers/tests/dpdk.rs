//! The DPDK port on virtual devices that need no privileges: null, ring and pcap.

use dataplane::cache::cell::Cell;
use dataplane::cache::region::Layout;
use dataplane::cache::writer::Writer;
use dataplane::hint::NoPrefetch;
use dataplane::port::{Medium, Port};
use dataplane::sim::memory_port::MemoryPort;
use dataplane::wire::datagram::Datagram;
use dataplane::worker::{PortSetup, Worker};
use drivers::clock::SystemClock;
use drivers::dpdk::{DpdkConfig, DpdkError, DpdkPort, Eal, EalConfig, EalMemory};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// DPDK starts once a process; the tests are its threads.
fn eal() -> Arc<Eal> {
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    let config = EalConfig { memory: EalMemory::NoHuge { megabytes: 256 }, pci_addresses: Vec::new() };
    EAL.get_or_init(|| Eal::start(&config).unwrap_or_else(|error| panic!("{error}"))).clone()
}

fn open(config: &DpdkConfig) -> Result<DpdkPort, DpdkError> {
    DpdkPort::open(&eal(), config)
}

fn config(device: &str) -> DpdkConfig {
    DpdkConfig { mbufs: 2_047, ..DpdkConfig::new(device) }
}

/// A classic pcap file of Ethernet frames.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = std::fs::File::create(path).unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    file.write_all(&words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1])).unwrap();
    for frame in frames {
        file.write_all(&words(&[0, 0, frame.len() as u32, frame.len() as u32])).unwrap();
        file.write_all(frame).unwrap();
    }
}

fn frame(number: usize) -> Vec<u8> {
    (0..60 + number % 1_400).map(|index| (index + number) as u8).collect()
}

#[test]
fn a_null_device_gives_bursts_and_all_its_buffers_come_back() {
    let mut port = open(&DpdkConfig { rx_queues: 2, ..config("net_null0,size=64") }).unwrap();
    assert_eq!((port.medium(), port.name().as_str()), (Medium::Ethernet, "net_null0"));
    let free = port.mbufs_free();
    let mut frames = 0;
    for _ in 0..1_000 {
        let burst = port.rx_burst();
        frames += burst;
        for index in 0..burst {
            assert_eq!(port.frame(index).bytes.len(), 64);
        }
    }
    assert_eq!(frames, 64_000);
    assert_eq!(port.counters().rx_frames, 64_000);
    assert!(port.mbufs_free() < free, "the last burst is lent out");
    assert!(port.tx(&[0; 60]));
    assert_eq!(port.counters().tx_frames, 1);
}

#[test]
fn a_recording_comes_through_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.pcap");
    let sent: Vec<Vec<u8>> = (0..500).map(frame).collect();
    write_pcap(&file, &sent);
    let mut port = open(&config(&format!("net_pcap0,rx_pcap={}", file.display()))).unwrap();
    let mut received = Vec::new();
    for _ in 0..100_000 {
        for index in 0..port.rx_burst() {
            received.push(port.frame(index).bytes.to_vec());
        }
        if received.len() == sent.len() {
            break;
        }
    }
    assert_eq!(received, sent);
    assert_eq!(port.rx_burst(), 0);
    assert_eq!(port.counters().rx_frames, 500);
}

#[test]
fn frames_in_several_buffers_are_empty_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jumbo.pcap");
    write_pcap(&file, &[vec![1; 100], vec![2; 6_000], vec![3; 100], vec![4; 9_000]]);
    let mut port = open(&config(&format!("net_pcap1,rx_pcap={}", file.display()))).unwrap();
    let free = port.mbufs_free();
    let mut lengths = Vec::new();
    for _ in 0..1_000 {
        for index in 0..port.rx_burst() {
            port.prefetch::<NoPrefetch>(index);
            assert_eq!(port.frame(index).bytes, port.frame(index).bytes, "to ask twice counts nothing twice");
            lengths.push(port.frame(index).bytes.len());
        }
    }
    assert_eq!(lengths, [100, 0, 100, 0]);
    assert_eq!((port.counters().rx_frames, port.counters().oversized), (4, 2));
    assert_eq!(port.mbufs_free(), free, "every segment came back");
}

#[test]
fn a_worker_leaves_the_counting_of_them_to_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jumbo.pcap");
    let source = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5_000);
    let destination = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 26_477);
    let mut sender = MemoryPort::new(Medium::Ethernet);
    sender.push_datagram(&Datagram { vlan: None, source, destination, payload: b"payload" }, 0);
    assert_eq!(sender.rx_burst(), 1);
    let datagram = sender.frame(0).bytes.to_vec();
    write_pcap(&file, &[datagram.clone(), vec![2; 6_000], vec![0xFF; 100], datagram]);
    let port = open(&config(&format!("net_pcap2,rx_pcap={}", file.display()))).unwrap();
    let layout = Layout { instruments: 1, feeds: 1, log_ticks: 1, bursts: 1 };
    let cells: Vec<Cell> = (0..layout.cells()).map(|_| Cell::default()).collect();
    let writer = Writer::format(&cells, layout, 1).unwrap();
    let setup = PortSetup { port, host: None, vlan: None };
    let mut worker =
        Worker::<_, _, NoPrefetch>::new(vec![setup], Vec::new(), writer, SystemClock, 1).unwrap();
    for _ in 0..1_000 {
        worker.do_work();
    }
    worker.leave();
    let counters = &worker.telemetry().ports[0];
    let counted: Vec<(&str, u64)> =
        counters.entries().filter(|(name, count)| *count != 0 && *name != "rx_bytes").collect();
    assert_eq!(counted, [("rx_frames", 4), ("oversized", 1), ("unrouted", 2), ("ethertype", 1)]);
}

#[test]
fn every_queue_gives_all_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    // One is much longer, so that the turns of the others find nothing in the end.
    let sent: Vec<Vec<Vec<u8>>> = [300, 2, 1_000, 40]
        .into_iter()
        .enumerate()
        .map(|(queue, count)| (0..count).map(|number| [vec![queue as u8], frame(number)].concat()).collect())
        .collect();
    let mut device = "net_pcap3".to_owned();
    for (queue, frames) in sent.iter().enumerate() {
        let file = folder.path().join(format!("{queue}.pcap"));
        write_pcap(&file, frames);
        device += &format!(",rx_pcap={}", file.display());
    }
    let mut port = open(&DpdkConfig { rx_queues: 4, ..config(&device) }).unwrap();
    let free = port.mbufs_free();
    let mut received = vec![Vec::new(); 4];
    for _ in 0..10_000 {
        for index in 0..port.rx_burst() {
            let bytes = port.frame(index).bytes;
            received[usize::from(bytes[0])].push(bytes.to_vec());
        }
    }
    assert!(received == sent, "each queue's frames once, in its order");
    assert_eq!(port.counters().rx_frames, 1_342);
    assert_eq!(port.mbufs_free(), free);
}

#[test]
fn what_a_ring_is_sent_it_receives() {
    let mut port = open(&config("net_ring0")).unwrap();
    for number in 0..20 {
        assert!(port.tx(&frame(number)));
    }
    let mut received = Vec::new();
    for _ in 0..1_000 {
        for index in 0..port.rx_burst() {
            received.push(port.frame(index).bytes.to_vec());
        }
    }
    assert_eq!(received, (0..20).map(frame).collect::<Vec<_>>());
}

#[test]
fn a_device_can_be_opened_again_after_it_was_dropped() {
    for _ in 0..3 {
        let mut port = open(&config("net_null7,size=64")).unwrap();
        assert_eq!(port.rx_burst(), 64);
    }
}

#[test]
fn what_can_not_be_is_refused_with_a_cure() {
    let error = |config: &DpdkConfig| open(config).unwrap_err().to_string();
    let unknown = error(&config("net_nonesuch0"));
    assert!(unknown.contains("net_nonesuch0") && unknown.contains("PCI address"), "{unknown}");
    let missing = error(&config("net_pcap9,rx_pcap=/nowhere/x.pcap"));
    assert!(missing.contains("net_pcap9"), "{missing}");
    let queues = error(&DpdkConfig { rx_queues: 5, ..config("net_null8") });
    assert!(queues.contains("rx_queues = 5"), "{queues}");
    let mbufs = error(&DpdkConfig { mbufs: 50_000_000, ..config("net_null9") });
    assert!(mbufs.contains("packet buffers"), "{mbufs}");
    let _started = eal();
    let again = EalConfig { memory: EalMemory::Hugepages, pci_addresses: Vec::new() };
    assert_eq!(Eal::start(&again).unwrap_err(), DpdkError::Twice);
}
