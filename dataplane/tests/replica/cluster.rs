//! A group of nodes, the service that names its primary, and what must hold at every step.

use crate::history::{History, Key, key};
use crate::network::{Connection, Packet, PrimaryEnd};
use bytemuck::Zeroable;
use dataplane::cache::cell::Cell;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Reader, State};
use dataplane::cache::region::Layout;
use dataplane::cache::tick::{
    Condition, Definition, FeedState, INSTRUMENT_NONE, ImpliedQuote, Quote, Session, Status, Tick, Trade,
};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Lineage, Primary, PrimaryLimits, Standby};
use dataplane::sim::random::Random;
use std::collections::BTreeMap;

pub const LAYOUT: Layout = Layout { instruments: 24, feeds: 2, log_ticks: 256, bursts: 16 };
pub const NODES: usize = 3;
pub const MS: u64 = 1_000_000;
pub const VALID_FOR_NS: u64 = 40 * MS;
const LEASE_NS: u64 = 100 * MS;
const LIMITS: PrimaryLimits = PrimaryLimits { window_ticks: 64, valid_for_ns: VALID_FOR_NS };

pub struct PrimaryNode<'m> {
    pub writer: Writer<'m>,
    pub lineage: Lineage,
    pub peers: BTreeMap<usize, Primary<'m>>,
    /// The service's word, and until when it holds.
    pub lease_until_ns: u64,
}

pub enum Role<'m> {
    Down,
    Primary(Box<PrimaryNode<'m>>),
    Standby(Box<Standby<'m>>),
}

pub struct Node<'m> {
    pub role: Role<'m>,
    pub cells: &'m [Cell],
    /// What outlasts a crash.
    pub term: u64,
    pub paused_until_ns: u64,
    /// The service can't be heard until then.
    pub cut_until_ns: u64,
    /// From which node its connection comes, if it is a standby.
    pub follows: Option<usize>,
}

/// What the steps have seen: a test that saw none of something has not looked.
#[derive(Default, Debug)]
pub struct Seen {
    pub live_rows: u64,
    pub level_tables: u64,
    pub log_ticks: u64,
    pub images: u64,
    pub lapped: u64,
    pub fenced: u64,
    pub promotions: u64,
    pub demotions: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.live_rows += more.live_rows;
        self.level_tables += more.level_tables;
        self.log_ticks += more.log_ticks;
        self.images += more.images;
        self.lapped += more.lapped;
        self.fenced += more.fenced;
        self.promotions += more.promotions;
        self.demotions += more.demotions;
    }
}

impl Seen {
    /// Each run begins with one promotion.
    pub fn assert_looked(&self, runs: u64) {
        let Seen { live_rows, level_tables, log_ticks, images, lapped, fenced, promotions, demotions } =
            *self;
        for (what, times) in [
            ("live rows", live_rows),
            ("tables", level_tables),
            ("ticks of logs", log_ticks),
            ("images", images),
            ("lapped peers", lapped),
            ("fenced primaries", fenced),
            ("promotions", promotions - runs),
            ("demotions", demotions),
        ] {
            // A primary is sent away only if its term ends between a node's word and its own.
            let is_rare = what == "fenced primaries" && runs < 1_000;
            assert!(times > 0 || is_rare, "{what} were never seen");
        }
    }
}

pub struct Cluster<'m> {
    pub nodes: Vec<Node<'m>>,
    pub connections: BTreeMap<(usize, usize), Connection>,
    pub history: History,
    pub random: Random,
    pub now_ns: u64,
    pub seen: Seen,
    spare: Vec<&'m [Cell]>,
    /// The last lease that the service gave; it holds also when its holder is dead.
    lease_until_ns: u64,
    names: u64,
}

