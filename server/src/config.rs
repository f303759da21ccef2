//! What the operator decides: flags, environment and file, in this order, then the defaults.
//!
//! Invariant: a [`Config`] is complete and within its ranges; it holds no secret, so it can be shown.
//! Absent: reading tokens (`auth`), opening anything.

use crate::{
    auth::{JwtConfig, JwtSettings, JwtSettingsError},
    every::Every,
};
use clap::{CommandFactory, Parser, ValueEnum};
use rejoin_core::protocol::{
    host::{RETENTION, RefillPolicy},
    limits::{FRAME_BYTES_MAX, HANDSHAKE_WITHIN, HELLO_BYTES, time_for},
};
use serde::Deserialize;
use std::{
    ffi::{OsStr, OsString},
    fmt, fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// Smallest frame limit that still carries every record: a joined record and its key.
const FRAME_BYTES_LEAST: u32 = 832 << 10;

/// Environment variables that begin so are settings or refused.
const PREFIX: &str = "REJOIN_SERVER_";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that is none.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why, as the parser says, without the line itself.
        message: String,
    },
    /// `auth = "tokens"` without a file of tokens.
    #[error("--auth tokens needs --tokens FILE")]
    TokensMissing,
    /// A file of tokens that nothing would ask for.
    #[error("--tokens {path} is given, but --auth is none")]
    TokensUnused {
        /// Which file.
        path: PathBuf,
    },
    /// Settings of JWTs that do not go together.
    #[error(transparent)]
    Jwt(#[from] JwtSettingsError),
    /// An environment variable that looks like a setting and is none.
    #[error(
        "{name} is no setting of this program: {PREFIX}LISTEN, {PREFIX}DATA and so on, as --help names them"
    )]
    Variable {
        /// Which one.
        name: String,
    },
    /// A limit outside its range.
    #[error("{key} is {got}, it must be from {least} to {most}")]
    Range {
        /// Which key.
        key: &'static str,
        /// What it says.
        got: u32,
        /// Smallest value.
        least: u32,
        /// Greatest value.
        most: u32,
    },
}

/// Who may use the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AuthKind {
    /// Everyone who reaches it may read and write every space.
    #[default]
    None,
    /// Who shows a token of the file.
    Tokens,
    /// Who shows a JWT of an issuer that is trusted, or a token of the file, if there is one.
    Jwt,
}

/// Who may bring back what the database has lost: it was put back from an old copy, or erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RefillKind {
    /// Whoever reads a record that this server's key marked; what it did not mark, whoever may write it.
    #[default]
    Writers,
    /// Whoever reads a record that this server's key marked.
    Proved,
    /// Nobody: the copy is older on purpose.
    None,
}

impl RefillKind {
    pub(crate) const fn policy(self) -> RefillPolicy {
        match self {
            Self::Writers => RefillPolicy::Writers,
            Self::Proved => RefillPolicy::Proved,
            Self::None => RefillPolicy::None,
        }
    }
}

/// What becomes of a clock that has gone back since the server last ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ClockKind {
    /// The server does not start.
    #[default]
    Checked,
    /// It starts, and goes by it.
    Accepted,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// For people: time, level, fields, event.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What was said by flags and environment, or by the file; nothing is decided yet.
