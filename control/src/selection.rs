//! A selection: which rows of which instruments. What a subscription asks for, and what a client may see.

use crate::config::{Config, FeedConfig};
use crate::pattern::{Pattern, PatternError};
use dataplane::cache::tick::{Kind, Tick};

/// Names of one kind (venues, feeds, patterns) in a selection.
pub const NAMES_MAX: usize = 10_000;

/// Feeds, symbols and rows; each of them can be everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// By the feed's index; `None` = all feeds.
    feeds: Option<Vec<bool>>,
    /// Empty = all symbols.
    patterns: Vec<Pattern>,
    /// By [`Kind`].
    kinds: [bool; Kind::ROWS],
}

/// Why a selection is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("{count} {what}: give at most {NAMES_MAX}")]
    TooMany { what: &'static str, count: usize },
    #[error("there is no {what} {name:?}: there is {known}")]
    Unknown { what: &'static str, name: String, known: String },
}

impl Selection {
    pub fn everything() -> Selection {
        Selection { feeds: None, patterns: Vec::new(), kinds: [true; Kind::ROWS] }
    }

    /// The rows of `kinds` of the instruments that match one of the `patterns`, out of the `feeds` and the feeds of the
    /// `venues`. Of each, none given = all of them.
    pub fn new(
        config: &Config,
        venues: &[String],
        feeds: &[String],
        patterns: &[String],
        kinds: &[Kind],
    ) -> Result<Selection, SelectionError> {
        for (what, count) in [("venues", venues.len()), ("feeds", feeds.len()), ("patterns", patterns.len())]
        {
            if count > NAMES_MAX {
                return Err(SelectionError::TooMany { what, count });
            }
        }
        known(config, "venue", venues, |feed| &feed.venue)?;
        known(config, "feed", feeds, |feed| &feed.name)?;
        let is_in = |feed: &FeedConfig| venues.contains(&feed.venue) || feeds.contains(&feed.name);
        let is_all = venues.is_empty() && feeds.is_empty();
        let patterns: Result<Vec<Pattern>, _> =
            patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
        let mut rows = [kinds.is_empty(); Kind::ROWS];
        kinds.iter().for_each(|kind| rows[*kind as usize] = true);
        Ok(Selection {
            feeds: (!is_all).then(|| config.feeds.iter().map(is_in).collect()),
            patterns: patterns?,
            kinds: rows,
        })
    }

    pub fn is_everything(&self) -> bool {
        let is_any = self.patterns.is_empty() || self.patterns.iter().any(Pattern::is_any);
        self.feeds.is_none() && is_any && self.kinds == [true; Kind::ROWS]
    }

    pub fn has_feed(&self, feed: u16) -> bool {
        self.feeds.as_ref().is_none_or(|feeds| feeds.get(usize::from(feed)).copied().unwrap_or(false))
    }

    pub fn has_symbol(&self, symbol: &[u8]) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(symbol))
    }

    pub fn has_kind(&self, kind: Kind) -> bool {
        self.kinds.get(kind as usize).copied().unwrap_or(false)
    }

    /// Whether a tick is of a row of its feeds and kinds; its symbol is not looked at.
    pub fn has_row(&self, tick: &Tick) -> bool {
        self.has_feed(tick.feed) && Kind::from_u8(tick.kind).is_some_and(|kind| self.has_kind(kind))
    }

    /// The symbols, if there is no other pattern than them.
    pub fn symbols(&self) -> Option<Vec<&[u8]>> {
        let symbols: Option<Vec<&[u8]>> = self.patterns.iter().map(Pattern::exact).collect();
        symbols.filter(|symbols| !symbols.is_empty())
    }
}

fn known<'c>(
    config: &'c Config,
    what: &'static str,
    names: &[String],
    name_of: impl Fn(&'c FeedConfig) -> &'c String,
) -> Result<(), SelectionError> {
    let all: Vec<&str> = config.feeds.iter().map(|feed| name_of(feed).as_str()).collect();
    match names.iter().find(|name| !all.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known = all.into_iter().filter(|known| !known.is_empty()).collect::<Vec<_>>().join(", ");
            Err(SelectionError::Unknown { what, name: name.chars().take(64).collect(), known })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config() -> Config {
        let embedded = include_str!("../../configs/embedded.toml");
        Config::parse(Path::new("embedded.toml"), embedded).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn nothing_named_is_everything() {
        let config = config();
        let all = Selection::new(&config, &[], &[], &[], &[]).unwrap();
        assert_eq!(all, Selection::everything());
        assert!(all.has_feed(0) && all.has_feed(9) && all.has_symbol(b"A") && all.has_kind(Kind::Quote));
        assert_eq!(all.symbols(), None);
    }

    #[test]
    fn each_name_narrows_it() {
        let config = config();
        let feed = config.feeds[0].clone();
        let one = Selection::new(&config, &[], &[feed.name], &names(&["AA", "B*"]), &[Kind::Trade]).unwrap();
        assert!(one.has_feed(0) && !one.has_feed(1));
        assert!(one.has_symbol(b"AA") && one.has_symbol(b"BX") && !one.has_symbol(b"A"));
        assert!(one.has_kind(Kind::Trade) && !one.has_kind(Kind::Quote));
        assert_eq!(one.symbols(), None);
        let venue = Selection::new(&config, &[feed.venue], &[], &names(&["AA"]), &[]).unwrap();
        assert!(venue.has_feed(0));
        assert_eq!(venue.symbols(), Some(vec![b"AA".as_slice()]));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let config = config();
        let error = Selection::new(&config, &[], &names(&["nix"]), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("\"nix\"") && error.contains(&config.feeds[0].name), "{error}");
        let error = Selection::new(&config, &[], &[], &vec!["A".to_owned(); NAMES_MAX + 1], &[]).unwrap_err();
        assert!(error.to_string().contains("10001 patterns"));
        assert!(Selection::new(&config, &[], &[], &names(&[""]), &[]).is_err());
    }
}
