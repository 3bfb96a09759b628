//! ARP for the host's one address: answers who asks for it, and tells that it is there (RFC 826, RFC 5227).

use super::{NEVER_NS, Out};
use crate::time::NS_PER_S;
use crate::wire::arp::{OPERATION_REPLY, OPERATION_REQUEST, Packet};
use crate::wire::ethernet::MacAddress;
use crate::wire::ipv4::Address;
use std::net::Ipv4Addr;

/// RFC 5227 §1.1: ANNOUNCE_NUM, ANNOUNCE_INTERVAL, DEFEND_INTERVAL.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL_NS: u64 = 2 * NS_PER_S;
const DEFEND_INTERVAL_NS: u64 = 10 * NS_PER_S;

/// It does not probe before it announces: the address is configured, so there is no other to take, and
/// the market does not wait. A conflict is counted, and the address defended, at most every 10 s.
#[derive(Debug)]
pub(super) struct Announcer {
    mac: MacAddress,
    address: Address,
    announcements_left: u8,
    announce_ns: u64,
    defend_ns: u64,
}

impl Announcer {
    pub(super) fn new(mac: MacAddress, address: Ipv4Addr) -> Self {
        let has_address = !address.is_unspecified();
        Announcer {
            mac,
            address: address.into(),
            announcements_left: if has_address { ANNOUNCEMENTS } else { 0 },
            announce_ns: if has_address { 0 } else { NEVER_NS },
            defend_ns: 0,
        }
    }

    pub(super) fn next_ns(&self) -> u64 {
        self.announce_ns
    }

    pub(super) fn poll(&mut self, now_ns: u64, out: &mut Out<'_, '_>) {
        if now_ns < self.announce_ns {
            return;
        }
        self.announcements_left -= 1;
        self.announce_ns =
            if self.announcements_left == 0 { NEVER_NS } else { now_ns + ANNOUNCE_INTERVAL_NS };
        self.announce(out);
    }

    pub(super) fn handle(&mut self, packet: &Packet, now_ns: u64, out: &mut Out<'_, '_>) {
        if Ipv4Addr::from(self.address).is_unspecified() || packet.sender_mac == self.mac {
            return;
        }
        if packet.sender == self.address {
            out.counters.arp_conflicts += 1;
            if now_ns >= self.defend_ns {
                self.defend_ns = now_ns + DEFEND_INTERVAL_NS;
                self.announce(out);
            }
            return;
        }
        let is_for_us = packet.operation.get() == OPERATION_REQUEST && packet.target == self.address;
        if is_for_us && !packet.sender_mac.is_multicast() {
            let asker = (packet.sender_mac, packet.sender);
            let reply = Packet::new(OPERATION_REPLY, (self.mac, self.address), asker);
            out.counters.arp_replies += 1;
            out.send_arp(packet.sender_mac, &reply);
        }
    }

    /// A request for our own address from ourselves: it renews what the others remember, and asks nothing.
    fn announce(&self, out: &mut Out<'_, '_>) {
        let nobody = MacAddress([0; 6]);
        let packet = Packet::new(OPERATION_REQUEST, (self.mac, self.address), (nobody, self.address));
        out.send_arp(MacAddress::BROADCAST, &packet);
    }
}
