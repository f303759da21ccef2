//! Who may look: whoever shows the token of the file. Tokens of users open nothing here, and the reverse.
//!
//! Invariant: whoever does not show the token learns nothing, not even what could be asked for; it is kept and compared
//! as its digest, in constant time. Absent: what is shown.

use crate::{
    census::Slot,
    clock,
    watched::{Unreadable, Watched},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rejoin_core::time::{Millis, MonoMillis};
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

/// Fewest characters of a token: nobody finds one of so many by trying.
const TOKEN_CHARS_MIN: usize = 24;
/// Most of them.
const TOKEN_CHARS_MAX: usize = 1_024;
/// Wrong tokens that an address may show at once.
const WRONG_MAX: u64 = 10;
/// After so long it may show one more.
const WRONG_AGAIN: Millis = Millis(6_000);
/// Addresses that are remembered for that.
const ADDRESSES_MAX: usize = 1_024;
/// How soon a changed file is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the file of the admin's token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminTokenError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What is in it is no token.
    #[error(
        "{path}: an admin token is one line of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII characters, as \
         `openssl rand -hex 32` makes them"
    )]
    Form {
        /// Which file.
        path: PathBuf,
    },
}

/// The token of the file, as its digest.
struct Token(blake3::Hash);

impl Token {
    fn read(path: &Path, bytes: &[u8]) -> Result<Self, AdminTokenError> {
        let text = bytes.trim_ascii();
        let fits = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len());
        if !fits || !text.iter().all(u8::is_ascii_graphic) {
            return Err(AdminTokenError::Form { path: path.to_owned() });
        }
        Ok(Self(blake3::hash(text)))
    }
}

/// A token that was shown and was good.
pub(super) struct Shown(Arc<Token>);

/// Checks the file of the token, and forgets it.
pub(crate) fn check(path: &Path) -> Result<(), AdminTokenError> {
    Watched::open(path, Token::read).map(drop)
}

/// Who may look.
pub(super) struct Access {
    token: Watched<Token, AdminTokenError>,
    /// When the last of an address's wrong tokens is forgiven.
    wrong: Mutex<BTreeMap<IpAddr, MonoMillis>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    pub(super) fn open(path: &Path) -> Result<Self, AdminTokenError> {
        Ok(Self { token: Watched::open(path, Token::read)?, wrong: Mutex::default() })
    }

    /// Whether the headers show the token. Takes as long for one that is nearly right as for any other.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let shown = value.and_then(|value| value.split_at_checked(7));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        // Nothing shown is compared, too.
        let (_, shown) = shown.unwrap_or_default();
        self.token.get().0 == blake3::hash(shown.trim_ascii())
    }

    /// The token of the moment.
    pub(super) fn shown(&self) -> Shown {
        Shown(self.token.get())
    }

    /// Whether that is still the token.
    pub(super) fn still(&self, shown: &Shown) -> bool {
        self.token.get().0 == shown.0.0
    }

    /// How long an address has to wait before it is listened to.
    fn waits(&self, address: IpAddr) -> Option<Millis> {
        let now = clock::read().mono;
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = wrong.get(&address)?;
        let owed = forgiven.since(now).0;
        let most = WRONG_AGAIN.0 * WRONG_MAX;
        // Where nothing is owed the difference is nothing, too.
        (owed > most - WRONG_AGAIN.0).then(|| Millis(owed - (most - WRONG_AGAIN.0)))
    }

    fn was_wrong(&self, address: IpAddr) {
        let now = clock::read().mono;
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, forgiven| *forgiven > now);
        if wrong.len() >= ADDRESSES_MAX && !wrong.contains_key(&address) {
            // Who owes least is forgotten first.
            let least = wrong.iter().min_by_key(|(_, forgiven)| **forgiven);
            if let Some(least) = least.map(|(address, _)| *address) {
                wrong.remove(&least);
            }
        }
        let forgiven = wrong.entry(address).or_insert(now);
        *forgiven = (*forgiven).max(now) + WRONG_AGAIN;
    }

    /// Reads the file again whenever it has changed, until the process ends.
    pub(super) async fn keep(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut times = interval(LOOK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = times.tick() => {}
                // An error means that nobody is left to stop it.
                _ = stopping.wait_for(|stops| *stops) => return,
            }
            let access = Arc::clone(&self);
            match spawn_blocking(move || access.token.look()).await {
                Ok(Ok(true)) => info!("the admin token has changed"),
                Ok(Err(error)) => error!(%error, "the admin token that was read before holds on"),
                // A panic is reported by its own thread.
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }
}

/// Answers whoever may not look, the same whatever was asked for.
pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(address) = request.extensions().get::<Arc<Slot>>().map(|slot| slot.address()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Some(wait) = access.waits(address) {
        let seconds = wait.0.div_ceil(1_000).to_string();
        let refusal = super::refuse(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens");
        return ([(header::RETRY_AFTER, seconds)], refusal).into_response();
    }
    if access.admits(request.headers()) {
        return next.run(request).await;
    }
    if request.headers().contains_key(header::AUTHORIZATION) {
        access.was_wrong(address);
        warn!(%address, "a wrong admin token");
    }
    let refusal = super::refuse(StatusCode::UNAUTHORIZED, "the admin token is needed");
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}
