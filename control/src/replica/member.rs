//! A node's place in its group, and how it changes: primary, standby, and the way from one to the other.

mod ordered;

use super::hand_over::{Asked, HandOver, Step};
use super::link::LinkSetup;
use super::orders::{Answer, OrderError, Waiting};
use super::primary::PrimaryGroup;
use super::standby::{Candidate, StandbySide};
use super::{ReplicaError, Round, TermFile, VIEW_INTERVAL_NS, View, counters};
use crate::config::{Config, PeerConfig, ReplicaConfig, ReplicaRole};
use crate::election::{Candidacy, Election, Leader, Leadership, Wishes};
use crate::proto::{self, ClusterGetResponse};
use crate::worker::WorkerHandle;
use dataplane::cache::follower::Follower;
use dataplane::cache::reader::{Feed, Reader};
use dataplane::cache::tick::{Condition, Reason};
use dataplane::cache::writer::Writer;
use dataplane::replica::{Standby, node_id};
use dataplane::time::{Clock, NS_PER_MS};
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the new primary of a hand-over may take until it sends.
const FOLLOW_MAX_NS: u64 = 5_000 * NS_PER_MS;
/// How long a peer may take to hear that there is a new primary.
const HERALD_MAX: Duration = Duration::from_millis(250);

const WORKER_LIVES: &str = "the worker's thread lives as long as this one";

enum Side {
    Standby(Box<StandbySide>),
    Primary(Box<PrimaryGroup>),
    HandingOver(Box<HandOver>),
}

/// Whoever asked for a hand-over, until the new primary sends.
struct Awaited {
    answer: Answer,
    to: String,
    after_term: u64,
    deadline_ns: u64,
}

/// The region of a group's node, which is laid out, and empty.
pub struct OwnRegion {
    pub mapping: Arc<RegionMapping>,
    pub follower: Follower<'static>,
    pub reader: Reader<'static>,
}

/// What the worker of a node that may be the primary writes to, and how that is changed.
pub struct Lead {
    pub worker: WorkerHandle,
    pub listener: TcpListener,
    /// Where the worker goes on when it gives the group's region up; `None` = it writes there now.
    pub shadow: Option<JoinHandle<Writer<'static>>>,
    /// The worker's own view of the feeds, as long as it does not write the group's region.
    pub own: Reader<'static>,
    /// `None` = roles are as they are configured and commanded.
    pub election: Option<Election>,
}

impl Lead {
    /// Whether the worker knows its feeds as well as the group does. One that joined late, or hears nothing, would make rows
    /// worse if it took over.
    fn is_whole(&self, group: &Reader<'_>) -> bool {
        (0..group.layout().feeds).all(|feed| {
            let (own, group) = (self.own.feed(feed), group.feed(feed));
            let is_deaf = |feed: &Feed| matches!(feed.condition, Condition::Waiting | Condition::Stale);
            let is_worse = (own.reason != Reason::None && group.reason == Reason::None)
                || (is_deaf(&own) && !is_deaf(&group));
            group.session.is_none() || (own.session == group.session && !is_worse)
        })
    }

    /// Lets the worker write the group's region; returns how many feeds could not go on without a declared loss.
    fn take_over(&mut self, writer: Writer<'static>, group: Reader<'static>) -> u64 {
        let (shadow, feeds) = self.worker.take_over(writer, group).expect(WORKER_LIVES);
        // Emptying a region takes milliseconds, which a hand-over has not.
        self.shadow = Some(std::thread::spawn(|| shadow.emptied()));
        let mut gaps = 0;
        for (feed, done) in feeds.iter().enumerate() {
            match done.misfit {
                None => tracing::info!("feed {feed} goes on: {} updates were on their way", done.followed),
                Some(misfit) => {
                    gaps += 1;
                    tracing::warn!(
                        "feed {feed} goes on behind a gap: {misfit}; {} rows are told anew",
                        done.renewed
                    );
                }
            }
        }
        gaps
    }

    /// Lets the worker go on in its shadow.
    fn give_up(&mut self) {
        let shadow = self.shadow.take().expect("a primary's shadow is not in use");
        self.worker.give_up(shadow.join().expect("emptying a region can't fail")).expect(WORKER_LIVES);
    }

    /// The region that was to be given up, which nobody writes any more.
    fn given_up(&mut self) -> Follower<'static> {
        self.worker.given_up().expect(WORKER_LIVES).into_follower()
    }
}

