//! Builds the host's frames in a buffer that is made once.

use super::Out;
use crate::wire::datagram::write_ethernet;
use crate::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, FRAME_BYTES_MIN, MacAddress, multicast_mac};
use crate::wire::{arp, checksum, ipv4};
use std::net::Ipv4Addr;
use zerocopy::IntoBytes;

/// The longest IGMP message: with its IP header it fits any link that carries market data.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_368;
const IPV4_BYTES: usize = size_of::<ipv4::Header>() + ipv4::ROUTER_ALERT.len();
const BUFFER_BYTES: usize = 18 + IPV4_BYTES + MESSAGE_BYTES_MAX;

/// IGMP messages have the precedence of network control (RFC 3376 §4).
const SERVICE_NETWORK_CONTROL: u8 = 0xC0;

#[derive(Debug)]
pub(super) struct Sender {
    mac: MacAddress,
    address: Ipv4Addr,
    vlan: Option<u16>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Sender {
    pub(super) fn new(mac: MacAddress, address: Ipv4Addr, vlan: Option<u16>) -> Self {
        Sender { mac, address, vlan, buffer: Box::new([0; BUFFER_BYTES]) }
    }

    /// Where an IGMP message is to be written before [`Out::send_igmp`].
    pub(super) fn message(&mut self) -> &mut [u8; MESSAGE_BYTES_MAX] {
        let start = self.ethernet_bytes() + IPV4_BYTES;
        self.buffer[start..].first_chunk_mut().expect("the buffer has room for the longest message")
    }

    fn ethernet_bytes(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    /// Writes the Ethernet header and returns its length.
    fn write_ethernet(&mut self, destination: MacAddress, ethertype: u16) -> usize {
        let macs = (self.mac, destination);
        write_ethernet(macs, self.vlan, ethertype, &mut self.buffer[..]).expect("the buffer has room for it")
    }
}

impl Out<'_, '_> {
    /// Sends the first `message_bytes` of [`Sender::message`] to a group, after putting their checksum in place.
    pub(super) fn send_igmp(&mut self, destination: Ipv4Addr, message_bytes: usize) {
        let sender = &mut *self.sender;
        let message = &mut sender.message()[..message_bytes];
        message[2..4].fill(0);
        let sum = checksum::checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut header = ipv4::Header {
            version_ihl: 0x40 | (IPV4_BYTES / 4) as u8,
            service: SERVICE_NETWORK_CONTROL,
            total_length: ((IPV4_BYTES + message_bytes) as u16).into(),
            identification: 0.into(),
            fragment: ipv4::DONT_FRAGMENT.into(),
            hops_left: 1,
            protocol: ipv4::PROTOCOL_IGMP,
            checksum: 0.into(),
            source: sender.address.into(),
            destination: destination.into(),
        };
        header.seal(&ipv4::ROUTER_ALERT);
        let start = sender.write_ethernet(multicast_mac(destination), ETHERTYPE_IPV4);
        let (front, options) = sender.buffer[start..][..IPV4_BYTES].split_at_mut(size_of_val(&header));
        front.copy_from_slice(header.as_bytes());
        options.copy_from_slice(&ipv4::ROUTER_ALERT);
        self.counters.igmp_reports += 1;
        self.send(start + IPV4_BYTES + message_bytes);
    }

    pub(super) fn send_arp(&mut self, destination: MacAddress, packet: &arp::Packet) {
        let start = self.sender.write_ethernet(destination, ETHERTYPE_ARP);
        self.sender.buffer[start..][..size_of_val(packet)].copy_from_slice(packet.as_bytes());
        self.send(start + size_of_val(packet));
    }

    fn send(&mut self, bytes: usize) {
        let padded = bytes.max(FRAME_BYTES_MIN);
        self.sender.buffer[bytes..padded].fill(0);
        if !(self.tx)(&self.sender.buffer[..padded]) {
            self.counters.tx_dropped += 1;
        }
    }
}
