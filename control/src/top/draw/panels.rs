//! The panels above the instruments: feeds, latencies, limits.

use super::Theme;
use crate::client::status::{condition_name, duration, stage_name};
use crate::proto::{Feed, Line as FeedLine};
use crate::top::limits::{self, NEARLY_FULL};
use crate::top::lines::Race;
use crate::top::number::{compact, grouped, rate};
use crate::top::state::{Model, State};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

/// Where the latencies' curves begin.
const CURVES_COLUMN: u16 = 68;
/// As many cells as there are intervals in a minute.
const CURVES_WIDTH_MAX: u16 = 60;

/// What is said of a feed or line while the node does not vouch for what it said.
const UNKNOWN: &str = "unknown";

/// One line a feed and one for each of its lines, below a heading.
pub fn feeds(state: &State, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let (model, is_vouched) = (state.view(), state.is_vouched());
    let has_room = width >= 100;
    let from = if has_room { "FROM" } else { "" };
    let heading = format!(
        "{:<13} {:<9} {:>13} {:>6} {:>10} {:>7} {:>9}  {from}",
        "FEED, LINE", "STATE", "RATE", "FIRST", "AHEAD BY", "GAPS", "MISSING"
    );
    let mut lines = vec![Line::styled(heading, theme.heading())];
    for (index, feed) in model.lines.feeds().iter().enumerate() {
        lines.push(feed_line(feed, is_vouched, theme, has_room));
        let races = model.lines.races(index);
        let best = races.iter().filter_map(|race| race.won).fold(0.0, f64::max);
        for (line, race) in feed.lines.iter().zip(&races) {
            let is_first = race.won.is_some_and(|won| won > 0.0 && won >= best);
            let speaks = is_vouched.then_some(!line.silent);
            lines.push(line_line(line, speaks, race, is_first, theme, has_room));
        }
    }
    lines
}

fn feed_line(feed: &Feed, is_vouched: bool, theme: Theme, has_room: bool) -> Line<'static> {
    let (condition, style) = match is_vouched {
        true => (condition_name(feed.condition), theme.condition(feed.condition())),
        false => (UNKNOWN.to_owned(), theme.dim()),
    };
    let session = if has_room { format!("  {} {}", feed.session, feed.day) } else { String::new() };
    let rest = format!(
        " {:>13} {:>6} {:>10} {:>7} {:>9}{session}",
        format!("{} msg/s", rate(feed.messages_per_s)),
        "",
        "",
        grouped(feed.gaps),
        grouped(feed.missing)
    );
    Line::from(vec![
        Span::styled(format!("{:<13} ", feed.name), theme.bold()),
        Span::styled(format!("{condition:<9}"), style),
        Span::raw(rest),
    ])
}

fn line_line(
    line: &FeedLine,
    speaks: Option<bool>,
    race: &Race,
    is_first: bool,
    theme: Theme,
    has_room: bool,
) -> Line<'static> {
    let (state, style) = match speaks {
        Some(true) => ("speaks", theme.good()),
        Some(false) => ("silent", theme.bad()),
        None => (UNKNOWN, theme.dim()),
    };
    let won = race.won.map_or("-".to_owned(), |won| format!("{:.1}%", won * 100.0));
    let lead = race.lead_ns.map_or("-".to_owned(), duration);
    let from =
        if has_room { format!("  {}:{} {}", line.group, line.udp_port, line.port) } else { String::new() };
    let packets = format!(" {:>13}", format!("{} pkt/s", rate(line.packets_per_s)));
    let rest = format!(" {:>7} {:>9}{from}", grouped(race.gaps), "");
    Line::from(vec![
        Span::raw(format!("  {:<11} ", line.name)),
        Span::styled(format!("{state:<9}"), style),
        Span::raw(packets),
        Span::styled(format!(" {won:>6} {lead:>10}"), if is_first { theme.bold() } else { Style::new() }),
        Span::raw(rest),
    ])
}

