//! What is made, refused to be made, and dropped.

use crate::nodes::{CELLS, Node, devices, write};
use drivers::rdma::{
    Access, Device, DeviceConfig, Endpoint, MemoryRegion, PostError, QueuePairConfig, RdmaError, device_names,
};
use drivers::region::RegionMapping;
use std::sync::Arc;

#[test]
fn they_may_be_dropped_in_any_order() {
    let Some([device, other]) = devices() else { return };
    for order in 0..6 {
        let mut node = Node::new(&device, Access::RemoteWrite, &QueuePairConfig::default());
        let mut peer = Node::new(&other, Access::RemoteWrite, &QueuePairConfig::default());
        node.pair.connect(&peer.pair.endpoint()).unwrap();
        peer.pair.connect(&node.pair.endpoint()).unwrap();
        let to = peer.memory.remote();
        // With work under way.
        node.pair.post(&[write(&node.memory, 0, CELLS, to), write(&node.memory, 0, CELLS, to)]).unwrap();
        let Node { memory, pair, completions, mapping } = node;
        drop(mapping);
        let (mut memory, mut pair, mut completions) = (Some(memory), Some(pair), Some(completions));
        for step in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order] {
            match step {
                0 => drop(memory.take()),
                1 => drop(pair.take()),
                _ => drop(completions.take()),
            }
        }
        assert!(memory.is_none() && pair.is_none() && completions.is_none());
    }
    // All gave it back.
    assert_eq!([&device, &other].map(Arc::strong_count), [1, 1]);
}

#[test]
fn a_queue_pair_that_is_not_connected_posts_nothing() {
    let Some([device, _]) = devices() else { return };
    let mut node = Node::new(&device, Access::RemoteWrite, &QueuePairConfig::default());
    let write = write(&node.memory, 0, 1, node.memory.remote());
    assert!(matches!(node.pair.post(&[write]), Err(PostError::Refused { posted: 0, .. })));
    let ours = node.pair.endpoint();
    assert!(ours.queue_pair != 0 && ours.gid != [0; 16]);
    let bad = [
        Endpoint { mtu_bytes: 1_500, ..ours },
        Endpoint { mtu_bytes: 0, ..ours },
        Endpoint { queue_pair: 1 << 24, ..ours },
        Endpoint { packet_sequence: u32::MAX, ..ours },
    ];
    for endpoint in bad {
        assert!(matches!(node.pair.connect(&endpoint), Err(RdmaError::Endpoint { .. })), "{endpoint:?}");
    }
}

#[test]
fn errors_say_what_is_there() {
    let Some([device, _]) = devices() else { return };
    let error = Device::open(&DeviceConfig::new("no-such-device")).unwrap_err().to_string();
    assert!(error.contains("no-such-device") && error.contains(device.name()), "{error}");
    assert!(device_names().unwrap().contains(&device.name().to_owned()));
    let config = DeviceConfig { port: 200, ..DeviceConfig::new(device.name()) };
    assert!(matches!(Device::open(&config), Err(RdmaError::Port { .. } | RdmaError::Down { .. })));
    let config = DeviceConfig { gid_index: Some(255), ..DeviceConfig::new(device.name()) };
    assert!(matches!(Device::open(&config), Err(RdmaError::NoAddress { .. })));

    let mapping = Arc::new(RegionMapping::create_anonymous("rdma-test", 4).unwrap());
    for (from, upto) in [(0, mapping.mapped_bytes() + 8), (8, 8), (16, 8), (4, 64), (0, 60)] {
        let range = std::ops::Range { start: from, end: upto };
        let error = MemoryRegion::register(&device, &mapping, range, Access::Local).unwrap_err();
        assert!(matches!(error, RdmaError::Range { .. }), "{error}");
    }
}

#[test]
fn a_region_that_is_only_read_is_not_for_peers_to_write() {
    let Some([device, _]) = devices() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    let written = RegionMapping::create(&path, 64).unwrap();
    written.publish().unwrap();
    let read = Arc::new(RegionMapping::open(&path).unwrap());
    let error = MemoryRegion::register(&device, &read, 0..64, Access::RemoteWrite).unwrap_err();
    assert!(matches!(error, RdmaError::Register { .. }), "{error}");
}
