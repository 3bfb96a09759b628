//! The instruments as a table: as many columns as there is room for.

use super::Theme;
use crate::client::{reason_name, state_name};
use crate::proto::RowState;
use crate::row::price;
use crate::top::instruments::{Instrument, Judged};
use crate::top::number::{grouped, rate};
use crate::top::state::{Sort, State};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

/// Space between columns: one character at least.
const GAP_MAX: usize = 3;

struct Column {
    title: &'static str,
    /// So that it does not jump as values change.
    width_min: usize,
    /// Higher ones give way first.
    rank: u8,
    sort: Option<Sort>,
}

const fn column(title: &'static str, width_min: usize, rank: u8, sort: Option<Sort>) -> Column {
    Column { title, width_min, rank, sort }
}

const COLUMNS: [Column; 12] = [
    column("SYMBOL", 8, 0, Some(Sort::Name)),
    column("BID SIZE", 8, 3, None),
    column("BID", 9, 1, None),
    column("ASK", 9, 1, None),
    column("ASK SIZE", 8, 3, None),
    column("LAST", 9, 2, None),
    column("SIZE", 6, 8, None),
    column("CHANGE", 7, 5, Some(Sort::Change)),
    column("SPREAD bp", 9, 6, Some(Sort::Spread)),
    column("UPD/S", 5, 4, Some(Sort::Activity)),
    column("STATE", 7, 0, Some(Sort::State)),
    column("WHY", 11, 7, None),
];
/// These begin at their left; numbers end at their right.
const LEFT: [usize; 3] = [0, 10, 11];

type Cells = [(String, Style); COLUMNS.len()];

/// The heading and the rows from `first` on.
pub fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let rows = usize::from(area.height).saturating_sub(1);
    let model = state.view();
    let first = state.first_row(rows);
    let shown = model.order.iter().skip(first).take(rows).filter_map(|id| model.instruments.get(*id));
    let cells: Vec<Cells> = shown
        .map(|instrument| {
            let judged = model.instruments.judge(instrument, state.is_current());
            cells(instrument, judged, state.paused_ns().is_some(), theme)
        })
        .collect();
    let widths = widths(&cells, state.sort, area.width.into());
    let used: usize = widths.iter().flatten().sum();
    let gaps = widths.iter().flatten().count().saturating_sub(1).max(1);
    let gap = (usize::from(area.width).saturating_sub(used) / gaps).clamp(1, GAP_MAX);

    let titles = COLUMNS.map(|column| (title(&column, state), theme.reversed()));
    let line_area = |line: u16| Rect { y: area.y + line, height: 1, ..area };
    buffer.set_style(line_area(0), theme.reversed());
    line(&titles, &widths, gap).render(line_area(0), buffer);
    for (number, cells) in (1..area.height).zip(&cells) {
        line(cells, &widths, gap).render(line_area(number), buffer);
    }
}

/// A column's title, with an arrow if the rows are sorted by it.
fn title(column: &Column, state: &State) -> String {
    // Names begin with the lowest, all else with the highest.
    let arrow = if state.is_reversed == (state.sort == Sort::Name) { '▾' } else { '▴' };
    match column.sort {
        Some(sort) if sort == state.sort => format!("{}{arrow}", column.title),
        _ => column.title.to_owned(),
    }
}

