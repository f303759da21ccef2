//! The effective configuration for people: one line for the log, TOML with the origin of each value.

use super::{Config, Source, Sources};
use clap::ValueEnum;
use std::{
    fmt::{self, Display},
    path::Path,
};

/// A value as it is shown.
#[derive(Debug)]
pub(super) enum Shown {
    Text(String),
    Number(u64),
    List(Vec<String>),
    /// Nobody said it, and it has no default.
    Unset,
}

impl Shown {
    pub(super) fn text(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }

    pub(super) fn number(value: impl Into<u64>) -> Self {
        Self::Number(value.into())
    }

    pub(super) fn path(value: Option<&Path>) -> Self {
        value.map_or(Self::Unset, |path| Self::text(path.display()))
    }

    /// As it is written in settings.
    pub(super) fn choice(value: &impl ValueEnum) -> Self {
        let name = value.to_possible_value();
        name.map_or(Self::Unset, |name| Self::text(name.get_name()))
    }

    /// Empty: unset.
    pub(super) fn list(values: &[String]) -> Self {
        if values.is_empty() { Self::Unset } else { Self::List(values.to_vec()) }
    }

    fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::List(values) => values.join(","),
            Self::Unset => "-".to_owned(),
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Number(number) => number.to_string(),
            Self::List(values) => {
                let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
                format!("[{}]", values.join(", "))
            }
            Self::Unset => String::new(),
        }
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One line, every setting with its value.
impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = Shown::path(self.file.as_deref()).plain();
        write!(f, "config={file}")?;
        self.shown().iter().try_for_each(|(name, value)| write!(f, " {name}={}", value.plain()))
    }
}

/// The effective configuration as a file that could be given to --config, every value with its origin; what
/// nobody said and has no default is a comment.
#[derive(Debug)]
pub struct Explained<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Who said what in it.
    pub sources: &'a Sources,
}

impl Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.config.shown() {
            let source = self.sources.get(name).unwrap_or(&Source::Default);
            if matches!(value, Shown::Unset) {
                writeln!(f, "# {name} is not set")?;
            } else {
                writeln!(f, "{name} = {} # {source}", value.toml())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_so_that_it_is_read_as_it_was() {
        for text in ["", "plain", "a\"b\\c", "line\nbreak\u{7f}", "ä"] {
            let read: toml::Table = toml::from_str(&format!("x = {}", quoted(text))).unwrap();
            assert_eq!(read.get("x").and_then(toml::Value::as_str), Some(text));
        }
    }
}
