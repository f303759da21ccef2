//! Verify: the root of a collection, computed here, against the server's.

use crate::{
    CliError, Outcome,
    args::Place,
    output::{Progress, say},
    session::{Difference, Session},
};

/// Compares roots.
pub(crate) async fn run(place: Place) -> Result<Outcome, CliError> {
    let mut session = Session::open(&place, false).await?;
    let mut progress = Progress::new();
    let done = |session: &Session| session.difference.is_some() || session.client.is_synced();
    let verified = loop {
        let waited = session.wait(&mut progress, done).await;
        if let Some(Difference { seq, ours, theirs }) = session.difference {
            progress.clear();
            say(&format!("different at {seq}: here {ours}, server {theirs}"))?;
            session.close().await?;
            return Ok(Outcome::Bad);
        }
        waited?;
        if let Some(verified) = session.client.verified(&session.pattern) {
            break verified;
        }
    };
    progress.clear();
    let records = session.client.all(&place.collection)?.len();
    say(&format!("verified {} {} {records} records", verified.root, verified.seq))?;
    session.close().await?;
    Ok(Outcome::Good)
}
