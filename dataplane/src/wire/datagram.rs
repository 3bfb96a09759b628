//! From an Ethernet frame to the UDP payload in it, in place, and back.
//!
//! What is checked: every length against the bytes that are there, the IPv4 header and its checksum. What is not:
//! the UDP checksum. A NIC has checked it already, many feeds send none, a virtual link carries half made ones
//! (the sender leaves them to a device that is not there), and reading the whole payload for it would cost more than all
//! else here. What a damaged payload could do is bounded by the decoders' own checks.

use crate::wire::ethernet::{
    self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_VLAN, ETHERTYPE_VLAN_PROVIDER, MacAddress, VLAN_TAGS_MAX,
    VlanTag,
};
use crate::wire::{arp, checksum, ipv4, udp};
use std::net::{Ipv4Addr, SocketAddrV4};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A UDP datagram, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'f> {
    /// The innermost tag's VLAN; `None` without tags, or with a priority alone.
    pub vlan: Option<u16>,
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub payload: &'f [u8],
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'f> {
    Udp(Datagram<'f>),
    Arp {
        vlan: Option<u16>,
        packet: &'f arp::Packet,
    },
    /// `message` is the IP payload; its own checksum is not checked yet.
    Igmp {
        vlan: Option<u16>,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        message: &'f [u8],
    },
}

/// Why a frame was not taken; each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than its Ethernet header and tags.
    EthernetShort,
    /// More than two VLAN tags.
    VlanDepth,
    /// Neither IPv4 nor ARP.
    Ethertype,
    /// Not ARP for IPv4 over Ethernet, or cut.
    Arp,
    /// Shorter than an IPv4 header.
    Ipv4Short,
    /// The version is not 4.
    Ipv4Version,
    /// The header says that it is shorter than itself, or longer than the packet.
    Ipv4HeaderLength,
    /// The packet says that it is longer than the frame.
    Ipv4TotalLength,
    Ipv4Checksum,
    /// A piece of a larger packet: feeds do not fragment, and nothing is put together here.
    Fragment,
    /// Neither UDP nor IGMP.
    Protocol,
    /// Shorter than a UDP header.
    UdpShort,
    /// The datagram says that it is shorter than its header, or longer than the packet.
    UdpLength,
}

impl Reject {
    pub const ALL: [Reject; 13] = [
        Reject::EthernetShort,
        Reject::VlanDepth,
        Reject::Ethertype,
        Reject::Arp,
        Reject::Ipv4Short,
        Reject::Ipv4Version,
        Reject::Ipv4HeaderLength,
        Reject::Ipv4TotalLength,
        Reject::Ipv4Checksum,
        Reject::Fragment,
        Reject::Protocol,
        Reject::UdpShort,
        Reject::UdpLength,
    ];

    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Reject::EthernetShort => "ethernet_short",
            Reject::VlanDepth => "vlan_depth",
            Reject::Ethertype => "ethertype",
            Reject::Arp => "arp",
            Reject::Ipv4Short => "ipv4_short",
            Reject::Ipv4Version => "ipv4_version",
            Reject::Ipv4HeaderLength => "ipv4_header_length",
            Reject::Ipv4TotalLength => "ipv4_total_length",
            Reject::Ipv4Checksum => "ipv4_checksum",
            Reject::Fragment => "fragment",
            Reject::Protocol => "protocol",
            Reject::UdpShort => "udp_short",
            Reject::UdpLength => "udp_length",
        }
    }
}

/// The headers of a frame as nearly all are: without tags, without IP options.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PlainHeaders {
    ethernet: ethernet::Header,
    ipv4: ipv4::Header,
    udp: udp::Header,
}

/// The datagram of a frame with such headers, found with a single decision; `None` = [`parse`] must look.
#[inline(always)]
pub fn parse_plain(frame: &[u8]) -> Option<Datagram<'_>> {
    let (PlainHeaders { ethernet, ipv4, udp }, behind) = PlainHeaders::ref_from_prefix(frame).ok()?;
    let (total_bytes, udp_bytes) = (usize::from(ipv4.total_length.get()), usize::from(udp.length.get()));
    let headers_bytes = size_of::<ipv4::Header>() + size_of::<udp::Header>();
    let is_plain = (ethernet.ethertype.get() == ETHERTYPE_IPV4)
        & (ipv4.version_ihl == ipv4::VERSION_IHL_PLAIN)
        & (ipv4.protocol == ipv4::PROTOCOL_UDP)
        & !ipv4.is_fragment()
        & (udp_bytes >= size_of::<udp::Header>())
        & (size_of::<ipv4::Header>() + udp_bytes <= total_bytes)
        & (total_bytes <= headers_bytes + behind.len())
        & checksum::is_header_intact(zerocopy::transmute_ref!(ipv4));
    if !is_plain {
        return None;
    }
    Some(Datagram {
        vlan: None,
        source: SocketAddrV4::new(ipv4.source.into(), udp.source_port.get()),
        destination: SocketAddrV4::new(ipv4.destination.into(), udp.destination_port.get()),
        payload: behind.get(..udp_bytes - size_of::<udp::Header>())?,
    })
}