impl<'m> Cluster<'m> {
    /// `arena` holds the memory of every region that will ever be.
    pub fn new(arena: &'m [Vec<Cell>], seed: u64) -> Cluster<'m> {
        let mut spare: Vec<&[Cell]> = arena.iter().map(Vec::as_slice).collect();
        let nodes = (0..NODES).map(|_| {
            let cells = spare.pop().unwrap();
            let standby = Standby::new(Follower::format(cells, LAYOUT, 1).unwrap(), 0);
            Node {
                role: Role::Standby(Box::new(standby)),
                cells,
                term: 0,
                paused_until_ns: 0,
                cut_until_ns: 0,
                follows: None,
            }
        });
        let nodes = nodes.collect();
        Cluster {
            nodes,
            connections: BTreeMap::new(),
            history: History::default(),
            random: Random::new(seed),
            now_ns: 1_000 * MS,
            seen: Seen::default(),
            spare,
            lease_until_ns: 0,
            names: 0,
        }
    }

    pub fn spare_regions(&self) -> usize {
        self.spare.len()
    }

    /// The node of the last term, if it still is its primary.
    pub fn primary(&self) -> Option<usize> {
        let last = self.history.last_term();
        self.nodes
            .iter()
            .position(|node| matches!(&node.role, Role::Primary(own) if own.lineage.term == last))
    }

    pub fn is_up(&self, node: usize) -> bool {
        !matches!(self.nodes[node].role, Role::Down) && self.now_ns >= self.nodes[node].paused_until_ns
    }

    /// The node dies, and what was in its memory with it.
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].role = Role::Down;
        self.connections.retain(|(from, to), _| *from != node && *to != node);
        for other in 0..NODES {
            if self.nodes[other].follows == Some(node) {
                self.nodes[other].follows = None;
            }
        }
        self.nodes[node].follows = None;
    }

    pub fn restart(&mut self, node: usize) {
        let Some(cells) = self.spare.pop() else { return };
        let follower = Follower::format(cells, LAYOUT, 1_000 * self.spare.len() as u64).unwrap();
        self.nodes[node].cells = cells;
        self.nodes[node].role = Role::Standby(Box::new(Standby::new(follower, self.nodes[node].term)));
    }

    /// The service makes a node the primary of a new term. Nobody has the lease when this is called.
    pub fn promote(&mut self, node: usize) -> bool {
        let holder = &mut self.nodes[node];
        let first = self.history.last_term() == 0;
        let term = self.history.last_term() + 1;
        let promoted = match std::mem::replace(&mut holder.role, Role::Down) {
            Role::Standby(standby) if first => standby.into_first_primary(term),
            Role::Standby(standby) => standby.into_primary(term),
            other => {
                holder.role = other;
                return false;
            }
        };
        let (writer, lineage) = match promoted {
            Ok(primary) => primary,
            Err(standby) => {
                holder.role = Role::Standby(standby);
                return false;
            }
        };
        holder.term = lineage.term;
        holder.follows = None;
        self.history.begin(lineage);
        self.seen.promotions += 1;
        let peers = BTreeMap::new();
        let lease_until_ns = self.now_ns + LEASE_NS;
        self.lease_until_ns = lease_until_ns;
        holder.role = Role::Primary(Box::new(PrimaryNode { writer, lineage, peers, lease_until_ns }));
        self.connections.retain(|(_, to), _| *to != node);
        true
    }

    /// The service goes on with the present primary, if it can be heard.
    pub fn renew_lease(&mut self, node: usize) {
        if self.now_ns >= self.nodes[node].cut_until_ns
            && let Role::Primary(own) = &mut self.nodes[node].role
        {
            own.lease_until_ns = self.now_ns + LEASE_NS;
            self.lease_until_ns = own.lease_until_ns;
        }
    }

    /// The service tells a node which term there is.
    pub fn tell_term(&mut self, node: usize) {
        let last = self.history.last_term();
        if matches!(&self.nodes[node].role, Role::Primary(own) if own.lineage.term < last) {
            self.demote(node);
        }
        let Node { role: Role::Standby(standby), term, .. } = &mut self.nodes[node] else { return };
        let mut write_down = |new| {
            *term = new;
            true
        };
        standby.hear_of(last, &mut write_down).expect("it is written down");
    }

    pub fn lease_is_free(&self) -> bool {
        self.now_ns >= self.lease_until_ns
    }

    /// A new connection from a primary to a node, in place of the one that the node had.
    pub fn connect(&mut self, from: usize, to: usize) {
        if from == to || !self.is_up(from) || !self.is_up(to) {
            return;
        }
        let now_ns = self.now_ns;
        let Role::Primary(_) = self.nodes[from].role else { return };
        let Role::Standby(standby) = &mut self.nodes[to].role else { return };
        let hello = standby.connected();
        let mut connection = Connection::default();
        connection.answer(hello, now_ns);
        if let Some(old) = self.nodes[to].follows.replace(from) {
            self.connections.remove(&(old, to));
        }
        self.connections.insert((from, to), connection);
        let Role::Primary(own) = &mut self.nodes[from].role else { unreachable!("it was one") };
        let lineage = own.lineage;
        let reader = Reader::open(self.nodes[from].cells).unwrap();
        let Role::Primary(own) = &mut self.nodes[from].role else { unreachable!("it was one") };
        own.peers.entry(to).or_insert_with(|| Primary::new(reader, lineage, LIMITS)).connected();
    }

    pub fn disconnect(&mut self, from: usize, to: usize) {
        if self.connections.remove(&(from, to)).is_some() {
            self.nodes[to].follows = None;
        }
    }

    /// The node writes `ticks` ticks; what is not committed may die with it.
    pub fn write(&mut self, node: usize, ticks: u64, commit: bool) {
        let (random, history, names) = (&mut self.random, &mut self.history, &mut self.names);
        let Role::Primary(own) = &mut self.nodes[node].role else { return };
        for _ in 0..ticks {
            let position = own.writer.position();
            let tick = a_tick(random, &mut own.writer, position, names);
            history.append(own.lineage.term, tick);
        }
        if commit {
            own.writer.commit();
            history.commit(own.lineage.term, self.now_ns);
        }
        let left_ns = own.lease_until_ns.saturating_sub(self.now_ns);
        own.writer.keep_alive(self.now_ns, VALID_FOR_NS.min(left_ns));
    }

    /// Every node has a turn.
    pub fn step(&mut self) {
        for node in 0..NODES {
            if !self.is_up(node) {
                continue;
            }
            match self.nodes[node].role {
                Role::Primary(_) => self.step_primary(node),
                Role::Standby(_) => self.step_standby(node),
                Role::Down => {}
            }
        }
        self.check();
    }

    fn step_primary(&mut self, node: usize) {
        let Role::Primary(own) = &mut self.nodes[node].role else { unreachable!("asked for") };
        let now_ns = self.now_ns;
        let mut later = 0;
        for (to, peer) in &mut own.peers {
            let Some(connection) = self.connections.get_mut(&(node, *to)) else { continue };
            let delay_ns = self.random.below(3 * MS);
            let before = peer.counters();
            peer.poll(&mut PrimaryEnd { connection, now_ns, delay_ns }, now_ns);
            self.seen.lapped += peer.counters().lapped - before.lapped;
            self.seen.images += peer.counters().images - before.images;
            later = later.max(peer.status().later_term);
        }
        if later > own.lineage.term {
            self.demote(node);
        }
    }

    /// Somebody else is the primary of a later term: what this one has it follows with.
    fn demote(&mut self, node: usize) {
        let Role::Primary(own) = std::mem::replace(&mut self.nodes[node].role, Role::Down) else { return };
        let PrimaryNode { mut writer, lineage, .. } = *own;
        if writer.commit() != 0 {
            self.history.commit(lineage.term, self.now_ns);
        }
        let standby = Standby::after_primary(writer.into_follower(), lineage.term);
        self.nodes[node].role = Role::Standby(Box::new(standby));
        self.connections.retain(|(from, _), _| *from != node);
        for other in &mut self.nodes {
            other.follows = other.follows.filter(|follows| *follows != node);
        }
        self.seen.demotions += 1;
    }

    fn step_standby(&mut self, node: usize) {
        let Some(from) = self.nodes[node].follows else { return };
        let Some(connection) = self.connections.get_mut(&(from, node)) else { return };
        let Node { role, term, .. } = &mut self.nodes[node];
        let Role::Standby(standby) = role else { unreachable!("asked for") };
        let fails = self.random.percent(5);
        let mut write_down = |new: u64| {
            *term = if fails { *term } else { new };
            !fails
        };
        let fenced = standby.counters().fenced;
        let mut result = Ok(());
        while let (Ok(()), Some(packet)) = (result, connection.to_standby.pop(self.now_ns)) {
            result = match packet {
                Packet::Message(message) => standby.take(message, self.now_ns, &mut write_down),
                Packet::Rows(rows) => standby.rows(&rows),
                Packet::Ticks(ticks) => standby.ticks(&ticks),
            };
        }
        self.seen.fenced += standby.counters().fenced - fenced;
        match (result, standby.settle_round(self.now_ns)) {
            (Ok(()), Some(ack)) => connection.answer(ack, self.now_ns + self.random.below(3 * MS)),
            (Ok(()), None) => {}
            (Err(_), _) => self.disconnect(from, node),
        }
    }

    /// What must hold, always.
    fn check(&mut self) {
        for node in 0..NODES {
            let (term, position, level) = match &self.nodes[node].role {
                Role::Down => continue,
                Role::Primary(own) => (own.lineage.term, own.writer.position(), true),
                Role::Standby(standby) => {
                    let status = standby.status();
                    (self.history.term_of(standby.log()), status.position, status.level)
                }
            };
            let reader = Reader::open(self.nodes[node].cells).unwrap();
            if level && term != 0 {
                self.check_table(&reader, term, position);
                self.check_log(&reader, term);
            }
            self.check_live(node, &reader);
        }
    }

    /// All rows are those of the log of its term up to where it is.
    fn check_table(&mut self, reader: &Reader<'_>, term: u64, position: u64) {
        let expected = self.history.table(term, position);
        let found: BTreeMap<Key, (u64, Tick)> = (0..reader.image_rows())
            .filter_map(|index| reader.image_row(index))
            .map(|(position, tick)| (key(&tick), (position, tick)))
            .collect();
        let odd = found.iter().find(|(key, row)| expected.get(key) != Some(row));
        assert_eq!(
            (odd, found.len()),
            (None, expected.len()),
            "the table at position {position} of term {term}"
        );
        for (tick, _) in expected.values().map(|(position, tick)| (tick, position)) {
            if let Some(definition) = tick.payload::<Definition>() {
                assert!(reader.find(definition.name()).any(|instrument| instrument == tick.instrument));
            }
        }
        self.seen.level_tables += 1;
    }

    fn check_log(&mut self, reader: &Reader<'_>, term: u64) {
        let tail = reader.tail();
        for position in tail.saturating_sub(LAYOUT.log_ticks)..tail {
            if let Some(tick) = reader.log_tick(position) {
                assert_eq!(tick, self.history.at(term, position), "the log at {position} of term {term}");
                self.seen.log_ticks += 1;
            }
        }
    }

    /// A live row is what the log of the last term said within the time for which a region may be believed.
    fn check_live(&mut self, node: usize, reader: &Reader<'_>) {
        let last = self.history.last_term();
        if last == 0 || self.now_ns >= reader.valid_until_ns() {
            return;
        }
        let since = self.history.tail_at(last, self.now_ns - VALID_FOR_NS);
        let then = self.history.table(last, since);
        for instrument in 0..LAYOUT.instruments {
            let row = reader.row::<Quote>(instrument, self.now_ns).filter(|row| row.state == State::Live);
            let Some(row) = row else { continue };
            let tail = self.history.tail(last);
            assert!(
                row.position < tail,
                "node {node} shows position {} as live, the log ends at {tail}",
                row.position
            );
            assert_eq!(row.tick, self.history.at(last, row.position), "node {node} shows what never was");
            let floor = then.get(&key(&row.tick)).map_or(0, |(position, _)| *position);
            assert!(
                row.position >= floor,
                "node {node} shows position {} as live, {floor} is old",
                row.position
            );
            self.seen.live_rows += 1;
        }
    }

    /// All cuts are healed and everybody connects: in the end all have the same.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            (node.paused_until_ns, node.cut_until_ns) = (0, 0);
        }
        for node in 0..NODES {
            if matches!(self.nodes[node].role, Role::Down) {
                self.restart(node);
            }
        }
        for connection in self.connections.values_mut() {
            (connection.to_primary.stalled, connection.to_standby.stalled) = (false, false);
        }
    }

    pub fn is_level(&self) -> bool {
        let Some(primary) = self.primary() else { return false };
        let Role::Primary(own) = &self.nodes[primary].role else { return false };
        let tail = own.writer.position();
        (0..NODES).filter(|node| *node != primary).all(|node| match &self.nodes[node].role {
            Role::Standby(standby) => {
                let status = standby.status();
                status.level && status.position == tail && standby.log() == own.lineage.log
            }
            Role::Down => self.spare.is_empty(),
            Role::Primary(_) => false,
        })
    }

    pub fn describe(&self) -> String {
        let node = |node: &Node<'_>| match &node.role {
            Role::Down => "down".to_owned(),
            Role::Primary(own) => {
                let peers: Vec<_> = own.peers.iter().map(|(to, peer)| (to, peer.status())).collect();
                format!("primary {:?} at {}, {peers:?}", own.lineage, own.writer.position())
            }
            Role::Standby(standby) => format!("follows {:?}, {:?}", node.follows, standby.status()),
        };
        self.nodes.iter().map(|own| node(own) + "\n").collect()
    }

    /// Every node that could follow the primary, and does not, connects.
    pub fn connect_all(&mut self) {
        let Some(primary) = self.primary() else { return };
        for node in 0..NODES {
            if self.nodes[node].follows != Some(primary) {
                self.connect(primary, node);
            }
        }
    }
}

