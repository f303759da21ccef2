//! Probes and metrics: each says what is so, and each series moves when what it counts happens.

use crate::{
    client::Client,
    world::{Directory, PATIENCE, Process, World, get, try_get},
};
use rejoin_client::{Options, Pattern, Value, key, put, set};
use rejoin_core::{
    id::{Seq, SpaceId},
    io::{Batch, CommitOutcome, KeyRange, Keyspace},
    port::Store,
};
use rejoin_server::{Config, Switch};
use rejoin_sqlite::{Rehearsal, SqliteDb, SqliteOptions};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroU32,
    path::Path,
    process::Command,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// What was told, by series with its labels.
type Told = BTreeMap<String, f64>;

fn parse(answer: &str) -> Told {
    let (_, text) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

async fn told(world: &World) -> Told {
    let asking = timeout(PATIENCE, async {
        loop {
            // Whoever was dropped last may still count against the limit of connections.
            match try_get(world.address, "/metrics", "").await {
                Some((status, answer)) => {
                    assert_eq!(status, 200, "{answer}");
                    return parse(&answer);
                }
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    asking.await.expect("metrics in time")
}

/// The name of a series without its labels, and without what histograms add to theirs.
fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or(series);
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|part| name.strip_suffix(part).filter(|name| name.ends_with("_seconds")))
        .unwrap_or(name)
}

/// What has moved in any world so far, and what there is.
#[derive(Default)]
struct Seen {
    moved: BTreeSet<String>,
    all: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, before: &Told, after: &Told) {
        for (series, value) in after {
            let name = family(series);
            self.all.insert(name.to_owned());
            // What is not there yet is 0.
            if before.get(series).copied().unwrap_or_default().total_cmp(value).is_ne() {
                self.moved.insert(name.to_owned());
            }
        }
    }
}

fn told_to_all(_: &Directory, config: &mut Config) {
    config.operations.metrics = Switch::On;
}

/// Waits until a series is at least so much.
async fn until(world: &World, series: &str, least: f64) -> Told {
    let waiting = timeout(PATIENCE, async {
        loop {
            let now = told(world).await;
            if now.get(series).is_some_and(|value| *value >= least) {
                return now;
            }
            // Nobody says when it has moved.
            sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("{series} does not reach {least}"))
}

/// Shows more tokens that are not good than an address may.
async fn guess_tokens(world: &World) {
    for token in ["x", "y", "z"] {
        let path = "/v1/spaces/demo/collections";
        let token = format!("Authorization: Bearer {token}\r\n");
        // As long as the one who has just gone still counts, who comes is closed unread.
        let told = timeout(PATIENCE, async {
            while try_get(world.address, path, &token).await.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        told.await.expect("an answer in time");
    }
}

/// Clients that write, meet, and are refused.
async fn clients_come(seen: &mut Seen) {
    let world = World::with(|directory, config| {
        told_to_all(directory, config);
        config.limits.connections_per_address_max = 4;
        config.rates.address_failures = NonZeroU32::MIN;
        let tokens = "[[tokens]]\ntoken='w'\nprincipal='ada'\nspaces=[{space='*',write=true}]\n\
                      [[tokens]]\ntoken='r'\nprincipal='eve'\nspaces=[{space='*'}]\n";
        config.tokens = Some(directory.file("tokens.toml", tokens));
        config.scrub = "1s".parse().unwrap();
    })
    .await;
    let before = told(&world).await;
    let join = async |name: u8, token: &str| {
        let mut client = Client::new("demo", name);
        client.token = Some(token.to_owned());
        client.join(world.address).await.unwrap();
        client
    };
    let (mut ada, mut bob) = (join(1, "w").await, join(2, "w").await);
    let live = until(&world, "rejoin_sessions{state=\"live\"}", 2.0).await;
    assert_eq!(live.get("rejoin_connections"), Some(&3.0), "two, and who asks");
    ada.push("a", "x").await.unwrap();
    ada.settle().await.unwrap();
    bob.sync(Seq(1)).await.unwrap();
    // Who follows nothing does not know what others have written.
    for (name, text) in [(6, "x"), (7, "y")] {
        let mut client = Client::new("quarrel", name);
        (client.token, client.pattern) = (Some("w".to_owned()), None);
        client.join(world.address).await.unwrap();
        client.push("a", text).await.unwrap();
        client.settle().await.unwrap();
    }
    let after = told(&world).await;
    for (series, value) in [
        ("rejoin_rows_accepted_total", 3.0),
        ("rejoin_conflicts_total", 1.0),
        ("rejoin_subscriptions_total{mode=\"feed\"}", 2.0),
        ("rejoin_spaces", 2.0),
        ("rejoin_spaces_open", 2.0),
    ] {
        assert_eq!(after.get(series), Some(&value), "{series}: {after:?}");
    }
    for (bytes, frames) in [
        ("rejoin_received_bytes_total", "rejoin_frames_received_total"),
        ("rejoin_sent_bytes_total", "rejoin_frames_sent_total"),
    ] {
        assert!(after[bytes] > 10.0 * after[frames] && after[frames] > 4.0, "{bytes}");
    }
    let mut eve = join(3, "r").await;
    eve.push("b", "x").await.unwrap();
    eve.next().await.unwrap();
    // One more than an address may have.
    let _fourth = join(4, "w").await;
    assert!(Client::new("demo", 5).join(world.address).await.is_err());
    drop(eve);
    guess_tokens(&world).await;
    let after = until(&world, "rejoin_scrub_passes_total", 1.0).await;
    assert_eq!(after.get("rejoin_rows_refused_total{code=\"forbidden\"}"), Some(&1.0));
    assert!(after["rejoin_connections_refused_total"] >= 1.0);
    let limited = "rejoin_limited_total{limit=\"address_failures\"}";
    assert!(after[limited] >= 1.0, "{after:?}");
    seen.look(&before, &after);
    let data = world.directory.path().join("data");
    let mut backup = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    backup.env_clear().args(["backup", "--data"]).arg(&data);
    let backup = backup.arg(world.directory.path().join("backup")).status().unwrap();
    assert!(backup.success());
    seen.look(&after, &told(&world).await);
}

/// The database has no room.
async fn disk_fills(seen: &mut Seen) {
    let rehearsal = Rehearsal { page_count_max: Some(60), ..Rehearsal::default() };
    let world = World::with_store(told_to_all, rehearsal).await;
    let before = told(&world).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    for serial in 0.. {
        let pushed = client.push(&format!("a{serial}"), &"x".repeat(100_000)).await;
        if pushed.is_err() || client.settle().await.is_err() {
            break;
        }
    }
    let after = until(&world, "rejoin_store_faults_total{class=\"full\"}", 1.0).await;
    seen.look(&before, &after);
    let (status, answer) = world.get("/readyz").await;
    assert!(status == 503 && answer.contains("the disk is full"), "{answer}");
}

/// A record is damaged; then the database is erased, and a client brings back what it has.
async fn records_come_back(seen: &mut Seen) {
    let mut world = World::with(told_to_all).await;
    let file = world.directory.path().join("client.db");
    let space = SpaceId::parse("home").unwrap();
    let options = Options::new(&file, space.clone(), vec![Pattern::parse("tasks").unwrap()]);
    let data = world.directory.path().join("data");
    let start = async |world: &World| {
        let server = Some(format!("ws://{}/sync", world.address));
        rejoin_client::Client::open(Options { server, ..options.clone() }).await.unwrap()
    };
    let first = told(&world).await;
    let client = start(&world).await;
    let task = put(key("tasks", "a").unwrap(), [set("title", Value::text("kept")).unwrap()]);
    client.write(vec![task]).await.unwrap();
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    client.close().await.unwrap();
    world.stop().await;
    damage(&data.join("rejoin.sqlite"), &space).await;
    world.start_again().await;
    let before = told(&world).await;
    // What was in the log has moved into the database.
    seen.look(&first, &before);
    let client = start(&world).await;
    let series = "rejoin_damaged_rows_total{mended=\"lost\"}";
    seen.look(&before, &until(&world, series, 1.0).await);
    client.close().await.unwrap();

    world.stop().await;
    fs::remove_dir_all(&data).unwrap();
    world.start_again().await;
    let before = told(&world).await;
    let client = start(&world).await;
    seen.look(&before, &until(&world, "rejoin_records_restored_total", 1.0).await);
    client.close().await.unwrap();
}

async fn damage(database: &Path, space: &SpaceId) {
    let db = SqliteDb::open(database, &SqliteOptions::default()).unwrap();
    let store = db.space(space);
    let all = store.scan(Keyspace::Records, &KeyRange::default(), NonZeroU32::MAX).await.unwrap();
    let mut batch = Batch::default();
    for mut row in all.rows {
        *row.value.last_mut().unwrap() ^= 1;
        batch.put(Keyspace::Records, row.key, row.value);
    }
    assert_eq!(store.commit(batch).await, Ok(CommitOutcome::Applied));
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_series_moves_with_what_it_counts() {
    let mut seen = Seen::default();
    clients_come(&mut seen).await;
    disk_fills(&mut seen).await;
    records_come_back(&mut seen).await;
    // These are what they are from the start on.
    let standing = [
        "rejoin_build_info",
        "rejoin_start_time_seconds",
        "rejoin_disk_free_bytes",
        // Of a process of its own, see below.
        "rejoin_log_lines_dropped_total",
    ];
    let standing = standing.map(str::to_owned).into_iter().collect();
    let still: BTreeSet<String> = seen.all.difference(&seen.moved).cloned().collect();
    assert!(still.is_subset(&standing), "{still:?} does not move");
    assert!(seen.all.len() > 30, "{:?}", seen.all);
    the_dashboard_asks_for_what_there_is(&seen.all);
}

/// Whoever was to read the log has stopped: a pipe takes 64 KiB, and then nothing more.
#[cfg(unix)]
#[tokio::test]
async fn s15_a_log_that_nobody_reads_keeps_nobody_waiting_and_what_is_dropped_is_counted() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.args(["--listen", "127.0.0.1:0", "--metrics", "on", "--log", "trace", "--data"]);
    let process = Process::run_unread(command.arg(&data));
    let mut ada = Client::joined(process.address, "demo", 1).await;
    let series = "rejoin_log_lines_dropped_total";
    let dropping = timeout(2 * PATIENCE, async {
        for serial in 0.. {
            ada.push(&format!("a{serial}"), "x").await.unwrap();
            ada.settle().await.unwrap();
            // Each of them has some lines, and so has each look.
            if serial % 50 == 0 {
                let (_, answer) = get(process.address, "/metrics", "").await;
                if parse(&answer)[series] > 0.0 {
                    return serial;
                }
            }
        }
        0
    });
    assert!(dropping.await.expect("lines are dropped in time") > 100);
    assert_eq!(get(process.address, "/readyz", "").await.0, 200);
    process.terminate();
}

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::read_to_string(path).expect("a file of deploy/")
}

/// Every query of the dashboard names series that exist, and each series but what never moves is in it.
fn the_dashboard_asks_for_what_there_is(all: &BTreeSet<String>) {
    let dashboard: Json = serde_json::from_str(&deployed("grafana.json")).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<_> = words.filter(|word| word.starts_with("rejoin_")).collect();
            assert!(!names.is_empty(), "{query}");
            asked.extend(names.into_iter().map(|name| family(name).to_owned()));
        }
    }
    let unknown: Vec<_> = asked.difference(all).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no series");
    let unasked: Vec<_> = all.difference(&asked).collect();
    assert_eq!(unasked, ["rejoin_build_info", "rejoin_connections_opened_total"]);
}

#[test]
fn what_is_deployed_is_what_the_program_takes() {
    let directory = Directory::new();
    let settings = directory.file("rejoin.toml", &deployed("rejoin.toml"));
    let mut check = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    let check = check.env_clear().args(["config", "check", "--config"]).arg(settings).output();
    let check = check.unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    // What is commented out is meant to be taken, too.
    let all = deployed("rejoin.toml");
    let commented = all.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| {
        line.split_once(" = ").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase()))
    });
    let mut shown = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    let shown = shown.env_clear().args(["config", "show", "--config"]);
    let commented = commented.fold(String::new(), |text, line| text + line + "\n");
    let shown = shown.arg(directory.file("more.toml", &commented)).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("auth = \"tokens\"") && text.contains("app.example.org"), "{text}");
    for (file, words) in [
        ("Dockerfile", ["REJOIN_SERVER_LISTEN", "REJOIN_SERVER_DATA", "REJOIN_SERVER_LOG_FORMAT"]),
        ("rejoin.service", ["REJOIN_SERVER_DATA", "config check", "serve --config"]),
    ] {
        let text = deployed(file);
        for word in words {
            assert!(text.contains(word), "{file} lacks {word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_asks_the_server_that_the_settings_name() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let process = Process::start(&data);
    let probe = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
        let output = command.env_clear().arg("probe").args(arguments).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].concat())
    };
    let address = process.address.to_string();
    let (code, text) = probe(&["--listen", &address]);
    assert_eq!((code, &*String::from_utf8_lossy(&text)), (Some(0), "{\"status\":\"ready\"}\n"));
    let everywhere = format!("0.0.0.0:{}", process.address.port());
    assert_eq!(probe(&["--listen", &everywhere]).0, Some(0));
    drop(process);
    let (code, text) = probe(&["--listen", &address]);
    let text = String::from_utf8_lossy(&text);
    assert!(code == Some(1) && text.contains("does not answer"), "{text}");
    let world = World::with(|_, config| config.operations.disk_free_min_mib = u32::MAX).await;
    let (code, text) =
        tokio::task::block_in_place(|| probe(&["--listen", &world.address.to_string()]));
    let text = String::from_utf8_lossy(&text);
    assert!(code == Some(1) && text.contains("not ready"), "{text}");
}

