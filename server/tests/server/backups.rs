//! What is kept is copied while it is written, put back, looked at and made smaller.

use crate::world::{Directory, PATIENCE, Process};
use rejoin_client::{
    Action, Change, Client, FieldAction, FieldChange, FieldName, Link, Options, Pattern, SpaceId,
    Value, Visible, key, put, remove, set,
};
use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

const WRITERS: usize = 3;
/// Writes that nobody waits for.
const AHEAD: u64 = 100;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.env_clear();
    command
}

/// Runs a command on a directory of a server.
fn run(command: &str, data: &Path, arguments: &[&Path]) -> Output {
    program().arg(command).arg("--data").arg(data).args(arguments).output().expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Runs a command that must do what it is asked for.
fn done(command: &str, data: &Path, arguments: &[&Path]) -> String {
    let output = run(command, data, arguments);
    assert!(output.status.success(), "{command}: {}", text(&output));
    text(&output)
}

/// Runs a command that must not.
fn refused(command: &str, data: &Path, arguments: &[&Path]) -> String {
    let output = run(command, data, arguments);
    assert_eq!(output.status.code(), Some(1), "{command}: {}", text(&output));
    text(&output)
}

fn serve(data: &Path, address: SocketAddr) -> Process {
    let listen = address.to_string();
    Process::run(program().args(["--listen", &listen, "--scrub", "1s", "--data"]).arg(data))
}

pub(crate) async fn open(file: &Path, address: SocketAddr) -> Client {
    let space = SpaceId::parse("home").unwrap();
    let options = Options::new(file, space, vec![Pattern::parse("tasks").unwrap()]);
    let server = Some(format!("ws://{address}/sync"));
    Client::open(Options { server, ..options }).await.unwrap()
}

fn task(id: &str) -> Change {
    put(key("tasks", id).unwrap(), [set("title", Value::text("kept")).unwrap()])
}

/// One more on a counter that anybody may have made.
pub(crate) fn vote() -> Change {
    let field = FieldName::parse("votes").unwrap();
    let action = Action::Upsert(vec![FieldChange { field, action: FieldAction::Add(1) }]);
    Change { key: key("tasks", "votes").unwrap(), action }
}

pub(crate) fn votes(client: &Client) -> i64 {
    let fields = client.get(&key("tasks", "votes").unwrap()).unwrap().unwrap_or_default();
    match fields.get(&FieldName::parse("votes").unwrap()) {
        Some(Visible::Counter(total)) => *total,
        _ => 0,
    }
}

pub(crate) async fn until(client: &Client, what: &str, is_so: impl Fn(&Client) -> bool) {
    let waiting = timeout(2 * PATIENCE, async {
        loop {
            let changed = client.changed();
            if is_so(client) {
                return;
            }
            changed.await;
        }
    });
    assert!(waiting.await.is_ok(), "{what}: {:?}, {} votes", client.status(), votes(client));
}

/// How many writes of each writer were promised; records are named by writer and number.
type Written = [u64; WRITERS];

fn has_all(client: &Client, written: &Written) -> bool {
    // First what is cheap to look at.
    votes(client) >= i64::try_from(written.iter().sum::<u64>()).unwrap()
        && written.iter().enumerate().all(|(writer, count)| {
            (0..*count).all(|at| {
                let id = key("tasks", &format!("t{writer}-{at}")).unwrap();
                client.get(&id).unwrap().is_some()
            })
        })
}

/// Clients that write, whether or not there is a server; so much ahead of what is waited for.
struct Load {
    written: Arc<watch::Sender<Written>>,
    /// How many writes there are to be, about; none: it is over.
    goal: watch::Sender<Option<u64>>,
    running: Vec<JoinHandle<Client>>,
}

impl Load {
    async fn start(directory: &Path, address: SocketAddr) -> Self {
        let written = Arc::new(watch::Sender::new(Written::default()));
        let goal = watch::Sender::new(Some(AHEAD));
        let mut running = Vec::new();
        for writer in 0..WRITERS {
            let client = open(&directory.join(format!("writer-{writer}.db")), address).await;
            let (written, mut goal) = (Arc::clone(&written), goal.subscribe());
            running.push(tokio::spawn(async move {
                for at in 0_u64.. {
                    let is_wanted = |goal: &Option<u64>| {
                        goal.is_none_or(|goal| written.borrow().iter().sum::<u64>() < goal)
                    };
                    if goal.wait_for(is_wanted).await.unwrap().is_none() {
                        break;
                    }
                    let id = format!("t{writer}-{at}");
                    client.write(vec![task(&id), vote()]).await.unwrap();
                    written.send_modify(|written| {
                        written.iter_mut().skip(writer).take(1).for_each(|count| *count += 1);
                    });
                }
                client
            }));
        }
        Self { written, goal, running }
    }

    /// Waits for so many more writes.
    async fn more(&self, count: u64) -> Written {
        let mut written = self.written.subscribe();
        let enough = written.borrow().iter().sum::<u64>() + count;
        self.goal.send_replace(Some(enough + AHEAD));
        let so_far = written.wait_for(|written| written.iter().sum::<u64>() >= enough);
        *timeout(PATIENCE, so_far).await.unwrap().unwrap()
    }

    async fn end(self) -> (Vec<Client>, Written) {
        self.goal.send_replace(None);
        let mut clients = Vec::new();
        for running in self.running {
            clients.push(timeout(PATIENCE, running).await.unwrap().unwrap());
        }
        let written = *self.written.borrow();
        (clients, written)
    }
}

/// The server is put back to a state of a moment ago, again and again, while its clients go on writing: what it had
/// acknowledged since then comes back from them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_backups_taken_and_put_back_under_load_lose_nothing() {
    let rounds: u64 = match std::env::var("REJOIN_BACKUPS") {
        Ok(rounds) => rounds.parse().expect("REJOIN_BACKUPS is a number"),
        Err(_) => 5,
    };
    let directory = Directory::new();
    let path = directory.path().to_owned();
    let data = path.join("data");
    let mut server = serve(&data, SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = server.address;
    let load = Load::start(&path, address).await;
    for round in 0..rounds {
        load.more(5 + round % 7).await;
        let (from, to) = (data.clone(), path.join(format!("backup-{round}")));
        spawn_blocking(move || {
            done("backup", &from, &[&to]);
            done("verify", &from, &[&to]);
        })
        .await
        .unwrap();
        let written = load.more(1 + round % 5).await;
        // What the server has by now is more than the copy has.
        let looker = open(&path.join(format!("before-{round}.db")), address).await;
        until(&looker, "before", |looker| has_all(looker, &written)).await;
        looker.close().await.unwrap();
        if round % 2 == 0 {
            server.kill();
        } else {
            server.terminate();
            assert!(server.ended().await.success());
        }
        let (into, from) = (data.clone(), path.join(format!("backup-{round}")));
        let restored = done("restore", &into, &[&from, Path::new("--replace")]);
        assert!(restored.contains("clients bring back"), "{restored}");
        let written = load.more(1).await;
        server = serve(&data, address);
        let newcomer = open(&path.join(format!("after-{round}.db")), address).await;
        until(&newcomer, "after", |newcomer| has_all(newcomer, &written)).await;
        newcomer.close().await.unwrap();
    }
    let (clients, written) = load.end().await;
    let sum = i64::try_from(written.iter().sum::<u64>()).unwrap();
    let newcomer = open(&path.join("last.db"), address).await;
    for client in clients.iter().chain([&newcomer]) {
        until(client, "the end", |client| {
            let status = client.status();
            let settled = status.is_verified && status.pending == 0 && status.link == Link::Live;
            settled && has_all(client, &written)
        })
        .await;
        assert_eq!(votes(client), sum, "an increment was counted twice");
    }
    done("verify", &data, &[]);
    if rounds > 5 {
        let mut out = std::io::stderr();
        writeln!(out, "{rounds} backups put back, {sum} writes, 0 lost").unwrap();
    }
}

/// A server that was stopped, with one record, another one that was removed, and a backup of it.
async fn stopped(directory: &Directory) -> (PathBuf, PathBuf) {
    let (data, backup) = (directory.path().join("data"), directory.path().join("backup"));
    let mut server = serve(&data, SocketAddr::from(([127, 0, 0, 1], 0)));
    let client = open(&directory.path().join("client.db"), server.address).await;
    client.write(vec![task("a"), task("b")]).await.unwrap();
    client.write(vec![remove(key("tasks", "b").unwrap())]).await.unwrap();
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    client.close().await.unwrap();
    server.terminate();
    assert!(server.ended().await.success());
    done("backup", &data, &[&backup]);
    (data, backup)
}

#[tokio::test]
async fn a_backup_overwrites_nothing_and_one_that_was_altered_is_not_put_back() {
    let directory = Directory::new();
    let (data, backup) = stopped(&directory).await;
    assert!(refused("backup", &data, &[&backup]).contains("exists"));
    let none = directory.path().join("none");
    let text = refused("backup", &none, &[&directory.path().join("of-none")]);
    assert!(text.contains("proof.key"), "{text}");
    for left in ["backup.partial", "of-none", "of-none.partial"] {
        assert!(!directory.path().join(left).exists(), "{left} was left behind");
    }
    #[cfg(unix)]
    for file in ["", "proof.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = backup.join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read {file:?}");
    }

    let empty = directory.path().join("empty");
    assert!(refused("restore", &data, &[&backup]).contains("--replace"));
    assert!(refused("restore", &empty, &[&data]).contains("it is no backup"));
    let file = backup.join("rejoin.sqlite");
    let whole = fs::read(&file).unwrap();
    let mut altered = whole.clone();
    altered[5_000] ^= 1;
    fs::write(&file, &altered).unwrap();
    assert!(refused("restore", &empty, &[&backup]).contains("not as it was"));
    assert!(refused("verify", &data, &[&backup]).contains("not as it was"));
    assert!(!empty.join("rejoin.sqlite").exists() && !empty.join("proof.key").exists());
    fs::write(&file, &whole).unwrap();
    let manifest = fs::read_to_string(backup.join("backup.toml")).unwrap();
    for (wrong, complaint) in [
        (manifest.replace("proof.key", "../proof.key"), "a backup has"),
        (manifest.replace("format = 1", "format = 2"), "this version knows 1"),
        (manifest.replace("made =", "mode ="), "line 2: unknown field"),
    ] {
        fs::write(backup.join("backup.toml"), wrong).unwrap();
        let text = refused("restore", &empty, &[&backup]);
        assert!(text.contains(complaint), "{text}");
    }
    fs::write(backup.join("backup.toml"), manifest).unwrap();
    done("restore", &empty, &[&backup]);
    let text = done("verify", &empty, &[]);
    assert!(text.contains("tasks: 2 records, root "), "{text}");
}

