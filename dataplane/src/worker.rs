//! The worker: one thread's loop from ports through feeds into the cache.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::reader::Reader;
use crate::cache::writer::Writer;
use crate::feed::{ArbiterConfig, Arrival, ConfigError, Feed, Protocol, Target, Transferred};
use crate::hint::Prefetch;
use crate::host::Host;
use crate::limits::{BURST_MAX, FEEDS_MAX, FRAME_BYTES_MAX, LINES_MAX, PORTS_MAX};
use crate::port::{Frame, Medium, Port};
use crate::stall::Stall;
use crate::telemetry::{FeedTelemetry, PortTelemetry, Telemetry};
use crate::time::{Clock, NS_PER_MS};
use crate::wire::datagram::{self, Datagram, Parsed};

/// How often the devices' own counters are looked at.
const DEVICE_COUNTERS_INTERVAL_NS: u64 = 100 * NS_PER_MS;

/// Frames that are asked for ahead of the one at hand.
const FRAMES_AHEAD: usize = 4;

/// A port, and how it is used.
pub struct PortSetup<P> {
    pub port: P,
    /// Joins groups and answers ARP, where no kernel does ([`Medium::Ethernet`]).
    pub host: Option<Host>,
    /// Only datagrams of this VLAN are taken; `None` = whatever their tags.
    pub vlan: Option<u16>,
}

/// By which port, group and source a line comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSetup {
    /// The index of the port.
    pub port: usize,
    pub destination: SocketAddrV4,
    /// Only this sender's datagrams; `None` = anyone's.
    pub source: Option<Ipv4Addr>,
}

pub struct FeedSetup {
    /// How its lines are put together; [`ArbiterConfig::lines`] is the number of `lines`.
    pub arbiter: ArbiterConfig,
    pub lines: Vec<LineSetup>,
    pub protocol: Protocol,
}

/// A worker that can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    #[error("{0} ports: a worker polls 1 to {PORTS_MAX}")]
    Ports(usize),
    #[error("{count} feeds: the region has {regions}, and a worker at most {FEEDS_MAX}")]
    Feeds { count: usize, regions: usize },
    #[error("feed {feed}, line {line}: there is no port {port}")]
    NoSuchPort { feed: usize, line: usize, port: usize },
    #[error("feed {feed}, line {line}: {destination} on port {port} is another line's already")]
    Twice { feed: usize, line: usize, port: usize, destination: SocketAddrV4 },
    #[error("feed {feed}: {cause}")]
    Arbiter { feed: usize, cause: ConfigError },
}

/// Where a datagram of a port belongs.
#[derive(Clone, Copy, Debug)]
struct Route {
    destination: SocketAddrV4,
    source: Option<Ipv4Addr>,
    feed: usize,
    line: usize,
}

/// A port with all that belongs to it.
struct Station<P> {
    port: P,
    host: Option<Host>,
    vlan: Option<u16>,
    routes: Vec<Route>,
    /// Frames of the present burst that are for the host.
    control: Vec<usize>,
}

/// What of a feed is still to be measured.
#[derive(Clone, Copy, Debug, Default)]
struct Unmeasured {
    /// The oldest of the exchange's stamps in the present burst; `None` = there is none.
    oldest_ns: Option<u64>,
    /// Of the feed's ticks, how many are measured.
    ticks: u64,
    /// Of the feed's messages, how many came in earlier rounds.
    messages: u64,
}

/// Polls ports, puts feeds together, fills a region. Allocates nothing once it is made.
pub struct Worker<'m, P, C, F: Prefetch> {
    stations: Vec<Station<P>>,
    feeds: Vec<Feed<F>>,
    /// In the order of `feeds`.
    unmeasured: Vec<Unmeasured>,
    writer: Writer<'m>,
    clock: C,
    /// For how long the region may be believed after each round.
    valid_for_ns: u64,
    /// Which of the times that may change are in force.
    times_seen: u64,
    /// No row is believed past this time, whatever the worker does: the lease of a primary.
    lease_until_ns: Arc<AtomicU64>,
    telemetry: Arc<Telemetry>,
    /// Whether latencies are taken: two more looks at the clock for each burst.
    measures: bool,
    /// When the last round ended, or the thread awoke after it.
    cycled_ns: u64,
    device_counters_ns: u64,
    /// A copy of a frame for the host: the port can't lend one and send at the same time.
    control_frame: Box<[u8]>,
}

