//! A log that is copied from device to device.

use crate::group::{
    Copy, LAYOUT, Main, compare, connect, impatient, is_level, mapping, mapping_of, now_ns, stream, tick,
    until, until_level, with_level,
};
use crate::nodes::{PATIENCE, devices};
use crate::wire::Wire;
use dataplane::cache::reader::{Cursor, Next, Reader};
use dataplane::cache::region::Layout;
use dataplane::replica::{Refusal, StandbyError};
use drivers::rdma::Status;
use drivers::rdma::link::{LinkError, LinkedStandby, PrimaryEnd};
use drivers::tcp_link;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[test]
fn a_standby_takes_an_image_and_follows_round_the_ring() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    main.write(700);
    let began = main.reader.tail();
    let mut end = connect(&mut main, &mut copy);
    until_level(&mut main, &mut copy, &mut end);
    compare(&main.reader, &copy.reader, began);
    assert_eq!((copy.counters().images, main.primary.counters().lapped), (1, 0));
    assert!(copy.counters().rows >= u64::from(LAYOUT.instruments) * 2);
    for burst in [1, 1, 2, 8, 9, 1, 40, 99, 100, 150, 3, 250, 1] {
        main.write(burst);
        until_level(&mut main, &mut copy, &mut end);
        compare(&main.reader, &copy.reader, began);
    }
    assert_eq!((copy.counters().images, main.primary.counters().lapped), (1, 0));
    assert_eq!(copy.counters().ticks, main.reader.tail() - began);
    assert!(copy.counters().ticks > 2 * LAYOUT.log_ticks);
}

#[test]
fn few_ticks_behind_many_wait_until_those_are_proven() {
    with_level(|mut main, mut copy, mut end| {
        let before = copy.status().position;
        // Many, and few behind them, without a look at what is done.
        for burst in [50, 1, 3, 20, 1] {
            main.write(burst);
            main.primary.poll(&mut end, now_ns());
        }
        assert_eq!(main.primary.status().sent, before + 75);
        for _ in 0..1_000 {
            copy.poll().unwrap();
        }
        assert_eq!(copy.status().position, before, "nothing was announced");
        let log = &copy.mapping.cells()[LAYOUT.log_cells()];
        let is_written =
            |position: u64| log[(position % LAYOUT.log_ticks) as usize].load_at(position).is_some();
        until("the device has written them", || (before..before + 75).all(is_written));
        assert!((before..before + 75).all(|position| copy.reader.log_tick(position).is_none()));
        until_level(&mut main, &mut copy, &mut end);
        compare(&main.reader, &copy.reader, before);
    });
}

#[test]
fn a_log_that_ran_away_is_followed_by_an_image() {
    with_level(|mut main, mut copy, mut end| {
        let images = copy.counters().images;
        for round in 1..4 {
            main.write(3_000);
            let began = main.reader.tail();
            until_level(&mut main, &mut copy, &mut end);
            compare(&main.reader, &copy.reader, began);
            assert_eq!(main.primary.counters().lapped, round);
            assert_eq!(copy.counters().images, images + round);
        }
    });
}

#[test]
fn what_the_log_overtook_on_its_way_is_never_taken() {
    with_level(|mut main, mut copy, mut end| {
        for round in 1..6 {
            let before = copy.status().position;
            main.write(100);
            main.primary.poll(&mut end, now_ns());
            assert_eq!(main.primary.status().sent, before + 100, "the device may read them from now on");
            main.write(160);
            until("it is noticed", || {
                assert_eq!(copy.status().position, before, "nothing of it was announced");
                main.poll(&mut end).unwrap();
                let lapped = main.primary.counters().lapped == round;
                if !lapped {
                    copy.poll().unwrap();
                }
                lapped
            });
            let began = main.reader.tail();
            until_level(&mut main, &mut copy, &mut end);
            compare(&main.reader, &copy.reader, began);
        }
    });
}

