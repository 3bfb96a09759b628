//! Whole streams against the channel's own books.

use crate::receiver::{Receiver, cells, name};
use dataplane::cache::reader::State;
use dataplane::sim::mdp3::{Channel, Config, Variety};
use dataplane::sim::random::Random;
use dataplane::wire::mdp3::{Message, Packet, Report};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn config() -> impl Strategy<Value = Config> {
    let sizes =
        (1..24_usize, 1..6_usize, 1..6_u32, 0..12_u32, 1..5_u32, prop::sample::select(&[0, 5, 50][..]));
    (any::<u64>(), sizes, prop::bool::weighted(0.2)).prop_map(|(seed, sizes, plain)| {
        let (instruments, group, event_messages, entries, packet_messages, resets_per_mille) = sizes;
        Config {
            seed,
            instruments,
            group,
            event_messages,
            entries: entries.max(1),
            packet_messages,
            resets_per_mille,
            variety: if plain { Variety::Plain } else { Variety::All },
            ..Config::default()
        }
    })
}

/// What the packet reports of each instrument, in order; `None` = the channel is reset.
fn reports(packet: &[u8]) -> Vec<Option<(i32, u32)>> {
    let mut reports = Vec::new();
    for message in Packet::parse(packet).unwrap().messages() {
        macro_rules! of {
            ($($kind:ident),*) => { match Message::parse(message.unwrap()).unwrap() {
                Message::ChannelReset(_) => reports.push(None),
                $(Message::$kind(message) => {
                    reports.extend(message.entries.iter().map(|entry| Some((entry.security_id(), entry.rpt_seq()))));
                })*
                _ => {}
            } };
        }
        of!(
            Book,
            BookLongQty,
            TradeSummary,
            TradeSummaryLongQty,
            DailyStatistics,
            LimitsBanding,
            SessionStatistics,
            SessionStatisticsLongQty,
            Volume,
            VolumeLongQty
        );
    }
    reports
}

/// What a follower may believe of one instrument.
#[derive(Clone, Copy, Default)]
struct Trust {
    last: u32,
    /// Nothing was lost since its last report.
    proven: bool,
    suspect: bool,
    /// The channel was reset when the last trade was doubtful, so it is not known.
    forgot: bool,
}

/// Loses packets, and compares with what may be believed. Returns how many rows were live, and how many suspect.
fn lose(mut config: Config, loss_percent: u64) -> (usize, usize) {
    config.resets_per_mille = config.resets_per_mille.min(5);
    let cells = cells();
    let mut channel = Channel::new(config.clone());
    let mut receiver = Receiver::new(&cells, config.instruments);
    let mut random = Random::new(config.seed);
    let mut trust: BTreeMap<i32, Trust> = channel
        .contracts()
        .iter()
        .map(|contract| (contract.security_id, Trust { proven: true, ..Trust::default() }))
        .collect();
    let (mut packet, mut lost) = (Vec::new(), false);
    let (mut live, mut suspect) = (0, 0);
    for number in 0..400 {
        channel.next_packet(&mut packet);
        if number > config.instruments && !channel.has_reset() && random.percent(loss_percent) {
            lost = true;
            continue;
        }
        if std::mem::take(&mut lost) {
            trust.values_mut().for_each(|trust| trust.proven = false);
        }
        receiver.take(&packet);
        for report in reports(&packet) {
            let Some((id, rpt_seq)) = report else {
                for trust in trust.values_mut() {
                    let forgot = trust.forgot || trust.suspect || !trust.proven;
                    *trust = Trust { proven: true, forgot, ..Trust::default() };
                }
                continue;
            };
            let trust = trust.get_mut(&id).unwrap();
            trust.suspect |= rpt_seq != trust.last + 1;
            (trust.last, trust.proven) = (rpt_seq, true);
        }
        if !channel.is_between_events() || number <= config.instruments {
            continue;
        }
        for contract in channel.contracts() {
            let trust = trust[&contract.security_id];
            let expected = if trust.suspect || !trust.proven { State::Suspect } else { State::Live };
            assert_eq!(receiver.state(name(contract)), Some(expected), "packet {}", number);
            if expected == State::Live {
                receiver.compare_quotes(contract);
                receiver.compare_trade(contract, trust.forgot);
                live += 1;
            } else {
                suspect += 1;
            }
        }
    }
    assert_eq!(receiver.counters().malformed.get(), 0);
    (live, suspect)
}

