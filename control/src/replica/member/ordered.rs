//! What an operator orders, and the hand-over that may follow of it.

use super::{Awaited, FOLLOW_MAX_NS, HERALD_MAX, Member, Side, candidates};
use crate::config::{PeerConfig, ReplicaConfig, ReplicaRole};
use crate::election::Leadership;
use crate::replica::hand_over::{Asked, HandOver, Step};
use crate::replica::orders::{Answer, Order, OrderError};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::tcp_link::StandbyEnd;

impl Member {
    pub(super) fn take_order(&mut self, order: Order, answer: Answer) {
        let result = match order {
            Order::Promote { force } => self.promote(force),
            Order::HandOver { to } => return self.begin_hand_over(to, answer),
            Order::AddPeer(peer) => {
                let mut peers = self.config.peers.clone();
                peers.retain(|known| known.name != peer.name);
                peers.push(peer);
                self.set_peers(peers)
            }
            Order::RemovePeer { name } => {
                let mut peers = self.config.peers.clone();
                peers.retain(|known| known.name != name);
                match peers.len() == self.config.peers.len() {
                    true => Err(OrderError::NoSuchPeer(name)),
                    false => self.set_peers(peers),
                }
            }
        };
        // Whoever asked may be gone.
        let _ = answer.send(result);
        self.show();
    }

    fn promote(&mut self, force: bool) -> Result<u64, OrderError> {
        match self.side.as_ref().expect("it changes within a call only") {
            Side::Primary(group) => return Err(OrderError::IsPrimary(group.term())),
            Side::HandingOver(_) => return Err(OrderError::Busy),
            _ if self.lead.is_none() => return Err(OrderError::Copy),
            _ if self.config.role == ReplicaRole::Elected => return Err(OrderError::Elected),
            Side::Standby(side) => match side.primary() {
                Some(primary) if !force => return Err(OrderError::PrimaryAnswers(primary.to_owned())),
                _ if side.standby().is_fresh() && !force => return Err(OrderError::NotLevel),
                _ => {}
            },
        }
        if force {
            // One term to be told of, so that an old primary that is reached knows that its time is over, and the next to lead.
            self.herald(self.next_term()?);
        }
        self.become_primary(self.next_term()?)
    }

    /// Lets all peers that can be reached know that the terms before this one are over.
    fn herald(&mut self, term: u64) {
        let Some(Side::Standby(side)) = self.side.take() else { unreachable!("only a standby is promoted") };
        let mut standby = side.into_standby();
        let file = &mut self.term;
        let mut write_down = |term| file.write(term).is_ok();
        if standby.hear_of(term, &mut write_down).is_ok() {
            for candidate in candidates(&self.config.peers) {
                let told = candidate.connect(self.links.identity(), HERALD_MAX).and_then(|channel| {
                    let mut end = StandbyEnd::new(channel, &mut standby)?;
                    let deadline_ns = SystemClock.monotonic_ns() + HERALD_MAX.as_nanos() as u64;
                    // Its answer, that this node is refused, says that it has heard.
                    while SystemClock.monotonic_ns() < deadline_ns {
                        match end.poll(&mut standby, || SystemClock.monotonic_ns(), &mut |_| false) {
                            Ok(_) => std::thread::yield_now(),
                            Err(_) => return Ok(()),
                        }
                    }
                    Err(std::io::ErrorKind::TimedOut.into())
                });
                if let Err(error) = told {
                    tracing::info!("{} was not told of the new term: {error}", candidate.name);
                }
            }
        }
        self.be_standby(standby);
    }

    fn set_peers(&mut self, peers: Vec<PeerConfig>) -> Result<u64, OrderError> {
        let config = ReplicaConfig { peers, ..self.config.clone() };
        config.check_peers(&self.name).map_err(OrderError::Peers)?;
        self.config = config;
        let is_elected = self.election().is_some();
        match self.side.as_mut().expect("it changes within a call only") {
            Side::Standby(side) if !is_elected => side.set_candidates(candidates(&self.config.peers)),
            Side::Primary(group) => group.set_peers(&self.config.peers),
            Side::Standby(_) | Side::HandingOver(_) => {}
        }
        Ok(self.term.term())
    }

