//! Probabilities as they are typed.

use std::str::FromStr;

/// 0.0 = never … 1.0 = always; typed as a fraction (`0.01`) or in percent (`1%`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probability(pub f64);

impl FromStr for Probability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        let number: f64 = number.trim().parse().map_err(|error| format!("{error}"))?;
        if (0.0..=whole).contains(&number) {
            Ok(Probability(number / whole))
        } else {
            Err(format!("{text} is not a probability: 0 = never … 1 (or 100%) = always"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_percentages_are_read() {
        for (text, probability) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("25%", 0.25), ("100 %", 1.0)] {
            assert_eq!(text.parse(), Ok(Probability(probability)), "{text}");
        }
        for text in ["", "%", "1.5", "-0.1", "101%", "NaN", "x"] {
            assert!(text.parse::<Probability>().is_err(), "{text}");
        }
    }
}