#[tokio::test]
async fn what_is_replaced_is_moved_aside_and_a_restore_that_was_cut_short_lets_no_server_start() {
    let directory = Directory::new();
    let (data, backup) = stopped(&directory).await;
    let before = fs::read(data.join("rejoin.sqlite")).unwrap();
    let text = done("restore", &data, &[&backup, Path::new("--replace")]);
    let aside = text.lines().next().unwrap().strip_prefix("what was there is in ").unwrap();
    assert_eq!(fs::read(Path::new(aside).join("rejoin.sqlite")).unwrap(), before);
    done("verify", Path::new(aside), &[]);

    fs::write(data.join("restore.unfinished"), "").unwrap();
    for command in ["serve", "verify", "compact"] {
        let text = refused(command, &data, &[]);
        assert!(text.contains("run it again"), "{command}: {text}");
    }
    done("restore", &data, &[&backup, Path::new("--replace")]);
    done("verify", &data, &[]);
}

#[tokio::test]
async fn what_needs_the_directory_alone_is_refused_while_a_server_uses_it() {
    let directory = Directory::new();
    let (data, backup) = stopped(&directory).await;
    let server = serve(&data, SocketAddr::from(([127, 0, 0, 1], 0)));
    let restore: &[&Path] = &[&backup, Path::new("--replace")];
    for (command, arguments) in [("compact", &[][..]), ("restore", restore)] {
        let text = refused(command, &data, arguments);
        let complaint = format!("a server uses {}: stop it first", data.display());
        assert!(text.contains(&complaint), "{command}: {text}");
    }
    done("verify", &data, &[]);
    drop(server);
    let text = done("compact", &data, &[]);
    assert!(text.contains(" bytes, now "), "{text}");
    done("verify", &data, &[]);
}

/// Every page of a backup in turn has a byte that is not what it was: it is found, or nothing that is kept was there.
#[tokio::test]
async fn s09_damage_to_any_page_is_found() {
    let directory = Directory::new();
    let (_, backup) = stopped(&directory).await;
    let (file, whole) = (backup.join("rejoin.sqlite"), fs::read(backup.join("rejoin.sqlite")));
    let whole = whole.unwrap();
    // So that the digests of the backup do not tell it first.
    fs::remove_file(backup.join("backup.toml")).unwrap();
    let text = done("verify", &backup, &[]);
    let good = text.lines().collect::<Vec<_>>();
    let mut found = 0;
    for page in 0..whole.len() / 4_096 {
        for at in [100, 1_000, 4_000, 4_090] {
            let mut altered = whole.clone();
            altered[page * 4_096 + at] ^= 0x10;
            fs::write(&file, &altered).unwrap();
            let output = run("verify", &backup, &[]);
            if output.status.success() {
                let text = String::from_utf8(output.stdout).unwrap();
                assert_eq!(text.lines().collect::<Vec<_>>(), good, "page {page}, byte {at}");
            } else {
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found} found");
}
