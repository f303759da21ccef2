//! The sync server of Rejoin: a thin driver that lends the engine's responder sockets, a store and
//! clocks. One process serves many spaces from one directory.
//!
//! Bytes go `listen` -> `app` -> `ws` (frames) -> `connection` (channels, `auth`) -> `hub` (one task per
//! space, which owns its [`Host`](rejoin_core::protocol::host::Host)) -> the store, and back through each
//! connection's `outgoing` queue. Invariant: every queue is bounded, and whoever is nearer to the store
//! never waits for whoever is nearer to a socket. Absent: merging, the protocol, stored formats: they are
//! the engine's.

mod admin;
mod age;
mod app;
mod auth;
mod census;
pub mod cli;
mod clock;
mod commands;
mod config;
mod connection;
mod data;
mod durable;
mod every;
mod faults;
mod feed;
mod health;
mod http;
mod hub;
mod hubs;
mod line;
mod listen;
mod makers;
mod metrics;
mod news;
mod outgoing;
mod pace;
mod passes;
mod posts;
mod project;
mod rates;
mod secret;
mod selection;
mod server;
pub mod shutdown;
mod spaces;
mod spans;
pub mod telemetry;
mod tls;
mod wal;
mod watched;
mod webhook;
mod ws;

pub use admin::AdminTokenError;
pub use auth::{
    AuthError, BadName, JwtConfig, JwtSettings, JwtSettingsError, KeyError, SpaceGrant,
    TemplateError,
};
pub use config::{
    AdminConfig, AuthKind, ClockKind, Config, ConfigError, ConnectionLimits, Explained, LogFormat,
    OperationsConfig, Rates, RefillKind, Settings, Source, Sources, Switch, TlsFiles,
};
pub use every::{Every, EveryError};
pub use project::{Projection, ProjectionError};
pub use selection::SelectionError;
pub use server::{Server, ServerError};
pub use tls::TlsError;
pub use watched::Unreadable;
pub use webhook::{SecretsError, Webhook, WebhookError, WebhookSecrets};
