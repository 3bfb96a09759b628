//! The picture: a state and an area become a buffer, and nothing else is looked at.

mod panels;
mod table;
mod theme;

pub use theme::Theme;

use super::input::KEYS;
use super::number::{grouped, rate, uptime};
use super::state::{Contact, State};
use super::troubles;
use crate::client::state_name;
use crate::client::status::duration;
use crate::proto::RowState;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Widget};

/// Rows of instruments that panels leave room for.
const ROWS_MIN: u16 = 5;
/// Lines around the panels: header, troubles, summary, heading of the table, footer.
const FRAME_LINES: u16 = 5;
/// Troubles that are shown if there is room.
const TROUBLES_MAX: usize = 4;

/// How many rows of instruments there is room for.
pub fn instrument_rows(state: &State, area: Rect) -> usize {
    usize::from(Areas::of(state, Theme { has_colours: false }, area).table.height).saturating_sub(1)
}

/// Draws everything.
pub fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let areas = Areas::of(state, theme, area);
    header(state, theme, area.width).render(areas.header, buffer);
    Text::from(trouble_lines(state, theme, areas.troubles.height.into())).render(areas.troubles, buffer);
    Text::from(panels::feeds(state, theme, area.width)).render(areas.feeds, buffer);
    panels::latencies(state.view(), theme, areas.latencies, buffer);
    Text::from(panels::limits(state.view(), theme, area.width)).render(areas.limits, buffer);
    if !state.is_vouched() {
        for panel in [areas.feeds, areas.latencies, areas.limits] {
            buffer.set_style(panel, theme.dim());
        }
    }
    summary(state, theme).render(areas.summary, buffer);
    table::draw(state, theme, areas.table, buffer);
    footer(state, theme, areas.footer, areas.table.height.into(), buffer);
    if state.shows_help {
        help(theme, area, buffer);
    }
}

/// A buffer's text, without styles and without blanks at the ends of its lines.
pub fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    let area = buffer.area;
    for y in area.top()..area.bottom() {
        let line: String = (area.left()..area.right()).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What is where. Panels give way, from the bottom one up, if there are too few rows of instruments otherwise.
#[derive(Debug, Default)]
struct Areas {
    header: Rect,
    troubles: Rect,
    feeds: Rect,
    latencies: Rect,
    limits: Rect,
    summary: Rect,
    table: Rect,
    footer: Rect,
}

impl Areas {
    fn of(state: &State, theme: Theme, area: Rect) -> Areas {
        let model = state.view();
        let mut left = area.height.saturating_sub(FRAME_LINES + ROWS_MIN);
        let mut panel = |lines: usize| {
            let lines = u16::try_from(lines).unwrap_or(u16::MAX);
            let height = if state.shows_instruments_only || lines > left { 0 } else { lines };
            left -= height;
            height
        };
        let feeds = panel(panels::feeds(state, theme, area.width).len());
        let latencies = panel(1 + model.latency.stages().len());
        let limits = panel(panels::limits(model, theme, area.width).len());
        let more_troubles = troubles::all(state).len().clamp(1, TROUBLES_MAX) as u16 - 1;
        let troubles = 1 + more_troubles.min(left / 2);

        let mut y = area.y;
        let mut next = |height: u16| {
            let height = height.min(area.bottom() - y);
            let taken = Rect { y, height, ..area };
            y += height;
            taken
        };
        let (header, troubles, feeds) = (next(1), next(troubles), next(feeds));
        let (latencies, limits, summary) = (next(latencies), next(limits), next(1));
        let rest = area.bottom() - summary.bottom();
        Areas {
            header,
            troubles,
            feeds,
            latencies,
            limits,
            summary,
            table: next(rest.saturating_sub(1)),
            footer: next(1),
        }
    }
}

/// The node and how it does.
fn header(state: &State, theme: Theme, width: u16) -> Line<'static> {
    let model = state.view();
    let (word, style) = match state.contact() {
        Contact::Connecting => ("CONNECTING", theme.note()),
        Contact::Lost { .. } => ("NO CONNECTION", theme.bad()),
        Contact::Silent { .. } => ("NO ANSWER", theme.bad()),
        Contact::Good if !state.is_writer_alive() => ("WORKER GONE", theme.bad()),
        Contact::Good => ("ALIVE", theme.good()),
    };
    let mut spans = vec![Span::styled("tickplane", theme.bold())];
    if let Some(node) = &model.node {
        spans.push(Span::styled(format!("  {}", node.node), theme.heading()));
    }
    spans.push(Span::raw("  "));
    spans.push(Span::styled(word, style));
    if let Some(ns) = state.paused_ns() {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(format!("PAUSED {} ago", duration(ns)), theme.reversed()));
    }
    if let Some(node) = &model.node {
        let generation = node.region.as_ref().map_or(0, |region| region.generation);
        spans.push(Span::raw(format!("  up {}", uptime(node.uptime_ns))));
        if state.is_vouched() {
            spans.push(Span::raw(format!("  {} ticks/s", rate(model.ticks_per_s()))));
        }
        let generation = Span::raw(format!("  gen {generation:x}"));
        // A part of it would be another one.
        if spans.iter().map(Span::width).sum::<usize>() + generation.width() <= width.into() {
            spans.push(generation);
        }
    }
    Line::from(spans)
}

