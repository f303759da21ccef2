//! A client for the length of one command: its directory, its patience.

use crate::{
    args::Place,
    output::{Progress, complain, describe},
};
use rejoin_client::{
    ByeCode, Client, ClientError, Damage, Digest, FaultClass, Link, Notice, Notices, OpenError,
    Options, Pattern, Progress as Received, Seq, Status,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::sleep;

/// Why there is no session, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("cannot read the token in {path}: {source}")]
    Token { path: PathBuf, source: io::Error },
    #[error("cannot make the directory of the replica: {0}")]
    Directory(io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server refused ({code:?}): {reason}")]
    Refused { code: ByeCode, reason: String },
    #[error("the replica belongs to {ours:?}, the server says {theirs:?}")]
    OtherAccount { ours: String, theirs: String },
    #[error("no connection to {server} for {seconds} s: {reason}")]
    Unreachable { server: String, seconds: u32, reason: String },
    #[error("no progress for {seconds} s while {doing}")]
    Stalled { seconds: u32, doing: String },
    #[error("the file of the replica failed ({0:?})")]
    Store(FaultClass),
}

/// A root that was not the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) seq: Seq,
    pub(crate) ours: Digest,
    pub(crate) theirs: Digest,
}

/// What moves as long as there is progress.
#[derive(PartialEq)]
struct Mark {
    link: Link,
    pending: usize,
    progress: Option<Received>,
    cursor: Option<Seq>,
}

/// A client and what belongs to it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) pattern: Pattern,
    pub(crate) difference: Option<Difference>,
    notices: Notices,
    server: String,
    patience: u32,
    // Behind the client: the directory goes once the file is closed.
    _temporary: Option<TempDir>,
}

impl Session {
    /// Opens the replica; with `offline` it stays alone.
    pub(crate) async fn open(place: &Place, offline: bool) -> Result<Self, SessionError> {
        let token = match &place.token_file {
            Some(file) => Some(read_token(file)?),
            None => place.token.clone(),
        };
        let (directory, temporary) = match &place.data {
            Some(data) => {
                fs::create_dir_all(data).map_err(SessionError::Directory)?;
                (data.clone(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("rejoin-").tempdir();
                let temporary = temporary.map_err(SessionError::Directory)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let pattern = Pattern::Exact(place.collection.clone());
        let client = Client::open(Options {
            path: directory.join("replica.db"),
            space: place.space.clone(),
            collections: vec![pattern.clone()],
            server: (!offline).then(|| place.server.clone()),
            authorities: place.ca.clone(),
            token,
            trace: place.trace,
        })
        .await?;
        let notices = client.notices();
        Ok(Self {
            client,
            pattern,
            difference: None,
            notices,
            server: place.server.clone(),
            patience: place.timeout.get(),
            _temporary: temporary,
        })
    }

    /// Waits until the server has everything and both roots are equal.
    pub(crate) async fn synced(&mut self, progress: &mut Progress) -> Result<(), SessionError> {
        self.wait(progress, |session| session.client.is_synced()).await
    }

    /// Waits until `done`, for as long as there is progress.
    pub(crate) async fn wait(
        &mut self,
        progress: &mut Progress,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), SessionError> {
        let mut last = self.mark();
        let patience = Duration::from_secs(self.patience.into());
        let mut lost = Box::pin(sleep(patience));
        loop {
            let changed = self.client.changed();
            self.take_notices()?;
            if done(self) {
                progress.clear();
                return Ok(());
            }
            tokio::select! {
                () = changed => {}
                () = &mut lost => return Err(self.stalled()),
            }
            let mark = self.mark();
            if mark != last {
                progress.show(&describe(&self.client.status()));
                last = mark;
                lost = Box::pin(sleep(patience));
            }
        }
    }

    fn mark(&self) -> Mark {
        let Status { link, pending, progress, .. } = self.client.status();
        // Connecting over and over is none.
        let link = if link == Link::Opening { Link::Offline } else { link };
        Mark { link, pending, progress, cursor: self.client.cursor(&self.pattern) }
    }

    fn stalled(&self) -> SessionError {
        let seconds = self.patience;
        match (self.client.connect_failure(), self.client.status()) {
            (Some(reason), status) if matches!(status.link, Link::Offline | Link::Opening) => {
                SessionError::Unreachable { server: self.server.clone(), seconds, reason }
            }
            (_, status) => SessionError::Stalled { seconds, doing: describe(&status) },
        }
    }

    /// Looks through the notices for what makes waiting futile, and tells those of `--trace`.
    pub(crate) fn take_notices(&mut self) -> Result<(), SessionError> {
        loop {
            let notice = match self.notices.try_next() {
                Ok(Some(notice)) => notice,
                Ok(None) => return Ok(()),
                // Among thousands; what is final comes again with the next attempt.
                Err(_missed) => continue,
            };
            if let Notice::Ended { code, reason } = notice {
                if is_final(code) {
                    return Err(SessionError::Refused { code, reason });
                }
            } else if let Notice::AccountChanged { ours, theirs } = notice {
                return Err(SessionError::OtherAccount { ours, theirs });
            } else if let Notice::Unreadable(class) = notice {
                return Err(SessionError::Store(class));
            } else if let Notice::Damaged(damage) = notice {
                complain(&describe_damage(&damage));
            } else if let Notice::Mended { found } = notice {
                complain(&format!("{found} damaged rows of the file are written again"));
            } else if let Notice::Diverged { seq, ours, theirs, .. } = notice {
                self.difference.get_or_insert(Difference { seq, ours, theirs });
            } else if let Notice::Trace { sent, name, bytes, text } = notice {
                let arrow = if sent { "->" } else { "<-" };
                complain(&format!("{arrow} {name} {bytes} {text}"));
            }
        }
    }

    /// Ends the session and closes the file.
    pub(crate) async fn close(self) -> Result<(), SessionError> {
        Ok(self.client.close().await?)
    }
}

/// What of the file is damaged, in words.
fn describe_damage(damage: &Damage) -> String {
    let Damage { received, rows } = damage;
    let mut text = format!("the file is damaged: {received} rows are fetched anew");
    if !rows.is_empty() {
        text += &format!("; these may be writes that cannot be read: {rows:?}");
    }
    text
}

/// The token without the end of its line.
fn read_token(file: &Path) -> Result<String, SessionError> {
    let text = fs::read_to_string(file)
        .map_err(|source| SessionError::Token { path: file.to_owned(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether trying again cannot help.
const fn is_final(code: ByeCode) -> bool {
    matches!(
        code,
        ByeCode::Version
            | ByeCode::Unauthorized
            | ByeCode::NoSpace
            | ByeCode::Malformed
            | ByeCode::Misbehaved
            | ByeCode::TooLarge
    )
}