#[derive(Debug, Clone, Default, Parser, Deserialize)]
#[command(name = "rejoin-server", version, about = "The sync server of Rejoin")]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Where to listen [default: 127.0.0.1:8787].
    #[arg(long, env = "REJOIN_SERVER_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory of the database and its key, created at need [default: ./rejoin-data].
    #[arg(long, env = "REJOIN_SERVER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// TOML file with these same names as keys; flags and environment come before it.
    #[arg(long, env = "REJOIN_SERVER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Which events are logged: error, warn, info, debug, trace, or a filter by target [default: info].
    #[arg(long, env = "REJOIN_SERVER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look [default: text].
    #[arg(long, env = "REJOIN_SERVER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Who may use the server [default: none, which lets everyone who reaches it read and write].
    #[arg(long, env = "REJOIN_SERVER_AUTH", value_name = "KIND")]
    pub auth: Option<AuthKind>,
    /// TOML file of the tokens, for --auth tokens, and beside JWTs. Read again when it changes.
    #[arg(long, env = "REJOIN_SERVER_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// What JWTs must be, for --auth jwt.
    #[command(flatten)]
    pub jwt: JwtSettings,
    /// Directory whose files are served to browsers.
    #[arg(long = "static", env = "REJOIN_SERVER_STATIC", value_name = "DIR")]
    #[serde(rename = "static")]
    pub static_dir: Option<PathBuf>,
    /// Origin whose pages may connect, may be repeated [default: the host that the page asked].
    #[arg(long, env = "REJOIN_SERVER_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub origin: Vec<String>,
    /// Most connections [default: 20000].
    #[arg(long, env = "REJOIN_SERVER_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<NonZeroU32>,
    /// Most connections of one address; raise it behind a proxy [default: 1000].
    #[arg(long, env = "REJOIN_SERVER_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N")]
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Most spaces [default: 10000].
    #[arg(long, env = "REJOIN_SERVER_SPACES_MAX", value_name = "N")]
    pub spaces_max: Option<NonZeroU32>,
    /// Largest frame taken from a client, in bytes [default: 1048576].
    #[arg(long, env = "REJOIN_SERVER_FRAME_BYTES_MAX", value_name = "BYTES")]
    pub frame_bytes_max: Option<u32>,
    /// Who brings back what a database lost that was put back or erased: writers (readers too, with this
    /// server's mark), proved (only with the mark), none [default: writers].
    #[arg(long, env = "REJOIN_SERVER_REFILL", value_name = "WHO")]
    pub refill: Option<RefillKind>,
    /// Hours that the server runs before it forgets what was removed. A device that was away for longer fetches
    /// everything anew, and updates of what is gone come back to its user [default: 720].
    #[arg(long, env = "REJOIN_SERVER_RETENTION_HOURS", value_name = "HOURS")]
    pub retention_hours: Option<u32>,
    /// How often all that is stored is read and checked, as in 30m, 24h or 7d; or off [default: 24h].
    #[arg(long, env = "REJOIN_SERVER_SCRUB", value_name = "EVERY")]
    pub scrub: Option<Every>,
    /// A client that takes nothing for so long while something waits is cut [default: 10].
    #[arg(long, env = "REJOIN_SERVER_STALL_SECONDS", value_name = "SECONDS")]
    pub stall_seconds: Option<NonZeroU32>,
    /// What a clock is that is behind what it was when the server last ran: checked, which refuses to start, or
    /// accepted, since it was wrong then; what devices write after what they have seen may wait [default: checked].
    #[arg(long, env = "REJOIN_SERVER_CLOCK", value_name = "HOW")]
    pub clock: Option<ClockKind>,
}

impl Settings {
    /// Reads the arguments and the environment of the process. Arguments that are none end it, with the
    /// usage.
    ///
    /// # Errors
    /// [`ConfigError::Variable`].
    pub fn read() -> Result<Self, ConfigError> {
        let said = Self::parse();
        check_variables(std::env::vars_os().map(|(name, _)| name))?;
        Ok(said)
    }
}

/// A variable that nobody reads was meant to say something.
fn check_variables(names: impl Iterator<Item = OsString>) -> Result<(), ConfigError> {
    let command = Settings::command();
    let known: Vec<&OsStr> = command.get_arguments().filter_map(|known| known.get_env()).collect();
    for name in names {
        let text = name.to_string_lossy();
        if text.starts_with(PREFIX) && !known.contains(&name.as_os_str()) {
            return Err(ConfigError::Variable { name: text.into_owned() });
        }
    }
    Ok(())
}