/// Where the first ethertype is.
const ETHERTYPE_OFFSET: usize = 2 * size_of::<MacAddress>();

/// Finds what `frame`, which begins with an Ethernet header and has no check sequence, carries.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Parsed<'_>, Reject> {
    let (header, rest) = ethernet::Header::ref_from_prefix(frame).map_err(|_| Reject::EthernetShort)?;
    match header.ethertype.get() {
        ETHERTYPE_IPV4 => parse_ipv4(rest, None),
        ethertype => parse_tagged(ethertype, rest),
    }
}

fn parse_tagged(mut ethertype: u16, mut rest: &[u8]) -> Result<Parsed<'_>, Reject> {
    let mut vlan = None;
    let mut tags = 0;
    while matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_VLAN_PROVIDER) {
        if tags == VLAN_TAGS_MAX {
            return Err(Reject::VlanDepth);
        }
        let (tag, behind) = VlanTag::ref_from_prefix(rest).map_err(|_| Reject::EthernetShort)?;
        (ethertype, rest, vlan) = (tag.ethertype.get(), behind, tag.id());
        tags += 1;
    }
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(rest, vlan),
        ETHERTYPE_ARP => {
            arp::Packet::parse(rest).map(|packet| Parsed::Arp { vlan, packet }).ok_or(Reject::Arp)
        }
        _ => Err(Reject::Ethertype),
    }
}

#[inline(always)]
fn parse_ipv4(bytes: &[u8], vlan: Option<u16>) -> Result<Parsed<'_>, Reject> {
    let (header, behind) = ipv4::Header::ref_from_prefix(bytes).map_err(|_| Reject::Ipv4Short)?;
    if header.version() != 4 {
        return Err(Reject::Ipv4Version);
    }
    let (header_bytes, total_bytes) = (header.header_bytes(), usize::from(header.total_length.get()));
    if header_bytes < size_of::<ipv4::Header>() || header_bytes > total_bytes {
        return Err(Reject::Ipv4HeaderLength);
    }
    // What lies behind the packet is the frame's padding.
    let packet = bytes.get(..total_bytes).ok_or(Reject::Ipv4TotalLength)?;
    let options_bytes = header_bytes - size_of::<ipv4::Header>();
    let mut sum = checksum::Sum::default().with(header.as_bytes());
    if options_bytes > 0 {
        sum = sum.with(&behind[..options_bytes]);
    }
    if !sum.is_intact() {
        return Err(Reject::Ipv4Checksum);
    }
    if header.is_fragment() {
        return Err(Reject::Fragment);
    }
    let payload = &packet[header_bytes..];
    let (source, destination) = (header.source.into(), header.destination.into());
    match header.protocol {
        ipv4::PROTOCOL_UDP => parse_udp(payload, vlan, source, destination),
        ipv4::PROTOCOL_IGMP => Ok(Parsed::Igmp { vlan, source, destination, message: payload }),
        _ => Err(Reject::Protocol),
    }
}

#[inline(always)]
fn parse_udp(
    bytes: &[u8],
    vlan: Option<u16>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Result<Parsed<'_>, Reject> {
    let (header, payload) = udp::Header::ref_from_prefix(bytes).map_err(|_| Reject::UdpShort)?;
    let payload_bytes = usize::from(header.length.get()).checked_sub(size_of::<udp::Header>());
    // A datagram may be shorter than its packet: as the kernel does, what is behind it is cut off.
    let payload = payload_bytes.and_then(|length| payload.get(..length)).ok_or(Reject::UdpLength)?;
    Ok(Parsed::Udp(Datagram {
        vlan,
        source: SocketAddrV4::new(source, header.source_port.get()),
        destination: SocketAddrV4::new(destination, header.destination_port.get()),
        payload,
    }))
}

/// Bytes in front of the payload of an untagged frame; each tag adds four.
pub const OVERHEAD_BYTES: usize =
    size_of::<ethernet::Header>() + size_of::<ipv4::Header>() + size_of::<udp::Header>();

