//! Figures, as lines of JSON.

use serde_json::json;
use std::{
    io::{Write, stdout},
    process::ExitCode,
};

/// Where a figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }

    fn show(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
        }
    }
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

impl Report {
    /// A figure by itself.
    pub(crate) fn tell(&mut self, metric: &str, value: f64, unit: &str, bar: Option<Bar>) {
        let ok = bar.is_none_or(|bar| bar.holds(value));
        let bar = bar.map(Bar::show);
        self.line(
            metric,
            ok,
            &json!({ "metric": metric, "value": round(value), "unit": unit, "bar": bar, "ok": ok }),
        );
    }

    /// A figure beside what bounds it; the bar is for their ratio.
    pub(crate) fn compare(
        &mut self,
        metric: &str,
        value: f64,
        unit: &str,
        limit: f64,
        bar: Option<Bar>,
    ) {
        let ratio = value / limit;
        let ok = bar.is_none_or(|bar| bar.holds(ratio));
        let bar = bar.map(Bar::show);
        let line = json!({
            "metric": metric, "value": round(value), "unit": unit, "limit": round(limit), "ratio": round(ratio),
            "bar": bar, "ok": ok,
        });
        self.line(metric, ok, &line);
    }

    fn line(&mut self, metric: &str, ok: bool, line: &serde_json::Value) {
        // Who does not listen misses nothing that counts.
        writeln!(stdout(), "{line}").ok();
        if !ok {
            self.missed.push(metric.to_owned());
        }
    }

    /// Whether every bar was reached.
    pub(crate) fn end(&self) -> ExitCode {
        if self.missed.is_empty() {
            return ExitCode::SUCCESS;
        }
        writeln!(std::io::stderr(), "below its bar: {}", self.missed.join(", ")).ok();
        ExitCode::FAILURE
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this part of them is; 0 of none.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index among some thousands"
    )]
    let at = ((values.len() as f64 - 1.0).max(0.0) * part).round() as usize;
    values.get(at).copied().unwrap_or_default()
}