/// One node of a group, in its thread.
pub struct Member {
    name: String,
    config: ReplicaConfig,
    reader: Reader<'static>,
    links: LinkSetup,
    term: TermFile,
    /// `None` while it changes.
    side: Option<Side>,
    /// `None` = a copy, which never is the primary.
    lead: Option<Lead>,
    /// What the election last said.
    leadership: Leadership,
    /// Becomes the primary as soon as no peer turns out to be it: a node that is configured as the primary, at its start.
    leads_first: bool,
    /// A hand-over that was ordered, of a primary that goes on until etcd has named the successor.
    asked: Option<Asked>,
    awaited: Option<Awaited>,
    orders: Waiting,
    promotions: u64,
    demotions: u64,
    /// Feeds that could not go on without a gap when this node took over.
    gaps: u64,
    looked_ns: u64,
    view: View,
}

impl Member {
    pub fn new(
        config: &Config,
        region: OwnRegion,
        term: TermFile,
        lead: Option<Lead>,
        orders: Waiting,
        view: View,
    ) -> Result<Member, ReplicaError> {
        let replica = config.replica.clone().expect("a member of a group has [replica]");
        let OwnRegion { mapping, follower, reader } = region;
        let links = LinkSetup::new(&replica, &mapping)?;
        let standby = Standby::new(follower, term.term()).named(node_id(&config.node));
        let is_elected = lead.as_ref().is_some_and(|lead| lead.election.is_some());
        let known = if is_elected { Vec::new() } else { candidates(&replica.peers) };
        let side = Box::new(StandbySide::new(standby, links.clone(), known));
        let mut member = Member {
            name: config.node.clone(),
            leads_first: replica.role == ReplicaRole::Primary,
            config: replica,
            reader,
            links,
            term,
            side: Some(Side::Standby(side)),
            lead,
            leadership: Leadership::Follower { leader: None },
            asked: None,
            awaited: None,
            orders,
            promotions: 0,
            demotions: 0,
            gaps: 0,
            looked_ns: 0,
            view,
        };
        member.show();
        Ok(member)
    }

    fn side(&mut self) -> &mut Side {
        self.side.as_mut().expect("it changes within a call only")
    }

    /// What is due without anybody's asking.
    fn advance(&mut self, now_ns: u64) {
        match self.side.as_mut().expect("it changes within a call only") {
            Side::Standby(side) => {
                let handed_over = side.standby().handed_over();
                // Whoever hands it over has named this node in etcd before, which may be heard of a little later.
                let is_named = |term: &u64| {
                    self.lead.as_ref().is_none_or(|lead| lead.election.is_none())
                        || self.leadership.term_at(now_ns) == Some(*term)
                };
                if let Some(term) = handed_over.filter(is_named) {
                    tracing::info!("was handed the primary's place");
                    if let Err(error) = self.become_primary(term) {
                        tracing::error!("can't take the primary's place: {error}");
                        self.resign();
                        self.leadership = Leadership::Follower { leader: None };
                    }
                } else if self.leads_first {
                    self.lead_first();
                }
            }
            Side::Primary(group) => {
                let later = group.later_term();
                if later > group.term() {
                    tracing::error!(
                        "a peer has heard of term {later}, so another node is or was the primary: this one is a standby from \
                         now on; if no node is the primary, promote one"
                    );
                    self.step_down(later);
                } else {
                    self.advance_asked(now_ns);
                }
            }
            Side::HandingOver(_) => self.advance_hand_over(now_ns),
        }
        self.answer_awaited(now_ns);
    }

    fn election(&self) -> Option<&Election> {
        self.lead.as_ref()?.election.as_ref()
    }

    /// Tells the primary and the election what this node is fit for.
    fn wish(&mut self) {
        let whole = self.lead.as_ref().is_some_and(|lead| lead.is_whole(&self.reader));
        let candidacy = match self.side() {
            Side::Standby(side) => {
                let candidacy = match side.standby() {
                    standby if standby.is_fresh() => Candidacy::Last,
                    standby if !standby.status().level => Candidacy::No,
                    _ if !whole => Candidacy::Last,
                    _ => Candidacy::Yes,
                };
                // Before it is level there is nothing to compare with.
                side.set_whole(candidacy == Candidacy::Yes);
                candidacy
            }
            _ => Candidacy::Yes,
        };
        if let Some(election) = self.election() {
            election.wish(Wishes { candidacy, heard: self.term.term() });
        }
    }

