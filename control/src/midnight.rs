//! The exchange's midnight, from which ITCH's stamps count.

use jiff::civil::Date;
use jiff::{Timestamp, ZonedDateTime};

const TIME_ZONE: &str = "America/New_York";

/// A day that is none.
#[derive(Debug, thiserror::Error)]
#[error("{date}: {cause}: give a day as YYYY-MM-DD")]
pub struct DateError {
    date: String,
    cause: String,
}

/// Midnight in New York of the day in which a time lies, both in ns of Unix UTC.
pub fn midnight_before(unix_ns: u64) -> Result<u64, DateError> {
    let error = |cause: String| DateError { date: format!("{unix_ns} ns after 1970"), cause };
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).and_then(|time| time.in_tz(TIME_ZONE));
    start(time.map_err(|cause| error(cause.to_string()))?).map_err(error)
}

/// Midnight in New York of a day, `YYYY-MM-DD`, in ns of Unix UTC.
pub fn midnight_of(date: &str) -> Result<u64, DateError> {
    let error = |cause: String| DateError { date: date.to_owned(), cause };
    let day = date.parse::<Date>().and_then(|date| date.in_tz(TIME_ZONE));
    start(day.map_err(|cause| error(cause.to_string()))?).map_err(error)
}

fn start(day: ZonedDateTime) -> Result<u64, String> {
    let midnight = day.start_of_day().map_err(|cause| cause.to_string())?;
    u64::try_from(midnight.timestamp().as_nanosecond()).map_err(|_| "before 1970".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::time::NS_PER_S;

    #[test]
    fn midnight_is_new_yorks_in_winter_and_summer() {
        // 2024-07-02T03:59:59Z is still the first of July in New York, four hours behind.
        assert_eq!(midnight_before(1_719_892_799 * NS_PER_S).unwrap(), 1_719_806_400 * NS_PER_S);
        assert_eq!(midnight_of("2024-01-02").unwrap(), 1_704_171_600 * NS_PER_S);
    }

    #[test]
    fn a_date_that_is_none_is_named() {
        for date in ["2024-02-30", "yesterday", "1969-01-01"] {
            let error = midnight_of(date).unwrap_err().to_string();
            assert!(error.contains(date) && error.contains("YYYY-MM-DD"), "{error}");
        }
    }
}
