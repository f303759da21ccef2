//! Status: how things stand, as a line of JSON.

use crate::{
    CliError, Outcome,
    args::Status,
    output::{Progress, say},
    session::Session,
};
use serde_json::json;

/// Prints how things stand.
pub(crate) async fn run(args: Status) -> Result<Outcome, CliError> {
    let mut session = Session::open(&args.place, args.offline).await?;
    let failure = if args.offline {
        None
    } else {
        session.synced(&mut Progress::new()).await.err().map(|error| error.to_string())
    };
    let (client, pattern) = (&session.client, &session.pattern);
    let status = client.status();
    let rejected: Vec<_> = client
        .rejected()
        .into_iter()
        .map(|rejected| {
            json!({
                "number": rejected.number,
                "code": format!("{:?}", rejected.code),
                "reason": rejected.reason,
                "records": rejected.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    let line = json!({
        "space": args.place.space.as_str(),
        "collection": args.place.collection.as_str(),
        "link": format!("{:?}", status.link).to_lowercase(),
        "records": client.all(&args.place.collection)?.len(),
        "pending": status.pending,
        "rejected": rejected,
        "seq": client.cursor(pattern).map(|seq| seq.0),
        "root": client.root(pattern).to_string(),
        "verified": status.is_verified,
        "error": failure,
    });
    say(&line.to_string())?;
    session.close().await?;
    Ok(if failure.is_some() { Outcome::Bad } else { Outcome::Good })
}
