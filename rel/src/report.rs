//! What a suite measured: a line of JSON for each figure, and whether it reached its bar.

use crate::tool::Missing;
use anyhow::Context;
use serde_json::json;
use std::{
    fmt,
    io::{Write, stderr, stdout},
    sync::{Mutex, PoisonError},
};

/// Faults that are told once more at the end.
const FAULTS_MAX: usize = 10;

/// Tells people something that is no figure.
pub(crate) fn say(text: impl fmt::Display) {
    // Who does not listen misses nothing that counts.
    writeln!(stderr(), "{text}").ok();
}

/// What was found wrong, as it was told.
static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Tells people what is wrong: at once, and at the end once more (see [`faults`]).
pub(crate) fn tell_fault(text: impl fmt::Display) {
    let text = text.to_string();
    say(&text);
    remember_fault(text);
}

/// Keeps what is wrong, and has been told, for the end.
pub(crate) fn remember_fault(text: String) {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// The first faults that were told: the end of a long log is what people see of it.
pub(crate) fn faults() -> Vec<String> {
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    faults.iter().take(FAULTS_MAX).cloned().collect()
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
    /// Whether what this machine cannot measure is left out, and told.
    leaves_out: bool,
    left_out: Vec<String>,
}

impl Report {
    /// A report of which parts may be left out: of those, a line is told too.
    pub(crate) fn that_leaves_out() -> Self {
        Self { leaves_out: true, ..Self::default() }
    }

    /// What came of a part: none if something that it needs is missing here, and that may be.
    pub(crate) fn settle<T>(
        &mut self,
        part: &str,
        came: anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match came {
            Err(why) if self.leaves_out && why.is::<Missing>() => {
                self.leave_out(part, &why)?;
                Ok(None)
            }
            came => came.map(Some),
        }
    }

    /// Tells that a part is not measured: a line of JSON with `metric`, no `value`, and `why`.
    pub(crate) fn leave_out(&mut self, part: &str, why: impl fmt::Display) -> anyhow::Result<()> {
        self.left_out.push(part.to_owned());
        say(format!("not measured: {part}: {why:#}"));
        let why = why.to_string();
        let line = json!({ "metric": part, "value": null, "measured": false, "why": why });
        writeln!(stdout(), "{line}").context("nobody reads the figures")
    }

    /// The parts that were not measured.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

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
            self.missed.push(format!("{metric} is {value} {unit}, not {bar}"));
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

    /// The figures that did not reach their bar, with it.
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }
}

/// Of nothing, none.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_differs_is_not_all() {
        assert!(percent(999_999, 1_000_000) < 100.0);
        assert!(percent(1_000, 1_000).total_cmp(&100.0).is_eq());
        assert!(percent(0, 0).total_cmp(&0.0).is_eq());
    }

    #[test]
    fn figure_beyond_its_bar_is_missed() {
        let mut report = Report::default();
        report.tell("lost", 0.0, "writes", Bar::Exactly(0.0)).unwrap();
        report.tell("p99", 6.0, "s", Bar::AtMost(5.0)).unwrap();
        report.count("kills", 299, "kills", Bar::AtLeast(300.0)).unwrap();
        report.count("writes", 7, "writes", Bar::None).unwrap();
        let missed = ["p99 is 6 s, not <= 5", "kills is 299 kills, not >= 300"];
        assert_eq!(report.missed(), missed);
    }

    #[test]
    fn only_what_is_missing_here_is_left_out_and_only_where_that_may_be() {
        let missing = || anyhow::Result::<()>::Err(Missing::new("no strace").into());
        let mut report = Report::that_leaves_out();
        assert_eq!(report.settle("sweep", missing().context("while it began")).unwrap(), None);
        assert_eq!(report.left_out(), ["sweep"]);
        assert!(
            report.settle("power", anyhow::Result::<()>::Err(anyhow::anyhow!("lost"))).is_err()
        );
        assert!(Report::default().settle("sweep", missing()).is_err());
    }

    #[test]
    fn a_figure_that_is_no_number_reaches_no_bar() {
        assert!(!Bar::AtLeast(0.0).holds(f64::NAN));
        assert!(!Bar::AtMost(0.0).holds(f64::NAN));
    }
}
