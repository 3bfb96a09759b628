//! `tickplane top` without a node: what it makes of responses, keys and time, and the pictures of it.
//!
//! The pictures are in `top/`; `UPDATE_GOLDEN=1 cargo test -p control --test top` writes them anew.

#[path = "top/desk.rs"]
mod desk;

use control::proto::{
    FeedCondition, Port, Quote, RowReason, RowState, SessionStarted, SubscribeResponse, TradingStatus,
    feed_event, update,
};
use control::top::draw::{Theme, draw, instrument_rows, text};
use control::top::input::action;
use control::top::state::{Contact, Event, Sort};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use desk::{Desk, PLAIN, SECOND_NS, condition, event, feeds, status};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use std::path::Path;

const COLOURS: Theme = Theme { has_colours: true };

/// Compares a picture with that of the file, or writes the file.
fn assert_golden(name: &str, desk: &mut Desk, (width, height): (u16, u16)) {
    let picture = desk.picture(width, height);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/top/{name}-{width}x{height}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &picture).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(picture == golden, "not as in {}:\n{picture}", path.display());
}

/// A day on which all is well: trades, rates, a minute of latencies.
fn good_day() -> Desk {
    let mut desk = Desk::open();
    for (id, symbol, price_e9) in [(0, "AAPL", 100_010_000_000), (1, "AMZN", 100_000_000)] {
        let row = desk.trade(price_e9);
        desk.update(id, symbol, row);
    }
    for second in 0..75 {
        desk.quotes(0, "AAPL", 12);
        desk.quotes(2, "MSFT", 1_500);
        let row = desk.trade(100_010_000_000 + second * 10_000_000);
        desk.update(0, "AAPL", row);
        desk.second();
    }
    desk
}

#[test]
fn pictures_of_a_good_day() {
    let mut desk = good_day();
    assert_golden("good", &mut desk, (80, 24));
    assert_golden("good", &mut desk, (120, 40));
    desk.press(KeyCode::Tab);
    assert_golden("instruments", &mut desk, (80, 24));
    desk.press(KeyCode::Tab);
    assert_golden("small", &mut desk, (50, 12));
    desk.press(KeyCode::Char('?'));
    assert_golden("help", &mut desk, (80, 24));
    desk.press_all("?/A*");
    assert_golden("typing", &mut desk, (80, 24));
}

#[test]
fn pictures_of_a_bad_day() {
    let mut desk = good_day();
    let mark = desk.mark();
    let halted = TradingStatus { mark, state: "H".to_owned(), ..TradingStatus::default() };
    desk.update(3, "ZVZZT", update::Row::Status(halted));
    // Negative, and nobody buys.
    let mark = desk.mark();
    let row = Quote { mark, ask_price_e9: Some(-2_750_250_000_000), ask_size: 7, ..Quote::default() };
    desk.update(1, "AMZN", update::Row::Quote(row));
    desk.events(vec![condition("nasdaq", FeedCondition::Degraded, desk.position)]);
    let mut told = feeds(desk.packets + 1);
    let feed = &mut told.feeds[0];
    feed.condition = FeedCondition::Degraded.into();
    feed.reason = RowReason::Gap.into();
    (feed.gaps, feed.missing, feed.lines[1].silent) = (2, 1_234, true);
    feed.counters.insert("orders".to_owned(), 1_950_000);
    desk.take(Event::Feeds(told));
    let mut node = status(desk.now_ns);
    node.ports.push(Port { name: "eth1".to_owned(), missed: 77, ..Port::default() });
    desk.take(Event::Status(node));
    desk.state.tick(desk.now_ns);
    assert_golden("bad", &mut desk, (80, 24));
    assert_golden("bad", &mut desk, (120, 40));
    desk.wait(3 * SECOND_NS);
    assert_golden("silent", &mut desk, (80, 24));
    let status = tonic::Status::unavailable("the node shuts down");
    desk.take(Event::Lost(status.into()));
    desk.wait(SECOND_NS);
    assert_golden("lost", &mut desk, (80, 24));
}

