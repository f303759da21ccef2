//! Errors as they cross the border: a plain object with `code`, `message` and `retryable`.
//!
//! The codes are those of `SyncErrorCode` in `ts/errors.ts`.

use crate::js::to_js;
use core::fmt;
use rejoin_core::{
    io::FaultClass,
    protocol::{
        engine::{ConfigError, WishError},
        message::{ByeCode, RejectCode},
    },
    replica::{ChangeError, WriteError},
};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    Closed,
    Exists,
    Absent,
    Invalid,
    TooLarge,
    Overflow,
    Quota,
    Storage,
    Unknown,
    Busy,
    Blocked,
    ReloadNeeded,
    Unauthorized,
    OtherAccount,
    OtherSpace,
    Forbidden,
    Network,
    UpgradeClient,
    Protocol,
    Poisoned,
    Internal,
}

/// An error on its way to the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    retryable: bool,
}

impl Failure {
    /// One that another try would meet again.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false }
    }

    /// One that another try may not meet.
    pub(crate) fn retryable(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: true }
    }

    /// The error of every call after `close`.
    pub(crate) fn closed() -> Self {
        Self::new(Code::Closed, "the database is closed")
    }

    /// A value, name or option that does not fit.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// A failure of the store.
    pub(crate) fn store(class: FaultClass) -> Self {
        match class {
            FaultClass::Full => {
                Self::retryable(Code::Quota, "the browser has no space left for this database")
            }
            FaultClass::Transient => {
                Self::retryable(Code::Storage, "the browser failed to read or write")
            }
            FaultClass::Corrupt => Self::new(Code::Storage, "the stored data cannot be read"),
            FaultClass::Permanent => {
                Self::new(Code::Storage, "the database is gone or cannot be used")
            }
            _ => Self::new(Code::Internal, "the store failed in an unknown way"),
        }
    }

    /// Why a session ended; `None` where there is nothing to be told.
    pub(crate) fn ended(code: ByeCode, reason: &str) -> Option<Self> {
        let (code, retryable) = match code {
            ByeCode::Done => return None,
            ByeCode::ShuttingDown
            | ByeCode::Superseded
            | ByeCode::SlowConsumer
            | ByeCode::Busy
            | ByeCode::BadLine
            | ByeCode::Storage
            | ByeCode::StorageFull => (Code::Network, true),
            ByeCode::Version => (Code::UpgradeClient, false),
            ByeCode::Unauthorized => (Code::Unauthorized, true),
            ByeCode::NoSpace => (Code::Forbidden, false),
            ByeCode::Malformed | ByeCode::Misbehaved | ByeCode::TooLarge => (Code::Protocol, false),
            ByeCode::Internal => (Code::Internal, true),
            _ => (Code::Protocol, true),
        };
        Some(Self { code, message: reason.into(), retryable })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::TooManyPatterns { .. } => Code::TooLarge,
            _ => Code::Invalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WishError> for Failure {
    fn from(error: WishError) -> Self {
        let message = error.to_string();
        match error {
            WishError::Write(WriteError::Change(change)) => {
                let code = match change {
                    ChangeError::Exists(_) => Code::Exists,
                    ChangeError::NotFound(_) => Code::Absent,
                    ChangeError::ValueTooLarge { .. }
                    | ChangeError::ValueTooDeep { .. }
                    | ChangeError::TooManyCells { .. }
                    | ChangeError::RecordTooLarge { .. }
                    | ChangeError::BatchTooLarge { .. } => Code::TooLarge,
                    ChangeError::ClockExhausted => Code::Overflow,
                    ChangeError::WrongKind { .. }
                    | ChangeError::Empty
                    | ChangeError::NotSubscribed(_) => Code::Invalid,
                    _ => Code::Internal,
                };
                Self::new(code, message)
            }
            WishError::Write(_) => Self::new(Code::Storage, message),
            WishError::NoSuchRow(_) => Self::new(Code::Absent, message),
            WishError::Store(class) => Self::store(class),
            WishError::Unknown(_) => Self::new(Code::Unknown, message),
            WishError::Busy { .. } => Self::retryable(Code::Busy, message),
            WishError::NothingToAdopt => Self::new(Code::Invalid, message),
            _ => Self::new(Code::Internal, message),
        }
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        to_js(&failure)
    }
}

/// Why a row was refused, as in `RawRejected`.
pub(crate) const fn reject_name(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Forbidden => "forbidden",
        RejectCode::TooLarge => "too_large",
        RejectCode::Forged => "forged",
        RejectCode::RecordGone => "record_gone",
        RejectCode::Unsure => "unsure",
        RejectCode::UpgradeServer => "upgrade_server",
        RejectCode::Quota => "quota",
        RejectCode::Invalid => "invalid",
        _ => "invalid",
    }
}