impl<'m, P: Port, C: Clock, F: Prefetch> Worker<'m, P, C, F> {
    pub fn new(
        ports: Vec<PortSetup<P>>,
        feeds: Vec<FeedSetup>,
        writer: Writer<'m>,
        clock: C,
        valid_for_ns: u64,
    ) -> Result<Self, WorkerError> {
        let regions = usize::from(writer.layout().feeds);
        if !(1..=PORTS_MAX).contains(&ports.len()) {
            return Err(WorkerError::Ports(ports.len()));
        }
        if feeds.len() > regions.min(FEEDS_MAX) {
            return Err(WorkerError::Feeds { count: feeds.len(), regions });
        }
        let telemetry = Arc::new(Telemetry {
            feeds: feeds.iter().map(|_| FeedTelemetry::default()).collect(),
            ports: ports.iter().map(|_| PortTelemetry::default()).collect(),
            ..Telemetry::default()
        });
        let mut stations: Vec<Station<P>> = ports
            .into_iter()
            .map(|PortSetup { port, host, vlan }| Station {
                port,
                host,
                vlan,
                routes: Vec::with_capacity(feeds.len() * LINES_MAX),
                control: Vec::with_capacity(BURST_MAX),
            })
            .collect();
        for (feed, setup) in feeds.iter().enumerate() {
            for (line, LineSetup { port, destination, source }) in setup.lines.iter().copied().enumerate() {
                let station = stations.get_mut(port).ok_or(WorkerError::NoSuchPort { feed, line, port })?;
                let same = |route: &Route| {
                    route.destination == destination
                        && (route.source.is_none() || source.is_none() || route.source == source)
                };
                if station.routes.iter().any(same) {
                    return Err(WorkerError::Twice { feed, line, port, destination });
                }
                station.routes.push(Route { destination, source, feed, line });
            }
        }
        let feeds = feeds.into_iter().enumerate().map(|(feed, setup)| {
            let config = ArbiterConfig { lines: setup.lines.len(), ..setup.arbiter };
            Feed::new(feed as u16, setup.protocol, config, &telemetry.feeds[feed])
                .map_err(|cause| WorkerError::Arbiter { feed, cause })
        });
        let feeds = feeds.collect::<Result<Vec<_>, _>>()?;
        Ok(Worker {
            unmeasured: vec![Unmeasured::default(); feeds.len()],
            feeds,
            stations,
            writer,
            cycled_ns: clock.monotonic_ns(),
            clock,
            valid_for_ns,
            times_seen: 0,
            lease_until_ns: Arc::new(AtomicU64::new(u64::MAX)),
            telemetry,
            measures: true,
            device_counters_ns: 0,
            control_frame: vec![0; FRAME_BYTES_MAX].into(),
        })
    }

    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Until when (`CLOCK_MONOTONIC`) the region may be believed at most; whoever grants it moves it on.
    pub fn lease_until_ns(&self) -> &Arc<AtomicU64> {
        &self.lease_until_ns
    }

    /// The thread has slept since the last round, of its own will: that is no stall.
    pub fn awoke(&mut self) {
        self.cycled_ns = self.clock.monotonic_ns();
    }

    /// Takes no latencies from now on, to see what taking them costs.
    pub fn stop_measuring(&mut self) {
        self.measures = false;
    }

    /// The big tables' memory, for whoever wants to advise the kernel about it.
    pub fn memory(&self) -> impl Iterator<Item = &[u8]> {
        self.feeds.iter().flat_map(Feed::memory)
    }

    /// Goes on with another port in place of one, with the same lines: for replays in parts.
    pub fn replace_port(&mut self, station: usize, port: P) -> P {
        std::mem::replace(&mut self.stations[station].port, port)
    }

    pub fn ports(&self) -> impl Iterator<Item = &P> {
        self.stations.iter().map(|station| &station.port)
    }

