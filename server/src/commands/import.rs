//! `import`: lines of a file become records of a server that does not run.
//!
//! They go through the same judging and merging as what clients push, under a replica of their own. What is equal
//! already is not written, so importing a file again changes nothing.

use super::{CommandError, export::COLLECTION, say};
use crate::{
    Config,
    data::DataDir,
    hub::{Ask, ToHub},
    hubs::Hubs,
    spaces::Spaces,
};
use clap::Args;
use rejoin_core::{
    id::{CollectionName, FieldName, Pattern, RecordId, RecordKey, SpaceId},
    io::Answer,
    port::Store,
    protocol::{
        host::{DirectAnswer, DirectRow, DirectWrite, Grant, StoredRecord},
        message::Right,
    },
    record::{Kind, Record, visible_kinds},
    replica::{Action, Change},
};
use rejoin_json::{
    Shape, Target, changes, is_same,
    lines::{self, Format, Line},
};
use rejoin_sqlite::{SqliteLock, SqliteOptions, SqliteStore};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::PathBuf,
};
use tokio::sync::oneshot;
use tracing::Span;

/// Whose records they are.
const PRINCIPAL: &str = "import";
/// Records of one request, and bytes of their lines.
const BATCH_RECORDS: usize = 200;
const BATCH_BYTES: usize = 256 << 10;

/// What is imported, and where to.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Import {
    /// The space.
    #[arg(long, value_parser = SpaceId::parse)]
    space: SpaceId,
    /// The collection.
    #[arg(long, value_parser = CollectionName::parse)]
    collection: CollectionName,
    /// The field that holds a record's id; `$id`, as exported, is not itself stored.
    #[arg(long, default_value = "$id", value_name = "FIELD", value_parser = FieldName::parse)]
    key: FieldName,
    /// The kind of a field, may be repeated: lww, fww, max, min, counter, set or review.
    #[arg(long = "kind", value_name = "FIELD=KIND", value_parser = rejoin_json::parse_kind)]
    kinds: Vec<(FieldName, Kind)>,
    /// json, jsonl or csv; by default what the file's name ends with, lines of JSON for `-`.
    #[arg(long)]
    format: Option<Format>,
    /// `-` is standard input.
    file: PathBuf,
}

/// An import under way.
struct Importer<'a> {
    import: &'a Import,
    hubs: &'a Hubs,
    store: SqliteStore,
    name: String,
    /// What waits for its request, with the number of its line; of two lines of one id the later counts.
    batch: BTreeMap<RecordId, (u64, Target)>,
    batch_bytes: usize,
    written: u64,
    unchanged: u64,
    bad: u64,
}

