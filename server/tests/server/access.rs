//! How long access holds: tokens that end, are renewed, revoked, or given other rights, in mid-session.

use crate::{
    client::Client,
    issuer::{Issuer, SECRET, claims, claims_with, now_and},
    jwts::{jwt, trusting},
    world::{Directory, PATIENCE, Process, World},
};
use rejoin_client::{
    Client as Native, Link, Notice, Options, Pattern as NativePattern, SpaceId, Value, key, put,
    set,
};
use rejoin_core::{
    id::Pattern,
    protocol::message::{Bye, ByeCode, Message, Outcome, Push},
};
use rejoin_server::{JwtConfig, SpaceGrant};
use serde_json::json;
use std::{fs, path::Path, process::Command, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// No session lives longer behind the end of what let it in.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

fn own_space() -> Vec<SpaceGrant> {
    let collections = vec!["*".to_owned()];
    vec![SpaceGrant { space: "team".to_owned(), collections, write: true }]
}

/// A server without leeway: tokens end when they say.
async fn strict(issuer: &Issuer) -> World {
    World::with(|directory, config| {
        config.jwt = Some(JwtConfig {
            keys: Some(directory.file("keys.pem", &issuer.pem())),
            leeway: Duration::ZERO,
            ..jwt(own_space())
        });
    })
    .await
}

async fn bearer(world: &World, name: u8, token: String) -> Client {
    let mut client = Client::new("team", name);
    client.token = Some(token);
    client.join(world.address).await.unwrap();
    client
}

/// Takes in what comes until the session ends; when, and why.
async fn ended(client: &mut Client) -> (Instant, Bye) {
    let ended = timeout(ENDS_WITHIN + PATIENCE, client.end()).await.expect("an end");
    (Instant::now(), ended.bye())
}

#[tokio::test]
async fn x11_session_ends_soon_after_its_token_while_updates_flow_and_nothing_reaches_it_behind() {
    let issuer = Issuer::new();
    let world = strict(&issuer).await;
    let mut writer = bearer(&world, 1, issuer.token("EdDSA", &claims("bob"))).await;
    let short = issuer.token("EdDSA", &claims_with("exp", json!(now_and(6))));
    let mut reader = bearer(&world, 2, short).await;
    let ends = Instant::now() + Duration::from_secs(6);
    let writing = tokio::spawn(async move {
        for serial in 0.. {
            if writer.push(&format!("r{serial}"), "x").await.is_err() || serial == 2_000 {
                break;
            }
            writer.settle().await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
    });
    let (at, bye) = ended(&mut reader).await;
    assert_eq!((bye.code, &*bye.reason), (ByeCode::Unauthorized, "the token has expired"));
    assert!(at < ends + ENDS_WITHIN, "{:?} late", at - ends);
    assert!(!reader.base.is_empty(), "updates did flow");
    // It can hear nothing more, and not come back with that token.
    let refused = reader.join(world.address).await.unwrap_err().bye();
    assert_eq!(refused.code, ByeCode::Unauthorized);
    writing.abort();
}

#[tokio::test]
async fn x11_refresh_in_band_carries_a_session_beyond_its_first_token() {
    let issuer = Issuer::new();
    let world = strict(&issuer).await;
    let short = issuer.token("ES256", &claims_with("exp", json!(now_and(6))));
    let mut ada = bearer(&world, 1, short).await;
    let token = issuer.token("ES256", &claims_with("exp", json!(now_and(14))));
    // The last one of many counts.
    for _ in 0..50 {
        let token = issuer.token("ES256", &claims_with("exp", json!(now_and(6))));
        ada.say(&Message::Refresh { token }).await.unwrap();
    }
    ada.say(&Message::Refresh { token }).await.unwrap();
    let renewed = Instant::now();
    sleep(Duration::from_secs(9)).await;
    ada.push("a", "still here").await.unwrap();
    ada.settle().await.unwrap();
    let (at, bye) = ended(&mut ada).await;
    assert_eq!(bye.code, ByeCode::Unauthorized);
    assert!(at > renewed + Duration::from_secs(10), "the second token was good for longer");
}

#[tokio::test]
async fn x11_refresh_by_another_principal_or_without_a_right_to_the_space_ends_the_session() {
    let issuer = Issuer::new();
    let grants = vec![SpaceGrant { space: "{spaces}".to_owned(), ..own_space().remove(0) }];
    let world = trusting(&issuer, grants).await;
    let token = |subject: &str, space: &str| {
        let mut claims = claims(subject);
        claims["spaces"] = json!([space]);
        issuer.token("HS256", &claims)
    };
    for (name, next, code) in
        [(1, token("eve", "team"), ByeCode::Unauthorized), (2, token("ada", "x"), ByeCode::NoSpace)]
    {
        let mut ada = bearer(&world, name, token("ada", "team")).await;
        ada.say(&Message::Refresh { token: next }).await.unwrap();
        assert_eq!(ended(&mut ada).await.1.code, code);
    }
}

/// Whether a new record is accepted.
async fn may_write(client: &mut Client, id: &str) -> bool {
    let row = client.row(id, "x");
    let number = row.number;
    client.say(&Message::Push(Push { named: 0, rows: vec![row] })).await.unwrap();
    loop {
        match client.next().await.unwrap() {
            Message::Ack(ack) if matches!(ack.outcomes[0].1, Outcome::Rejected { .. }) => {
                client.outbox.remove(&number);
                return false;
            }
            other => client.take_in(other).unwrap(),
        }
        if client.outbox.is_empty() {
            return true;
        }
    }
}

fn tokens(of_reader: &str, more: &str) -> String {
    format!(
        "[[tokens]]\ntoken = 'of-writer'\nprincipal = 'writer'\n\
         spaces = [{{ space = 'team', write = true }}]\n{of_reader}\n{more}"
    )
}

const READER: &str = "[[tokens]]\ntoken = 'of-reader'\nprincipal = 'reader'\n\
                      spaces = [{ space = 'team' }]\n";

async fn with_tokens(text: &str) -> World {
    World::with(|directory, config| config.tokens = Some(directory.file("tokens.toml", text))).await
}

#[tokio::test]
async fn x11_token_that_leaves_the_file_ends_its_sessions_and_no_others() {
    let world = with_tokens(&tokens(READER, "")).await;
    let mut writer = bearer(&world, 1, "of-writer".to_owned()).await;
    let mut reader = bearer(&world, 2, "of-reader".to_owned()).await;
    // What cannot be understood changes nothing.
    world.directory.file("tokens.toml", "[[tokens]]\ntoken = ");
    sleep(Duration::from_secs(5)).await;
    writer.push("a", "x").await.unwrap();
    writer.settle().await.unwrap();
    reader.hold(1).await.unwrap();
    world.directory.file("tokens.toml", &tokens("", ""));
    let changed = Instant::now();
    let (at, bye) = ended(&mut reader).await;
    assert_eq!((bye.code, &*bye.reason), (ByeCode::Unauthorized, "the token was revoked"));
    assert!(at < changed + ENDS_WITHIN);
    writer.push("b", "x").await.unwrap();
    writer.settle().await.unwrap();
}

#[tokio::test]
async fn x11_token_that_is_given_an_end_ends_then() {
    let world = with_tokens(&tokens(READER, "")).await;
    let mut reader = bearer(&world, 2, "of-reader".to_owned()).await;
    let past = READER.replace("spaces", "expires = 2001-01-01T00:00:00Z\nspaces");
    world.directory.file("tokens.toml", &tokens(&past, ""));
    let (_, bye) = ended(&mut reader).await;
    assert_eq!((bye.code, &*bye.reason), (ByeCode::Unauthorized, "the token has expired"));
    let refused = reader.join(world.address).await.unwrap_err().bye();
    assert_eq!(refused.code, ByeCode::Unauthorized);
}

#[tokio::test]
async fn x11_rights_that_grow_count_at_once_and_rights_that_shrink_end_the_session() {
    let world = with_tokens(&tokens(READER, "")).await;
    let mut reader = bearer(&world, 2, "of-reader".to_owned()).await;
    let writes = READER.replace("'team'", "'team', write = true");
    world.directory.file("tokens.toml", &tokens(&writes, ""));
    // Until then rows are rejected, each its own.
    let mut serial = 0;
    timeout(ENDS_WITHIN, async {
        loop {
            serial += 1;
            if may_write(&mut reader, &format!("r{serial}")).await {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("the right to write");
    let part = READER.replace("'team'", "'team', collections = ['notes'], write = true");
    world.directory.file("tokens.toml", &tokens(&part, ""));
    let (_, bye) = ended(&mut reader).await;
    assert_eq!(bye.code, ByeCode::NoSpace);
}

#[tokio::test]
async fn x11_jwts_of_a_principal_are_revoked_by_the_time_they_were_issued_at() {
    let issuer = Issuer::new();
    let world = World::with(|directory, config| {
        config.tokens = Some(directory.file("tokens.toml", ""));
        config.jwt =
            Some(JwtConfig { secret: Some(directory.file("secret", SECRET)), ..jwt(own_space()) });
    })
    .await;
    let old = issuer.token("HS256", &claims_with("iat", json!(1_000_000_000)));
    let mut ada = bearer(&world, 1, old.clone()).await;
    let mut bob = bearer(&world, 2, issuer.token("HS256", &claims("bob"))).await;
    let revoked = "[[revoked]]\nprincipal = 'ada'\nbefore = 2020-01-01T00:00:00Z\n";
    world.directory.file("tokens.toml", revoked);
    assert_eq!(ended(&mut ada).await.1.reason, "the token was revoked");
    ada.token = Some(old);
    assert_eq!(ada.join(world.address).await.unwrap_err().bye().code, ByeCode::Unauthorized);
    ada.token = Some(issuer.token("HS256", &claims("ada")));
    ada.join(world.address).await.unwrap();
    bob.push("b", "x").await.unwrap();
    bob.settle().await.unwrap();
}

#[tokio::test]
async fn p22_native_client_keeps_what_waits_while_it_needs_a_token_and_goes_on_with_the_next() {
    let issuer = Issuer::new();
    let world = strict(&issuer).await;
    let directory = Directory::new();
    let open = |token: String| {
        let space = SpaceId::parse("team").unwrap();
        let patterns = vec![NativePattern::parse("tasks").unwrap()];
        Native::open(Options {
            server: Some(format!("ws://{}/sync", world.address)),
            token: Some(token),
            ..Options::new(directory.path().join("client.db"), space, patterns)
        })
    };
    let write =
        |id: &str| vec![put(key("tasks", id).unwrap(), [set("title", Value::text("x")).unwrap()])];
    let short = |seconds| issuer.token("RS256", &claims_with("exp", json!(now_and(seconds))));
    let client = open(short(8)).await.unwrap();
    client.write(write("before")).await.unwrap();
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    // A refresh goes on without a reconnect.
    let mut notices = client.notices();
    client.set_token(Some(short(14)));
    let needs_token = async {
        loop {
            let changed = client.changed();
            if client.status().link == Link::NeedsToken {
                break;
            }
            changed.await;
        }
    };
    let started = Instant::now();
    timeout(ENDS_WITHIN, needs_token).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(11), "the new token held");
    let mut endings = 0;
    while let Ok(Some(notice)) = notices.try_next() {
        endings += usize::from(matches!(notice, Notice::Ended { .. }));
    }
    // Once in the session, and once when it said hello with that token.
    assert!(endings <= 2, "{endings}");
    // It is not lost, and not sent: also when the program ends meanwhile.
    client.write(write("meanwhile")).await.unwrap();
    assert_eq!(client.status().pending, 1);
    client.close().await.unwrap();
    let client = open(short(-100)).await.unwrap();
    timeout(PATIENCE, async {
        while client.status().link != Link::NeedsToken {
            client.changed().await;
        }
    })
    .await
    .unwrap();
    client.write(write("after")).await.unwrap();
    assert_eq!(client.status().pending, 2);
    client.set_token(Some(short(600)));
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    assert!(client.rejected().is_empty());
    client.close().await.unwrap();

    let mut other = Client::new("team", 2);
    other.token = Some(issuer.token("RS256", &claims("ada")));
    other.join(world.address).await.unwrap();
    other.hold(3).await.unwrap();
}

/// Flags and environment say what the tests above say in the configuration.
#[tokio::test]
async fn settings_of_jwts_are_read_from_flags_and_from_the_file() {
    let issuer = Issuer::new();
    let directory = Directory::new();
    let secret = directory.file("secret", SECRET);
    let keys = directory.file("keys.json", &issuer.jwks("").to_string());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let flags = [
        "--auth",
        "jwt",
        "--jwt-secret",
        &path(&secret),
        "--jwt-keys",
        &path(&keys),
        "--jwt-issuer",
        "https://id.example/",
        "--jwt-audience",
        "mail,notes",
        "--jwt-space",
        "user-{sub}",
        "--jwt-leeway-seconds",
        "0",
    ];
    let file = directory.file(
        "server.toml",
        &format!(
            "auth = 'jwt'\n[jwt]\nsecret = {:?}\nkeys = {:?}\nissuer = 'https://id.example/'\n\
             audience = ['mail', 'notes']\nleeway-seconds = 0\n\
             [[jwt.grants]]\nspace = 'user-{{sub}}'\ncollections = ['tasks/*']\nwrite = true\n",
            path(&secret),
            path(&keys)
        ),
    );
    for arguments in [flags.to_vec(), vec!["--config", file.to_str().unwrap()]] {
        let data = directory.path().join("data");
        let mut process = Process::start_with(&data, &arguments);
        for algorithm in ["HS256", "ES256"] {
            let mut ada = Client::new("user-ada", 1);
            ada.pattern = Some(Pattern::parse("tasks").unwrap());
            ada.token = Some(issuer.token(algorithm, &claims("ada")));
            ada.join(process.address).await.unwrap();
        }
        let mut late = Client::new("user-ada", 1);
        late.token = Some(issuer.token("HS256", &claims_with("exp", json!(now_and(-1)))));
        assert_eq!(late.join(process.address).await.unwrap_err().bye().code, ByeCode::Unauthorized);
        process.line(&["a JWT was refused", "it has expired"]).await;
        process.kill();
        fs::remove_dir_all(data).unwrap();
    }
}

/// Runs a command of the program on a file of tokens: whether it went well, and what it printed.
fn token(file: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rejoin-server"))
        .env_clear()
        .env("REJOIN_SERVER_TOKENS", file)
        .arg("token")
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap().trim_end().to_owned())
}

#[tokio::test]
async fn x11_token_made_by_a_command_is_taken_and_revoked_by_a_command_ends_its_sessions() {
    let directory = Directory::new();
    let file = directory.path().join("tokens.toml");
    let (made, office) = token(&file, &["create", "--principal", "office", "--space", "*"]);
    assert!(made, "{office}");
    let arguments = ["--auth", "tokens", "--tokens", file.to_str().unwrap()];
    let mut process = Process::start_with(&directory.path().join("data"), &arguments);
    // It is made while the server runs, and taken soon.
    let rights = ["--space", "team", "--collection", "tasks", "--write", "--expires", "90d"];
    let (made, of_ci) = token(&file, &[&["create", "--principal", "ci"], &rights[..]].concat());
    assert!(made, "{of_ci}");
    let mut ci = Client::new("team", 1);
    ci.pattern = Some(Pattern::parse("tasks").unwrap());
    ci.token = Some(of_ci.clone());
    timeout(ENDS_WITHIN, async {
        while ci.join(process.address).await.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("the new token is taken");
    assert!(may_write(&mut ci, "a").await);
    let mut other = Client::new("team", 2);
    other.token = Some(office.clone());
    other.join(process.address).await.unwrap();

    let (_, listed) = token(&file, &["list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[1].contains("  ci  expires 20") && !listed.contains(&of_ci), "{listed}");
    let name = lines[1].split(' ').next().unwrap();
    let (revoked, text) = token(&file, &["revoke", name]);
    assert!(revoked && text.starts_with("revoked: "), "{text}");
    assert_eq!(ended(&mut ci).await.1.reason, "the token was revoked");
    assert!(ci.join(process.address).await.is_err());
    // The other one goes on.
    other.say(&Message::Ping { nonce: 1 }).await.unwrap();
    while !matches!(other.next().await.unwrap(), Message::Pong { .. }) {}
    process.kill();
}

#[test]
fn commands_of_tokens_say_what_is_wrong() {
    let directory = Directory::new();
    let file = directory.path().join("tokens.toml");
    for (arguments, complaint) in [
        (&["create", "--principal", "a", "--space", "a//b"][..], "empty path segment"),
        (&["create", "--principal", "", "--space", "a"], "printable"),
        (&["create", "--principal", "a"], "--space"),
        (&["create", "--principal", "a", "--space", "a", "--expires", "soon"], "90d"),
        (&["revoke", "abcd"], "no token of"),
        (&["revoke"], "required"),
        (&["revoke", "abcd", "--jwts-of", "ada"], "cannot be used with"),
    ] {
        let (done, text) = token(&file, arguments);
        assert!(!done && text.contains(complaint), "{arguments:?}: {text}");
        assert!(!file.exists(), "{arguments:?}");
    }
    assert_eq!(token(&file, &["list"]), (true, String::new()));
    let (done, text) = token(&file, &["revoke", "--jwts-of", "ada"]);
    assert!(done && text.contains("all JWTs of ada"), "{text}");
    assert!(fs::read_to_string(&file).unwrap().contains("[[revoked]]"));
}
