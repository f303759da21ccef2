//! Plain tables for people: what records hold, as rows that any SQLite client can ask for.
//!
//! Each collection is a table with a row for each live record and a column for each field that a record ever had.
//! Tables and columns are made as they are needed. How far they are is stored with them, in the same transaction.
//! Invariant: tables and positions always belong together, whatever ended the process; a file that another program made
//! is never written to. Absent: where rows come from. What is here can be made again, so a commit does not wait for
//! the disk.
//!
//! SQLite does not tell `Title` from `title`: the later one becomes `title_2`. Its own tables say which field is which.

use crate::SqliteError;
use rusqlite::{
    Connection, OptionalExtension, ToSql, Transaction, TransactionBehavior, params,
    types::ToSqlOutput,
};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Says that the file is one of tables.
const TABLES_ID: i32 = 0x726a_7462;
/// Fields beyond so many are kept together, as JSON: SQLite has a limit.
const COLUMNS_MAX: usize = 500;
/// The column for them.
const REST: &str = "rejoin_rest";
/// Columns that each table has.
const OWN: [&str; 4] = ["space", "id", "rejoin_seq", REST];
const BUSY: Duration = Duration::from_secs(1);

/// What a field holds, in SQLite's terms.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing, or an explicit null.
    Null,
    /// A whole number, or 0 and 1 for false and true.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// A text, or JSON of what SQLite has no form for.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Option::<i64>::None.to_sql(),
            Self::Integer(number) => number.to_sql(),
            Self::Real(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Blob(bytes) => bytes.to_sql(),
        }
    }
}

/// What a record is now.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// Its collection.
    pub collection: String,
    /// Its id.
    pub id: String,
    /// Its place in the feed of its space.
    pub seq: u64,
    /// What it holds; `None`: it was removed.
    pub fields: Option<Vec<(String, Cell)>>,
    /// The same as JSON, by field, for those that get no column.
    pub json: BTreeMap<String, String>,
}

/// How far the tables are with a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Where to go on, as whoever fills them named it.
    pub cursor: String,
    /// The place in the feed.
    pub seq: u64,
    /// Whether all that there was is in them; not while they are filled anew.
    pub complete: bool,
}

/// A file of tables.
#[derive(Debug)]
pub struct Tables {
    connection: Connection,
    /// Of each collection its table, and the columns of its fields.
    known: BTreeMap<String, Table>,
    /// The state of the file in which they were so.
    version: i32,
}

#[derive(Debug, Clone, Default)]
struct Table {
    name: String,
    columns: BTreeMap<String, String>,
}