pub(crate) fn run(config: &Config, import: &Import) -> Result<(), CommandError> {
    let mut shape = Shape { key: import.key.clone(), kinds: BTreeMap::new() };
    for (field, kind) in &import.kinds {
        if shape.kinds.insert(field.clone(), *kind).is_some_and(|before| before != *kind) {
            return Err(CommandError::Kinds(field.clone()));
        }
    }
    let is_standard = import.file.as_os_str() == "-";
    let format = import.format.or_else(|| Format::of(&import.file));
    let format = match format {
        Some(format) => format,
        None if is_standard => Format::Jsonl,
        None => return Err(CommandError::ImportFormat(import.file.clone())),
    };
    let input: Box<dyn Read> = if is_standard {
        Box::new(io::stdin())
    } else {
        let file = File::open(&import.file);
        Box::new(file.map_err(|error| CommandError::file(&import.file, error))?)
    };
    let directory = DataDir::new(&config.data);
    if directory.database().exists() {
        // Who runs a server here is told at once.
        let lock = SqliteLock::take(directory.database());
        drop(lock.map_err(|error| CommandError::database(directory.path(), error))?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    // Nobody but this command uses it meanwhile.
    let own = Config { tokens: None, jwt: None, ..config.clone() };
    let spaces = runtime.block_on(Spaces::open(&own, SqliteOptions::default()))?;
    let mut importer = Importer {
        import,
        hubs: &spaces.hubs,
        store: spaces.db.space(&import.space),
        name: import.file.display().to_string(),
        batch: BTreeMap::new(),
        batch_bytes: 0,
        written: 0,
        unchanged: 0,
        bad: 0,
    };
    let mut failed = None;
    let mut take = |line: Line| {
        importer.take(line);
        if importer.is_full() {
            failed = runtime.block_on(importer.flush()).err();
        }
        failed.is_none()
    };
    let read = lines::read(BufReader::new(input), format, &shape, &mut take);
    let mut done = read.map_err(|error| CommandError::file(&import.file, error));
    done = failed.map_or(done, Err);
    done = done.and_then(|()| runtime.block_on(importer.flush()));
    let Importer { written, unchanged, bad, .. } = importer;
    let closed = runtime.block_on(spaces.close());
    done?;
    closed.map_err(|error| CommandError::database(directory.path(), error))?;
    say(format_args!("imported {written} records, {unchanged} unchanged, {bad} bad lines"))?;
    if bad > 0 { Err(CommandError::BadLines(bad)) } else { Ok(()) }
}

impl Importer<'_> {
    fn is_bad(&mut self, line: u64, reason: &str) {
        self.bad += 1;
        // There is nowhere to report that this fails; the number of bad lines is told in any case.
        writeln!(io::stderr().lock(), "{}:{line}: {reason}", self.name).ok();
    }

    fn take(&mut self, line: Line) {
        match line.record {
            Err(reason) => self.is_bad(line.number, &reason),
            Ok((_, target)) if target.keys().any(|name| name.as_str() == COLLECTION) => {
                self.is_bad(line.number, "it has a $collection: export one collection at a time");
            }
            Ok((id, target)) => {
                self.batch_bytes += line.bytes;
                self.batch.insert(id, (line.number, target));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES
    }

    /// Has written what has gathered, but for records that are so already.
    async fn flush(&mut self) -> Result<(), CommandError> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let (mut rows, mut numbers) = (Vec::new(), Vec::new());
        for (id, (line, target)) in batch {
            let key = RecordKey { collection: self.import.collection.clone(), id };
            let record = self.read(&key).await?;
            let found = visible_kinds(&record).into_iter().collect();
            if record.is_live() && is_same(&found, &target) {
                self.unchanged += 1;
                continue;
            }
            let action = Action::Put(changes(&target, &found));
            rows.push(DirectRow { expected: Vec::new(), changes: vec![Change { key, action }] });
            numbers.push(line);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let answer = self.ask(rows).await?;
        let DirectAnswer::Judged(results) = answer else {
            return Err(CommandError::NotWritten(answer));
        };
        for (line, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(_) => self.written += 1,
                Err(refusal) => self.is_bad(line, &format!("refused: {}", refusal.reason)),
            }
        }
        Ok(())
    }

    async fn read(&self, key: &RecordKey) -> Result<Record, CommandError> {
        let failed = |error| CommandError::database(&self.import.file, error);
        let answers = self.store.read(&[StoredRecord::query(key)]).await.map_err(failed)?;
        let value = answers.into_iter().find_map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
        // A host finds what is damaged when it reads it itself.
        let stored = value.and_then(|value| StoredRecord::read(&value).ok());
        Ok(stored.map(|stored| stored.record).unwrap_or_default())
    }

    async fn ask(&self, rows: Vec<DirectRow>) -> Result<DirectAnswer, CommandError> {
        let rights = vec![Right { pattern: Pattern::All, write: true }];
        let grant = Grant { principal: PRINCIPAL.to_owned(), rights };
        let write = Box::new(DirectWrite { number: 0, grant, rows, memo: None });
        let gone = || CommandError::NotWritten(DirectAnswer::Unavailable);
        let inbox = self.hubs.inbox(&self.import.space, None);
        let inbox = inbox.map_err(|(_, reason)| CommandError::Refused(reason))?;
        let (reply, answer) = oneshot::channel();
        let ask = ToHub::Ask(Ask::Write(write, Span::none(), reply));
        inbox.send(ask).await.map_err(|_told_by_the_answer| gone())?;
        answer.await.map_err(|_told_by_the_answer| gone())
    }
}