#[test]
fn any_size_can_be_drawn() {
    let mut desk = good_day();
    for shows_help in [false, true] {
        desk.state.shows_help = shows_help;
        for width in 0..130 {
            for height in [0, 1, 2, 3, 5, 7, 9, 13, 17, 24, 60] {
                let area = Rect::new(0, 0, width, height);
                draw(&desk.state, COLOURS, area, &mut Buffer::empty(area));
            }
        }
    }
}

#[test]
fn the_most_active_come_first_and_keys_change_the_order() {
    let mut desk = Desk::open();
    desk.quotes(3, "ZVZZT", 50);
    desk.quotes(1, "AMZN", 10);
    desk.second();
    assert_eq!(desk.symbols(), ["ZVZZT", "AMZN", "AAPL", "MSFT"]);
    desk.quotes(1, "AMZN", 500);
    desk.second();
    assert_eq!(desk.symbols(), ["AMZN", "ZVZZT", "AAPL", "MSFT"]);
    desk.press_all("r");
    assert_eq!(desk.symbols(), ["MSFT", "AAPL", "ZVZZT", "AMZN"]);
    desk.press_all("rs");
    assert_eq!((desk.state.sort, desk.symbols()), (Sort::Name, vec!["AAPL", "AMZN", "MSFT", "ZVZZT"]));
    for (price_e9, later_e9, id, symbol) in [(100, 90, 0, "AAPL"), (100, 120, 2, "MSFT")] {
        for price_e9 in [price_e9, later_e9] {
            let row = desk.trade(price_e9);
            desk.update(id, symbol, row);
        }
    }
    desk.press_all("s");
    assert_eq!((desk.state.sort, desk.symbols()[..2].to_vec()), (Sort::Change, vec!["MSFT", "AAPL"]));
    desk.press_all("SS");
    assert_eq!(desk.state.sort, Sort::Activity);
    for _ in 0..30 {
        desk.second();
    }
    let model = desk.state.view();
    assert!(model.instruments.named().all(|(_, instrument)| instrument.per_s == 0.0), "what was is past");
}

#[test]
fn an_image_is_no_activity() {
    let mut desk = Desk::open();
    desk.second();
    assert!(desk.row("AAPL").contains(" 0  live"), "{}", desk.row("AAPL"));
}

#[test]
fn a_filter_begins_anew_and_nothing_of_before_is_taken() {
    let mut desk = Desk::open();
    desk.second();
    desk.press_all("/Zq");
    assert_eq!(desk.state.typed.as_deref(), Some("Zq"), "letters are letters");
    desk.press(KeyCode::Backspace);
    desk.press_all("*");
    desk.press(KeyCode::Enter);
    assert_eq!((desk.state.pattern.as_str(), desk.symbols().len()), ("Z*", 0));
    desk.quotes(0, "AAPL", 1);
    desk.take(Event::Subscribed("*".to_owned()));
    desk.quotes(0, "AAPL", 1);
    desk.second();
    assert_eq!(desk.symbols().len(), 0, "that was the subscription before");
    desk.take(Event::Subscribed("Z*".to_owned()));
    desk.image(&[("ZVZZT", "nasdaq")]);
    desk.second();
    assert_eq!((desk.symbols(), desk.count(RowState::Live)), (vec!["ZVZZT"], 1));
    desk.press_all("/X");
    desk.press(KeyCode::Esc);
    assert_eq!((desk.state.pattern.as_str(), desk.state.typed.is_none()), ("Z*", true));
    assert!(!desk.state.wants_end, "Esc left the typing only");
    desk.press_all("/");
    desk.press_all(&"x".repeat(100));
    assert_eq!(desk.state.typed.as_ref().unwrap().len(), 64, "as long as a pattern can be");
}

#[test]
fn a_paused_picture_stands_still_and_is_not_live() {
    let mut desk = Desk::open();
    desk.second();
    desk.press_all(" ");
    let before = desk.row("AAPL");
    assert!(before.contains("100.0000") && before.contains("paused") && !before.contains("live"), "{before}");
    let row = desk.quote(5_000, RowState::Live);
    desk.update(0, "AAPL", row);
    desk.second();
    assert_eq!(desk.row("AAPL"), before);
    assert!(desk.picture(80, 24).contains("PAUSED 1.0 s ago"));
    assert!(!desk.picture(120, 40).lines().skip(11).any(|line| line.contains("live")));
    desk.press_all(" ");
    let after = desk.row("AAPL");
    assert!(after.contains("150.0000") && after.contains("live"), "{after}");
}

