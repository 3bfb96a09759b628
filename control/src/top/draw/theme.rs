//! Colours: the terminal's own sixteen, or none.

use crate::proto::{FeedCondition, RowState};
use crate::top::troubles::Severity;
use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug)]
pub struct Theme {
    pub has_colours: bool,
}

impl Theme {
    /// With colours, unless told otherwise (<https://no-color.org>).
    pub fn of_environment() -> Theme {
        Theme { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    pub fn bad(self) -> Style {
        self.down().add_modifier(Modifier::BOLD)
    }

    /// Of what falls.
    pub fn down(self) -> Style {
        self.colour(Color::Red)
    }

    pub fn note(self) -> Style {
        self.colour(Color::Cyan)
    }

    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of a panel.
    pub fn heading(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What stands out of everything.
    pub fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Bad => self.bad(),
            Severity::Warning => self.warning(),
            Severity::Note => self.note(),
        }
    }

    /// Of the word that tells a state.
    pub fn state(self, state: RowState) -> Style {
        match state {
            RowState::Live => self.good(),
            RowState::Partial => self.note(),
            RowState::Suspect => self.warning(),
            RowState::Stale => self.bad(),
            RowState::Absent | RowState::Unspecified => self.dim(),
        }
    }

    /// Of the values themselves: only what is live looks so.
    pub fn value(self, state: RowState) -> Style {
        match state {
            RowState::Live => Style::new(),
            RowState::Partial | RowState::Suspect => self.state(state),
            RowState::Stale | RowState::Absent | RowState::Unspecified => self.dim(),
        }
    }

    pub fn condition(self, condition: FeedCondition) -> Style {
        match condition {
            FeedCondition::Live => self.good(),
            FeedCondition::Degraded => self.warning(),
            FeedCondition::Ended => self.note(),
            FeedCondition::Stale | FeedCondition::Waiting | FeedCondition::Unspecified => self.bad(),
        }
    }
}
