//! What a suite measured: a line of JSON for each figure, and whether it reached its bar.

use anyhow::Context;
use serde_json::json;
use std::{
    fmt,
    io::{Write, stderr, stdout},
};

/// Tells people something that is no figure.
pub(crate) fn say(text: impl fmt::Display) {
    // Who does not listen misses nothing that counts.
    writeln!(stderr(), "{text}").ok();
}

/// Where a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// This.
    Exactly(f64),
    /// Anywhere: told for those who read.
    None,
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
            Self::Exactly(bar) => value.total_cmp(&bar).is_eq(),
            Self::None => true,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::Exactly(bar) => write!(f, "= {bar}"),
            Self::None => Ok(()),
        }
    }
}

/// Figures of a run, told as they come.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Tells one figure: a line of JSON with `metric`, `value`, `unit`, `bar` and `ok`.
    pub(crate) fn tell(
        &mut self,
        metric: &str,
        value: f64,
        unit: &str,
        bar: Bar,
    ) -> anyhow::Result<()> {
        let ok = bar.holds(value);
        if !ok {
            self.missed.push(metric.to_owned());
        }
        let line = json!({
            "metric": metric, "value": value, "unit": unit, "bar": bar.to_string(), "ok": ok,
        });
        writeln!(stdout(), "{line}").context("nobody reads the figures")
    }

    /// Tells how many of a kind there were.
    pub(crate) fn count(
        &mut self,
        metric: &str,
        count: usize,
        unit: &str,
        bar: Bar,
    ) -> anyhow::Result<()> {
        let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
        self.tell(metric, count, unit, bar)
    }

    /// The figures that did not reach their bar.
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_beyond_its_bar_is_missed() {
        let mut report = Report::default();
        report.tell("lost", 0.0, "writes", Bar::Exactly(0.0)).unwrap();
        report.tell("p99", 6.0, "s", Bar::AtMost(5.0)).unwrap();
        report.count("kills", 299, "kills", Bar::AtLeast(300.0)).unwrap();
        report.count("writes", 7, "writes", Bar::None).unwrap();
        assert_eq!(report.missed(), ["p99", "kills"]);
    }

    #[test]
    fn a_figure_that_is_no_number_reaches_no_bar() {
        assert!(!Bar::AtLeast(0.0).holds(f64::NAN));
        assert!(!Bar::AtMost(0.0).holds(f64::NAN));
    }
}