#[test]
fn some_rows_stay_live_and_some_become_suspect() {
    let (live, suspect) = (1..=8)
        .map(|seed| lose(Config { seed, ..Config::default() }, 3))
        .fold((0, 0), |(live, suspect), (more, doubtful)| (live + more, suspect + doubtful));
    assert!(live > 1_000 && suspect > 1_000, "{live} {suspect}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_published_is_what_the_channel_knows(config in config()) {
        let cells = cells();
        let mut channel = Channel::new(config.clone());
        let mut receiver = Receiver::new(&cells, config.instruments);
        let mut packet = Vec::new();
        let (mut compared, mut unknown) = (0, 0);
        for number in 0..300 {
            channel.next_packet(&mut packet);
            receiver.take(&packet);
            unknown += Packet::parse(&packet).unwrap().messages()
                .filter(|message| matches!(Message::parse(message.unwrap()), Ok(Message::Unknown(_)))).count();
            if channel.is_between_events() && number > config.instruments {
                receiver.compare_all(&channel, State::Live);
                compared += 1;
            }
        }
        prop_assert!(compared > 20);
        let counters = receiver.counters();
        prop_assert_eq!(counters.unknown_types.get(), unknown as u64);
        let wrong = [&counters.malformed, &counters.report_gaps, &counters.old_reports, &counters.instruments_full];
        prop_assert_eq!(wrong.map(|counter| counter.get()), [0; 4]);
    }

    #[test]
    fn what_was_lost_is_suspect_and_what_is_proven_is_right(config in config(), loss_percent in 1..20_u64) {
        let (live, suspect) = lose(config, loss_percent);
        prop_assert!(live + suspect > 20);
    }

    #[test]
    fn joined_late_everything_is_partial_until_the_channel_is_reset(mut config in config(), skipped in 100..200_u32) {
        config.resets_per_mille = config.resets_per_mille.max(5);
        let cells = cells();
        let mut channel = Channel::new(config.clone());
        let mut receiver = Receiver::new(&cells, config.instruments);
        let mut packet = Vec::new();
        let mut was_reset = false;
        let mut defined_at_reset = std::collections::BTreeSet::new();
        let mut compared = 0;
        for _ in 0..900 {
            channel.next_packet(&mut packet);
            if channel.sequence_next() <= skipped {
                continue;
            }
            if channel.has_reset() {
                was_reset = true;
                let defined = channel.contracts().iter().filter(|contract| receiver.find(name(contract)).is_some());
                defined_at_reset.extend(defined.map(|contract| contract.security_id));
            }
            receiver.take(&packet);
            if !channel.is_between_events() {
                continue;
            }
            for contract in channel.contracts() {
                let digits = contract.security_id.to_string();
                let defined = receiver.find(name(contract)).is_some();
                let called = if defined { name(contract) } else { digits.as_bytes() };
                let Some(state) = receiver.state(called) else { continue };
                if !was_reset {
                    prop_assert_eq!(state, State::Partial);
                } else if defined_at_reset.contains(&contract.security_id) {
                    prop_assert_eq!(state, State::Live);
                    receiver.compare_quotes(contract);
                    compared += 1;
                } else {
                    // How deep its books are was not known when they began.
                    prop_assert!(state <= State::Partial);
                }
            }
        }
        prop_assert!(compared > 0 || defined_at_reset.is_empty());
        prop_assert_eq!(receiver.counters().report_gaps.get(), 0);
    }
}
