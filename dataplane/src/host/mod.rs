//! What a kernel does for a network interface, for a port that owns its NIC: answers ARP for the appliance's
//! address, joins and leaves multicast groups, and answers the routers' queries for them.
//!
//! Sans-IO: frames come in by [`Host::handle`], time by [`Host::poll`], and frames go out through the `tx` that both
//! are given. Nothing is allocated after construction. Randomness (IGMP's delays) comes from a seed.

mod announcer;
mod groups;
mod member;
mod random;
mod sender;

use crate::port::Membership;
use crate::wire::datagram::{Parsed, parse};
use crate::wire::ethernet::MacAddress;
use announcer::Announcer;
use groups::Groups;
use member::Member;
use random::Random;
use sender::Sender;
use std::net::Ipv4Addr;

/// Memberships of one host.
pub const MEMBERSHIPS_MAX: usize = 256;

/// Takes a frame to be sent; false = the device did not take it. It is counted, and not sent again before
/// the protocol does so anyway.
pub type Tx<'t> = dyn FnMut(&[u8]) -> bool + 't;

/// Never.
const NEVER_NS: u64 = u64::MAX;

/// The version of IGMP that is spoken while no router needs an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgmpVersion {
    /// Not to be chosen: only spoken with routers that know no other.
    V1,
    V2,
    V3,
}

/// Who the host is.
#[derive(Clone, Copy, Debug)]
pub struct HostConfig {
    pub mac: MacAddress,
    /// 0.0.0.0 = none: ARP is not answered, and reports have no sender (RFC 3376 §4.2.13).
    pub address: Ipv4Addr,
    /// The VLAN that it is on; frames of others are not for it. `None` = untagged.
    pub vlan: Option<u16>,
    pub igmp: IgmpVersion,
    /// Where the random delays come from; should differ between hosts.
    pub seed: u64,
}

/// Why a host can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    TooManyMemberships { count: usize },
    NotMulticast { group: Ipv4Addr },
    NotUnicast { source: Ipv4Addr },
    VlanId { id: u16 },
    Version,
}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostError::TooManyMemberships { count } => {
                write!(
                    f,
                    "{count} multicast memberships are more than the {MEMBERSHIPS_MAX} that a port can have"
                )
            }
            HostError::NotMulticast { group } => {
                write!(f, "{group} is no multicast group that can be joined (224.0.0.2 to 239.255.255.255)")
            }
            HostError::NotUnicast { source } => write!(f, "the source {source} is no host's address"),
            HostError::VlanId { id } => write!(f, "{id} is no VLAN id (1 to 4094)"),
            HostError::Version => write!(f, "IGMP version 1 can't be chosen: use 2 or 3"),
        }
    }
}

impl std::error::Error for HostError {}

/// What the host did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    pub arp_replies: u64,
    /// ARP packets by which another claims our address.
    pub arp_conflicts: u64,
    pub igmp_queries: u64,
    /// IGMP messages that are damaged, or queries that no router may send.
    pub igmp_malformed: u64,
    /// Reports and leaves sent.
    pub igmp_reports: u64,
    /// Frames that the device did not take.
    pub tx_dropped: u64,
    /// ARP and IGMP of other VLANs.
    pub other_vlan: u64,
}

/// The host on one network interface.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    sender: Sender,
    announcer: Announcer,
    member: Member,
    /// When [`Host::poll`] has something to do.
    next_ns: u64,
    counters: HostCounters,
}

impl Host {
    /// A host whose first frames (it announces its address, and joins) leave by the first [`Host::poll`].
    pub fn new(config: &HostConfig, memberships: &[Membership]) -> Result<Self, HostError> {
        if memberships.len() > MEMBERSHIPS_MAX {
            return Err(HostError::TooManyMemberships { count: memberships.len() });
        }
        if let Some(id) = config.vlan
            && !(1..=4094).contains(&id)
        {
            return Err(HostError::VlanId { id });
        }
        if config.igmp == IgmpVersion::V1 {
            return Err(HostError::Version);
        }
        Ok(Host {
            config: *config,
            sender: Sender::new(config.mac, config.address, config.vlan),
            announcer: Announcer::new(config.mac, config.address),
            member: Member::new(config.igmp, Groups::new(memberships)?, Random::new(config.seed)),
            next_ns: 0,
            counters: HostCounters::default(),
        })
    }

    /// Takes a frame that may be for the host; false = it is neither ARP nor IGMP.
    pub fn handle(&mut self, frame: &[u8], now_ns: u64, tx: &mut Tx<'_>) -> bool {
        parse(frame).is_ok_and(|parsed| self.handle_parsed(&parsed, now_ns, tx))
    }

    /// As [`Host::handle`], for a frame that was parsed already.
    pub fn handle_parsed(&mut self, parsed: &Parsed<'_>, now_ns: u64, tx: &mut Tx<'_>) -> bool {
        let (Parsed::Arp { vlan, .. } | Parsed::Igmp { vlan, .. }) = parsed else { return false };
        if *vlan != self.config.vlan {
            self.counters.other_vlan += 1;
            return true;
        }
        let mut out = Out { sender: &mut self.sender, counters: &mut self.counters, tx };
        match parsed {
            Parsed::Arp { packet, .. } => self.announcer.handle(packet, now_ns, &mut out),
            Parsed::Igmp { source, destination, message, .. }
                if *source != self.config.address || source.is_unspecified() =>
            {
                let to_us = *destination == self.config.address;
                self.member.handle(message, *destination, to_us, now_ns, &mut out);
            }
            // Some devices hand a sender its own frames.
            _ => {}
        }
        self.schedule();
        true
    }

    /// Sends what is due. To be called every duty cycle: as long as nothing is, it compares two numbers.
    #[inline]
    pub fn poll(&mut self, now_ns: u64, tx: &mut Tx<'_>) {
        if now_ns >= self.next_ns {
            self.poll_due(now_ns, tx);
        }
    }

    /// When [`Host::poll`] has something to do, at the earliest.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    #[cold]
    fn poll_due(&mut self, now_ns: u64, tx: &mut Tx<'_>) {
        let mut out = Out { sender: &mut self.sender, counters: &mut self.counters, tx };
        self.announcer.poll(now_ns, &mut out);
        self.member.poll(now_ns, &mut out);
        self.schedule();
    }

    fn schedule(&mut self) {
        self.next_ns = self.announcer.next_ns().min(self.member.next_ns());
    }

    /// Leaves all groups: says so at once, and a second time by [`Host::poll`] within the next second, for the first
    /// may be lost. Queries are answered no more.
    pub fn leave(&mut self, now_ns: u64, tx: &mut Tx<'_>) {
        self.member.leave(now_ns);
        self.poll_due(now_ns, tx);
    }

    /// Whether everything is said after [`Host::leave`].
    pub fn has_left(&self) -> bool {
        self.member.has_left()
    }

    /// The version of IGMP that is spoken now.
    pub fn igmp_version(&self) -> IgmpVersion {
        self.member.version()
    }

    pub fn counters(&self) -> HostCounters {
        self.counters
    }
}

/// The way out, for the parts of the host.
struct Out<'h, 't> {
    sender: &'h mut Sender,
    counters: &'h mut HostCounters,
    tx: &'h mut Tx<'t>,
}
