//! Durations for people.

/// `812.4ms`, `3.1us`, `5.0s`, `2m05s`.
pub fn ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.1}us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", value / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.1}s", value / 1e9),
        _ => {
            let seconds = ns / 1_000_000_000;
            format!("{}m{:02}s", seconds / 60, seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ns;

    #[test]
    fn durations_read_well() {
        assert_eq!(ns(0), "0ns");
        assert_eq!(ns(3_100), "3.1us");
        assert_eq!(ns(812_400_000), "812.4ms");
        assert_eq!(ns(5_000_000_000), "5.0s");
        assert_eq!(ns(125_000_000_000), "2m05s");
    }
}
