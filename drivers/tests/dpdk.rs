//! The DPDK port on virtual devices that need no privileges: null, ring and pcap.

use dataplane::port::{Medium, Port};
use drivers::dpdk::{DpdkConfig, DpdkError, DpdkPort, Eal, EalConfig, EalMemory};
use std::io::Write;
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
fn frames_in_several_buffers_are_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jumbo.pcap");
    write_pcap(&file, &[vec![1; 100], vec![2; 6_000], vec![3; 100]]);
    let mut port = open(&config(&format!("net_pcap1,rx_pcap={}", file.display()))).unwrap();
    let mut lengths = Vec::new();
    for _ in 0..1_000 {
        for index in 0..port.rx_burst() {
            lengths.push(port.frame(index).bytes.len());
        }
    }
    assert_eq!(lengths, [100, 100]);
    assert_eq!(port.counters().oversized, 1);
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
