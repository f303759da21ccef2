//! What the operator decides: flags, environment and file, in this order, then the defaults.
//!
//! Each group of settings has a file of its own: what can be said, what follows, how it is shown. Invariant: a
//! [`Config`] is complete and within its ranges; it holds no secret, so it can be shown. Absent: reading tokens
//! (`auth`), opening anything.

mod access;
mod admin;
mod error;
mod layers;
mod limits;
mod listening;
mod logging;
mod operations;
mod posting;
mod projecting;
mod rates;
mod shown;
mod spans;
mod storage;

pub use access::AuthKind;
pub use admin::AdminConfig;
pub use error::ConfigError;
pub(crate) use layers::place;
pub use layers::{Source, Sources};
pub use limits::ConnectionLimits;
pub use listening::TlsFiles;
pub use logging::LogFormat;
pub use operations::{OperationsConfig, Switch};
pub use rates::Rates;
pub use shown::Explained;
pub use storage::{ClockKind, RefillKind};

use crate::{auth::JwtConfig, every::Every, project::Projection, webhook::Webhook};
use clap::{ArgMatches, Args};
use rejoin_core::protocol::host::RETENTION;
use shown::Shown;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What was said; nothing is decided yet.
#[derive(Debug, Args)]
pub struct Settings {
    /// TOML file with the names of these settings as keys; flags and environment come before it.
    #[arg(long, env = "REJOIN_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    listening: listening::ListeningSettings,
    #[command(flatten)]
    storage: storage::StorageSettings,
    #[command(flatten)]
    access: access::AccessSettings,
    #[command(flatten)]
    limits: limits::LimitSettings,
    #[command(flatten)]
    rates: rates::RateSettings,
    #[command(flatten)]
    operations: operations::OperationsSettings,
    #[command(flatten)]
    admin: admin::AdminSettings,
    #[command(flatten)]
    logging: logging::LoggingSettings,
    #[command(flatten)]
    spans: spans::SpanSettings,
    #[command(flatten)]
    projecting: projecting::ProjectSettings,
    #[command(flatten)]
    posting: posting::WebhookSettings,
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What it shows to clients there, if it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Directory of the database and its key.
    pub data: PathBuf,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Which events are logged.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The collector that spans are told to.
    pub otlp_endpoint: Option<String>,
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
    /// What is also put into tables.
    pub projections: Vec<Projection>,
    /// What is posted to other programs.
    pub webhooks: Vec<Webhook>,
    /// The file of secrets that it is signed with.
    pub webhook_secrets: Option<PathBuf>,
    /// Limits.
    pub limits: ConnectionLimits,
    /// Limits of time.
    pub rates: Rates,
    /// How it is watched, and how it ends.
    pub operations: OperationsConfig,
    /// The admin page, if there is one.
    pub admin: Option<AdminConfig>,
}

