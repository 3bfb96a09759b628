use super::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U32;

/// A message with its size and header in front.
fn message(template: u16, block: &[u8], groups: &[u8]) -> Vec<u8> {
    let header = MessageHeader {
        size: U16::new((MESSAGE_HEADER_BYTES + block.len() + groups.len()) as u16),
        block_length: U16::new(block.len() as u16),
        template_id: U16::new(template),
        schema_id: U16::new(SCHEMA_ID),
        version: U16::new(9),
    };
    [header.as_bytes(), block, groups].concat()
}

fn group(block_length: u16, entries: &[&[u8]]) -> Vec<u8> {
    let mut bytes = block_length.to_le_bytes().to_vec();
    bytes.push(entries.len() as u8);
    entries.iter().for_each(|entry| bytes.extend_from_slice(entry));
    bytes
}

const HEAD: [u8; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 0x84, 0, 0];

/// Template, the length of its root block and of an entry, from the schema.
#[rustfmt::skip]
const INCREMENTAL: &[(u16, usize)] = &[
    (32, 32), (46, 32), (64, 32), (42, 32), (48, 32), (65, 40), (33, 32), (49, 32), (34, 32), (50, 32), (35, 24),
    (51, 24), (67, 32), (37, 16), (66, 24),
];

#[test]
fn a_book_entry_lies_where_the_schema_puts_it() {
    let mut entry = 1_234_500_000_i64.to_le_bytes().to_vec();
    entry.extend_from_slice(&7_i32.to_le_bytes());
    entry.extend_from_slice(&(-3_i32).to_le_bytes());
    entry.extend_from_slice(&9_u32.to_le_bytes());
    entry.extend_from_slice(&2_i32.to_le_bytes());
    entry.extend_from_slice(&[4, update_action::OVERLAY, entry_type::IMPLIED_BID, 0, 0, 0, 0, 0]);
    for (template, unit) in [(32, 100), (46, 1)] {
        let bytes = message(template, &HEAD, &group(32, &[&entry]));
        let Ok(Message::Book(book)) = Message::parse(&bytes) else { panic!("not a book") };
        assert_eq!(book.head.transact_time.get(), 0x0807_0605_0403_0201);
        assert_eq!(book.head.match_event_indicator, event_bit::END_OF_EVENT | event_bit::LAST_QUOTE);
        assert_eq!(book.entries.len(), 1);
        let entry = book.entries.iter().next().unwrap();
        assert_eq!(price(entry.price.get(), book.price_unit), Some(1_234_500_000 * unit));
        assert_eq!((entry.size.get(), entry.security_id(), entry.rpt_seq()), (7, -3, 9));
        assert_eq!((entry.orders.get(), entry.level, entry.action, entry.entry_type), (2, 4, 5, b'E'));
    }
}

#[test]
fn a_trades_number_is_there_where_the_block_has_it() {
    let mut entry = [0_u8; 32];
    entry[26..30].copy_from_slice(&77_u32.to_le_bytes());
    let trade_id = |length: u16| {
        let bytes = message(48, &HEAD, &group(length, &[&entry[..usize::from(length)]]));
        let Ok(Message::TradeSummary(trades)) = Message::parse(&bytes) else { panic!("no trades") };
        trades.entries.iter().next().unwrap().trade_id()
    };
    assert_eq!((trade_id(32), trade_id(30), trade_id(29), trade_id(26)), (Some(77), Some(77), None, None));
    entry[26..30].fill(0xFF);
    let bytes = message(42, &HEAD, &group(32, &[&entry]));
    let Ok(Message::TradeSummary(trades)) = Message::parse(&bytes) else { panic!("no trades") };
    assert_eq!(trades.entries.iter().next().unwrap().trade_id(), None);
}

