//! Sizes and times as people write them: "32MiB", "1800ms".
//!
//! Only whole numbers with one unit: what is printed is read back as the same value, and two people write the
//! same value in the same way. A time without a unit is refused, because half of the world means seconds and
//! the other half milliseconds.

use std::time::Duration;

use super::problem::{Wrong, shown};

/// Units of size, in bytes, from the largest; a plain number is bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
/// Units of time, in milliseconds, from the largest.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const SIZE_HINT: &str = "write a whole number with KiB, MiB or GiB, or bytes: \"32MiB\"";
const TIME_HINT: &str = "write a whole number with ms, s, m, h or d: \"30s\", \"500ms\"";

/// Reads a size: the number of bytes.
pub fn parse_size(text: &str) -> Result<u64, Wrong> {
    let (number, unit) = split(text, SIZE_HINT)?;
    scaled(number, unit, &SIZES).ok_or_else(|| Wrong::new(format!("`{}` is no size", shown(text)), SIZE_HINT))
}

/// Writes a size with the largest unit that fits.
pub fn size(bytes: u64) -> String {
    written(bytes, &SIZES)
}

/// Reads a time, to the millisecond.
pub fn parse_time(text: &str) -> Result<Duration, Wrong> {
    let (number, unit) = split(text, TIME_HINT)?;
    if unit.is_empty() {
        return Err(Wrong::new(format!("`{}` has no unit", shown(text)), TIME_HINT));
    }
    scaled(number, unit, &TIMES)
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::new(format!("`{}` is no time", shown(text)), TIME_HINT))
}

/// Writes a time with the largest unit that fits; what is less than a millisecond is left out.
pub fn time(time: Duration) -> String {
    match u64::try_from(time.as_millis()) {
        Ok(0) => "0s".to_owned(),
        Ok(millis) => written(millis, &TIMES),
        Err(_) => written(u64::MAX, &TIMES),
    }
}

fn split<'t>(text: &'t str, hint: &str) -> Result<(u64, &'t str), Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || Wrong::new(format!("`{}` is no whole number with a unit", shown(text)), hint);
    Ok((number.parse().map_err(|_| wrong())?, unit))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let &(_, factor) = units.iter().find(|(u, _)| *u == unit)?;
    number.checked_mul(factor)
}

fn written(value: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_times_are_read_as_written() {
        assert_eq!(parse_size("32MiB").unwrap(), 32 << 20);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        assert_eq!(parse_time("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_time("1d").unwrap(), Duration::from_secs(86_400));
        assert_eq!((size(4096), size(4097), size(0)), ("4KiB".into(), "4097".into(), "0".into()));
        assert_eq!(time(Duration::ZERO), "0s");
        assert_eq!(time(Duration::from_millis(90_000)), "90s");
    }

    #[test]
    fn what_is_unclear_is_refused_with_a_hint() {
        for text in ["", "MiB", "32MB", "1.5GiB", "-1", "32 MiB", "99999999999GiB", "99999999999999999999"] {
            assert!(parse_size(text).unwrap_err().to_string().ends_with(SIZE_HINT), "{text}");
        }
        for text in ["", "30", "s", "1.8s", "-1s", "30 s", "30S", "1w", "999999999999999999d"] {
            assert!(parse_time(text).unwrap_err().to_string().ends_with(TIME_HINT), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(n: u64, power in 0u32..64) {
            let bytes = n >> power;
            prop_assert_eq!(parse_size(&size(bytes)), Ok(bytes));
            let t = Duration::from_millis(bytes);
            prop_assert_eq!(parse_time(&time(t)), Ok(t));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = (parse_size(&text), parse_time(&text));
        }
    }
}
