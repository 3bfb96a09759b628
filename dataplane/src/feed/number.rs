//! The number as a name: what an instrument is called whose definition was not seen.

/// The number as text, behind bytes that are not part of it.
pub(super) fn decimal(number: i32) -> ([u8; 11], usize) {
    let mut text = [b'0'; 11];
    let mut rest = number.unsigned_abs();
    let mut start = text.len();
    while rest != 0 || start == text.len() {
        start -= 1;
        text[start] += (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        start -= 1;
        text[start] = b'-';
    }
    (text, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_names() {
        for number in [0, 7, -7, 10, 4_418, i32::from(u16::MAX), i32::MAX, i32::MIN] {
            let (text, start) = decimal(number);
            assert_eq!(text[start..], *number.to_string().as_bytes());
        }
    }
}
