//! A server whose directory is put back to an earlier copy, or is gone, again and again: nothing is lost that
//! a client still had.

use crate::{
    open,
    support::{World, soon, until},
    task, title,
};
use rejoin_client::{
    Action, Change, Client, FieldAction, FieldChange, FieldName, Link, Visible, key,
};
use std::{fs, io::Write, path::Path};

/// Xorshift (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One more on a counter that anybody may have made.
fn vote() -> Change {
    let field = FieldName::parse("votes").unwrap();
    let action = Action::Upsert(vec![FieldChange { field, action: FieldAction::Add(1) }]);
    Change { key: key("tasks", "votes").unwrap(), action }
}

/// What was written, in all histories.
#[derive(Default)]
struct Written {
    tasks: u64,
    votes: i64,
}

impl Written {
    async fn more(&mut self, clients: &[Client], count: u64, dice: &mut Dice) {
        for _ in 0..count {
            let at = usize::try_from(dice.roll(clients.len() as u64)).unwrap();
            let writer = clients.get(at).unwrap();
            let id = format!("t{}", self.tasks);
            self.tasks += 1;
            self.votes += 1;
            writer.write(vec![task(&id, "kept"), vote()]).await.unwrap();
        }
    }

    fn is_seen_by(&self, client: &Client) -> bool {
        let votes = client.get(&key("tasks", "votes").unwrap()).unwrap().and_then(|fields| {
            match fields.get(&FieldName::parse("votes").unwrap()) {
                Some(Visible::Counter(total)) => Some(*total),
                _ => None,
            }
        });
        let status = client.status();
        votes.unwrap_or_default() == self.votes
            && (0..self.tasks).all(|at| title(client, &format!("t{at}")).is_some())
            && (status.is_verified && status.pending == 0 && status.link == Link::Live)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_restored_or_erased_server_gets_back_what_its_clients_have() {
    let restores: u64 = match std::env::var("REJOIN_RESTORES") {
        Ok(restores) => restores.parse().expect("REJOIN_RESTORES is a number"),
        Err(_) => 4,
    };
    let mut world = World::new().await;
    let mut dice = Dice(0x5eed);
    let mut clients = Vec::new();
    for file in ["a.db", "b.db", "c.db"] {
        clients.push(open(&world.path(file), Some(world.url())).await);
    }
    let mut written = Written::default();
    written.more(&clients, 1, &mut dice).await;
    for round in 0..restores {
        let (server, backup) = (world.path("server"), world.path(&format!("backup{round}")));
        let count = dice.roll(6);
        written.more(&clients, count, &mut dice).await;
        world.stop().await;
        copy(&server, &backup);
        world.start().await;
        let count = 1 + dice.roll(8);
        written.more(&clients, count, &mut dice).await;
        for client in &clients {
            soon(client.synced()).await.unwrap();
            until(client, |client| written.is_seen_by(client)).await;
        }
        world.stop().await;
        fs::remove_dir_all(&server).unwrap();
        // Now and then nothing is left, the secret of the proofs neither.
        if dice.roll(4) > 0 {
            copy(&backup, &server);
        }
        let count = dice.roll(3);
        written.more(&clients, count, &mut dice).await;
        world.start().await;
        let newcomer = open(&world.path(&format!("new{round}.db")), Some(world.url())).await;
        until(&newcomer, |newcomer| written.is_seen_by(newcomer)).await;
        newcomer.close().await.unwrap();
        for client in &clients {
            until(client, |client| written.is_seen_by(client)).await;
        }
    }
    if restores > 4 {
        let mut out = std::io::stderr();
        let Written { tasks, votes } = written;
        writeln!(out, "{restores} restores, {tasks} records, {votes} increments, 0 lost").unwrap();
    }
    world.stop().await;
}

/// What `cp` takes while the server runs, without the log: an older state, or not even its tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_database_copied_without_its_log_costs_nothing_that_clients_have() {
    let mut world = World::new().await;
    let mut dice = Dice(0x5eed);
    let (server, backup) = (world.path("server"), world.path("backup"));
    let mut clients = Vec::new();
    for file in ["a.db", "b.db"] {
        clients.push(open(&world.path(file), Some(world.url())).await);
    }
    let mut written = Written::default();
    for round in 0..3 {
        written.more(&clients, 5, &mut dice).await;
        for client in &clients {
            soon(client.synced()).await.unwrap();
        }
        copy(&server, &backup);
        let log = backup.join("rejoin.sqlite-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0, "nothing was left out");
        fs::remove_file(log).unwrap();
        fs::remove_file(backup.join("rejoin.sqlite-shm")).unwrap();
        written.more(&clients, 5, &mut dice).await;
        for client in &clients {
            soon(client.synced()).await.unwrap();
        }
        world.stop().await;
        fs::remove_dir_all(&server).unwrap();
        fs::rename(&backup, &server).unwrap();
        world.start().await;
        let newcomer = open(&world.path(&format!("new{round}.db")), Some(world.url())).await;
        for client in clients.iter().chain([&newcomer]) {
            until(client, |client| written.is_seen_by(client)).await;
        }
    }
    world.stop().await;
}
