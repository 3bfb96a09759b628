//! The frame parser: what is written is read back, what is damaged is refused for its reason, and no bytes
//! make it panic.

use dataplane::wire::checksum;
use dataplane::wire::datagram::{Datagram, OVERHEAD_BYTES, Parsed, Reject, parse, readdress, write};
use dataplane::wire::ethernet::{MacAddress, multicast_mac};
use proptest::prelude::*;
use std::net::{Ipv4Addr, SocketAddrV4};

const SOURCE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

fn frame(datagram: &Datagram<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let macs = (SOURCE_MAC, multicast_mac(*datagram.destination.ip()));
    let length = write(datagram, macs, 16, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// A frame without tags: Ethernet 0..14, IPv4 14..34, UDP 34..42, payload "tick".
fn plain() -> Vec<u8> {
    frame(&Datagram {
        vlan: None,
        source: "10.1.2.3:4000".parse().unwrap(),
        destination: "233.54.12.111:26477".parse().unwrap(),
        payload: b"tick",
    })
}

/// [`plain`] with some bytes changed and the IPv4 checksum put right again.
fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = plain();
    for (offset, value) in changes {
        frame[*offset] = *value;
    }
    reseal(&mut frame, 14);
    frame
}

fn reseal(frame: &mut [u8], ipv4: usize) {
    let header_bytes = (usize::from(frame[ipv4] & 0xF) * 4).clamp(20, frame.len() - ipv4);
    frame[ipv4 + 10..ipv4 + 12].fill(0);
    let sum = checksum::checksum(&frame[ipv4..ipv4 + header_bytes]);
    frame[ipv4 + 10..ipv4 + 12].copy_from_slice(&sum.to_be_bytes());
}

fn payload(parsed: Result<Parsed<'_>, Reject>) -> Result<Vec<u8>, Reject> {
    match parsed? {
        Parsed::Udp(datagram) => Ok(datagram.payload.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn datagrams() -> impl Strategy<Value = (Option<u16>, [u32; 2], [u16; 2], Vec<u8>)> {
    let vlan = prop::option::of(1..4095u16);
    (vlan, any::<[u32; 2]>(), any::<[u16; 2]>(), prop::collection::vec(any::<u8>(), 0..2000))
}

proptest! {
    /// What is readdressed is, byte for byte, what would have been written to the new destination.
    #[test]
    fn a_frame_is_readdressed_as_if_it_had_been_written_so(
        (vlan, [source, group], [source_port, port], payload) in datagrams(),
        outer: bool,
        has_checksum: bool,
        padding in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let source = SocketAddrV4::new(source.into(), source_port);
        let before = "233.54.12.111:26477".parse().unwrap();
        let after = SocketAddrV4::new(Ipv4Addr::from(group & 0x0FFF_FFFF | 0xE000_0000), port);
        let made = |destination| {
            let mut frame = frame(&Datagram { vlan, source, destination, payload: &payload });
            if outer {
                frame.splice(12..12, [0x88, 0xA8, 0, 9]);
            }
            if !has_checksum {
                let udp = frame.len() - payload.len() - 8;
                frame[udp + 6..udp + 8].fill(0);
            }
            frame.extend(&padding);
            frame
        };
        let mut changed = made(before);
        prop_assert_eq!(readdress(&mut changed, after), Ok(()));
        prop_assert_eq!(changed, made(after));
    }

    #[test]
    fn what_carries_no_datagram_is_not_readdressed(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let before = bytes.clone();
        if !matches!(parse(&before), Ok(Parsed::Udp(_))) {
            prop_assert!(readdress(&mut bytes, "239.1.2.3:4".parse().unwrap()).is_err());
            prop_assert_eq!(bytes, before);
        }
    }
}

#[test]
fn a_frame_to_a_host_keeps_its_mac_and_options_their_place() {
    let mut frame = plain();
    frame.splice(34..34, [1, 1, 1, 0]);
    frame[14] = 0x46;
    frame[17] += 4;
    reseal(&mut frame, 14);
    let mac = frame[..6].to_vec();
    readdress(&mut frame, "10.9.8.7:6".parse().unwrap()).unwrap();
    assert_eq!((&frame[..6], &frame[34..38]), (&mac[..], &[1, 1, 1, 0][..]));
    let Ok(Parsed::Udp(datagram)) = parse(&frame) else { panic!("it is one still") };
    assert_eq!((datagram.destination, datagram.payload), ("10.9.8.7:6".parse().unwrap(), &b"tick"[..]));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        (vlan, ips, ports, payload) in datagrams(), padding in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let end = |side: usize| SocketAddrV4::new(Ipv4Addr::from(ips[side]), ports[side]);
        let datagram = Datagram { vlan, source: end(0), destination: end(1), payload: &payload };
        let mut bytes = frame(&datagram);
        prop_assert_eq!(bytes.len(), OVERHEAD_BYTES + payload.len() + vlan.map_or(0, |_| 4));
        bytes.extend(padding);
        prop_assert_eq!(parse(&bytes), Ok(Parsed::Udp(datagram)));
    }

    #[test]
    fn two_tags_and_options_are_passed_over(
        tags in prop::collection::vec((any::<bool>(), any::<u16>()), 0..=2),
        option_words in 0..=10usize,
        option: u8,
    ) {
        let plain = plain();
        let mut bytes = plain[..12].to_vec();
        for (provider, control) in &tags {
            bytes.extend(if *provider { [0x88, 0xA8] } else { [0x81, 0x00] });
            bytes.extend(control.to_be_bytes());
        }
        bytes.extend(&plain[12..34]);
        bytes.extend(vec![option; option_words * 4]);
        bytes.extend(&plain[34..]);
        let ipv4 = 14 + tags.len() * 4;
        bytes[ipv4] = 0x45 + option_words as u8;
        bytes[ipv4 + 3] += option_words as u8 * 4;
        reseal(&mut bytes, ipv4);
        let Ok(Parsed::Udp(datagram)) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
        let vlan = tags.last().map(|(_, control)| control & 0xFFF).filter(|id| *id != 0);
        prop_assert_eq!((datagram.vlan, datagram.payload), (vlan, &b"tick"[..]));
        prop_assert_eq!(datagram.destination, "233.54.12.111:26477".parse().unwrap());
    }

    #[test]
    fn any_bytes_and_any_damage_are_refused_or_lie_within_the_frame(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        (vlan, ips, ports, payload) in datagrams(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
    ) {
        let _ = parse(&noise);
        let end = |side: usize| SocketAddrV4::new(Ipv4Addr::from(ips[side]), ports[side]);
        let mut bytes = frame(&Datagram { vlan, source: end(0), destination: end(1), payload: &payload });
        for (index, value) in &damage {
            let index = index.index(60.min(bytes.len()));
            bytes[index] = *value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for ipv4 in [14, 18, 22] {
            if bytes.len() > ipv4 + 20 {
                reseal(&mut bytes, ipv4);
            }
            if let Ok(Parsed::Udp(datagram)) = parse(&bytes) {
                let (outer, inner) = (bytes.as_ptr_range(), datagram.payload.as_ptr_range());
                prop_assert!(outer.start <= inner.start && inner.end <= outer.end);
            }
        }
    }
}

#[test]
fn every_prefix_is_refused() {
    let frame = plain();
    assert_eq!(payload(parse(&frame)), Ok(b"tick".to_vec()));
    for length in 0..frame.len() {
        let expected = match length {
            0..14 => Reject::EthernetShort,
            14..34 => Reject::Ipv4Short,
            _ => Reject::Ipv4TotalLength,
        };
        assert_eq!(parse(&frame[..length]), Err(expected), "{length}");
    }
}

#[test]
fn each_damage_has_its_reason() {
    let refused = |changes: &[(usize, u8)]| parse(&changed(changes)).unwrap_err();
    assert_eq!(refused(&[(12, 0x86), (13, 0xDD)]), Reject::Ethertype, "IPv6");
    assert_eq!(refused(&[(12, 0x00), (13, 0x26)]), Reject::Ethertype, "an 802.3 length");
    assert_eq!(refused(&[(14, 0x65)]), Reject::Ipv4Version);
    assert_eq!(refused(&[(14, 0x44)]), Reject::Ipv4HeaderLength);
    assert_eq!(refused(&[(14, 0x4F)]), Reject::Ipv4HeaderLength);
    assert_eq!(refused(&[(17, 19)]), Reject::Ipv4HeaderLength);
    assert_eq!(refused(&[(17, 33)]), Reject::Ipv4TotalLength);
    assert_eq!(refused(&[(20, 0x20)]), Reject::Fragment, "more fragments");
    assert_eq!(refused(&[(21, 0x01)]), Reject::Fragment, "the last fragment");
    assert_eq!(refused(&[(23, 6)]), Reject::Protocol, "TCP");
    assert_eq!(refused(&[(17, 27)]), Reject::UdpShort);
    assert_eq!(refused(&[(39, 7)]), Reject::UdpLength);
    assert_eq!(refused(&[(39, 13)]), Reject::UdpLength);

    let mut damaged = plain();
    damaged[22] ^= 1;
    assert_eq!(parse(&damaged), Err(Reject::Ipv4Checksum));

    let tagged = |tags: usize| [&plain()[..12], &[0x81, 0, 0, 5].repeat(tags), &plain()[12..]].concat();
    assert!(parse(&tagged(2)).is_ok());
    assert_eq!(parse(&tagged(3)), Err(Reject::VlanDepth));
    assert_eq!(parse(&tagged(1)[..17]), Err(Reject::EthernetShort));
    assert_eq!(parse(&[&plain()[..12], &[8, 6], &[0; 46][..]].concat()), Err(Reject::Arp));
}

#[test]
fn what_is_behind_the_datagram_is_cut_off() {
    let mut frame = changed(&[(39, 8 + 2)]);
    frame.extend([0xAA; 14]);
    assert_eq!(payload(parse(&frame)), Ok(b"ti".to_vec()));
    assert_eq!(payload(parse(&changed(&[(39, 8)]))), Ok(vec![]));
}

#[test]
fn arp_and_igmp_come_as_themselves() {
    let igmp = changed(&[(23, 2)]);
    let Ok(Parsed::Igmp { vlan, source, destination, message }) = parse(&igmp) else { panic!() };
    assert_eq!((vlan, source), (None, Ipv4Addr::new(10, 1, 2, 3)));
    assert_eq!(destination, Ipv4Addr::new(233, 54, 12, 111));
    assert_eq!(message, &igmp[34..]);

    let arp = [&plain()[..12], &[0x81, 0, 0x60, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..], &[7; 38]].concat();
    let Ok(Parsed::Arp { vlan, packet }) = parse(&arp) else { panic!() };
    assert_eq!((vlan, packet.operation.get(), packet.target.0), (Some(9), 1, [7; 4]));
}

#[test]
fn reasons_are_counted_under_their_own_names() {
    let mut names: Vec<_> = Reject::ALL.iter().map(|reason| reason.name()).collect();
    assert!(Reject::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), Reject::ALL.len());
}

#[test]
fn a_buffer_that_is_too_short_is_told() {
    let frame = plain();
    let Ok(Parsed::Udp(datagram)) = parse(&frame) else { panic!() };
    let macs = (SOURCE_MAC, MacAddress::BROADCAST);
    for bytes in 0..frame.len() {
        assert_eq!(write(&datagram, macs, 1, &mut vec![0; bytes]), None, "{bytes}");
    }
    let long = vec![0; 65_508];
    let datagram = Datagram { payload: &long, ..datagram };
    assert_eq!(write(&datagram, macs, 1, &mut vec![0; 70_000]), None);
}
