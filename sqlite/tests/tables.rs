//! Tables that people ask with SQL.
#![expect(clippy::unwrap_used, reason = "tests end when anything but the expected comes")]

use rejoin_sqlite::{Cell, Reached, SqliteError, TableRow, Tables};
use rusqlite::Connection;
use std::{collections::BTreeMap, fs, path::PathBuf};

struct World(PathBuf);

impl World {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("rejoin-tables-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("tables.sqlite")
    }

    fn open(&self, about: &str) -> Tables {
        Tables::open(&self.file(), about).unwrap()
    }

    /// What a person is told.
    fn ask(&self, sql: &str) -> Vec<String> {
        let connection = Connection::open(self.file()).unwrap();
        let mut asked = connection.prepare(sql).unwrap();
        let columns = asked.column_count();
        let rows = asked.query_map([], |row| {
            let cells = (0..columns).map(|at| Ok(format!("{:?}", row.get_ref(at)?)));
            Ok(cells.collect::<rusqlite::Result<Vec<_>>>()?.join(" "))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn row(collection: &str, id: &str, fields: &[(&str, Cell)]) -> TableRow {
    let fields = fields.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone()));
    TableRow {
        collection: collection.to_owned(),
        id: id.to_owned(),
        seq: 7,
        fields: Some(fields.collect()),
        json: BTreeMap::new(),
    }
}

fn gone(collection: &str, id: &str) -> TableRow {
    TableRow { fields: None, ..row(collection, id, &[]) }
}

fn at(cursor: &str) -> Reached {
    Reached { cursor: cursor.to_owned(), seq: 9, complete: true }
}

/// Goes on from wherever the tables are.
fn put(tables: &mut Tables, space: &str, anew: bool, rows: &[TableRow], cursor: &str) {
    let from = tables.reached(space).unwrap();
    assert!(tables.apply(space, from.as_ref(), anew, rows, &at(cursor)).unwrap());
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

#[test]
fn records_are_rows_and_fields_are_columns_as_they_come() {
    let world = World::new("rows");
    let mut tables = world.open("all");
    let first = [row("tasks", "a", &[("title", text("milk")), ("done", Cell::Integer(0))])];
    put(&mut tables, "demo", false, &first, "1");
    let second = [
        row("tasks", "b", &[("title", text("eggs")), ("price", Cell::Real(1.5))]),
        row("tasks", "a", &[("title", text("oat milk"))]),
    ];
    put(&mut tables, "demo", false, &second, "2");
    assert_eq!(
        world.ask("SELECT id, title, done, price FROM tasks ORDER BY id"),
        [
            "Text([97]) Text([111, 97, 116, 32, 109, 105, 108, 107]) Null Null",
            "Text([98]) Text([101, 103, 103, 115]) Null Real(1.5)"
        ]
    );
    put(&mut tables, "demo", false, &[gone("tasks", "a"), gone("other", "x")], "3");
    assert_eq!(world.ask("SELECT count(*) FROM tasks"), ["Integer(1)"]);
    assert_eq!(tables.reached("demo").unwrap(), Some(at("3")));
    assert_eq!(tables.reached("else").unwrap(), None);
}

#[test]
fn names_that_sqlite_does_not_tell_apart_or_keeps_for_itself_get_others() {
    let world = World::new("names");
    let mut tables = world.open("all");
    let fields = [
        ("Title", text("1")),
        ("title", text("2")),
        ("id", text("3")),
        ("a\"b", text("4")),
        ("select", text("5")),
    ];
    let rows =
        [row("Tasks/x", "a", &fields), row("tasks/X", "b", &fields), row("sqlite_x", "c", &fields)];
    put(&mut tables, "demo", false, &rows, "1");
    drop(tables);
    let mut tables = world.open("all");
    put(&mut tables, "demo", false, &rows, "2");
    let cells = "Text([49]) Text([50]) Text([51]) Text([52]) Text([53])";
    let columns = r#""Title", "title_2", "id_2", "a""b", "select""#;
    for table in ["Tasks/x", "tasks/X_2", "_sqlite_x"] {
        assert_eq!(world.ask(&format!("SELECT {columns} FROM \"{table}\"")), [cells], "{table}");
    }
    assert_eq!(
        world.ask("SELECT count(*) FROM rejoin_columns WHERE collection = 'Tasks/x'"),
        ["Integer(5)"]
    );
}

#[test]
fn fields_beyond_what_a_table_can_have_are_kept_as_json() {
    let world = World::new("many");
    let mut tables = world.open("all");
    let names: Vec<String> = (0..502).map(|number| format!("f{number:03}")).collect();
    let fields: Vec<(&str, Cell)> =
        names.iter().map(|name| (name.as_str(), Cell::Integer(1))).collect();
    let mut wide = row("wide", "a", &fields);
    wide.json = names.iter().map(|name| (name.clone(), "1".to_owned())).collect();
    put(&mut tables, "demo", false, &[wide], "1");
    assert_eq!(
        world.ask("SELECT f499, rejoin_rest ->> 'f501' FROM wide"),
        ["Integer(1) Integer(1)"]
    );
}

#[test]
fn a_space_that_is_told_anew_has_nothing_of_before_and_others_keep_theirs() {
    let world = World::new("anew");
    let mut tables = world.open("all");
    for space in ["one", "two"] {
        put(&mut tables, space, false, &[row("tasks", "a", &[]), row("tasks", "b", &[])], "1");
    }
    put(&mut tables, "one", true, &[row("tasks", "c", &[])], "2");
    assert_eq!(
        world.ask("SELECT space, id FROM tasks ORDER BY space, id").len(),
        3,
        "c of one, a and b of two"
    );
}

#[test]
fn other_contents_and_a_rebuild_begin_again_and_a_file_of_others_is_left_alone() {
    let world = World::new("about");
    let mut tables = world.open("tasks");
    put(&mut tables, "demo", false, &[row("tasks", "a", &[("title", text("x"))])], "1");
    drop(tables);
    let mut tables = world.open("tasks");
    assert_eq!(tables.reached("demo").unwrap(), Some(at("1")));
    tables.rebuild().unwrap();
    assert_eq!(tables.reached("demo").unwrap(), None);
    assert!(world.ask("SELECT name FROM sqlite_schema WHERE name = 'tasks'").is_empty());
    put(&mut tables, "demo", false, &[row("tasks", "a", &[("title", text("x"))])], "1");
    drop(tables);
    assert_eq!(world.open("tasks and more").reached("demo").unwrap(), None);

    let foreign = world.0.join("foreign.sqlite");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = Tables::open(&foreign, "tasks").unwrap_err();
    assert!(matches!(refused, SqliteError::Foreign { .. }), "{refused}");
}

#[test]
fn what_fails_leaves_table_and_position_as_they_were() {
    let world = World::new("fails");
    let mut tables = world.open("all");
    put(&mut tables, "demo", false, &[row("tasks", "a", &[])], "1");
    let other = Connection::open(world.file()).unwrap();
    // The second of the rows cannot be put.
    other
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON tasks WHEN new.id = 'c' BEGIN SELECT raise(ABORT, 'no'); END")
        .unwrap();
    let rows = [row("tasks", "b", &[("new", Cell::Null)]), row("tasks", "c", &[])];
    tables.apply("demo", Some(&at("1")), false, &rows, &at("2")).unwrap_err();
    assert_eq!(tables.reached("demo").unwrap(), Some(at("1")));
    other.execute_batch("DROP TRIGGER no").unwrap();
    put(&mut tables, "demo", false, &rows, "2");
    assert_eq!(world.ask("SELECT count(new), count(*) FROM tasks"), ["Integer(0) Integer(3)"]);
}

#[test]
fn a_rebuild_by_another_process_is_noticed() {
    let world = World::new("elsewhere");
    let mut tables = world.open("all");
    let rows = [row("tasks", "a", &[("title", text("x"))])];
    put(&mut tables, "demo", false, &rows, "1");
    world.open("all").rebuild().unwrap();
    assert_eq!(tables.reached("demo").unwrap(), None);
    put(&mut tables, "demo", true, &rows, "2");
    assert_eq!(world.ask("SELECT count(title) FROM tasks"), ["Integer(1)"]);
}

#[test]
fn what_continues_another_state_of_the_tables_is_not_taken() {
    let world = World::new("state");
    let mut tables = world.open("all");
    put(&mut tables, "demo", false, &[row("tasks", "a", &[])], "1");
    let (from, rows) = (tables.reached("demo").unwrap(), [row("tasks", "b", &[])]);
    world.open("all").rebuild().unwrap();
    assert!(!tables.apply("demo", from.as_ref(), false, &rows, &at("2")).unwrap());
    assert_eq!(tables.reached("demo").unwrap(), None, "half of it would pass for all");
    assert!(tables.apply("demo", None, true, &rows, &at("2")).unwrap());
}

#[test]
fn a_collection_with_the_name_of_what_a_person_made_gets_another() {
    let world = World::new("theirs");
    let mut tables = world.open("all");
    put(&mut tables, "demo", false, &[row("tasks", "a", &[])], "1");
    let person = Connection::open(world.file()).unwrap();
    person.execute_batch("CREATE VIEW Notes AS SELECT id FROM tasks").unwrap();
    put(&mut tables, "demo", false, &[row("notes", "n", &[])], "2");
    assert_eq!(world.ask("SELECT count(*) FROM notes_2"), ["Integer(1)"]);
}
