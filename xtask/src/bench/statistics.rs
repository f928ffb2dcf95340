//! Median, least and most of several values, and what states differ by, turn by turn.

/// The middle of several measurements, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Self {
            least: values[0],
            median: values[values.len() / 2],
            most: values[values.len() - 1],
        }
    }

    /// Of one value.
    pub(super) fn one(value: f64) -> Self {
        Self::of(&[value])
    }
}

/// The values of one state less those of another, turn by turn.
pub(super) fn differences(of: &[f64], from: &[f64]) -> Vec<f64> {
    of.iter().zip(from).map(|(a, b)| a - b).collect()
}

/// The values of one state over those of another, turn by turn.
pub(super) fn ratios(of: &[f64], over: &[f64]) -> Vec<f64> {
    of.iter().zip(over).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.0, 3.0));
    }
}
