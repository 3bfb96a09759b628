//! How often a source may show a token that is none.
//!
//! A token can't be guessed; but a try costs a log line and an answer, and who tries is to be seen. A right token passes
//! even from a source that has tried too often: else anyone on a machine could lock out all others there.

use dataplane::quota::{Gcra, Limit};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Tries at once.
const BURST: u64 = 10;
/// A further one each so often.
const INTERVAL_NS: u64 = 6_000_000_000;
/// Sources that are told apart; further ones share one count.
const SOURCES_MAX: usize = 4_096;

#[derive(Debug)]
pub struct Guesses {
    sources: HashMap<IpAddr, Gcra>,
    others: Gcra,
}

impl Default for Guesses {
    fn default() -> Guesses {
        Guesses { sources: HashMap::new(), others: tries() }
    }
}

fn tries() -> Gcra {
    Gcra::new(Limit::new(1, INTERVAL_NS, BURST).expect("a limit that can be"))
}

impl Guesses {
    /// Counts a failed try; an error is how long the source is to wait, in ns.
    pub fn failed(&mut self, from: IpAddr, now_ns: u64) -> Result<(), u64> {
        let source = source(from);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sources.retain(|_, tried| tried.credit(now_ns) < BURST);
        }
        let tried = if self.sources.len() < SOURCES_MAX || self.sources.contains_key(&source) {
            self.sources.entry(source).or_insert_with(tries)
        } else {
            &mut self.others
        };
        tried.check(now_ns, 1)
    }
}

/// Who has one IPv6 address has all of its network's.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_burst_passes_then_one_at_a_time() {
        let mut guesses = Guesses::default();
        for _ in 0..BURST {
            guesses.failed(v4(1), 5).unwrap();
        }
        assert_eq!(guesses.failed(v4(1), 5), Err(INTERVAL_NS));
        guesses.failed(v4(2), 5).unwrap();
        assert_eq!(guesses.failed(v4(1), 4 + INTERVAL_NS), Err(1));
        guesses.failed(v4(1), 5 + INTERVAL_NS).unwrap();
        assert!(guesses.failed(v4(1), 5 + INTERVAL_NS).is_err());
        for _ in 0..BURST {
            guesses.failed(v4(1), 100 * INTERVAL_NS).unwrap();
        }
    }

    #[test]
    fn sources_are_bounded_and_more_of_them_share_one_count() {
        let mut guesses = Guesses::default();
        for number in 0..SOURCES_MAX as u32 {
            guesses.failed(v4(number), 0).unwrap();
        }
        let passed = (0..100).filter(|number| guesses.failed(v4(1 << 20 | number), 0).is_ok()).count();
        assert_eq!((passed as u64, guesses.sources.len()), (BURST, SOURCES_MAX));
        // They are told apart again once others have been quiet.
        guesses.failed(v4(1 << 20), INTERVAL_NS).unwrap();
        assert_eq!(guesses.sources.len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let mut guesses = Guesses::default();
        let address = |host: u64| IpAddr::V6(Ipv6Addr::from(0x2001 << 112 | u128::from(host)));
        let passed = (0..100).filter(|host| guesses.failed(address(*host), 0).is_ok()).count();
        assert_eq!((passed as u64, guesses.sources.len()), (BURST, 1));
        assert_eq!(source("::ffff:10.0.0.1".parse().unwrap()), source("10.0.0.1".parse().unwrap()));
    }
}