    /// One round: a burst of each port, then the timers. Returns how many frames there were.
    pub fn do_work(&mut self) -> usize {
        let (mut frames, mut most, mut busiest) = (0, 0, 0);
        for station in 0..self.stations.len() {
            let received = self.receive(station);
            frames += received;
            if received > most {
                (most, busiest) = (received, station);
            }
        }
        let now_ns = self.clock.monotonic_ns();
        if self.telemetry.times.have_changed(self.times_seen) {
            self.take_times();
        }
        self.poll_timers(now_ns);
        let leased_ns = self.lease_until_ns.load(Ordering::Acquire).saturating_sub(now_ns);
        self.writer.keep_alive(now_ns, self.valid_for_ns.min(leased_ns));
        self.count_cycle(now_ns, frames, busiest);
        frames
    }

    #[cold]
    fn take_times(&mut self) {
        let Worker { telemetry, feeds, valid_for_ns, writer, .. } = self;
        self.times_seen = telemetry.times.take(self.times_seen, |times| {
            *valid_for_ns = times.valid_for_ns;
            // What was promised before may be longer.
            writer.renew_now();
            feeds.iter_mut().zip(&times.feeds).for_each(|(feed, times)| feed.set_times(*times));
        });
    }

    /// The hot path: from a port's burst to ticks that can be read.
    fn receive(&mut self, station: usize) -> usize {
        let Station { port, vlan, routes, control, .. } = &mut self.stations[station];
        let frames = port.rx_burst();
        if frames == 0 {
            return 0;
        }
        let (now_ns, unix_ns) = (self.clock.monotonic_ns(), self.clock.unix_ns());
        let counters = &self.telemetry.ports[station];
        let medium = port.medium();
        (0..frames.min(FRAMES_AHEAD)).for_each(|index| port.prefetch::<F>(index));
        for index in 0..frames {
            if index + FRAMES_AHEAD < frames {
                port.prefetch::<F>(index + FRAMES_AHEAD);
            }
            let frame = port.frame(index);
            let Some(datagram) = datagram_of(medium, &frame, *vlan, index, control, counters) else {
                continue;
            };
            let Some(route) = routes.iter().find(|route| route.is_for(&datagram)) else {
                counters.unrouted.add(1);
                continue;
            };
            let received_ns = if frame.stamp_ns == 0 { unix_ns } else { frame.stamp_ns };
            let arrival = Arrival { line: route.line, now_ns, received_ns };
            self.feeds[route.feed].accept(datagram.payload, arrival, &mut self.writer);
        }
        self.publish(now_ns, unix_ns);
        if !self.stations[station].control.is_empty() {
            self.handle_control(station, now_ns);
        }
        frames
    }

    /// Ends a burst: what is read is done, what is done can be read, and how long it took is known.
    #[inline(always)]
    fn publish(&mut self, received_monotonic_ns: u64, received_unix_ns: u64) {
        for (feed, unmeasured) in self.feeds.iter_mut().zip(&mut self.unmeasured) {
            unmeasured.oldest_ns = feed.flush(&mut self.writer);
        }
        let ticks = self.writer.commit();
        self.telemetry.worker.ticks.add(ticks);
        if ticks == 0 || !self.measures {
            return;
        }
        let published_ns = self.clock.monotonic_ns();
        self.writer.stamp_burst(published_ns);
        for (feed, unmeasured) in self.telemetry.feeds.iter().zip(&mut self.unmeasured) {
            let all = feed.decoder.ticks.get();
            let ticks = all - std::mem::replace(&mut unmeasured.ticks, all);
            if ticks == 0 {
                continue;
            }
            feed.received_to_published.record_between(received_monotonic_ns, published_ns, ticks);
            if let Some(oldest_ns) = unmeasured.oldest_ns {
                feed.exchange_to_received.record_between(oldest_ns, received_unix_ns, ticks);
            }
        }
    }

    /// Lets the host see the frames that are for it.
    #[cold]
    fn handle_control(&mut self, station: usize, now_ns: u64) {
        let Station { port, host, control, .. } = &mut self.stations[station];
        for index in control.drain(..) {
            let frame = port.frame(index).bytes;
            let Some(copy) = self.control_frame.get_mut(..frame.len()) else { continue };
            copy.copy_from_slice(frame);
            if let Some(host) = host {
                host.handle(copy, now_ns, &mut |frame| port.tx(frame));
            }
        }
    }