/// The worst troubles, and how many there are that don't fit.
fn trouble_lines(state: &State, theme: Theme, lines: usize) -> Vec<Line<'static>> {
    let troubles = troubles::all(state);
    if troubles.is_empty() {
        return vec![Line::styled("nothing is wrong", theme.dim())];
    }
    let left_out = troubles.len().saturating_sub(lines);
    let mut shown: Vec<Line> = troubles
        .into_iter()
        .take(lines)
        .map(|trouble| Line::styled(format!("! {}", trouble.text), theme.severity(trouble.severity)))
        .collect();
    if left_out > 0
        && let Some(first) = shown.first_mut()
    {
        first.spans.insert(0, Span::styled(format!("(+{left_out}) "), theme.warning()));
    }
    shown
}

/// How many instruments there are, and in which states.
fn summary(state: &State, theme: Theme) -> Line<'static> {
    let model = state.view();
    let mut spans = vec![
        Span::styled("INSTRUMENTS", theme.heading()),
        Span::raw(format!("  {}: {}", state.pattern, grouped(model.order.len() as u64))),
    ];
    let states = [RowState::Live, RowState::Partial, RowState::Suspect, RowState::Stale]
        .map(|of| (of, model.count(of)));
    for (of, count) in states.into_iter().filter(|(_, count)| *count > 0) {
        let is_paused = state.paused_ns().is_some() && of == RowState::Live;
        let (name, style) = match is_paused {
            true => ("paused".to_owned(), theme.dim()),
            false => (state_name(of.into()), theme.state(of)),
        };
        spans.push(Span::raw("  "));
        spans.push(Span::styled(format!("{} {name}", grouped(count as u64)), style));
    }
    let order = if state.is_reversed { ", reversed" } else { "" };
    spans.push(Span::raw(format!("  by {}{order}", state.sort.name())));
    Line::from(spans)
}

fn footer(state: &State, theme: Theme, area: Rect, table_lines: usize, buffer: &mut Buffer) {
    if let Some(typed) = &state.typed {
        let cursor = Span::styled(" ", theme.reversed());
        let line = Line::from(vec![Span::styled(format!("filter: {typed}"), theme.bold()), cursor]);
        return (line + Span::styled("  Enter applies, Esc leaves", theme.dim())).render(area, buffer);
    }
    let keys =
        [("q", "quit"), ("?", "help"), ("s", "sort"), ("/", "filter"), ("Space", "pause"), ("Tab", "panels")];
    let spans = keys.into_iter().flat_map(|(key, does)| {
        [Span::styled(key, theme.bold()), Span::styled(format!(" {does}  "), theme.dim())]
    });
    let keys = Line::from_iter(spans);
    let keys_width = keys.width();
    keys.render(area, buffer);
    let rows = table_lines.saturating_sub(1);
    let count = state.view().order.len();
    let first = state.first_row(rows);
    if count > 0 {
        let last = (first + rows).min(count);
        let place =
            format!("{}–{} of {}", grouped(first as u64 + 1), grouped(last as u64), grouped(count as u64));
        let place = Line::raw(place).right_aligned();
        if keys_width + place.width() <= area.width.into() {
            place.render(area, buffer);
        }
    }
}

/// The keys, in the middle of the picture.
fn help(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let lines = KEYS.map(|(keys, does)| {
        Line::from(vec![Span::styled(format!(" {keys:<17}"), theme.bold()), Span::raw(does)])
    });
    let width = 70.min(area.width);
    let height = (lines.len() as u16 + 5).min(area.height);
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let place = Rect { x, y, width, height };
    Clear.render(place, buffer);
    let block = Block::bordered().title(" Keys ");
    let inner = block.inner(place);
    block.render(place, buffer);
    let mut text = Text::from(lines.to_vec());
    text.push_line("");
    text.push_line(" FIRST: part of the packets that a line brought first, over 10 s.");
    text.push_line(" CHANGE: of the last price, since this view first saw one.");
    text.render(inner, buffer);
}