/// Limits of the driver; those of the protocol are in [`rejoin_core::protocol::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections.
    pub connections_max: u32,
    /// Most connections of one address.
    pub connections_per_address_max: u32,
    /// Most spaces in the database.
    pub spaces_max: u32,
    /// Largest frame taken from a client.
    pub frame_bytes_max: u32,
    /// A connection may be so long without a channel: a slow line takes its time for a long token.
    pub opening_max: Duration,
    /// A client that takes nothing for so long while something waits is cut.
    pub stall_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_address_max: 1_000,
            spaces_max: 10_000,
            frame_bytes_max: 1 << 20,
            opening_max: Duration::from_millis(HANDSHAKE_WITHIN.0 + time_for(HELLO_BYTES).0),
            stall_max: Duration::from_secs(10),
        }
    }
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Directory of the database and its key.
    pub data: PathBuf,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Which events are logged.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The file of tokens; without it, and without JWTs, everyone may read and write.
    pub tokens: Option<PathBuf>,
    /// What JWTs must be, where they are taken.
    pub jwt: Option<JwtConfig>,
    /// Directory of files for browsers.
    pub static_dir: Option<PathBuf>,
    /// Who may bring back what the database has lost.
    pub refill: RefillKind,
    /// How long the server runs before it forgets what was removed.
    pub retention: Duration,
    /// How often all that is stored is read and checked.
    pub scrub: Every,
    /// Whether it starts though its clock has gone back.
    pub clock: ClockKind,
    /// Allowed origins; empty: the host that the request names.
    pub origins: Vec<String>,
    /// Limits.
    pub limits: ConnectionLimits,
}

impl Config {
    /// Defaults, with the database in `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            data: data.into(),
            file: None,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            tokens: None,
            jwt: None,
            static_dir: None,
            refill: RefillKind::default(),
            retention: Duration::from_millis(RETENTION.0),
            scrub: Every::DAY,
            clock: ClockKind::default(),
            origins: Vec::new(),
            limits: ConnectionLimits::default(),
        }
    }

    /// Reads the file that `said` names, if any, and decides.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be used or what was said does not go together.
    pub fn load(said: Settings) -> Result<Self, ConfigError> {
        let file = match &said.config {
            Some(path) => read_file(path)?,
            None => Settings::default(),
        };
        Self::decide(said, file)
    }

    fn decide(said: Settings, file: Settings) -> Result<Self, ConfigError> {
        let data = said.data.or(file.data);
        let base = Self::new(data.unwrap_or_else(|| PathBuf::from("./rejoin-data")));
        let tokens = said.tokens.or(file.tokens);
        let jwt = said.jwt.or(file.jwt);
        let (tokens, jwt) = match (said.auth.or(file.auth).unwrap_or_default(), tokens) {
            (AuthKind::Tokens, None) => return Err(ConfigError::TokensMissing),
            (AuthKind::None, Some(path)) => return Err(ConfigError::TokensUnused { path }),
            (AuthKind::Jwt, tokens) => (tokens, Some(jwt.decide()?)),
            (AuthKind::Tokens, tokens @ Some(_)) | (AuthKind::None, tokens @ None) => {
                jwt.refuse()?;
                (tokens, None)
            }
        };
        let number = |said: Option<NonZeroU32>, file: Option<NonZeroU32>, default: u32| {
            said.or(file).map_or(default, NonZeroU32::get)
        };
        let limits = base.limits;
        let frame_bytes = said.frame_bytes_max.or(file.frame_bytes_max);
        let stall = said.stall_seconds.or(file.stall_seconds);
        let retention = said.retention_hours.or(file.retention_hours);
        Ok(Self {
            listen: said.listen.or(file.listen).unwrap_or(base.listen),
            file: said.config,
            log: said.log.or(file.log).unwrap_or(base.log),
            log_format: said.log_format.or(file.log_format).unwrap_or_default(),
            tokens,
            jwt,
            static_dir: said.static_dir.or(file.static_dir),
            refill: said.refill.or(file.refill).unwrap_or_default(),
            retention: retention.map_or(Ok(base.retention), check_retention)?,
            scrub: said.scrub.or(file.scrub).unwrap_or(base.scrub),
            clock: said.clock.or(file.clock).unwrap_or_default(),
            origins: if said.origin.is_empty() { file.origin } else { said.origin },
            limits: ConnectionLimits {
                connections_max: number(
                    said.connections_max,
                    file.connections_max,
                    limits.connections_max,
                ),
                connections_per_address_max: number(
                    said.connections_per_address_max,
                    file.connections_per_address_max,
                    limits.connections_per_address_max,
                ),
                spaces_max: number(said.spaces_max, file.spaces_max, limits.spaces_max),
                frame_bytes_max: check_frame(frame_bytes.unwrap_or(limits.frame_bytes_max))?,
                opening_max: limits.opening_max,
                stall_max: stall.map_or(limits.stall_max, |seconds| {
                    Duration::from_secs(u64::from(seconds.get()))
                }),
            },
            data: base.data,
        })
    }
}