    /// Does what the election says.
    fn follow_election(&mut self, now_ns: u64) {
        let Some(Lead { worker, election: Some(election), .. }) = &mut self.lead else { return };
        if election.leadership.has_changed().unwrap_or(false) {
            self.leadership = election.leadership.borrow_and_update().clone();
            tracing::debug!("election: {:?}", self.leadership);
            if let Leadership::Leader { until_ns, .. } | Leadership::Successor { until_ns, .. } =
                self.leadership
            {
                worker.lease_until(until_ns);
            }
        }
        let leads = self.leadership.term_at(now_ns);
        match (self.side.as_mut().expect("it changes within a call only"), leads) {
            // The predecessor is the primary still, and says when it is not.
            (Side::Standby(_), Some(_)) if matches!(self.leadership, Leadership::Successor { .. }) => {}
            (Side::Standby(_), Some(term)) => {
                if let Err(error) = self.become_primary(term) {
                    tracing::error!("is to lead, and can't: {error}");
                    self.resign();
                    // It must not try again with the same term.
                    self.leadership = Leadership::Follower { leader: None };
                }
            }
            (Side::Standby(side), None) => {
                if let Leadership::Follower { leader: Some(leader) } = &self.leadership {
                    side.set_candidates(vec![leader.into()]);
                }
            }
            (Side::Primary(group), leads) => {
                let own = group.term();
                if leads != Some(own) {
                    tracing::warn!("the lease of term {own} is gone: this node is a standby from now on");
                    self.step_down(own);
                }
            }
            (Side::HandingOver(under_way), leads) => {
                if leads != Some(under_way.group.term()) {
                    self.end_hand_over(Step::Done, now_ns);
                }
            }
        }
    }

    fn resign(&self) {
        if let Some(election) = self.election() {
            election.resign();
        }
    }

    /// Where the primary is looked for.
    fn candidates(&self) -> Vec<Candidate> {
        match (self.election(), &self.leadership) {
            (None, _) => candidates(&self.config.peers),
            (Some(_), Leadership::Follower { leader: Some(leader) }) => vec![leader.into()],
            _ => Vec::new(),
        }
    }

    fn lead_first(&mut self) {
        let Side::Standby(side) = self.side() else { return };
        if side.primary().is_some() {
            tracing::info!("a peer is the primary: this node is its standby");
            self.leads_first = false;
        } else if side.has_asked_all() {
            self.leads_first = false;
            let led = self.next_term().and_then(|term| self.become_primary(term));
            if let Err(error) = led {
                tracing::error!("can't become the primary: {error}");
            }
        }
    }

    fn next_term(&self) -> Result<u64, OrderError> {
        self.term.next().map_err(|error| OrderError::Term(error.to_string()))
    }

    /// Takes the primary's place with `term`.
    fn become_primary(&mut self, term: u64) -> Result<u64, OrderError> {
        let Some(lead) = &mut self.lead else { return Err(OrderError::Copy) };
        let Some(Side::Standby(side)) = &self.side else {
            return Err(OrderError::IsPrimary(self.term.term()));
        };
        if !side.standby().status().level && !side.standby().is_fresh() {
            return Err(OrderError::NotLevel);
        }
        let Some(Side::Standby(side)) = self.side.take() else { unreachable!("looked at above") };
        // With its connection goes all that an earlier primary could still send.
        match side.into_standby().into_first_primary(term) {
            Ok((writer, lineage)) => {
                self.gaps += lead.take_over(writer, self.reader);
                // No peer hears of the term before it is written down, which is not worth the wait before the first update.
                if let Err(error) = self.term.write(term) {
                    lead.give_up();
                    let follower = lead.given_up();
                    self.be_standby_after(follower, term, term);
                    return Err(OrderError::Term(error.to_string()));
                }
                self.promotions += 1;
                tracing::info!("is the primary of term {term}");
                let group = PrimaryGroup::new(
                    self.reader,
                    lineage,
                    self.config.limits(),
                    self.links.clone(),
                    &self.config.peers,
                );
                self.side = Some(Side::Primary(Box::new(group)));
                Ok(term)
            }
            Err(standby) => {
                self.be_standby(*standby);
                Err(OrderError::NotLevel)
            }
        }
    }

    fn be_standby(&mut self, standby: Standby<'static>) {
        self.side =
            Some(Side::Standby(Box::new(StandbySide::new(standby, self.links.clone(), self.candidates()))));
        self.show();
    }

    /// Gives the primary's place up, since there is or may be another primary. `later` is a term that was heard of.
    fn step_down(&mut self, later: u64) {
        let Some(Side::Primary(group)) = self.side.take() else { unreachable!("only a primary steps down") };
        let term = group.term();
        drop(group);
        if let Some(asked) = self.asked.take() {
            let _ = asked.answer.send(Err(OrderError::NotPrimary));
        }
        let lead = self.lead.as_mut().expect("a primary has a worker");
        lead.give_up();
        let follower = lead.given_up();
        self.be_standby_after(follower, term, later);
    }

