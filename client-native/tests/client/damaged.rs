//! Bytes that change in the database of a server, as on a disk that fails.

use crate::{
    open,
    support::{World, soon, until},
    task, title,
};
use rejoin_client::{
    Action, Change, Client, FieldAction, FieldChange, FieldName, Link, Visible, key,
};
use rusqlite::{Connection, params};
use std::path::Path;

/// Flips a bit in the middle of every `step`-th value of a table, as a disk would: nobody hears of it.
fn flip(database: &Path, table: &str, step: usize) -> usize {
    let connection = Connection::open(database).unwrap();
    let select = format!("SELECT space, key, value FROM {table} ORDER BY space, key");
    let mut statement = connection.prepare(&select).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<Vec<(i64, Vec<u8>, Vec<u8>)>, _>>()
        .unwrap();
    let struck: Vec<_> = rows.into_iter().step_by(step).collect();
    for (space, key, mut value) in struck.iter().cloned() {
        let middle = value.len() / 2;
        *value.get_mut(middle).unwrap() ^= 0x04;
        let update = format!("UPDATE {table} SET value = ?3 WHERE space = ?1 AND key = ?2");
        connection.execute(&update, params![space, key, value]).unwrap();
    }
    struck.len()
}

/// More on a counter that this may be the first to touch.
fn more(amount: i64) -> Change {
    let field = FieldName::parse("votes").unwrap();
    let change = FieldChange { field, action: FieldAction::Add(amount) };
    Change { key: key("tasks", "sum").unwrap(), action: Action::Upsert(vec![change]) }
}

/// Bytes of damaged rows that the server has kept.
fn kept(database: &Path) -> usize {
    let connection = Connection::open(database).unwrap();
    let query = "SELECT count(*) FROM meta WHERE CAST(substr(key, 1, 8) AS TEXT) = 'damaged/'";
    let count: i64 = connection.query_row(query, [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

fn sees_all(client: &Client) -> bool {
    let total = client.get(&key("tasks", "sum").unwrap()).unwrap().and_then(|fields| match fields
        .get(&FieldName::parse("votes").unwrap())
    {
        Some(Visible::Counter(total)) => Some(*total),
        _ => None,
    });
    let status = client.status();
    total == Some(23)
        && (0..20).all(|at| title(client, &format!("t{at}")).as_deref() == Some("kept"))
        && (status.is_verified && status.pending == 0 && status.link == Link::Live)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_change_in_the_database_of_a_server_are_put_right() {
    for (table, step, is_kept) in
        [("records", 3, true), ("tree", 2, false), ("feed", 2, false), ("meta", 1, true)]
    {
        let mut world = World::new().await;
        let client = open(&world.path("a.db"), Some(world.url())).await;
        for at in 0..20 {
            client.write(vec![task(&format!("t{at}"), "kept"), more(1)]).await.unwrap();
        }
        soon(client.synced()).await.unwrap();
        world.stop().await;
        let database = world.path("server/rejoin.sqlite");
        assert!(flip(&database, table, step) > 0, "{table}");
        client.write(vec![more(3)]).await.unwrap();
        world.start().await;
        until(&client, sees_all).await;
        let newcomer = open(&world.path("b.db"), Some(world.url())).await;
        until(&newcomer, sees_all).await;
        newcomer.close().await.unwrap();
        client.close().await.unwrap();
        world.stop().await;
        assert_eq!(kept(&database) > 0, is_kept, "{table}");
        // What is there now is whole: another server finds nothing to say of it.
        world.start().await;
        let last = open(&world.path("c.db"), Some(world.url())).await;
        until(&last, sees_all).await;
        last.close().await.unwrap();
        world.stop().await;
    }
}