/// A line for each stage with its curve, below a heading.
pub fn latencies(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let room = area.width.saturating_sub(CURVES_COLUMN).min(CURVES_WIDTH_MAX);
    let curves = if room >= 19 { "p99, THE LAST MINUTE" } else { "p99, 1 min" };
    let heading = format!(
        "{:<22} {:>8} {:>8} {:>8} {:>8} {:>8}  {curves}",
        "LATENCY, 1 s", "p50", "p90", "p99", "p99.9", "max"
    );
    let line_area = |line: u16| Rect { y: area.y + line, height: 1, ..area };
    Line::styled(heading, theme.heading()).render(line_area(0), buffer);
    for ((index, stage), line) in model.latency.stages().iter().enumerate().zip(1..area.height) {
        let shown = |ns: u64| if stage.count > 0 { duration(ns) } else { "-".to_owned() };
        let [p50, p90, p99, p99_9, max] =
            [stage.p50_ns, stage.p90_ns, stage.p99_ns, stage.p99_9_ns, stage.max_ns].map(shown);
        let name = stage_name(stage.stage).replace("_to_", " → ");
        let text = format!("{name:<22} {p50:>8} {p90:>8} {p99:>8} {p99_9:>8} {max:>8}");
        let area = line_area(line);
        Line::raw(text).render(area, buffer);
        let data = heights(model.latency.minute(index, room.into()));
        // The newest is at the right.
        let empty = room.saturating_sub(data.len() as u16);
        let x = area.x + CURVES_COLUMN + empty;
        let curve = Rect { x, width: room - empty, ..area };
        Sparkline::default().data(data).style(theme.note()).render(curve, buffer);
    }
}

/// The values on a logarithmic scale, so that one high value does not flatten all others; the lowest is seen, too.
fn heights(values: Vec<Option<u64>>) -> Vec<Option<u64>> {
    let lowest = values.iter().flatten().copied().min().unwrap_or(1).max(1) as f64;
    let height = |value: u64| ((value.max(1) as f64 / (lowest / 2.0)).ln() * 1e3) as u64;
    values.into_iter().map(|value| value.map(height)).collect()
}

/// What has a limit, on as many lines as it takes.
pub fn limits(model: &Model, theme: Theme, width: u16) -> Vec<Line<'static>> {
    const HEADING: &str = "LIMITS";
    let mut items: Vec<(String, Style)> = limits::all(model)
        .iter()
        .map(|limit| {
            let (used, max, percent) = (compact(limit.used), compact(limit.max), limit.part() * 100.0);
            let style = if limit.part() >= NEARLY_FULL { theme.warning() } else { Style::new() };
            (format!("{} {used}/{max} {percent:.0}%", limit.name), style)
        })
        .collect();
    if let Some(region) = model.node.as_ref().and_then(|node| node.region.as_ref()) {
        let holds = limits::log_ns(model).map_or(String::new(), |ns| format!(" = {}", duration(ns)));
        items.push((format!("log {} updates{holds}", compact(region.log_ticks)), Style::new()));
    }
    let mut lines = Vec::new();
    let mut spans = vec![Span::styled(HEADING, theme.heading())];
    let mut used = HEADING.len();
    for (text, style) in items {
        let gap = if spans.len() == 1 { 2 } else { 3 };
        let wanted = gap + text.chars().count();
        if used + wanted > width.into() && spans.len() > 1 {
            lines.push(Line::from(std::mem::take(&mut spans)));
            spans.push(Span::raw(" ".repeat(HEADING.len())));
            spans.push(Span::styled(format!("  {text}"), style));
            used = HEADING.len() + 2 + text.chars().count();
            continue;
        }
        spans.push(Span::styled(format!("{:gap$}{text}", ""), style));
        used += wanted;
    }
    lines.push(Line::from(spans));
    lines
}