#[tokio::test]
async fn x28_metrics_are_told_where_they_are_wanted_and_nowhere_else() {
    let world = World::new().await;
    assert_eq!(world.get("/metrics").await.0, 404);
    let directory = Directory::new();
    let data = directory.path().join("data");
    let arguments = ["--metrics-listen", "127.0.0.1:0"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(&data).args(arguments);
    let (process, lines) = Process::run_told(&mut command);
    let line = lines.iter().find(|line| line.contains("telling metrics")).unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(get(process.address, "/metrics", "").await.0, 404);
    let (status, answer) = get(address, "/metrics", "").await;
    assert_eq!(status, 200, "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    let told = parse(&answer);
    assert!(told["rejoin_wal_bytes"] > 4_096.0 && told["rejoin_disk_free_bytes"] > 4_096.0);
    assert!(
        told.contains_key(&format!(
            "rejoin_build_info{{version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        ))
    );
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/sync", 404), ("/healthz", 404)] {
        assert_eq!(get(address, path, "").await.0, status, "{path}");
    }
}

#[tokio::test]
async fn probes_tell_what_is_so() {
    let world = World::new().await;
    for (path, status) in [("/livez", "alive"), ("/readyz", "ready"), ("/startupz", "started")] {
        let (code, answer) = world.get(path).await;
        assert_eq!(code, 200, "{path}: {answer}");
        assert!(answer.ends_with(&format!("{{\"status\":\"{status}\"}}\n")), "{answer}");
    }
    // More than any disk has.
    let world = World::with(|_, config| config.operations.disk_free_min_mib = u32::MAX).await;
    for path in ["/readyz", "/startupz"] {
        let (code, answer) = world.get(path).await;
        assert!(code == 503 && answer.contains("is the least"), "{path}: {answer}");
    }
    assert_eq!(world.get("/livez").await.0, 200, "a new process would have no more room");
    assert_eq!(world.get("/healthz").await.0, 200);
}

/// A balancer has the time that it was promised to find another server.
#[cfg(unix)]
#[tokio::test]
async fn s16_a_server_that_was_asked_to_end_serves_on_while_it_is_not_ready_any_more() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut process = Process::start_with(&data, &["--drain-seconds", "2"]);
    let mut ada = Client::joined(process.address, "demo", 1).await;
    assert_eq!(get(process.address, "/readyz", "").await.0, 200);
    process.terminate();
    process.line(&["stopping"]).await;
    let (status, answer) = get(process.address, "/readyz", "").await;
    assert!(status == 503 && answer.contains("the server ends"), "{answer}");
    ada.push("a", "x").await.unwrap();
    ada.settle().await.unwrap();
    let _bob = Client::joined(process.address, "demo", 2).await;
    assert!(process.ended().await.success());
}
