//! One line per event, for people or for programs.
//!
//! Invariant: no token and no value of a record is ever a field, and no event waits for whoever reads the lines. Absent:
//! files, rotation.

use crate::{
    config::{Config, LogFormat},
    spans::Exporter,
};
use opentelemetry_otlp::ExporterBuildError;
use std::{fmt, sync::OnceLock};
use tracing::{Event, Subscriber, field::Visit};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::ParseError,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, time::FormatTime},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Lines that wait to be written; those beyond are dropped and counted.
const LINES_MAX: usize = 8_192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// What is to be logged is no filter.
    #[error("--log {filter}: {source}")]
    Filter {
        /// What was said.
        filter: String,
        /// Why not.
        source: ParseError,
    },
    /// Nothing can be told to the collector.
    #[error("--otlp-endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Writes what waits when it is dropped, within a second or so.
#[derive(Debug)]
#[must_use]
pub struct Log {
    // Dropped first: what it has to say is still logged.
    _spans: Option<Exporter>,
    _lines: WorkerGuard,
}

/// Sends events to the standard error stream from here on, by a thread of its own: nobody waits for whoever reads
/// there. A later call changes nothing.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(config: &Config) -> Result<Log, TelemetryError> {
    let filter = filter(config)?;
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("rejoin-log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let exporter = exporter(config)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.log_format {
        LogFormat::Text => lines.event_format(Line).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_target(false);
            lines.with_current_span(false).with_span_list(false).boxed()
        }
    };
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(exporter.as_ref().map(Exporter::layer))
        .try_init();
    // Already set by whoever embeds the server, who decides then.
    if started.is_ok() {
        DROPPED.set(dropped).ok();
    }
    Ok(Log { _spans: exporter, _lines: worker })
}

/// How many lines were dropped: nobody reads them.
pub(crate) fn dropped() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Whether [`start`] would take the configuration.
///
/// # Errors
/// As [`start`].
pub fn check(config: &Config) -> Result<(), TelemetryError> {
    filter(config)?;
    exporter(config).map(drop)
}

fn filter(config: &Config) -> Result<EnvFilter, TelemetryError> {
    let filter = EnvFilter::builder().parse(&config.log);
    filter.map_err(|source| TelemetryError::Filter { filter: config.log.clone(), source })
}

fn exporter(config: &Config) -> Result<Option<Exporter>, TelemetryError> {
    Ok(config.otlp_endpoint.as_deref().map(Exporter::new).transpose()?)
}

/// Time, level, `name=value` of each field, then what happened: `… space=demo pushed=2 synced`.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        tracing_subscriber::fmt::time().format_time(&mut out)?;
        write!(out, " {:>5}", event.metadata().level())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(out, "{} {}", fields.named, fields.message)
    }
}

#[derive(Default)]
struct Fields {
    named: String,
    message: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.named, " {}={value:?}", field.name())
        };
        // Writing to a `String` fails only if the value's own formatting does; the rest is still said.
        written.ok();
    }

    /// Unquoted unless that would be ambiguous; a line stays a line.
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        let plain = !value.is_empty()
            && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        if plain {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }
}

/// The first four digits of an id, for people.
pub(crate) fn short(id: &impl fmt::Display) -> String {
    let mut text = id.to_string();
    text.truncate(8);
    text.push('…');
    text
}