    #[inline(always)]
    fn poll_timers(&mut self, now_ns: u64) {
        for feed in &mut self.feeds {
            feed.poll(now_ns, &mut self.writer);
        }
        for Station { port, host, .. } in &mut self.stations {
            if let Some(host) = host {
                host.poll(now_ns, &mut |frame| port.tx(frame));
            }
        }
        self.publish(now_ns, self.clock.unix_ns());
    }

    #[inline(always)]
    fn count_cycle(&mut self, now_ns: u64, frames: usize, busiest: usize) {
        let worker = &self.telemetry.worker;
        worker.duty_cycles.add(1);
        worker.busy_cycles.add(u64::from(frames != 0));
        let cycle_ns = now_ns - self.cycled_ns;
        self.cycled_ns = now_ns;
        if cycle_ns > worker.stall_ns_max.get() {
            worker.stall_ns_max.set(cycle_ns);
        }
        if cycle_ns > self.telemetry.stalls.limit_ns.get() {
            self.note_stall(cycle_ns, frames, busiest);
        }
        if frames != 0 {
            for (feed, unmeasured) in self.telemetry.feeds.iter().zip(&mut self.unmeasured) {
                unmeasured.messages = feed.lines.messages.get();
            }
        }
        if now_ns >= self.device_counters_ns {
            self.device_counters_ns = now_ns + DEVICE_COUNTERS_INTERVAL_NS;
            self.see_device_counters();
        }
    }

    #[cold]
    fn note_stall(&self, duration_ns: u64, frames: usize, busiest: usize) {
        let feeds = self.telemetry.feeds.iter().zip(&self.unmeasured);
        let fresh = feeds.map(|(feed, unmeasured)| feed.lines.messages.get() - unmeasured.messages);
        let most = fresh.clone().enumerate().max_by_key(|(_, messages)| *messages);
        self.telemetry.stalls.note(Stall {
            ended_ns: self.clock.unix_ns(),
            duration_ns,
            frames: frames as u64,
            messages: fresh.sum(),
            port: (frames != 0).then_some(busiest as u16),
            feed: most.filter(|(_, messages)| *messages != 0).map(|(feed, _)| feed as u16),
        });
    }

    #[cold]
    fn see_device_counters(&self) {
        for (station, counters) in self.stations.iter().zip(&self.telemetry.ports) {
            counters.set_device(&station.port.counters());
            if let Some(host) = &station.host {
                counters.set_host(&host.counters());
            }
        }
    }

    /// Gives up what is still missing: to be called once the ports are exhausted.
    pub fn finish(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        for feed in &mut self.feeds {
            feed.finish(now_ns, &mut self.writer);
        }
        self.publish(now_ns, self.clock.unix_ns());
    }

    /// Nothing will ever come any more.
    pub fn is_exhausted(&self) -> bool {
        self.stations.iter().all(|station| station.port.is_exhausted())
    }

    /// A hot standby becomes the primary: what it has published for itself goes on in the group's region, tick for tick, or
    /// behind a declared loss. Called between rounds, with the writer of that region, which has the layout of the present one;
    /// returns what became of each feed, and the present writer. The region is believed from the next round on. Allocates.
    pub fn take_over(&mut self, writer: Writer<'m>) -> (Vec<Transferred>, Writer<'m>) {
        self.go_on(writer, Target::Group)
    }

    /// Vouches for the region no longer, which is to be given up: its rows are stale at once, and nothing is published until then.
    pub fn release(&mut self) {
        self.writer.retire();
    }