/// An hour, since whoever is away for longer fetches everything anew; ten years.
const RETENTION_HOURS: (u32, u32) = (1, 87_600);

fn check_retention(got: u32) -> Result<Duration, ConfigError> {
    let (least, most) = RETENTION_HOURS;
    if (least..=most).contains(&got) {
        return Ok(Duration::from_secs(u64::from(got) * SECONDS_OF_HOUR));
    }
    Err(ConfigError::Range { key: "retention-hours", got, least, most })
}

const SECONDS_OF_HOUR: u64 = 3_600;

fn check_frame(got: u32) -> Result<u32, ConfigError> {
    let most = u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX);
    if (FRAME_BYTES_LEAST..=most).contains(&got) {
        return Ok(got);
    }
    Err(ConfigError::Range { key: "frame-bytes-max", got, least: FRAME_BYTES_LEAST, most })
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        message: place(&text, &error),
    })
}

/// A parser's complaint with its line number, without the line: it may hold a secret.
pub(crate) fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.to_owned(),
    }
}

/// One line, every key with its value.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string())
        };
        let auth = match (&self.jwt, &self.tokens) {
            (Some(_), _) => "jwt",
            (None, Some(_)) => "tokens",
            (None, None) => "none",
        };
        let origins =
            if self.origins.is_empty() { "same-host".to_owned() } else { self.origins.join(",") };
        let limits = &self.limits;
        write!(
            f,
            "listen={} data={} config={} log={} log-format={} auth={auth} tokens={} static={} \
             origin={origins} connections-max={} connections-per-address-max={} spaces-max={} \
             frame-bytes-max={} refill={} retention-hours={} scrub={} stall-seconds={} \
             clock={}",
            self.listen,
            self.data.display(),
            path(&self.file),
            self.log,
            match self.log_format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
            path(&self.tokens),
            path(&self.static_dir),
            limits.connections_max,
            limits.connections_per_address_max,
            limits.spaces_max,
            limits.frame_bytes_max,
            match self.refill {
                RefillKind::Writers => "writers",
                RefillKind::Proved => "proved",
                RefillKind::None => "none",
            },
            self.retention.as_secs() / SECONDS_OF_HOUR,
            self.scrub,
            limits.stall_max.as_secs(),
            match self.clock {
                ClockKind::Checked => "checked",
                ClockKind::Accepted => "accepted",
            },
        )?;
        self.jwt.as_ref().map_or(Ok(()), |jwt| write!(f, " {jwt}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Settings {
        let name = std::iter::once("rejoin-server");
        Settings::try_parse_from(name.chain(arguments.iter().copied())).unwrap()
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let file: Settings =
            toml::from_str("listen = '127.0.0.1:1'\nlog = 'warn'\nspaces-max = 7").unwrap();
        let config = Config::decide(flags(&["--listen", "127.0.0.1:2"]), file).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.log, "warn");
        assert_eq!(config.limits.spaces_max, 7);
        assert_eq!(config.limits.connections_max, ConnectionLimits::default().connections_max);
    }

    #[test]
    fn keys_that_are_none_are_refused_with_their_line() {
        let text = "log = 'warn'\nlisten-on = '127.0.0.1:1'";
        let error = toml::from_str::<Settings>(text).unwrap_err();
        let complaint = place(text, &error);
        assert!(complaint.starts_with("line 2: unknown field `listen-on`"), "{complaint}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let decide = |arguments: &[&str]| Config::decide(flags(arguments), Settings::default());
        assert!(matches!(decide(&["--auth", "tokens"]), Err(ConfigError::TokensMissing)));
        assert!(matches!(decide(&["--tokens", "x"]), Err(ConfigError::TokensUnused { .. })));
        for refused in [
            ["--frame-bytes-max", "1000"],
            ["--retention-hours", "0"],
            ["--retention-hours", "87601"],
        ] {
            assert!(matches!(decide(&refused), Err(ConfigError::Range { .. })), "{refused:?}");
        }
    }
}