/// Writes the frame of `datagram`, with both checksums, to the front of `buffer` and returns its length; `None` if
/// the buffer is too short or the payload too long for one packet. It is not padded to Ethernet's minimum.
pub fn write(
    datagram: &Datagram<'_>,
    (source_mac, destination_mac): (MacAddress, MacAddress),
    hops_max: u8,
    buffer: &mut [u8],
) -> Option<usize> {
    let Datagram { vlan, source, destination, payload } = datagram;
    if payload.len() > udp::PAYLOAD_BYTES_MAX {
        return None;
    }
    let udp_bytes = (size_of::<udp::Header>() + payload.len()) as u16;
    let mut udp = udp::Header {
        source_port: source.port().into(),
        destination_port: destination.port().into(),
        length: udp_bytes.into(),
        checksum: 0.into(),
    };
    let mut ipv4 = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL_PLAIN,
        service: 0,
        total_length: (size_of::<ipv4::Header>() as u16 + udp_bytes).into(),
        identification: 0.into(),
        fragment: ipv4::DONT_FRAGMENT.into(),
        hops_left: hops_max,
        protocol: ipv4::PROTOCOL_UDP,
        checksum: 0.into(),
        source: (*source.ip()).into(),
        destination: (*destination.ip()).into(),
    };
    udp.seal(ipv4.source, ipv4.destination, payload);
    ipv4.seal(&[]);
    let ethernet_bytes = write_ethernet((source_mac, destination_mac), *vlan, ETHERTYPE_IPV4, buffer)?;
    let mut length = ethernet_bytes;
    for piece in [ipv4.as_bytes(), udp.as_bytes(), payload] {
        buffer.get_mut(length..length + piece.len())?.copy_from_slice(piece);
        length += piece.len();
    }
    Some(length)
}

/// Writes an Ethernet header, with a tag if there is a VLAN, and returns its length.
pub fn write_ethernet(
    (source, destination): (MacAddress, MacAddress),
    vlan: Option<u16>,
    ethertype: u16,
    buffer: &mut [u8],
) -> Option<usize> {
    let first = if vlan.is_some() { ETHERTYPE_VLAN } else { ethertype };
    let header = ethernet::Header { destination, source, ethertype: first.into() };
    header.write_to_prefix(buffer).ok()?;
    let Some(id) = vlan else { return Some(size_of_val(&header)) };
    let tag = VlanTag { control: id.into(), ethertype: ethertype.into() };
    tag.write_to_prefix(&mut buffer[size_of_val(&header)..]).ok()?;
    Some(size_of_val(&header) + size_of_val(&tag))
}

/// Makes `frame`, which carries a UDP datagram, one to another group (or host) and port, in place: the IPv4 destination
/// and checksum, the UDP port, the UDP checksum if there was one, and, for a group, the destination MAC. All else
/// stays, tags and options, too; for a host the MAC as well, since nobody here knows the host's. A frame that
/// carries no UDP datagram is left as it is, and refused for its reason.
pub fn readdress(frame: &mut [u8], destination: SocketAddrV4) -> Result<(), Reject> {
    let payload_bytes = match parse(frame)? {
        Parsed::Udp(datagram) => datagram.payload.len(),
        Parsed::Arp { .. } | Parsed::Igmp { .. } => return Err(Reject::Protocol),
    };
    let tags = frame[ETHERTYPE_OFFSET..].chunks_exact(size_of::<VlanTag>());
    let tags = tags.take_while(|tag| {
        let ethertype = u16::from_be_bytes([tag[0], tag[1]]);
        matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_VLAN_PROVIDER)
    });
    let ipv4_offset = size_of::<ethernet::Header>() + tags.count() * size_of::<VlanTag>();
    let (ethernet, packet) = frame.split_at_mut(ipv4_offset);
    if destination.ip().is_multicast() {
        ethernet[..size_of::<MacAddress>()].copy_from_slice(&ethernet::multicast_mac(*destination.ip()).0);
    }
    let (header, behind) = ipv4::Header::mut_from_prefix(packet).map_err(|_| Reject::Ipv4Short)?;
    let (options, behind) = behind.split_at_mut(header.header_bytes() - size_of::<ipv4::Header>());
    header.destination = (*destination.ip()).into();
    header.seal(options);
    let (udp, payload) = udp::Header::mut_from_prefix(behind).map_err(|_| Reject::UdpShort)?;
    udp.destination_port = destination.port().into();
    if udp.checksum.get() != 0 {
        udp.seal(header.source, header.destination, &payload[..payload_bytes]);
    }
    Ok(())
}