#[test]
fn definitions_differ_in_where_their_prices_are() {
    #[rustfmt::skip]
    let known = [
        (27, 216, 91, 99, 107, 109, 100), (54, 216, 91, 99, 107, 109, 1), (29, 195, 94, 102, 191, 110, 100),
        (56, 195, 94, 102, 191, 110, 1), (41, 213, 111, 127, 136, 138, 100), (55, 213, 111, 127, 136, 138, 1),
        (57, 338, 86, 94, 102, 104, 1),
    ];
    for (template, length, tick, factor, fractions, format, unit) in known {
        let mut block = vec![0; length];
        block[5] = DefinitionHead::MODIFIED;
        block[23..29].copy_from_slice(b"ES\0\0\0\0");
        block[29..35].copy_from_slice(b"ESX\0\0\0");
        block[35..55].copy_from_slice(b"ESZ6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        block[55..59].copy_from_slice(&42_i32.to_le_bytes());
        block[tick..tick + 8].copy_from_slice(&250_i64.to_le_bytes());
        block[factor..factor + 8].copy_from_slice(&3_i64.to_le_bytes());
        block[fractions..fractions + 2].copy_from_slice(&[32, 255]);
        block[format] = 3;
        let groups = [group(9, &[&[7; 9]]), group(4, &[b"GBX\x0A", b"GBI\x02"])].concat();
        let bytes = message(template, &block, &groups);
        let Ok(Message::Definition(definition)) = Message::parse(&bytes) else { panic!("{template}") };
        let head = definition.head();
        assert_eq!((&head.symbol[..5], head.security_id.get()), (&b"ESZ6\0"[..], 42));
        assert_eq!((&head.security_group, &head.asset), (b"ES\0\0\0\0", b"ESX\0\0\0"));
        assert_eq!(definition.min_price_increment(), Some(250 * unit), "{template}");
        assert_eq!(definition.display_factor(), Some(3 * unit));
        assert_eq!((definition.fractions(), definition.display_format()), ((Some(32), None), Some(3)));
        let depths: Vec<_> =
            definition.feed_types().iter().map(|entry| (entry.feed_type, entry.market_depth)).collect();
        assert_eq!(depths, [(FeedTypeEntry::DIRECT, 10), (FeedTypeEntry::IMPLIED, 2)]);
        // An older schema, whose block ends before the tick.
        let bytes = message(template, &block[..80], &[]);
        let Ok(Message::Definition(definition)) = Message::parse(&bytes) else { panic!("{template}") };
        assert_eq!((definition.min_price_increment(), definition.display_factor()), (None, None));
        assert!(definition.feed_types().is_empty());
    }
}

#[test]
fn the_status_of_a_group_names_no_instrument() {
    let mut block = [0; 30];
    block[8..11].copy_from_slice(b"6C\0");
    block[20..24].copy_from_slice(&INT32_NULL.to_le_bytes());
    block[26..30].copy_from_slice(&[0x80, 21, 2, 1]);
    let bytes = message(30, &block, &[]);
    let Ok(Message::SecurityStatus(status)) = Message::parse(&bytes) else { panic!("no status") };
    assert_eq!((&status.security_group, status.security_id.get()), (b"6C\0\0\0\0", INT32_NULL));
    assert_eq!((status.trading_status, status.halt_reason, status.trading_event), (21, 2, 1));
    assert_eq!(status.match_event_indicator, event_bit::END_OF_EVENT);
}

#[test]
fn what_is_not_known_is_told_from_what_is_broken() {
    assert!(matches!(Message::parse(&message(12, &[], &[])), Ok(Message::Heartbeat)));
    assert!(matches!(
        Message::parse(&message(4, &HEAD[..9], &group(2, &[&[0, 0]]))),
        Ok(Message::ChannelReset(_))
    ));
    assert!(matches!(Message::parse(&message(47, &HEAD, &group(40, &[]))), Ok(Message::OrderBook(_))));
    assert!(matches!(Message::parse(&message(52, &[], &[])), Ok(Message::Other(52))));
    assert!(matches!(Message::parse(&message(200, &[1, 2], &[])), Ok(Message::Unknown(200))));
    let mut other_schema = message(46, &HEAD, &group(32, &[]));
    other_schema[6] = 2;
    assert!(matches!(Message::parse(&other_schema), Ok(Message::Unknown(46))));

    let error = |bytes: &[u8]| Message::parse(bytes).unwrap_err();
    assert_eq!(error(&[3, 0, 1]), Mdp3Error::MessageSize { size: 3, left: 3 });
    let short = Mdp3Error::Block { template: 46, expected: 9, actual: 8 };
    assert_eq!(error(&message(46, &HEAD[..8], &group(32, &[]))), short);
    let mut beyond = message(46, &HEAD, &[]);
    beyond[2] = 200;
    assert_eq!(error(&beyond), Mdp3Error::Block { template: 46, expected: 9, actual: 200 });
    let cut = Mdp3Error::Group { template: 46 };
    assert_eq!(error(&message(46, &HEAD, &[])), cut);
    assert_eq!(error(&message(46, &HEAD, &[32, 0])), cut);
    let mut many = group(32, &[&[0; 32]]);
    many[2] = 255;
    assert_eq!(error(&message(46, &HEAD, &many)), cut);
    // An entry that lacks what every schema has, and entries without any bytes.
    assert_eq!(error(&message(46, &HEAD, &group(26, &[&[0; 26]]))), cut);
    assert_eq!(error(&message(46, &HEAD, &[0, 0, 255])), cut);
}

#[test]
fn groups_may_be_aligned_to_eight_bytes() {
    let mut bytes = vec![16, 0, 9, 9, 9, 9, 9, 2];
    bytes.extend_from_slice(&[5; 32]);
    bytes.push(77);
    let (group, rest) = Group::<U64>::split(&bytes, Dimensions::Aligned).unwrap();
    assert_eq!((group.len(), rest), (2, &[77][..]));
    assert!(group.iter().all(|entry| entry.get() == 0x0505_0505_0505_0505));
    assert!(Group::<U64>::split(&bytes[..39], Dimensions::Aligned).is_none());
}

#[test]
fn sizes_lead_through_a_packet_until_one_cannot_be() {
    let header = PacketHeader { sequence: U32::new(5), sending_time: U64::new(6) };
    let first = message(12, &[], &[]);
    let second = message(46, &HEAD, &group(32, &[]));
    let good = [header.as_bytes(), &first, &second].concat();
    let packet = Packet::parse(&good).unwrap();
    assert_eq!((packet.header.sequence.get(), packet.header.sending_time.get()), (5, 6));
    assert_eq!(packet.messages().collect::<Vec<_>>(), [Ok(&first[..]), Ok(&second[..])]);
    for size in [0, 9, 11, u16::MAX] {
        let mut bad = good.clone();
        let at = PACKET_HEADER_BYTES + first.len();
        bad.truncate(at + MESSAGE_HEADER_BYTES);
        bad[at..at + 2].copy_from_slice(&size.to_le_bytes());
        let seen: Vec<_> = Packet::parse(&bad).unwrap().messages().collect();
        assert_eq!(seen, [Ok(&first[..]), Err(Mdp3Error::MessageSize { size, left: 10 })]);
    }
    assert_eq!(Packet::parse(&good[..11]).unwrap_err(), Mdp3Error::PacketHeader);
}

/// Reads all that there is in a message.
fn walk(bytes: &[u8]) -> Result<usize, Mdp3Error> {
    fn entries<E: Field + Report>(incremental: Incremental<'_, E>) -> usize {
        let reports: Vec<_> =
            incremental.entries.iter().map(|entry| (entry.security_id(), entry.rpt_seq())).collect();
        reports.len()
    }
    Ok(match Message::parse(bytes)? {
        Message::Book(book) => entries(book),
        Message::BookLongQty(book) => entries(book),
        Message::TradeSummary(trades) => {
            assert!(
                trades.entries.iter().filter_map(|entry| entry.trade_id()).count() <= trades.entries.len()
            );
            entries(trades)
        }
        Message::TradeSummaryLongQty(trades) => entries(trades),
        Message::DailyStatistics(statistics) => entries(statistics),
        Message::LimitsBanding(limits) => entries(limits),
        Message::SessionStatistics(statistics) => entries(statistics),
        Message::SessionStatisticsLongQty(statistics) => entries(statistics),
        Message::Volume(volume) => entries(volume),
        Message::VolumeLongQty(volume) => entries(volume),
        Message::Definition(definition) => {
            let _ = (definition.min_price_increment(), definition.display_factor());
            let _ = (definition.fractions(), definition.display_format());
            definition.feed_types().iter().count()
        }
        _ => 0,
    })
}

proptest! {
    #[test]
    fn longer_blocks_and_entries_read_alike(
        which in 0..INCREMENTAL.len(),
        count in 0..30_usize,
        more in (0..9_usize, 0..40_usize, 0..30_usize),
        ids in any::<[i32; 30]>(),
    ) {
        let (template, length) = INCREMENTAL[which];
        let at = match template { 64 | 65 | 67 => 16, 33 | 49 | 32 | 46 | 42 | 48 => 12, 34 | 50 => 24, 37 => 4, _ => 8 };
        let entries: Vec<Vec<u8>> = ids[..count].iter().zip(1_u32..).map(|(id, number)| {
            let mut entry = vec![0xAA; length + more.1];
            entry[at..at + 4].copy_from_slice(&id.to_le_bytes());
            entry[at + 4..at + 8].copy_from_slice(&number.to_le_bytes());
            entry
        }).collect();
        let slices: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let root = [&HEAD[..], &vec![0xBB; more.0]].concat();
        let groups = [group((length + more.1) as u16, &slices), vec![0xCC; more.2]].concat();
        let bytes = message(template, &root, &groups);
        prop_assert_eq!(walk(&bytes), Ok(count));
        macro_rules! seen {
            ($($kind:ident),*) => { match Message::parse(&bytes).unwrap() {
                $(Message::$kind(incremental) => {
                    assert_eq!(incremental.rest.len(), more.2);
                    incremental.entries.iter().map(|entry| (entry.security_id(), entry.rpt_seq())).collect::<Vec<_>>()
                })*
                other => panic!("{other:?}"),
            } };
        }
        let seen = seen!(
            Book, BookLongQty, TradeSummary, TradeSummaryLongQty, DailyStatistics, LimitsBanding, SessionStatistics,
            SessionStatisticsLongQty, Volume, VolumeLongQty
        );
        prop_assert_eq!(seen, ids[..count].iter().copied().zip(1..).collect::<Vec<_>>());
    }

    #[test]
    fn every_prefix_of_a_packet_is_read_as_far_as_it_goes(
        parts in prop::collection::vec((0..INCREMENTAL.len(), 0..4_usize), 0..6),
    ) {
        let mut bytes = vec![0; PACKET_HEADER_BYTES];
        let mut ends = vec![];
        for (which, count) in parts {
            let (template, length) = INCREMENTAL[which];
            let entry = vec![1; length];
            bytes.extend(message(template, &HEAD, &group(length as u16, &vec![&entry[..]; count])));
            ends.push(bytes.len());
        }
        for length in 0..=bytes.len() {
            let Ok(packet) = Packet::parse(&bytes[..length]) else {
                prop_assert!(length < PACKET_HEADER_BYTES);
                continue;
            };
            let whole = ends.iter().filter(|end| **end <= length).count();
            let clean = length == PACKET_HEADER_BYTES || ends.contains(&length);
            let items: Vec<_> = packet.messages().collect();
            prop_assert_eq!(items.len(), whole + usize::from(!clean));
            prop_assert_eq!(items.iter().filter(|item| item.is_ok()).count(), whole);
        }
    }

    #[test]
    fn any_bytes_are_messages_or_reasons(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        template in prop::sample::select(&[4_u16, 12, 30, 32, 46, 42, 48, 65, 37, 35, 54, 55, 56, 58, 63, 64, 99][..]),
        block_length in 0..80_u16,
    ) {
        if let Some(header) = bytes.get_mut(2..8) {
            header[..2].copy_from_slice(&block_length.to_le_bytes());
            header[2..4].copy_from_slice(&template.to_le_bytes());
            header[4..6].copy_from_slice(&SCHEMA_ID.to_le_bytes());
        }
        let _ = walk(&bytes);
        for item in Messages::new(&bytes).flatten() {
            prop_assert!(item.len() >= MESSAGE_HEADER_BYTES);
        }
    }
}