    fn be_standby_after(&mut self, follower: Follower<'static>, term: u64, later: u64) {
        let mut standby = Standby::after_primary(follower, term).named(node_id(&self.name));
        let file = &mut self.term;
        let mut write_down = |term| file.write(term).inspect_err(|error| tracing::error!("{error}")).is_ok();
        // If it can't be written down, the next primary's Begin is refused until it can.
        let _ = standby.hear_of(later, &mut write_down);
        self.demotions += 1;
        self.be_standby(standby);
    }

    fn answer_awaited(&mut self, now_ns: u64) {
        let Some(awaited) = &self.awaited else { return };
        let term = self.term.term();
        let primary = match &self.side {
            Some(Side::Standby(side)) => side.primary().filter(|_| term > awaited.after_term),
            // The successor did not take the place, and it has come back here.
            _ => Some(self.name.as_str()),
        };
        let is_taken = primary == Some(awaited.to.as_str());
        if primary.is_some() || now_ns > awaited.deadline_ns {
            let Awaited { answer, to, .. } = self.awaited.take().expect("looked at above");
            let _ = answer.send(if is_taken { Ok(term) } else { Err(OrderError::NotTaken(to)) });
        }
    }

    /// This node and its peers. Of a peer without an address only etcd knows where it is.
    fn members(&self) -> Vec<proto::Member> {
        let member = |name: &str, address: Option<String>, may_lead| proto::Member {
            name: name.to_owned(),
            address: address.unwrap_or_default(),
            may_lead,
        };
        let own =
            member(&self.name, self.config.listen.map(|listen| listen.to_string()), self.lead.is_some());
        let peers = self.config.peers.iter().map(|peer| {
            let may_lead = peer.address.is_some() || self.election().is_some();
            member(&peer.name, peer.address.clone(), may_lead)
        });
        std::iter::once(own).chain(peers).collect()
    }

    fn show(&mut self) {
        let seen = ClusterGetResponse {
            members: self.members(),
            counters: counters([
                ("promotions", self.promotions),
                ("demotions", self.demotions),
                ("gaps", self.gaps),
            ]),
            ..Default::default()
        };
        match self.side.as_mut().expect("it changes within a call only") {
            Side::Standby(side) => side.show(&self.view, seen),
            Side::Primary(group) => group.show(&self.view, seen),
            Side::HandingOver(under_way) => under_way.group.show(&self.view, seen),
        }
    }
}

impl From<&Leader> for Candidate {
    fn from(leader: &Leader) -> Candidate {
        Candidate { name: leader.node.clone(), address: leader.address.clone() }
    }
}

/// Where a primary may be found.
fn candidates(peers: &[PeerConfig]) -> Vec<Candidate> {
    let candidate =
        |peer: &PeerConfig| Some(Candidate { name: peer.name.clone(), address: peer.address.clone()? });
    peers.iter().filter_map(candidate).collect()
}

impl Round for Member {
    fn round(&mut self) -> usize {
        let Member { side, term, lead, .. } = self;
        let work = match (side.as_mut().expect("it changes within a call only"), lead) {
            (Side::Standby(side), _) => side.round(term),
            (Side::Primary(group), Some(lead)) => group.round(&lead.listener),
            (Side::HandingOver(under_way), Some(lead)) => under_way.group.round(&lead.listener),
            _ => unreachable!("a copy never is the primary"),
        };
        let now_ns = SystemClock.monotonic_ns();
        self.advance(now_ns);
        self.follow_election(now_ns);
        if let Ok((order, answer)) = self.orders.try_recv() {
            self.take_order(order, answer);
        }
        if now_ns.saturating_sub(self.looked_ns) >= VIEW_INTERVAL_NS {
            self.looked_ns = now_ns;
            self.wish();
            let is_standby = matches!(self.side, Some(Side::Standby(_)));
            if let Some(lead) =
                self.lead.as_ref().filter(|_| is_standby && self.leadership.term_at(now_ns).is_none())
            {
                // Whoever looks for the primary here does not find it: the next candidate is asked then. A successor's standbys may
                // be there already, and wait.
                while lead.listener.accept().is_ok() {}
            }
            self.show();
        }
        work
    }

    fn end(&mut self) {
        // The group may have another primary as soon as the lease is given back, which is when the election is dropped.
        if let Some(lead) = &self.lead {
            lead.worker.lease_until(0);
        }
        if let Side::Standby(side) = self.side() {
            side.retire();
        }
    }
}