#[test]
fn nothing_is_live_without_the_node() {
    let mut desk = Desk::open();
    desk.second();
    assert_eq!((desk.count(RowState::Live), desk.state.contact()), (4, Contact::Good));
    desk.wait(2 * SECOND_NS + 1);
    assert_eq!((desk.count(RowState::Stale), desk.count(RowState::Live)), (4, 0), "it says nothing");
    desk.second();
    assert_eq!(desk.count(RowState::Live), 4, "it was only slow");

    desk.take(Event::Lost(tonic::Status::unavailable("x").into()));
    desk.state.tick(desk.now_ns);
    assert_eq!((desk.count(RowState::Stale), desk.count(RowState::Live)), (4, 0), "lost");
    desk.second();
    assert_eq!(desk.count(RowState::Stale), 4, "there, but nothing of its rows was told since");
    desk.take(Event::Subscribed("*".to_owned()));
    desk.state.tick(desk.now_ns);
    assert_eq!(desk.count(RowState::Stale), 4, "the image is on its way");
    desk.image(&[("AAPL", "nasdaq"), ("NEW", "nasdaq")]);
    desk.second();
    assert_eq!((desk.count(RowState::Live), desk.symbols()), (2, vec!["AAPL", "NEW"]));
}

#[test]
fn nothing_is_live_without_its_worker() {
    let mut desk = Desk::open();
    desk.second();
    desk.take(Event::Updates(SubscribeResponse { writer_alive: false, ..SubscribeResponse::default() }));
    desk.state.tick(desk.now_ns);
    assert_eq!((desk.count(RowState::Stale), desk.count(RowState::Live)), (4, 0));
    assert!(desk.picture(80, 24).contains("WORKER GONE"));
    desk.events(Vec::new());
    assert_eq!(desk.count(RowState::Live), 4, "it is back");
    let mut node = status(0);
    node.region.as_mut().unwrap().valid_for_ns = -1;
    desk.take(Event::Status(node));
    desk.state.tick(desk.now_ns);
    assert_eq!(desk.count(RowState::Stale), 4, "the node says so, too");
}

#[test]
fn a_feeds_events_judge_its_rows_and_no_others() {
    let mut desk = Desk::connect("*");
    desk.image(&[("AAPL", "nasdaq"), ("ESZ4", "cme")]);
    desk.second();
    desk.events(vec![condition("nasdaq", FeedCondition::Live, u64::MAX)]);
    assert!(desk.row("AAPL").ends_with("suspect  gap"), "{}", desk.row("AAPL"));
    assert!(desk.row("ESZ4").ends_with("live"), "{}", desk.row("ESZ4"));
    desk.events(vec![condition("cme", FeedCondition::Stale, 0)]);
    assert!(desk.row("ESZ4").ends_with("stale    feed_silent"), "{}", desk.row("ESZ4"));
    assert_eq!((desk.count(RowState::Suspect), desk.count(RowState::Stale)), (1, 1));
    desk.events(vec![condition("cme", FeedCondition::Degraded, 0)]);
    assert!(desk.row("ESZ4").ends_with("live"), "one line speaks: {}", desk.row("ESZ4"));

    let position = desk.position + 1;
    let started = SessionStarted { session: "S2".to_owned(), day: String::new() };
    desk.events(vec![event("nasdaq", position, feed_event::Event::SessionStarted(started))]);
    desk.second();
    assert_eq!(desk.symbols(), ["ESZ4"], "the other's rows are of the session before");
}

#[test]
fn what_was_told_as_stale_is_asked_for_again() {
    let mut desk = Desk::open();
    for _ in 0..5 {
        desk.second();
    }
    assert!(!desk.state.take_wish_for_image());
    desk.events(vec![condition("nasdaq", FeedCondition::Stale, 0)]);
    let row = desk.quote(1, RowState::Stale);
    desk.update(0, "AAPL", row);
    desk.second();
    assert!(!desk.state.take_wish_for_image(), "it is stale");
    desk.events(vec![condition("nasdaq", FeedCondition::Live, 0)]);
    assert_eq!(desk.count(RowState::Stale), 1, "nobody knows what it is now");
    assert!(desk.state.take_wish_for_image());
    desk.second();
    assert!(!desk.state.take_wish_for_image(), "not all the time");
}

