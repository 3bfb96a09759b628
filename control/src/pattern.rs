//! Patterns of symbols: `*` stands for any run of characters, `?` for one.

/// Bytes of a pattern at most.
pub const PATTERN_BYTES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: must have 1 to {PATTERN_BYTES_MAX} bytes")]
pub struct PatternError {
    pattern: String,
}

impl Pattern {
    pub fn new(pattern: &str) -> Result<Pattern, PatternError> {
        if !(1..=PATTERN_BYTES_MAX).contains(&pattern.len()) {
            return Err(PatternError { pattern: pattern.chars().take(PATTERN_BYTES_MAX).collect() });
        }
        Ok(Pattern(pattern.as_bytes().to_vec()))
    }

    /// Whether it stands for every symbol.
    pub fn is_any(&self) -> bool {
        self.0 == b"*"
    }

    /// The symbol, if the pattern stands for one alone.
    pub fn exact(&self) -> Option<&[u8]> {
        (!self.0.iter().any(|byte| matches!(byte, b'*' | b'?'))).then_some(&self.0)
    }

    /// In time proportional to both lengths at worst.
    pub fn matches(&self, symbol: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut at, mut seen) = (0, 0);
        // Where to go on if it fails: behind the last star, which takes one more character.
        let mut retry: Option<(usize, usize)> = None;
        while seen < symbol.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    retry = Some((at + 1, seen));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == symbol[seen] => (at, seen) = (at + 1, seen + 1),
                _ => match &mut retry {
                    Some((behind, from)) => {
                        *from += 1;
                        (at, seen) = (*behind, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let cases = [
            ("*", "", true),
            ("*", "ZVZZT", true),
            ("ZV?ZT", "ZVZZT", true),
            ("ZV?ZT", "ZVZT", false),
            ("*A*B", "xAyAzB", true),
            ("*A*B", "xAyAzBC", false),
            ("A*", "BA", false),
            ("A**", "A", true),
            ("", "A", false),
        ];
        for (pattern, symbol, expected) in cases {
            assert_eq!(Pattern(pattern.into()).matches(symbol.as_bytes()), expected, "{pattern} {symbol}");
        }
        assert_eq!(Pattern::new("ABC").unwrap().exact(), Some(&b"ABC"[..]));
        assert_eq!(Pattern::new("AB?").unwrap().exact(), None);
        assert!(Pattern::new("").is_err() && Pattern::new(&"x".repeat(65)).is_err());
    }
}
