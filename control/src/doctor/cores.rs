//! A set of cores, as the kernel writes it: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;

/// The kernel's own limit (NR_CPUS) is 8192; what is above is no core.
const CORES_MAX: usize = 8_192;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores(BTreeSet<usize>);

impl Cores {
    /// `None` if it is no such list; `(null)` and nothing are no cores.
    pub fn parse(text: &str) -> Option<Cores> {
        let text = text.trim();
        let mut cores = BTreeSet::new();
        if text.is_empty() || text == "(null)" {
            return Some(Cores(cores));
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last >= CORES_MAX {
                return None;
            }
            cores.extend(first..=last);
        }
        Some(Cores(cores))
    }

    pub fn contains(&self, core: usize) -> bool {
        self.0.contains(&core)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn with(&self, core: usize) -> Cores {
        let mut cores = self.clone();
        cores.0.insert(core);
        cores
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for core in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == core => *last = core,
                _ => ranges.push((core, core)),
            }
        }
        for (index, (first, last)) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(out, "{comma}{first}")?,
                false => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for text in ["", "0", "0-3", "0-3,8", "1,3,5-7"] {
            assert_eq!(Cores::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Cores::parse(" (null)\n"), Some(Cores::default()));
        assert_eq!(Cores::parse("2-3").unwrap().with(4).to_string(), "2-4");
    }

    #[test]
    fn what_is_no_list_is_refused_without_taking_memory() {
        for text in ["x", "3-1", "-", "1-", "0-18446744073709551615", "0-99999999", ",", "all"] {
            assert_eq!(Cores::parse(text), None, "{text}");
        }
    }
}