#[test]
fn what_it_keeps_has_limits() {
    let mut desk = Desk::open();
    desk.quotes(u32::MAX, "FAR", 1);
    desk.quotes(1 << 20, "FAR", 1);
    for number in 0..100 {
        desk.events(vec![condition(&format!("feed{number}"), FeedCondition::Live, 0)]);
    }
    desk.second();
    assert_eq!(desk.symbols().len(), 4);
    assert_eq!(desk.count(RowState::Live), 4);
}

#[test]
fn scrolling_ends_at_the_ends() {
    let mut desk = Desk::connect("*");
    let names: Vec<String> = (0..100).map(|number| format!("S{number:02}")).collect();
    let named: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "nasdaq")).collect();
    desk.image(&named);
    desk.second();
    let first_of = |desk: &mut Desk| {
        let picture = desk.picture(80, 24);
        let rows = picture.lines().skip_while(|line| !line.starts_with("SYMBOL")).skip(1);
        rows.take(1).map(|row| row[..3].to_owned()).collect::<String>()
    };
    let rows = instrument_rows(&desk.state, Rect::new(0, 0, 80, 24));
    let mut seen = vec![first_of(&mut desk)];
    for key in [KeyCode::Up, KeyCode::Down, KeyCode::PageDown, KeyCode::End, KeyCode::Down, KeyCode::PageUp] {
        desk.press(key);
        seen.push(first_of(&mut desk));
    }
    let name = |number: usize| format!("S{number:02}");
    let expected = [0, 0, 1, 1 + rows, 100 - rows, 100 - rows, 100 - 2 * rows].map(name);
    assert_eq!(seen, expected);
    assert!(desk.picture(80, 24).lines().last().unwrap().ends_with("of 100"));
}

#[test]
fn keys_that_end_it() {
    for (code, modifiers) in [
        (KeyCode::Char('q'), KeyModifiers::NONE),
        (KeyCode::Esc, KeyModifiers::NONE),
        (KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        let mut desk = Desk::open();
        desk.state.act(action(KeyEvent::new(code, modifiers), false).unwrap());
        assert!(desk.state.wants_end, "{code:?}");
    }
    assert_eq!(action(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL), false), None);
}

#[test]
fn a_picture_is_whole_after_a_second_of_data() {
    let mut desk = Desk::connect("*");
    desk.second();
    assert!(!desk.state.is_whole(), "no image");
    desk.image(&[("AAPL", "nasdaq")]);
    assert!(!desk.state.is_whole(), "no rates");
    desk.second();
    assert!(desk.state.is_whole());
}

#[test]
fn without_colours_there_are_none_and_stale_prices_are_dim_anyway() {
    let mut desk = good_day();
    desk.events(vec![condition("nasdaq", FeedCondition::Stale, 0)]);
    let area = Rect::new(0, 0, 120, 40);
    let buffer = |theme| {
        let mut buffer = Buffer::empty(area);
        draw(&desk.state, theme, area, &mut buffer);
        buffer
    };
    let (plain, coloured) = (buffer(PLAIN), buffer(COLOURS));
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Red));
    assert_eq!(text(&plain), text(&coloured));
    let row = text(&plain).lines().position(|line| line.starts_with("AAPL ")).unwrap() as u16;
    let line = text(&plain).lines().nth(row.into()).unwrap().to_owned();
    let column = line.find("100.").unwrap() as u16;
    assert!(plain[(column, row)].modifier.contains(Modifier::DIM), "{line}");
}

#[test]
fn control_characters_of_a_name_do_not_reach_the_terminal() {
    let mut desk = Desk::connect("*");
    desk.image(&[("EV\u{1b}[2JIL", "nasdaq")]);
    desk.second();
    assert!(!desk.picture(80, 24).contains('\u{1b}'));
}
