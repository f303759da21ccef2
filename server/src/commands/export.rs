//! `export`: live records as lines of JSON or rows of CSV, also while the server runs.

use super::{CommandError, look::Look};
use clap::Args;
use rejoin_core::{
    id::{CollectionName, FieldName, Pattern, RecordKey, SpaceId},
    record::visible_kinds,
};
use rejoin_json::{ID, KindFields, lines::Format};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

/// The name under which a line has its record's collection, where there may be several.
pub(super) const COLLECTION: &str = "$collection";

/// What is exported, and how.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Export {
    /// The space.
    #[arg(long, value_parser = SpaceId::parse)]
    space: SpaceId,
    /// The collection [default: all, each line with its `$collection`].
    #[arg(long, value_parser = CollectionName::parse)]
    collection: Option<CollectionName>,
    /// jsonl or csv [default: what the file's name ends with, or jsonl]. Of CSV, text is what it is, all else JSON; the
    /// kinds of fields are not in it.
    #[arg(long)]
    format: Option<Format>,
    /// Where to; nothing is overwritten [default: standard output].
    file: Option<PathBuf>,
}

pub(crate) fn run(look: &Look, export: &Export) -> Result<(), CommandError> {
    look.knows(&export.space)?;
    let format = export.format.or_else(|| Format::of(export.file.as_deref()?));
    let pattern = export.collection.clone().map_or(Pattern::All, Pattern::Exact);
    let mut out: Box<dyn Write> = match &export.file {
        None => Box::new(BufWriter::new(io::stdout().lock())),
        Some(path) => {
            let file = File::create_new(path).map_err(|error| CommandError::file(path, error))?;
            Box::new(BufWriter::new(file))
        }
    };
    let with_collection = export.collection.is_none();
    match format {
        None | Some(Format::Jsonl) => {
            each(look, &export.space, &pattern, &mut |key, fields| {
                writeln!(out, "{}", json_line(key, fields, with_collection))
                    .map_err(CommandError::Output)
            })?;
        }
        Some(Format::Csv) => csv(look, export, &pattern, &mut out)?,
        Some(_) => return Err(CommandError::ExportFormat),
    }
    out.flush().map_err(CommandError::Output)
}

/// Shows every live record of the collections, by name and id.
fn each(
    look: &Look,
    space: &SpaceId,
    pattern: &Pattern,
    show: &mut dyn FnMut(&RecordKey, &KindFields) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    for collection in look.collections(space, pattern)? {
        look.records(space, &collection, &mut |key, stored| {
            if !stored.record.is_live() {
                return Ok(());
            }
            show(key, &visible_kinds(&stored.record).into_iter().collect())
        })?;
    }
    Ok(())
}

fn json_line(key: &RecordKey, fields: &KindFields, with_collection: bool) -> String {
    let mut object = rejoin_json::fields(fields);
    object.insert(ID.to_owned(), key.id.as_str().into());
    if with_collection {
        object.insert(COLLECTION.to_owned(), key.collection.as_str().into());
    }
    serde_json::Value::Object(object).to_string()
}

/// Reads everything twice: the columns stand before the first row.
fn csv(
    look: &Look,
    export: &Export,
    pattern: &Pattern,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut columns = BTreeSet::<FieldName>::new();
    each(look, &export.space, pattern, &mut |_, fields| {
        columns.extend(fields.keys().cloned());
        Ok(())
    })?;
    let own: &[&str] = if export.collection.is_none() { &[COLLECTION, ID] } else { &[ID] };
    let mut rows = csv::Writer::from_writer(out);
    let broken = |error: csv::Error| CommandError::Output(error.into());
    let names = own.iter().copied().chain(columns.iter().map(FieldName::as_str));
    rows.write_record(names).map_err(broken)?;
    each(look, &export.space, pattern, &mut |key, fields| {
        let places = [key.collection.as_str(), key.id.as_str()];
        let own = places.into_iter().skip(places.len() - own.len()).map(str::to_owned);
        let cells = columns.iter().map(|name| fields.get(name).map_or_else(String::new, cell));
        rows.write_record(own.chain(cells)).map_err(broken)
    })?;
    rows.flush().map_err(CommandError::Output)
}

/// Text as it is, all else as JSON.
fn cell((kind, visible): &(rejoin_core::record::Kind, rejoin_core::record::Visible)) -> String {
    let json = rejoin_json::visible_to_json(*kind, visible);
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}