#[test]
fn whoever_reads_the_standbys_log_meanwhile_reads_whole_ticks() {
    const TICKS: u64 = 30_000;
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let mut from = connect(&mut main, &mut copy);
    let reader = copy.reader;
    let is_done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                copy.poll().unwrap();
                std::thread::yield_now();
            }
        });
        let reading = scope.spawn(|| {
            let mut seen = 0u64;
            while !is_done.load(Ordering::Acquire) {
                // From the oldest tick that may be had on, where the device comes next.
                let mut cursor = Cursor::at(reader.tail().saturating_sub(LAYOUT.log_ticks / 2));
                while let Next::Tick { tick: found, position } = cursor.next(&reader) {
                    if position >= u64::from(LAYOUT.instruments) {
                        assert_eq!(found, tick(found.instrument, found.sequence), "position {position}");
                        seen += 1;
                    }
                }
                std::thread::yield_now();
            }
            seen
        });
        let started = Instant::now();
        let mut burst = 0;
        while main.reader.tail() < TICKS || !is_sent(&main) {
            assert!(started.elapsed() < PATIENCE * 2, "{:?}", main.primary.status());
            if main.reader.tail() < TICKS && main.reader.tail() < main.primary.status().acknowledged + 150 {
                burst = (burst * 5 + 1) % 31;
                main.write(burst);
            }
            main.poll(&mut from).unwrap();
            std::thread::yield_now();
        }
        is_done.store(true, Ordering::Release);
        following.join().unwrap();
        reading.join().unwrap()
    });
    assert!(seen > TICKS / 10, "{seen} ticks were read");
    compare(&main.reader, &copy.reader, copy.reader.tail());
}

fn is_sent(main: &Main<'_>) -> bool {
    main.primary.status().level && main.primary.status().acknowledged == main.reader.tail()
}

#[test]
fn an_old_primary_that_goes_on_changes_nothing() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let later_mapping = mapping();
    let mut old = Main::new(&devices[0], &mappings[0], 1);
    let mut later = Main::new(&devices[0], &later_mapping, 2);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let mut old_from = connect(&mut old, &mut copy);
    until_level(&mut old, &mut copy, &mut old_from);
    later.write(300);
    // Ticks are under way when the standby goes over to the later term.
    old.write(60);
    old.primary.poll(&mut old_from, now_ns());
    let mut written = 0;
    copy.linked
        .hear_of(2, &mut |term| {
            written = term;
            true
        })
        .unwrap();
    assert!((written, copy.linked.is_connected()) == (2, false), "heard of, and nobody writes any more");
    let log = |copy: &Copy<'_>| {
        let log = LAYOUT.log_cells();
        copy.mapping.cells()[log].iter().map(|cell| cell.load()).collect::<Vec<_>>()
    };
    let fenced = log(&copy);
    // The old one does not look at what comes back.
    old.write(1);
    old.primary.poll(&mut old_from, now_ns());
    old.write(30);
    old.primary.poll(&mut old_from, now_ns());
    let mut failure = None;
    until("the old primary is refused", || {
        failure =
            failure.take().or(old_from.fill().err().filter(|error| matches!(error, LinkError::Write(_))));
        failure.is_some()
    });
    assert_eq!(log(&copy), fenced, "not one cell has changed");

    let began = later.reader.tail();
    let mut end = connect(&mut later, &mut copy);
    until_level(&mut later, &mut copy, &mut end);
    for burst in [1, 20, 70, 5] {
        later.write(burst);
        old.write(1);
        old_from.fill().ok();
        old.primary.poll(&mut old_from, now_ns());
        until_level(&mut later, &mut copy, &mut end);
        compare(&later.reader, &copy.reader, began);
    }
    assert_eq!(copy.status().term, 2);
    // By a connection it fares no better.
    drop(end);
    let mut end = connect(&mut old, &mut copy);
    until("the later term is heard of", || {
        old.poll(&mut end).unwrap();
        copy.poll().ok();
        old.primary.status().later_term == 2
    });
    compare(&later.reader, &copy.reader, began);
}

#[test]
fn a_peer_that_is_gone_is_noticed_and_comes_back() {
    with_level(|mut main, mut copy, mut end| {
        let images = copy.counters().images;

        copy.linked.disconnect();
        main.write(5);
        let mut failure = None;
        until("the primary notices", || {
            failure = main.poll(&mut end).err();
            failure.is_some()
        });
        drop(end);
        let mut end = connect(&mut main, &mut copy);
        until_level(&mut main, &mut copy, &mut end);

        drop(end);
        until("the standby notices", || {
            failure = copy.poll().err();
            failure.is_some()
        });
        // By the stream, or first by an acknowledgement that nobody takes.
        let is_gone = |error: &LinkError| {
            matches!(error, LinkError::Words(tcp_link::LinkError::Closed))
                || matches!(error, LinkError::Write(Status::RetriesExceeded))
        };
        assert!(failure.as_ref().is_some_and(is_gone), "{failure:?}");
        copy.linked.disconnect();
        main.write(90);
        let mut end = connect(&mut main, &mut copy);
        until_level(&mut main, &mut copy, &mut end);
        compare(&main.reader, &copy.reader, u64::from(LAYOUT.instruments));
        assert_eq!(copy.counters().images, images, "the log reached back far enough");
    });
}

