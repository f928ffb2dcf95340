//! Numbers as people read them.

use std::fmt;

/// A measured duration in nanoseconds, written with three or four significant digits: `812.4ms`,
/// `3.12us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measured(pub u64);

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0))
    }
}

/// What stands where a number is not known.
pub(super) const UNKNOWN: &str = "unknown";

/// A number where it is known.
pub(super) fn known<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), shown)
}

/// [`Measured`] as a string.
pub(super) fn ns(ns: u64) -> String {
    Measured(ns).to_string()
}

/// A duration in nanoseconds that somebody chose, written without needless digits: `10ms`, `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen(pub u64);

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = scaled(self.0);
        let digits = text.trim_end_matches(char::is_alphabetic);
        let unit = &text[digits.len()..];
        let short = if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.')
        } else {
            digits
        };
        f.pad(&format!("{short}{unit}"))
    }
}

/// A count with thousands separated: `2,184,332`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

fn scaled(nanos: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    if nanos < 1_000 {
        return if nanos == 0 {
            "0".to_owned()
        } else {
            format!("{nanos}ns")
        };
    }
    for (unit, size) in UNITS {
        // The next unit takes over where rounding would write 1000.0 of this one.
        if unit == "s" || nanos < size * 1_000 - size / 20 {
            return format!("{}{unit}", three_or_four_digits(nanos, size));
        }
    }
    unreachable!("seconds take every value")
}

fn three_or_four_digits(nanos: u64, size: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let value = nanos as f64 / size as f64;
    let decimals = match value {
        ..9.995 => 2,
        ..999.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_durations_have_three_or_four_digits() {
        for (nanos, text) in [
            (0, "0"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (3_120, "3.12us"),
            (9_996, "10.0us"),
            (212_340, "212.3us"),
            (812_449_999, "812.4ms"),
            (999_940_000, "999.9ms"),
            (999_960_000, "1.00s"),
            (5_000_000_000, "5.00s"),
            (31_240_000_000, "31.2s"),
            (4_000_400_000_000, "4000s"),
            (u64::MAX, "18446744074s"),
        ] {
            assert_eq!(Measured(nanos).to_string(), text);
        }
    }

    #[test]
    fn chosen_durations_have_no_needless_digits() {
        for (nanos, text) in [
            (0, "0"),
            (500_000, "500us"),
            (10_000_000, "10ms"),
            (1_500_000_000, "1.5s"),
            (100_000_000_000, "100s"),
            (4_000_000_000_000, "4000s"),
        ] {
            assert_eq!(Chosen(nanos).to_string(), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (2_184_332, "2,184,332"),
        ] {
            assert_eq!(Count(count).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Count(1_000)), "   1,000");
    }
}
