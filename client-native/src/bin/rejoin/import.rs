//! Import: lines become records, in batches, on top of what the server has.

use crate::{
    CliError, Outcome,
    args::Import,
    lines,
    output::{Progress, complain, say},
    session::Session,
};
use rejoin_client::{
    Change, Client, ClientError, CollectionName, RecordId, RecordKey, WishError, WriteError, put,
};
use rejoin_json::{Shape, Target, changes, is_same, lines::Line};
use std::collections::BTreeMap;

/// Records of one batch.
const BATCH_RECORDS: usize = 500;
/// Bytes of lines of one batch: well below what a batch may have.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait for their acknowledgement.
const PENDING_MAX: usize = 64;

/// A record that waits for its batch.
struct Pending {
    line: u64,
    target: Target,
}

/// An import under way.
struct Importer {
    name: String,
    batch: BTreeMap<RecordId, Pending>,
    batch_bytes: usize,
    /// The lines of each batch written, by its number.
    written: BTreeMap<u64, Vec<u64>>,
    records: u64,
    unchanged: u64,
    bad: u64,
}

/// Imports a file.
pub(crate) async fn run(args: Import) -> Result<Outcome, CliError> {
    // First: a file that is not there costs no connection.
    let mut source = lines::read(&args.file, args.format, &shape(&args)?)?;
    let mut session = Session::open(&args.place, false).await?;
    let mut progress = Progress::new();
    // What is there already need not be written again, and a put covers what it replaces.
    session.synced(&mut progress).await?;
    let mut import = Importer::new(args.file.display().to_string());
    let collection = &args.place.collection;
    while let Some(line) = source.recv().await {
        import.take(line?);
        if import.is_full() {
            import.flush(&session.client, collection).await?;
            progress.show(&format!("{} records read", import.records + import.unchanged));
            session
                .wait(&mut progress, |session| session.client.status().pending < PENDING_MAX)
                .await?;
        }
    }
    import.flush(&session.client, collection).await?;
    session.synced(&mut progress).await?;
    progress.clear();
    import.settle_rejected(&session.client).await?;
    session.synced(&mut progress).await?;
    import.summarise(&session)?;
    session.close().await?;
    Ok(if import.bad > 0 { Outcome::Bad } else { Outcome::Good })
}

fn shape(args: &Import) -> Result<Shape, CliError> {
    let mut kinds = BTreeMap::new();
    for (field, kind) in &args.kinds {
        if kinds.insert(field.clone(), *kind).is_some_and(|before| before != *kind) {
            return Err(CliError::Kinds(field.as_str().into()));
        }
    }
    Ok(Shape { key: args.key.clone(), kinds })
}

impl Importer {
    fn new(name: String) -> Self {
        Self {
            name,
            batch: BTreeMap::new(),
            batch_bytes: 0,
            written: BTreeMap::new(),
            records: 0,
            unchanged: 0,
            bad: 0,
        }
    }

    fn is_bad(&mut self, line: u64, reason: &str) {
        self.bad += 1;
        complain(&format!("{}:{line}: {reason}", self.name));
    }

    fn take(&mut self, line: Line) {
        match line.record {
            Err(reason) => self.is_bad(line.number, &reason),
            Ok((id, target)) => {
                self.batch_bytes += line.bytes;
                let pending = Pending { line: line.number, target };
                // Of two lines of one id the later counts.
                self.batch.insert(id, pending);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES
    }

    /// Writes what has gathered, but for records that are so already.
    async fn flush(
        &mut self,
        client: &Client,
        collection: &CollectionName,
    ) -> Result<(), CliError> {
        self.batch_bytes = 0;
        let mut batch = Vec::new();
        for (id, pending) in std::mem::take(&mut self.batch) {
            let key = RecordKey { collection: collection.clone(), id };
            let found = client.get_kinds(&key)?;
            if found.as_ref().is_some_and(|fields| is_same(fields, &pending.target)) {
                self.unchanged += 1;
            } else {
                let fields = changes(&pending.target, &found.unwrap_or_default());
                batch.push((put(key, fields), pending.line));
            }
        }
        if let Err(reason) = self.write(client, &batch).await? {
            if let [(_, line)] = batch.as_slice() {
                self.is_bad(*line, &reason);
                return Ok(());
            }
            // One of them spoils the batch: each for itself.
            for one in batch.chunks(1) {
                if let (Err(reason), [(_, line)]) = (self.write(client, one).await?, one) {
                    self.is_bad(*line, &reason);
                }
            }
        }
        Ok(())
    }

    /// Writes one batch, or tells why it cannot be.
    async fn write(
        &mut self,
        client: &Client,
        batch: &[(Change, u64)],
    ) -> Result<Result<(), String>, CliError> {
        if batch.is_empty() {
            return Ok(Ok(()));
        }
        match client.write(batch.iter().map(|(change, _)| change.clone()).collect()).await {
            Ok(receipt) => {
                let lines = batch.iter().map(|(_, line)| *line).collect();
                self.written.insert(receipt.number, lines);
                self.records += u64::try_from(batch.len()).unwrap_or(u64::MAX);
                Ok(Ok(()))
            }
            Err(ClientError::Wish(WishError::Write(WriteError::Change(error)))) => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Names the lines that the server refused; the file still has them, the replica need not.
    async fn settle_rejected(&mut self, client: &Client) -> Result<(), CliError> {
        for rejected in client.rejected() {
            let Some(lines) = self.written.remove(&rejected.number) else {
                continue;
            };
            let reason = format!("refused ({:?}): {}", rejected.code, rejected.reason);
            for line in lines {
                self.records = self.records.saturating_sub(1);
                self.is_bad(line, &reason);
            }
            client.discard(rejected.number).await?;
        }
        Ok(())
    }

    fn summarise(&self, session: &Session) -> Result<(), CliError> {
        let verified = session.client.verified(&session.pattern).map_or_else(
            || "not verified".into(),
            |verified| format!("verified {} {}", verified.root, verified.seq),
        );
        let Self { records, unchanged, bad, .. } = self;
        Ok(say(&format!(
            "imported {records} records, {unchanged} unchanged, {bad} bad lines, {verified}"
        ))?)
    }
}
