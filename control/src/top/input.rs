//! Keys, and what they do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    End,
    /// Leaves what is being typed or read, or ends.
    Leave,
    Help,
    Pause,
    Panels,
    NextSort,
    PreviousSort,
    Reverse,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Filter,
    Type(char),
    Rub,
    Apply,
}

/// What the help shows.
pub const KEYS: [(&str, &str); 10] = [
    ("q  Esc  Ctrl-C", "quit"),
    ("s  S", "sort by the next, the previous column"),
    ("r", "reverse the order"),
    ("/", "filter: * stands for any characters, ? for one"),
    ("Space  p", "pause the picture, and go on"),
    ("↑  ↓  k  j", "scroll by a line"),
    ("PgUp  PgDn", "scroll by a page"),
    ("Home  End  g  G", "to the first, the last"),
    ("Tab", "instruments alone, or everything"),
    ("?  h", "this help"),
];

/// What a key does; `None` = nothing. `is_typing` = letters are of a pattern.
pub fn action(key: KeyEvent, is_typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Action::End);
    }
    Some(match key.code {
        KeyCode::Esc => Action::Leave,
        KeyCode::Char(letter) if is_typing => Action::Type(letter),
        KeyCode::Backspace if is_typing => Action::Rub,
        KeyCode::Enter if is_typing => Action::Apply,
        KeyCode::Char('q') => Action::End,
        KeyCode::Char('?' | 'h') => Action::Help,
        KeyCode::Char(' ' | 'p') => Action::Pause,
        KeyCode::Char('s') => Action::NextSort,
        KeyCode::Char('S') => Action::PreviousSort,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Tab => Action::Panels,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        _ => return None,
    })
}