impl Tables {
    /// Opens the file, or makes it. `about` says what it is filled with: if that was something else before, all of it
    /// goes, and is filled anew.
    ///
    /// # Errors
    /// [`SqliteError::Foreign`] for a file of another program, `Newer`, the fault of SQLite otherwise.
    pub fn open(path: &Path, about: &str) -> Result<Self, SqliteError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        let application_id: i32 = pragma(&connection, "application_id")?;
        let is_empty = connection
            .query_row("SELECT 1 FROM sqlite_schema", [], |_| Ok(()))
            .optional()?
            .is_none();
        if application_id != TABLES_ID && !(application_id == 0 && is_empty) {
            return Err(SqliteError::Foreign { application_id });
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let made = connection.transaction()?;
        made.pragma_update(None, "application_id", TABLES_ID)?;
        made.execute_batch(
            "CREATE TABLE IF NOT EXISTS rejoin_about (about TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS rejoin_spaces (
                 space TEXT PRIMARY KEY, cursor TEXT NOT NULL, seq INTEGER NOT NULL, complete INTEGER NOT NULL
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS rejoin_tables (
                 collection TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS rejoin_columns (
                 collection TEXT NOT NULL, field TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE,
                 PRIMARY KEY (collection, field), UNIQUE (collection, name)
             ) WITHOUT ROWID;",
        )?;
        made.commit()?;
        let mut tables = Self { connection, known: BTreeMap::new(), version: 0 };
        if tables.about()?.as_deref() != Some(about) {
            tables.empty(about)?;
        }
        tables.read_known()?;
        Ok(tables)
    }

    /// Drops all tables: they are to be filled anew.
    ///
    /// # Errors
    /// The fault of SQLite.
    pub fn rebuild(&mut self) -> Result<(), SqliteError> {
        let about = self.about()?.unwrap_or_default();
        self.empty(&about)
    }

    fn about(&self) -> Result<Option<String>, SqliteError> {
        let about =
            self.connection.query_row("SELECT about FROM rejoin_about", [], |row| row.get(0));
        Ok(about.optional()?)
    }

    fn empty(&mut self, about: &str) -> Result<(), SqliteError> {
        self.read_known()?;
        let emptied = self.connection.transaction()?;
        for table in self.known.values() {
            emptied.execute(&format!("DROP TABLE IF EXISTS {}", quoted(&table.name)), [])?;
        }
        emptied.execute_batch(
            "DELETE FROM rejoin_tables; DELETE FROM rejoin_columns; DELETE FROM rejoin_spaces;
             DELETE FROM rejoin_about;",
        )?;
        emptied.execute("INSERT INTO rejoin_about VALUES (?)", [about])?;
        emptied.commit()?;
        self.known.clear();
        Ok(())
    }

    /// Another process may have emptied the file.
    fn refresh(&mut self) -> Result<(), SqliteError> {
        let version = pragma(&self.connection, "data_version")?;
        if version != self.version {
            self.read_known()?;
            self.version = version;
        }
        Ok(())
    }

    fn read_known(&mut self) -> Result<(), SqliteError> {
        self.known.clear();
        let mut tables = self.connection.prepare("SELECT collection, name FROM rejoin_tables")?;
        let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for table in tables {
            let (collection, name): (String, String) = table?;
            self.known.insert(collection, Table { name, columns: BTreeMap::new() });
        }
        let mut columns =
            self.connection.prepare("SELECT collection, field, name FROM rejoin_columns")?;
        let columns = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for column in columns {
            let (collection, field, name): (String, String, String) = column?;
            if let Some(table) = self.known.get_mut(&collection) {
                table.columns.insert(field, name);
            }
        }
        Ok(())
    }

    /// Whether they are with no space anywhere.
    ///
    /// # Errors
    /// The fault of SQLite.
    pub fn is_empty(&self) -> Result<bool, SqliteError> {
        let mut asked = self.connection.prepare_cached("SELECT 1 FROM rejoin_spaces LIMIT 1")?;
        Ok(!asked.exists([])?)
    }

    /// How far they are with a space; `None`: nowhere.
    ///
    /// # Errors
    /// The fault of SQLite.
    pub fn reached(&self, space: &str) -> Result<Option<Reached>, SqliteError> {
        reached(&self.connection, space)
    }

    /// Takes in what has changed in a space since `from`, and how far that is, at once. `anew`: what is there of the
    /// space goes before. `false`, and nothing has changed: the tables are not at `from`, somebody else wrote them.
    ///
    /// # Errors
    /// The fault of SQLite; nothing has changed then.
    pub fn apply(
        &mut self,
        space: &str,
        from: Option<&Reached>,
        anew: bool,
        rows: &[TableRow],
        upto: &Reached,
    ) -> Result<bool, SqliteError> {
        self.refresh()?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Nobody else writes from here on.
        if pragma(&transaction, "data_version")? != self.version
            || reached(&transaction, space)?.as_ref() != from
        {
            return Ok(false);
        }
        // What was made counts once it is committed.
        let mut known = self.known.clone();
        if anew {
            for table in known.values() {
                let name = quoted(&table.name);
                transaction.execute(&format!("DELETE FROM {name} WHERE space = ?"), [space])?;
            }
        }
        for row in rows {
            put(&transaction, &mut known, space, row)?;
        }
        let Reached { cursor, seq, complete } = upto;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO rejoin_spaces VALUES (?, ?, ?, ?)")?
            .execute(params![space, cursor, seq.cast_signed(), complete])?;
        transaction.commit()?;
        self.known = known;
        Ok(true)
    }
}

fn put(
    transaction: &Transaction<'_>,
    known: &mut BTreeMap<String, Table>,
    space: &str,
    row: &TableRow,
) -> Result<(), SqliteError> {
    let TableRow { collection, id, seq, fields, json } = row;
    let Some(fields) = fields else {
        if let Some(table) = known.get(collection) {
            let name = quoted(&table.name);
            let mut gone = transaction
                .prepare_cached(&format!("DELETE FROM {name} WHERE space = ? AND id = ?"))?;
            gone.execute([space, id])?;
        }
        return Ok(());
    };
    make_table(transaction, known, collection)?;
    let Some(table) = known.get_mut(collection) else { return Ok(()) };
    let seq = seq.cast_signed();
    let mut rest: Vec<&String> = Vec::new();
    let mut names = vec![quoted(OWN[0]), quoted(OWN[1]), quoted(OWN[2])];
    let mut values: Vec<&dyn ToSql> = vec![&space, id, &seq];
    for (field, cell) in fields {
        match make_column(transaction, table, collection, field)? {
            Some(name) => {
                names.push(quoted(&name));
                values.push(cell);
            }
            None => rest.push(field),
        }
    }
    let rest = rest.into_iter().filter_map(|field| Some((field, json.get(field)?)));
    let rest: Vec<String> =
        rest.map(|(field, json)| format!("{}: {json}", json_text(field))).collect();
    let rest = (!rest.is_empty()).then(|| format!("{{{}}}", rest.join(", ")));
    names.push(quoted(REST));
    values.push(&rest);
    let (into, columns) = (quoted(&table.name), names.join(", "));
    let marks = vec!["?"; values.len()].join(", ");
    let put = format!("INSERT OR REPLACE INTO {into} ({columns}) VALUES ({marks})");
    transaction.prepare_cached(&put)?.execute(values.as_slice())?;
    Ok(())
}

fn make_table(
    transaction: &Transaction<'_>,
    known: &mut BTreeMap<String, Table>,
    collection: &str,
) -> Result<(), SqliteError> {
    if known.contains_key(collection) {
        return Ok(());
    }
    // People make views and indexes of their own.
    let mut names = transaction.prepare_cached("SELECT name FROM sqlite_schema")?;
    let names = names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let is_taken = |name: &str| {
        is_reserved(name) || names.iter().any(|taken| taken.eq_ignore_ascii_case(name))
    };
    let name = free(collection, is_taken);
    let (table, rest) = (quoted(&name), quoted(REST));
    transaction.execute_batch(&format!(
        "CREATE TABLE {table} (space TEXT NOT NULL, id TEXT NOT NULL, rejoin_seq INTEGER NOT NULL, {rest} TEXT,
         PRIMARY KEY (space, id))"
    ))?;
    transaction.execute("INSERT INTO rejoin_tables VALUES (?, ?)", [collection, &name])?;
    known.insert(collection.to_owned(), Table { name, columns: BTreeMap::new() });
    Ok(())
}

