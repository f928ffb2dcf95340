//! Times as people type them: a number with a unit from ns to h, at most a year.

use std::time::Duration;

const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("m", 60.0),
    ("h", 3600.0),
    ("s", 1.0),
];

/// A year: longer durations are typing errors, and this keeps all later arithmetic in nanoseconds
/// within `u64`.
const MAX_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

/// Reads a duration as people type it: `500us`, `10ms`, `1.5s`, `2m`, `1h`; a bare `0` needs no
/// unit.
///
/// # Errors
///
/// A sentence for the user when the text is no such duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
        .ok_or_else(|| "a duration needs a unit: 500us, 10ms, 1.5s, 2m or 1h".to_owned())?;
    let number: f64 = number
        .trim_end()
        .parse()
        .map_err(|_| format!("`{number}` is not a number; write 500us, 10ms, 1.5s, 2m or 1h"))?;
    let seconds = number * scale;
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err("a duration lies between 0 and a year".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("500us", 500_000),
            ("500µs", 500_000),
            ("10ms", 10_000_000),
            ("1.5s", 1_500_000_000),
            ("250ns", 250),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            (" 10 ms ", 10_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "10",
            "ms",
            "-1s",
            "nans",
            "infs",
            "1e300s",
            "10d",
            "1s2ms",
            "9999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