#[test]
fn a_key_that_is_not_the_logs_opens_nothing() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let mut copy = Copy::new(&devices[1], &mappings[1]);
    let (mut wire, primary_stream, standby_stream) = Wire::new();
    wire.log_key_change = 0x55;
    main.primary.connected();
    let mut from = PrimaryEnd::new(primary_stream, &main.log, &impatient()).unwrap();
    copy.linked.connect(standby_stream).unwrap();
    main.write(20);
    let mut failure = None;
    until("the standby's device refuses", || {
        wire.pass();
        main.write(1);
        copy.poll().ok();
        failure = main.poll(&mut from).err();
        failure.is_some()
    });
    assert!(matches!(failure, Some(LinkError::Write(Status::RemoteAccess))), "{failure:?}");
    assert_eq!(copy.counters().ticks, 0);
    let log = &copy.mapping.cells()[LAYOUT.log_cells()];
    assert!(log.iter().all(|cell| cell.load().held().is_none()));
    drop(from);
    let mut end = connect(&mut main, &mut copy);
    until_level(&mut main, &mut copy, &mut end);
    compare(&main.reader, &copy.reader, copy.reader.tail());
}

#[test]
fn a_region_of_another_layout_is_not_written() {
    let Some(devices) = devices() else { return };
    let layouts = [
        // The log's bytes tell it, or the Hello alone.
        Layout { log_ticks: LAYOUT.log_ticks * 2, ..LAYOUT },
        Layout { instruments: LAYOUT.instruments * 2, ..LAYOUT },
    ];
    for layout in layouts {
        let mappings = [mapping(), mapping_of(layout)];
        let mut main = Main::new(&devices[0], &mappings[0], 1);
        let mut copy = Copy::with_layout(&devices[1], &mappings[1], layout);
        let mut end = connect(&mut main, &mut copy);
        let mut failure = None;
        until("the standby is refused", || {
            main.write(1);
            main.poll(&mut end).ok();
            failure = copy.poll().err();
            failure.is_some()
        });
        let refused = LinkError::Words(StandbyError::Refused(Refusal::Layout).into());
        assert_eq!(failure.unwrap().to_string(), refused.to_string());
        assert_eq!(main.primary.status().refusal, Some(Refusal::Layout));
        assert_eq!(end.is_connected(), layout.log_ticks == LAYOUT.log_ticks);
        let log = &mappings[1].cells()[layout.log_cells()];
        assert!(log.iter().all(|cell| cell.load().held().is_none()));
    }
}

#[test]
fn where_one_end_has_no_device_ticks_go_by_the_stream() {
    let Some(devices) = devices() else { return };
    let mappings = [mapping(), mapping()];
    let mut main = Main::new(&devices[0], &mappings[0], 1);
    let copy = Copy::new(&devices[1], &mappings[1]);
    let (one, other) = stream();
    main.primary.connected();
    let mut from = PrimaryEnd::new(one, &main.log, &impatient()).unwrap();
    let Copy { linked, reader, mapping } = copy;
    let mut standby = linked.into_standby();
    let mut to = tcp_link::StandbyEnd::new(other, &mut standby).unwrap();
    main.write(20);
    until("level by the stream alone", || {
        main.poll(&mut from).unwrap();
        to.poll(&mut standby, now_ns, &mut |_| true).unwrap();
        let tail = main.reader.tail();
        standby.status().level
            && standby.status().position == tail
            && main.primary.status().acknowledged == tail
    });
    let linked = LinkedStandby::new(standby, &devices[1], mapping, &impatient());
    let mut copy = Copy { linked, reader, mapping };
    assert!(!from.is_connected());
    drop(from);

    let (one, other) = stream();
    main.primary.connected();
    let mut from = tcp_link::PrimaryEnd::new(one).unwrap();
    copy.linked.connect(other).unwrap();
    main.write(20);
    until("level by the stream alone", || {
        main.writer.keep_alive(now_ns(), 60_000_000_000);
        from.fill().unwrap();
        main.primary.poll(&mut from, now_ns());
        from.flush().unwrap();
        copy.poll().unwrap();
        is_level(&main, &copy)
    });
    assert!(copy.linked.is_connected() && !copy.linked.is_by_device());
    compare(&main.reader, &copy.reader, copy.reader.tail() - 20);
    let again = Reader::open(copy.mapping.cells()).unwrap();
    assert_eq!(again.tail(), main.reader.tail());
}
