//! Who changed what.

use crate::access::Caller;
use crate::proto::AuditRecord;

/// Of an object's name: the keys of a configuration can be many.
const OBJECT_BYTES_MAX: usize = 512;
/// Of what an object is now: a plan can have 10,000 patterns.
const NOW_BYTES_MAX: usize = 2_048;

/// What is kept beside a change; `now` is what the object is from then on, in words, empty = it is gone.
pub fn record(caller: &Caller, at_ns: u64, action: &str, object: &str, now: String) -> AuditRecord {
    let from = caller.from.map(|from| from.to_string()).unwrap_or_default();
    AuditRecord { from, ..record_of(caller.name(), at_ns, action, object, now) }
}

/// The same of what nobody called for.
pub fn record_of(client: &str, at_ns: u64, action: &str, object: &str, now: String) -> AuditRecord {
    AuditRecord {
        at_ns,
        client: client.to_owned(),
        action: action.to_owned(),
        object: cut(object, OBJECT_BYTES_MAX),
        now: cut(&now, NOW_BYTES_MAX),
        ..AuditRecord::default()
    }
}

/// The same of what was refused.
pub fn refused(record: AuditRecord, why: &str) -> AuditRecord {
    AuditRecord { refused: cut(why, NOW_BYTES_MAX), now: String::new(), ..record }
}

/// At most so many bytes; what is left out is told by three dots.
fn cut(text: &str, bytes_max: usize) -> String {
    const DOTS: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max - DOTS.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{DOTS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_two_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("äöüß", 6), "ä…");
        let record = record_of("ann", 1, "quota.set", &"k".repeat(10_000), "ü".repeat(10_000));
        assert!(record.object.len() <= OBJECT_BYTES_MAX && record.now.len() <= NOW_BYTES_MAX);
        assert!(record.object.len() > 500 && record.now.len() > 2_040 && record.now.ends_with('…'));
    }
}
