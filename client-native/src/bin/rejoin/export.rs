//! Export: the records of a collection as lines of JSON, by id.

use crate::{CliError, Outcome, args::Export, output::Progress, session::Session};
use rejoin_json::line;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

/// Exports a collection.
pub(crate) async fn run(args: Export) -> Result<Outcome, CliError> {
    let mut session = Session::open(&args.place, args.offline).await?;
    if !args.offline {
        session.synced(&mut Progress::new()).await?;
    }
    let records = session.client.all_kinds(&args.place.collection)?;
    session.close().await?;
    let mut out: Box<dyn Write> = match &args.file {
        Some(path) => Box::new(BufWriter::new(File::create(path)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    for (id, fields) in &records {
        let id = (!args.no_id).then_some(id);
        writeln!(out, "{}", line(id, Some(fields)))?;
    }
    out.flush()?;
    Ok(Outcome::Good)
}
