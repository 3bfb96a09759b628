//! The devices, and a node on each.

use dataplane::cache::tick::{Kind, Tick};
use drivers::rdma::{
    Access, Completed, Completion, CompletionQueue, Device, DeviceConfig, MemoryRegion, QueuePair,
    QueuePairConfig, RemoteMemory, Source, Status, Write, device_names,
};
use drivers::region::{CELL_BYTES, RegionMapping};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const CELLS: usize = 1_024;
pub const BYTES: usize = CELLS * CELL_BYTES;
/// For what is to happen. An emulated machine with busy neighbours is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers of work.
pub const WRITE: u64 = 1_000;
pub const RECEIVE: u64 = 2_000;

/// Two devices that reach each other; `None` = there are none.
pub fn devices() -> Option<[Arc<Device>; 2]> {
    let promised = std::env::var_os("TICKPLANE_TEST_RDMA").is_some();
    let names: Vec<String> = match std::env::var("RDMA_DEVICE") {
        Ok(names) => names.split(',').map(str::to_owned).collect(),
        Err(_) => match device_names() {
            Ok(present) => present.into_iter().filter(|name| ["rxe0", "rxe1"].contains(&&**name)).collect(),
            Err(error) => {
                assert!(!promised, "{error}");
                eprintln!("skipped: {error}");
                return None;
            }
        },
    };
    let (Some(one), Some(other)) = (names.first(), names.last()) else {
        assert!(!promised, "neither rxe0 nor rxe1 is here");
        eprintln!("skipped: neither rxe0 nor rxe1 is here; RDMA_DEVICE=NAME names another");
        return None;
    };
    let open = |name| Device::open(&DeviceConfig::new(name)).unwrap_or_else(|error| panic!("{error}"));
    Some([open(one), open(other)])
}

/// One side: a region's memory, a queue pair, and where its completions come.
pub struct Node {
    pub memory: MemoryRegion,
    pub pair: QueuePair,
    pub completions: CompletionQueue,
    pub mapping: Arc<RegionMapping>,
}

impl Node {
    pub fn new(device: &Arc<Device>, access: Access, config: &QueuePairConfig) -> Node {
        let mapping = Arc::new(RegionMapping::create_anonymous("rdma-test", CELLS).unwrap());
        let memory = MemoryRegion::register(device, &mapping, 0..BYTES, access).unwrap();
        let completions = CompletionQueue::new(device, config.writes + config.receives).unwrap();
        let pair = QueuePair::new(&completions, config).unwrap();
        Node { memory, pair, completions, mapping }
    }

    pub fn store(&self, cell: usize, position: u64) {
        self.mapping.cells()[cell].store(position, &tick(position));
    }

    pub fn position(&self, cell: usize) -> Option<u64> {
        let (position, held) = self.mapping.cells()[cell].load().held()?;
        assert_eq!(held, tick(position), "a cell holds the tick of its position");
        Some(position)
    }

    /// The next completion.
    pub fn completion(&mut self) -> Completion {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(completion) = self.completions.poll().unwrap() {
                assert_eq!(completion.queue_pair, self.pair.endpoint().queue_pair);
                return completion;
            }
            assert!(Instant::now() < until, "no completion came");
            std::thread::yield_now();
        }
    }

    pub fn result(&mut self) -> Result<Completed, Status> {
        let completion = self.completion();
        assert_eq!(completion.work, WRITE);
        completion.result
    }

    pub fn immediate(&mut self) -> (u32, u32) {
        let completion = self.completion();
        assert_eq!(completion.work, RECEIVE);
        match completion.result {
            Ok(Completed::Immediate { immediate, bytes }) => (immediate, bytes),
            other => panic!("{other:?} where an immediate was awaited"),
        }
    }
}

/// Cells from `from` on, to the same place at the peer.
pub fn write(memory: &MemoryRegion, from: usize, cells: usize, to: RemoteMemory) -> Write<'_> {
    let offset = from * CELL_BYTES;
    Write {
        source: Source::Memory { region: memory, offset, bytes: cells * CELL_BYTES },
        to,
        offset,
        immediate: None,
        work: WRITE,
        signalled: true,
    }
}

pub fn tick(position: u64) -> Tick {
    Tick { exchange_ns: position * 3, sequence: position, kind: Kind::Quote as u8, ..Tick::default() }
}

/// A node that writes and one that is written, connected.
pub fn nodes() -> Option<(Node, Node)> {
    nodes_with(&QueuePairConfig::default())
}

pub fn nodes_with(config: &QueuePairConfig) -> Option<(Node, Node)> {
    let [one, other] = devices()?;
    let mut from = Node::new(&one, Access::RemoteWrite, config);
    let mut to = Node::new(&other, Access::RemoteWrite, config);
    from.pair.connect(&to.pair.endpoint()).unwrap();
    to.pair.connect(&from.pair.endpoint()).unwrap();
    Some((from, to))
}
