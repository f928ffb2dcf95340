//! One result, its median and spread, and the bar that it must not pass.

use std::fmt;

use serde::Serialize;

use super::statistics::Spread;

/// One result.
#[derive(Serialize)]
pub(super) struct Figure {
    bench: &'static str,
    what: String,
    unit: &'static str,
    median: f64,
    least: f64,
    most: f64,
    /// The median must not be more than this; or not less.
    bar: Option<f64>,
    is_floor: bool,
}

impl Figure {
    pub(super) fn new(
        bench: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        spread: Spread,
    ) -> Self {
        Self {
            bench,
            what: what.into(),
            unit,
            median: spread.median,
            least: spread.least,
            most: spread.most,
            bar: None,
            is_floor: false,
        }
    }

    pub(super) fn at_most(self, bar: f64) -> Self {
        Self {
            bar: Some(bar),
            ..self
        }
    }

    pub(super) fn at_least(self, bar: f64) -> Self {
        Self {
            bar: Some(bar),
            is_floor: true,
            ..self
        }
    }

    pub(super) fn is_missed(&self) -> bool {
        let is_off = |bar| {
            if self.is_floor {
                self.median < bar
            } else {
                self.median > bar
            }
        };
        // What could not be measured misses its bar too.
        self.bar
            .is_some_and(|bar| self.median.is_nan() || is_off(bar))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<6} {:<58} {:>11} {:<10}",
            self.bench,
            self.what,
            number(self.median),
            self.unit
        )?;
        write!(
            f,
            " {:>11} .. {:<11}",
            number(self.least),
            number(self.most)
        )?;
        let side = if self.is_floor { "least" } else { "most" };
        match self.bar {
            None => Ok(()),
            Some(bar) if self.is_missed() => write!(f, " MISSED: at {side} {bar}"),
            Some(bar) => write!(f, " ok: at {side} {bar}"),
        }
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