    fn begin_hand_over(&mut self, to: String, answer: Answer) {
        let elected = self.election().is_some();
        let is_asked = self.asked.is_some();
        let result = match self.side() {
            _ if is_asked => Err(OrderError::Busy),
            Side::Standby(_) => Err(OrderError::NotPrimary),
            Side::HandingOver(_) => Err(OrderError::Busy),
            Side::Primary(group) => match group.peer(&to) {
                None => Err(OrderError::NoSuchPeer(to.clone())),
                Some(peer) if peer.config.address.is_none() && !elected => {
                    Err(OrderError::PeerIsCopy(to.clone()))
                }
                Some(peer) if !peer.is_level() => Err(OrderError::PeerNotReady(to.clone())),
                Some(_) => Ok(()),
            },
        };
        if let Err(error) = result {
            let _ = answer.send(Err(error));
            return;
        }
        let now_ns = SystemClock.monotonic_ns();
        match self.side() {
            Side::Primary(group) if elected => self.asked = Some(Asked::new(group, to, answer, now_ns)),
            _ => self.drain(to, answer, false, now_ns),
        }
    }

    /// What etcd says to the hand-over that was ordered.
    pub(super) fn advance_asked(&mut self, now_ns: u64) {
        let (Some(asked), Some(Side::Primary(group))) = (&mut self.asked, &mut self.side) else { return };
        let election = self.lead.as_ref().and_then(|lead| lead.election.as_ref());
        let step = asked.step(group, election.expect("only where nodes are elected etcd is asked"), now_ns);
        if step == Ok(false) {
            return;
        }
        let Asked { to, answer, .. } = self.asked.take().expect("looked at above");
        match step {
            Ok(_) => self.drain(to, answer, true, now_ns),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Gives the region up, and lets a peer get what it lacks; `is_named` = it is the leader already.
    fn drain(&mut self, to: String, answer: Answer, is_named: bool, now_ns: u64) {
        tracing::info!("hands the primary's place over to {to}");
        let Some(Side::Primary(group)) = self.side.take() else { unreachable!("only a primary hands over") };
        self.lead.as_mut().expect("a primary has a worker").give_up();
        self.side = Some(Side::HandingOver(Box::new(HandOver::new(*group, to, answer, is_named, now_ns))));
    }

    pub(super) fn advance_hand_over(&mut self, now_ns: u64) {
        let is_final = self.lead.as_ref().is_some_and(|lead| lead.worker.has_released());
        let Side::HandingOver(under_way) = self.side() else { return };
        let step = under_way.step(is_final, now_ns);
        if step != Step::Wait {
            self.end_hand_over(step, now_ns);
        }
    }

    pub(super) fn end_hand_over(&mut self, step: Step, now_ns: u64) {
        let Some(Side::HandingOver(under_way)) = self.side.take() else { unreachable!("looked at above") };
        let HandOver { group, to, answer, .. } = *under_way;
        match step {
            Step::Done => {
                let term = group.term();
                drop(group);
                self.resign();
                // Whatever the election said last was of the term that is over.
                self.leadership = Leadership::Follower { leader: None };
                let deadline_ns = now_ns + FOLLOW_MAX_NS;
                self.awaited = Some(Awaited { answer, to, after_term: term, deadline_ns });
                let follower = self.lead.as_mut().expect("a primary has a worker").given_up();
                self.be_standby_after(follower, term, term);
            }
            _ => {
                let lead = self.lead.as_mut().expect("a primary has a worker");
                let writer = lead.given_up().into_writer();
                self.gaps += lead.take_over(writer, self.reader);
                tracing::error!("{to} did not get all updates in time: this node is the primary still");
                self.side = Some(Side::Primary(Box::new(group)));
                let _ = answer.send(Err(OrderError::NotDrained(to)));
            }
        }
    }
}
