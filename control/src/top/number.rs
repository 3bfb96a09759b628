//! Numbers as people read them.

/// With its thousands apart: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In at most five characters, as long as it is below 1e18: 999, 65.5k, 2.0M.
pub fn compact(number: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if number < 1_000 {
        return number.to_string();
    }
    let mut scaled = number as f64 / 1e3;
    let mut unit = 0;
    // What would be shown as 1000.
    while scaled >= 999.5 {
        scaled /= 1e3;
        unit += 1;
    }
    // What would be shown as 100.0.
    let decimals = usize::from(scaled < 99.95);
    format!("{scaled:.decimals$}{}", UNITS[unit])
}

/// A rate in a few characters: 0, 0.3, 12, 4,950.
pub fn rate(per_s: f64) -> String {
    match per_s {
        0.0 => "0".to_owned(),
        ..9.95 => format!("{per_s:.1}"),
        _ => grouped(per_s.round() as u64),
    }
}

/// How long something has been running: 12 s, 3:05, 4:10:00, 3 d 4:10:00.
pub fn uptime(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{minutes}:{seconds:02}"),
        3_600..86_400 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let compacts = [999, 1_000, 65_536, 99_949, 99_950, 999_500, 2_000_000, u64::MAX].map(compact);
        assert_eq!(compacts, ["999", "1.0k", "65.5k", "99.9k", "100k", "1.0M", "2.0M", "18.4E"]);
        assert_eq!([0.0, 0.25, 9.94, 9.96, 4_950.4].map(rate), ["0", "0.2", "9.9", "10", "4,950"]);
        let uptimes = [12, 185, 15_000, 3 * 86_400 + 15_000].map(|s| uptime(s * 1_000_000_000));
        assert_eq!(uptimes, ["12 s", "3:05", "4:10:00", "3 d 4:10:00"]);
    }
}