/// A tick of some kind, published; the values tell it from all others.
fn a_tick(random: &mut Random, writer: &mut Writer<'_>, position: u64, names: &mut u64) -> Tick {
    let known = writer.instruments();
    let feed = random.below(u64::from(LAYOUT.feeds)) as u16;
    let head = Tick { sequence: position, exchange_ns: random.next_u64(), feed, ..Tick::default() };
    let kind = random.below(100);
    if known == 0 || (kind < 6 && known < LAYOUT.instruments) {
        let instrument = writer.allocate().expect("there is room");
        *names += 1;
        let definition = Definition::new(instrument, format!("N{names}").as_bytes());
        writer.define(instrument, &head, definition);
        return Tick { instrument, ..head }.with_payload(definition);
    }
    let instrument = random.below(u64::from(known)) as u32;
    let head = Tick { instrument, ..head };
    let quote = Quote { bid_price: position as i64, ..Quote::EMPTY };
    let tick = match kind {
        0..8 => head.with_payload(Status::zeroed()),
        8..20 => head.with_payload(Trade { price: 5, size: position, trade_id: 0 }),
        20..26 => head.with_payload(ImpliedQuote(quote)),
        26..28 => Tick { instrument: INSTRUMENT_NONE, ..head }
            .with_payload(Session { day: position as u32, ..Session::zeroed() }),
        28..36 => Tick { instrument: INSTRUMENT_NONE, ..head }
            .with_payload(FeedState { condition: Condition::Live as u8, ..FeedState::zeroed() }),
        _ => head.with_payload(quote),
    };
    writer.publish(&tick);
    tick
}