/// The columns' widths; `None` = there is no room for it.
fn widths(rows: &[Cells], sort: Sort, width: usize) -> [Option<usize>; COLUMNS.len()] {
    let wanted = |index: usize| {
        let contents = rows.iter().map(|cells| cells[index].0.chars().count()).max().unwrap_or(0);
        let arrow = usize::from(COLUMNS[index].sort == Some(sort));
        contents.max(COLUMNS[index].title.chars().count() + arrow).max(COLUMNS[index].width_min)
    };
    let mut widths: [Option<usize>; COLUMNS.len()] = std::array::from_fn(|index| Some(wanted(index)));
    let is_too_wide = |widths: &[Option<usize>]| {
        let count = widths.iter().flatten().count();
        widths.iter().flatten().sum::<usize>() + count.saturating_sub(1) > width
    };
    while is_too_wide(&widths) {
        // What the rows are sorted by is seen.
        let rank = |index: &usize| if COLUMNS[*index].sort == Some(sort) { 0 } else { COLUMNS[*index].rank };
        let last = (0..COLUMNS.len()).filter(|index| widths[*index].is_some()).max_by_key(rank);
        match last.filter(|index| rank(index) > 0) {
            Some(index) => widths[index] = None,
            None => break,
        }
    }
    widths
}

fn line<'c>(cells: &'c Cells, widths: &[Option<usize>], gap: usize) -> Line<'c> {
    let mut spans = Vec::with_capacity(COLUMNS.len());
    for (index, (text, style)) in cells.iter().enumerate() {
        let Some(width) = widths[index] else { continue };
        let gap = if spans.is_empty() { 0 } else { gap };
        let text = match LEFT.contains(&index) {
            true => format!("{:gap$}{text:<width$}", ""),
            false => format!("{:gap$}{text:>width$}", ""),
        };
        spans.push(Span::styled(text, *style));
    }
    Line::from(spans)
}

fn cells(instrument: &Instrument, judged: Judged, is_paused: bool, theme: Theme) -> Cells {
    // A picture that stands still is not live, whatever it was.
    let value = |state| if is_paused { theme.dim() } else { theme.value(state) };
    let (quoted, traded) = (value(judged.quote), value(judged.trade));
    let quote = instrument.quote.as_ref();
    let side = |price_e9: Option<i64>, size: Option<u64>| {
        let text = price_e9.and_then(|price_e9| price(price_e9, instrument.price_decimals));
        let size = text.as_ref().and(size).map_or("-".to_owned(), grouped);
        (text.unwrap_or("-".to_owned()), size)
    };
    let (bid, bid_size) = side(quote.and_then(|row| row.bid_price_e9), quote.map(|row| row.bid_size));
    let (ask, ask_size) = side(quote.and_then(|row| row.ask_price_e9), quote.map(|row| row.ask_size));
    let trade = instrument.trade.as_ref();
    let (last, size) = side(trade.and_then(|row| row.price_e9), trade.map(|row| row.size));
    // What would be shown as −0.00.
    let rounded = |change: f64| if change.abs() < 0.005 { 0.0 } else { change };
    let change = instrument.change_percent().map(rounded);
    let spread = instrument.spread_bp().map_or("-".to_owned(), |bp| format!("{bp:.1}"));
    let worst = judged.worst;
    let halted =
        instrument.status.as_ref().map(|row| row.state.as_str()).filter(|code| !matches!(*code, "" | "T"));
    let why = match (reason_name(worst.reason.into()), halted) {
        (reason, Some(code)) if reason.is_empty() => format!("trading {code}"),
        (reason, _) => reason,
    };
    let state = match worst.state {
        RowState::Live if is_paused => ("paused".to_owned(), theme.dim()),
        state => (state_name(state.into()), theme.state(state)),
    };
    let coloured = |change: f64| if change < 0.0 { theme.down() } else { theme.good() };
    let change_style = match change {
        Some(change) if judged.trade == RowState::Live && !is_paused && change != 0.0 => coloured(change),
        _ => traded,
    };
    [
        (instrument.symbol.clone(), theme.bold()),
        (bid_size, quoted),
        (bid, quoted),
        (ask, quoted),
        (ask_size, quoted),
        (last, traded),
        (size, traded),
        (change.map_or("-".to_owned(), |change| format!("{change:+.2}%")), change_style),
        (spread, quoted),
        (rate(instrument.per_s), Style::new()),
        state,
        (why, Style::new()),
    ]
}