impl Config {
    /// Defaults, with the database in `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            tls: None,
            data: data.into(),
            file: None,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            otlp_endpoint: None,
            tokens: None,
            jwt: None,
            static_dir: None,
            refill: RefillKind::default(),
            retention: Duration::from_millis(RETENTION.0),
            scrub: Every::DAY,
            clock: ClockKind::default(),
            origins: Vec::new(),
            projections: Vec::new(),
            webhooks: Vec::new(),
            webhook_secrets: None,
            limits: ConnectionLimits::default(),
            rates: Rates::default(),
            operations: OperationsConfig::default(),
            admin: None,
        }
    }

    /// Decides by the flags of a command that takes [`Settings`], or some of them by the same names, by the
    /// environment of the process, and by the file that these name; and says who said what.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be used, something is said that means nothing, or does not go
    /// together.
    pub fn load(flags: &ArgMatches) -> Result<(Self, Sources), ConfigError> {
        let (said, sources) = layers::gather(flags, std::env::vars_os())?;
        Ok((Self::decide(said)?, sources))
    }

    /// The file of tokens that was said, whether or not anything asks for it.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub(crate) fn tokens_file(flags: &ArgMatches) -> Result<Option<PathBuf>, ConfigError> {
        let (said, _) = layers::gather(flags, std::env::vars_os())?;
        Ok(said.access.tokens)
    }

    fn decide(said: Settings) -> Result<Self, ConfigError> {
        let mut config = Self::new("./rejoin-data");
        config.file = said.config;
        said.listening.decide(&mut config)?;
        said.storage.decide(&mut config);
        said.access.decide(&mut config)?;
        said.limits.decide(&mut config);
        said.rates.decide(&mut config);
        said.operations.decide(&mut config);
        said.admin.decide(&mut config)?;
        said.logging.decide(&mut config);
        said.spans.decide(&mut config)?;
        said.projecting.decide(&mut config);
        said.posting.decide(&mut config)?;
        Ok(config)
    }

    /// Every setting but the file's own name, with its value.
    fn shown(&self) -> Vec<(&'static str, Shown)> {
        let mut shown = Vec::new();
        shown.extend(listening::show(self));
        shown.extend(storage::show(self));
        shown.extend(access::show(self));
        shown.extend(limits::show(self));
        shown.extend(rates::show(self));
        shown.extend(operations::show(self));
        shown.extend(admin::show(self));
        shown.extend(logging::show(self));
        shown.extend(spans::show(self));
        shown.extend(projecting::show(self));
        shown.extend(posting::show(self));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        ffi::OsString,
        path::Path,
        sync::atomic::{AtomicU32, Ordering},
    };

    /// A file that is gone at the end.
    struct File(PathBuf);

    impl File {
        fn new(text: &str) -> Self {
            static SERIAL: AtomicU32 = AtomicU32::new(0);
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!("rejoin-config-{}-{serial}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).ok();
        }
    }

    fn load(
        flags: &[&str],
        variables: &[(&str, &str)],
        file: Option<&Path>,
    ) -> Result<(Config, Sources), ConfigError> {
        let mut flags: Vec<OsString> = flags.iter().map(OsString::from).collect();
        if let Some(file) = file {
            flags.extend(["--config".into(), file.into()]);
        }
        let matches = layers::command().try_get_matches_from(flags).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let (said, sources) = layers::gather(&matches, variables)?;
        Ok((Config::decide(said)?, sources))
    }

    #[test]
    fn flags_come_before_the_environment_that_before_the_file_and_that_before_defaults() {
        let file = File::new("listen = '127.0.0.1:1'\nspaces-max = 7\nlog = 'warn'\n");
        let variables =
            [("REJOIN_SERVER_LISTEN", "127.0.0.1:3"), ("REJOIN_SERVER_SPACES_MAX", "8")];
        let (config, sources) =
            load(&["--listen", "127.0.0.1:2"], &variables, Some(&file.0)).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.limits.spaces_max, 8);
        assert_eq!(config.log, "warn");
        assert_eq!(config.limits.connections_max, ConnectionLimits::default().connections_max);
        let source = |name: &str| sources.get(name).map(ToString::to_string);
        assert_eq!(source("listen").as_deref(), Some("--listen"));
        assert_eq!(source("spaces-max").as_deref(), Some("REJOIN_SERVER_SPACES_MAX"));
        assert_eq!(source("log"), Some(format!("{}, line 3", file.0.display())));
        assert_eq!(source("connections-max"), None);
    }

    #[test]
    fn what_names_no_setting_is_refused_with_its_place() {
        let file = File::new("log = 'warn'\nlisten-on = '127.0.0.1:1'");
        let refused = load(&[], &[], Some(&file.0)).unwrap_err().to_string();
        assert!(refused.ends_with("line 2: unknown key `listen-on`"), "{refused}");
        // It names itself.
        let file = File::new("config = 'x'");
        let refused = load(&[], &[], Some(&file.0)).unwrap_err().to_string();
        assert!(refused.ends_with("line 1: unknown key `config`"), "{refused}");
        let refused = load(&[], &[("REJOIN_SERVER_LISTEN_ON", "x")], None).unwrap_err();
        assert!(matches!(refused, ConfigError::Variable { .. }), "{refused}");
    }

    #[test]
    fn values_that_a_setting_cannot_have_are_refused_with_their_place() {
        for (text, complaint) in [
            ("spaces-max = 0", "line 1: invalid value '0'"),
            ("\nspaces-max = 'many'", "line 2: invalid value 'many'"),
            ("frame-bytes-max = 1000", "1000 is not in"),
            ("retention-hours = 0", "0 is not in 1..=87600"),
            ("retention-hours = 87601", "87601 is not in 1..=87600"),
            ("retention-hours = 1.5", "line 1: invalid value '1.5'"),
            ("auth = 'nobody'", "possible values: none, tokens"),
            ("log = ['a', 'b']", "line 1: `log` cannot be of type array"),
            ("log.level = 'a'", "line 1: `log` cannot be of type table"),
            ("log = 'a'\nlog = 'b'", "line 2: duplicate key"),
        ] {
            let file = File::new(text);
            let refused = load(&[], &[], Some(&file.0)).unwrap_err().to_string();
            assert!(refused.contains(complaint), "{text}: {refused}");
            assert!(refused.contains(".toml"), "{text}: {refused}");
        }
        let refused = load(&[], &[("REJOIN_SERVER_SCRUB", "often")], None).unwrap_err();
        assert!(refused.to_string().starts_with("REJOIN_SERVER_SCRUB: invalid"), "{refused}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let refused = |flags: &[&str]| load(flags, &[], None).unwrap_err();
        assert!(matches!(refused(&["--auth", "tokens"]), ConfigError::TokensMissing));
        assert!(matches!(refused(&["--tls-cert", "x"]), ConfigError::TlsHalf));
        let admin = refused(&["--admin-listen", "127.0.0.1:1"]);
        assert!(matches!(admin, ConfigError::AdminTokenMissing));
        assert!(matches!(refused(&["--tokens", "x"]), ConfigError::TokensUnused { .. }));
    }

    #[test]
    fn every_setting_is_shown_and_has_a_variable() {
        let shown: Vec<_> =
            Config::new("x").shown().into_iter().map(|(name, _)| name).chain(["config"]).collect();
        for argument in layers::command().get_arguments() {
            let name = argument.get_long().unwrap();
            assert!(shown.contains(&name), "{name} is not shown");
            let variable = format!("REJOIN_SERVER_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env(), Some(variable.as_ref()), "{name}");
            assert!(argument.get_action().takes_values(), "{name} could not stand in a file");
            // So that no argument of a command is taken for it.
            assert_eq!(argument.get_id().as_str(), name.replace('-', "_"));
        }
    }

    #[test]
    fn a_table_of_the_file_has_the_beginning_of_the_names_in_it() {
        let text = "auth = 'jwt'\n[jwt]\nkeys = 'k'\nissuer = 'i'\naudience = ['a']\n\
                    [[jwt.grants]]\nspace = 'user-{sub}'\ncollections = ['tasks/*']\n\
                    [[jwt.grants]]\nspace = 'team'\nwrite = true\n";
        let file = File::new(text);
        let (config, sources) = load(&["--jwt-issuer", "other"], &[], Some(&file.0)).unwrap();
        let jwt = config.jwt.as_ref().unwrap();
        assert_eq!((jwt.issuer.as_str(), jwt.grants.len()), ("other", 2));
        assert_eq!(jwt.grants[0].collections, ["tasks/*"]);
        assert!(jwt.grants[1].write);
        let shown = File::new(&Explained { config: &config, sources: &sources }.to_string());
        let (again, _) = load(&[], &[], Some(&shown.0)).unwrap();
        assert_eq!(again.jwt, config.jwt);
        for (text, complaint) in [
            ("[jwt]\nkey = 'k'", "line 2: unknown key `jwt-key`"),
            ("[jwt]\nkeys.file = 'k'", "line 2: `jwt-keys` cannot be of type table"),
            ("[jwt]\n[[jwt.grants]]\nspaces = 'k'", "unknown field `spaces`"),
            ("[other]\nkeys = 'k'", "line 1: unknown key `other`"),
        ] {
            let file = File::new(text);
            let refused = load(&[], &[], Some(&file.0)).unwrap_err().to_string();
            assert!(refused.contains(complaint), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_shown_is_read_as_it_was() {
        let text =
            "origin = ['https://a.example', 'https://b.example']\nscrub = 'off'\nstatic = 'a\"b'\n";
        let file = File::new(text);
        let (config, sources) = load(&["--spaces-max", "9"], &[], Some(&file.0)).unwrap();
        let text = Explained { config: &config, sources: &sources }.to_string();
        assert!(text.contains("spaces-max = 9 # --spaces-max\n"), "{text}");
        assert!(text.contains("# tokens is not set\n"), "{text}");
        let shown = File::new(&text);
        let (again, _) = load(&[], &[], Some(&shown.0)).unwrap();
        assert_eq!(again, Config { file: Some(shown.0.clone()), ..config });
    }
}