/// The column of a field, which is made at need; `None` if there are too many.
fn make_column(
    transaction: &Transaction<'_>,
    table: &mut Table,
    collection: &str,
    field: &str,
) -> Result<Option<String>, SqliteError> {
    if let Some(name) = table.columns.get(field) {
        return Ok(Some(name.clone()));
    }
    if table.columns.len() >= COLUMNS_MAX {
        return Ok(None);
    }
    let is_taken = |name: &str| {
        let mut taken = OWN.into_iter().chain(table.columns.values().map(String::as_str));
        taken.any(|taken| taken.eq_ignore_ascii_case(name))
    };
    let name = free(field, is_taken);
    let add = format!("ALTER TABLE {} ADD COLUMN {}", quoted(&table.name), quoted(&name));
    transaction.execute_batch(&add)?;
    let known = "INSERT INTO rejoin_columns VALUES (?, ?, ?)";
    transaction.execute(known, [collection, field, &name])?;
    table.columns.insert(field.to_owned(), name.clone());
    Ok(Some(name))
}

fn reached(connection: &Connection, space: &str) -> Result<Option<Reached>, SqliteError> {
    let mut asked = connection
        .prepare_cached("SELECT cursor, seq, complete FROM rejoin_spaces WHERE space = ?")?;
    let reached = asked.query_row([space], |row| {
        let (cursor, seq, complete) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Reached { cursor, seq: i64::cast_unsigned(seq), complete })
    });
    Ok(reached.optional()?)
}

/// SQLite's own, and those of this module.
fn is_reserved(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("sqlite_") || lower.starts_with("rejoin_")
}

/// The name, or it with the first number that makes it free.
fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_owned();
    }
    let name = if is_reserved(name) { format!("_{name}") } else { name.to_owned() };
    let mut numbered = (2_u64..).map(|number| format!("{name}_{number}"));
    let first = if is_taken(&name) { None } else { Some(name.clone()) };
    first.or_else(|| numbered.find(|name| !is_taken(name))).unwrap_or(name)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as JSON has it: control characters are not in names.
fn json_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn pragma(connection: &Connection, name: &str) -> Result<i32, SqliteError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}
