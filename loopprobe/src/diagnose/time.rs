//! Durations in evidence and advice.

/// Whole milliseconds; microseconds where there is none.
pub(super) fn time(ns: u64) -> String {
    match ns / 1_000_000 {
        0 => format!("{} us", ns / 1_000),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_took_time_took_none() {
        assert_eq!(time(30_900_000), "30 ms");
        assert_eq!(time(999_999), "999 us");
    }
}
