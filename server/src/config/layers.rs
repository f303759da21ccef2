//! Flags, environment and file, in this order: which of them says the value of each setting.
//!
//! Invariant: a value has passed its setting's parser, wherever it comes from, and what names no setting is
//! refused. Absent: defaults, and what the settings mean.

use super::{ConfigError, Settings};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, builder::Resettable,
    error::ContextKind, parser::ValueSource,
};
use serde_json::Value as Json;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

/// Environment variables that begin so are settings or refused.
const PREFIX: &str = "REJOIN_SERVER_";

/// Who said the value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody.
    Default,
    /// The file, in this line.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Who said the value of each setting, by its name; those that nobody said are missing.
pub type Sources = BTreeMap<String, Source>;

/// What was said of one setting.
struct Said {
    source: Source,
    values: Vec<OsString>,
}

/// The file that is read.
struct FileText<'a> {
    path: &'a Path,
    text: &'a str,
}

/// What was said of each setting, by its name.
#[derive(Default)]
struct Layers(BTreeMap<String, Said>);

/// The settings as they were said, and by whom.
pub(super) fn gather(
    flags: &ArgMatches,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Settings, Sources), ConfigError> {
    let command = command();
    let mut layers = Layers::default();
    let mut level = Some(flags);
    while let Some(flags) = level {
        layers.add_flags(&command, flags);
        level = flags.subcommand().map(|(_, inner)| inner);
    }
    layers.add_environment(&command, environment)?;
    let file = layers.0.get("config").and_then(|said| said.values.first()).map(PathBuf::from);
    if let Some(path) = file {
        let text = fs::read_to_string(&path)
            .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        layers.add_file(&command, &path, &text)?;
    }
    let settings = layers.settle(command)?;
    let sources = layers.0.into_iter().map(|(name, said)| (name, said.source)).collect();
    Ok((settings, sources))
}

/// The settings as arguments of a command of their own; each has a name and takes a value.
pub(super) fn command() -> Command {
    Settings::augment_args(Command::new("rejoin-server").no_binary_name(true))
}

impl Layers {
    fn add_flags(&mut self, command: &Command, flags: &ArgMatches) {
        for (argument, name) in named(command) {
            let id = argument.get_id().as_str();
            // A command that takes only some of the settings does not know the others.
            let Ok(Some(values)) = flags.try_get_raw(id) else { continue };
            if flags.value_source(id) == Some(ValueSource::CommandLine) {
                let values = values.map(OsStr::to_owned).collect();
                let source = Source::Flag(format!("--{name}"));
                self.0.insert(name.to_owned(), Said { source, values });
            }
        }
    }

    fn add_environment(
        &mut self,
        command: &Command,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let text = variable.to_string_lossy();
            if !text.starts_with(PREFIX) {
                continue;
            }
            let known = named(command).find(|(known, _)| known.get_env() == Some(&variable));
            let Some((_, name)) = known else {
                return Err(ConfigError::Variable { name: text.into_owned() });
            };
            let said = Said { source: Source::Variable(text.into_owned()), values: vec![value] };
            self.0.entry(name.to_owned()).or_insert(said);
        }
        Ok(())
    }

    fn add_file(&mut self, command: &Command, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            message: place(text, &error),
        })?;
        self.add_table(command, "", table.get_ref(), &FileText { path, text })
    }

    /// A key within a table has the table's name before its own.
    fn add_table(
        &mut self,
        command: &Command,
        prefix: &str,
        table: &DeTable<'_>,
        file: &FileText<'_>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table.iter() {
            let line = line_of(file.text, key.span().start);
            let invalid = |what| {
                let message = format!("line {line}: {what}");
                ConfigError::Invalid { path: file.path.to_owned(), message }
            };
            let (key, value) = (format!("{prefix}{}", key.get_ref()), value.get_ref());
            let known = named(command).find(|(_, name)| *name == key && *name != "config");
            let Some((argument, name)) = known else {
                let inner = format!("{key}-");
                let has_inner = named(command).any(|(_, name)| name.starts_with(&inner));
                if let (DeValue::Table(table), true) = (value, has_inner) {
                    self.add_table(command, &inner, table, file)?;
                    continue;
                }
                return Err(invalid(format!("unknown key `{key}`")));
            };
            let values = values_of(value, argument).ok_or_else(|| {
                invalid(format!("`{name}` cannot be of type {}", value.type_str()))
            })?;
            let said = Said { source: Source::File(file.path.to_owned(), line), values };
            self.0.entry(name.to_owned()).or_insert(said);
        }
        Ok(())
    }

    /// Has each value parsed as a flag would be.
    fn settle(&self, command: Command) -> Result<Settings, ConfigError> {
        let arguments = self.0.iter().flat_map(|(name, said)| {
            said.values.iter().map(move |value| {
                let mut argument = OsString::from(format!("--{name}="));
                argument.push(value);
                argument
            })
        });
        // Who said what has been decided: the environment is not asked again.
        let command = command.mut_args(|argument| argument.env(Resettable::Reset));
        let parsed = command.try_get_matches_from(arguments);
        parsed.and_then(|found| Settings::from_arg_matches(&found)).map_err(|e| self.blame(&e))
    }

    /// Says which flag, variable or line has the value that was refused.
    fn blame(&self, error: &clap::Error) -> ConfigError {
        let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string);
        let place = argument.as_deref().and_then(|argument| {
            let name = argument.strip_prefix("--")?.split(' ').next()?;
            self.0.get(name).map(|said| said.source.to_string())
        });
        let text = error.to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text);
        let message = message.split("\n\n").next().unwrap_or_default().trim();
        ConfigError::Value { place: place.unwrap_or_default(), message: message.to_owned() }
    }
}

/// Every setting with its name.
fn named(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    command.get_arguments().filter_map(|known| Some((known, known.get_long()?)))
}

/// A value of the file as flags have it; `None` if no flag could.
fn values_of(value: &DeValue<'_>, argument: &Arg) -> Option<Vec<OsString>> {
    if let (DeValue::Array(values), ArgAction::Append) = (value, argument.get_action()) {
        let said = |value: &DeValue<'_>| {
            if value.is_table() { Some(json(value)?.to_string().into()) } else { scalar(value) }
        };
        return values.iter().map(|value| said(value.get_ref())).collect();
    }
    scalar(value).map(|value| vec![value])
}

/// What has parts, as flags have it.
fn json(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(number) => {
            Json::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Boolean(yes) => Json::from(*yes),
        DeValue::Array(values) => {
            values.iter().map(|value| json(value.get_ref())).collect::<Option<_>>()?
        }
        DeValue::Table(values) => {
            let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                Some((key.get_ref().to_string(), json(value.get_ref())?))
            };
            Json::Object(values.iter().map(entry).collect::<Option<_>>()?)
        }
        DeValue::Float(_) | DeValue::Datetime(_) => return None,
    })
}

fn scalar(value: &DeValue<'_>) -> Option<OsString> {
    match value {
        DeValue::String(text) => Some(OsString::from(text.as_ref())),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string().into())
        }
        DeValue::Float(number) => Some(number.as_str().into()),
        DeValue::Boolean(yes) => Some(yes.to_string().into()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// A parser's complaint with its line number, without the line: it may hold a secret.
pub(crate) fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    match error.span() {
        Some(span) => format!("line {}: {message}", line_of(text, span.start)),
        None => message.to_owned(),
    }
}

/// In which line, from 1, the byte at `at` is.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