    /// The primary becomes a hot standby: it goes on in the region of `shadow`, which is emptied if it is not empty (that
    /// takes its time), and gives back the writer of the group's. Called between rounds. Allocates.
    pub fn give_up(&mut self, shadow: Writer<'m>) -> Writer<'m> {
        self.go_on(shadow.emptied(), Target::Empty).1
    }

    /// Whether the group's region has something that has not come here yet: a hot standby that polls on for a while before it
    /// takes over may have no loss to declare.
    pub fn is_behind(&mut self, group: &Reader<'_>) -> bool {
        let own = self.writer.reader();
        self.feeds.iter_mut().any(|feed| feed.is_behind(own, *group))
    }

    fn go_on(&mut self, mut writer: Writer<'m>, target: Target) -> (Vec<Transferred>, Writer<'m>) {
        assert_eq!(writer.layout().feeds, self.writer.layout().feeds, "both regions have the same feeds");
        self.telemetry.worker.ticks.add(self.writer.commit());
        let before = self.writer.reader();
        let feeds = self.feeds.iter_mut().map(|feed| feed.transfer(before, &mut writer, target)).collect();
        let ticks = writer.commit();
        self.telemetry.worker.ticks.add(ticks);
        if ticks != 0 {
            writer.stamp_burst(self.clock.monotonic_ns());
        }
        // How long ago these were received says nothing about the path.
        for (feed, unmeasured) in self.telemetry.feeds.iter().zip(&mut self.unmeasured) {
            unmeasured.ticks = feed.decoder.ticks.get();
        }
        (feeds, std::mem::replace(&mut self.writer, writer))
    }

    /// The orderly end: every row becomes stale, and the hosts leave their groups, which takes further rounds until
    /// [`Worker::has_left`].
    pub fn leave(&mut self) {
        self.writer.retire();
        let now_ns = self.clock.monotonic_ns();
        for Station { port, host, .. } in &mut self.stations {
            if let Some(host) = host {
                host.leave(now_ns, &mut |frame| port.tx(frame));
            }
        }
        self.see_device_counters();
    }

    pub fn has_left(&self) -> bool {
        self.stations.iter().filter_map(|station| station.host.as_ref()).all(Host::has_left)
    }
}

impl Route {
    #[inline(always)]
    fn is_for(&self, datagram: &Received<'_>) -> bool {
        self.destination == datagram.destination && self.source.is_none_or(|source| source == datagram.source)
    }
}

/// What a line needs to know of a datagram.
struct Received<'f> {
    source: Ipv4Addr,
    destination: SocketAddrV4,
    payload: &'f [u8],
}

impl<'f> From<Datagram<'f>> for Received<'f> {
    #[inline(always)]
    fn from(datagram: Datagram<'f>) -> Self {
        let Datagram { source, destination, payload, .. } = datagram;
        Received { source: *source.ip(), destination, payload }
    }
}

/// The datagram in a frame; `None` = there is none for a line, which is counted, or noted in `control` for the host.
#[inline(always)]
fn datagram_of<'f>(
    medium: Medium,
    frame: &Frame<'f>,
    vlan: Option<u16>,
    index: usize,
    control: &mut Vec<usize>,
    counters: &PortTelemetry,
) -> Option<Received<'f>> {
    if medium == Medium::Udp {
        let Frame { source, destination, bytes, .. } = *frame;
        return Some(Received { source, destination, payload: bytes });
    }
    if vlan.is_none()
        && let Some(datagram) = datagram::parse_plain(frame.bytes)
    {
        return Some(Received::from(datagram));
    }
    datagram_of_other(frame, vlan, index, control, counters)
}

/// The same for a frame with tags or IP options, one that is no datagram, and all frames of a port with a VLAN.
#[inline(never)]
fn datagram_of_other<'f>(
    frame: &Frame<'f>,
    vlan: Option<u16>,
    index: usize,
    control: &mut Vec<usize>,
    counters: &PortTelemetry,
) -> Option<Received<'f>> {
    match datagram::parse(frame.bytes) {
        Ok(Parsed::Udp(datagram)) if vlan.is_some() && datagram.vlan != vlan => counters.other_vlan.add(1),
        Ok(Parsed::Udp(datagram)) => return Some(Received::from(datagram)),
        Ok(Parsed::Arp { .. } | Parsed::Igmp { .. }) => control.push(index),
        // The port has counted it: it could not hand the frame over whole.
        Err(_) if frame.bytes.is_empty() => {}
        Err(reject) => counters.rejected[reject as usize].add(1),
    }
    None
}
