//! Which JWTs are taken, and what they grant.

use crate::{
    client::{Client, Ended},
    issuer::{
        AUDIENCE, ISSUER, Issuer, SECRET, base64url, claims, claims_with, message, now_and,
        sign_with_secret,
    },
    world::{Directory, PATIENCE, World, without_rates},
};
use rejoin_core::{
    id::Pattern,
    protocol::message::{Bye, ByeCode, Right, Welcome},
};
use rejoin_server::{Config, JwtConfig, SpaceGrant};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};

fn grant(space: &str, collections: &[&str], write: bool) -> SpaceGrant {
    let collections = collections.iter().map(|&text| text.to_owned()).collect();
    SpaceGrant { space: space.to_owned(), collections, write }
}

/// Takes JWTs; keys are to be added.
pub(crate) fn jwt(grants: Vec<SpaceGrant>) -> JwtConfig {
    JwtConfig {
        keys: None,
        secret: None,
        jwks: None,
        issuer: ISSUER.to_owned(),
        audience: vec!["other".to_owned(), AUDIENCE.to_owned()],
        leeway: Duration::from_secs(10),
        grants,
    }
}

/// A server that takes what `issuer` signs with any of its keys.
pub(crate) async fn trusting(issuer: &Issuer, grants: Vec<SpaceGrant>) -> World {
    World::with(|directory, config| {
        without_rates(config);
        config.jwt = Some(JwtConfig {
            keys: Some(directory.file("keys.pem", &issuer.pem())),
            secret: Some(directory.file("secret", &format!("{SECRET}\n"))),
            ..jwt(grants)
        });
    })
    .await
}

/// What the bearer of a token hears.
async fn hear(address: SocketAddr, space: &str, token: &str) -> Result<Welcome, Bye> {
    let mut client = Client::new(space, 1);
    client.token = Some(token.to_owned());
    client.join(address).await.map_err(Ended::bye)
}

#[tokio::test]
async fn x10_good_tokens_of_each_algorithm_are_taken() {
    let issuer = Issuer::new();
    let world = trusting(&issuer, vec![grant("user-{sub}", &["*"], true)]).await;
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let named = json!({ "alg": algorithm, "kid": "any: keys of PEM have no name" });
        for token in [
            issuer.token(algorithm, &claims("ada")),
            issuer.token_with(&named, &claims("ada")),
            issuer.token(algorithm, &claims_with("aud", json!(["x", AUDIENCE]))),
            issuer.token(algorithm, &claims_with("exp", json!(now_and(60) as f64 + 0.5))),
            issuer.token(algorithm, &claims_with("exp", json!(now_and(-5)))),
            issuer.token(algorithm, &claims_with("nbf", json!(now_and(5)))),
            issuer.token(algorithm, &claims_with("iat", Value::Null)),
        ] {
            let welcome = hear(world.address, "user-ada", &token).await.unwrap();
            assert_eq!(welcome.principal, "ada");
            assert_eq!(welcome.rights, [Right { pattern: Pattern::All, write: true }]);
        }
    }
}

/// What may not be said of a claim, by what is wrong with it.
fn bad_claims() -> [(&'static str, &'static str, Value); 20] {
    [
        ("of another issuer", "iss", json!("https://evil.example/")),
        ("of an issuer that begins so", "iss", json!("https://id.example/x")),
        ("of several issuers", "iss", json!([ISSUER])),
        ("of no issuer", "iss", Value::Null),
        ("for another audience", "aud", json!("mail")),
        ("for other audiences", "aud", json!(["mail", "notes2"])),
        ("for no audience", "aud", Value::Null),
        ("for an empty list", "aud", json!([])),
        ("without an end", "exp", Value::Null),
        ("with an end that is text", "exp", json!(now_and(600).to_string())),
        ("that ends before 1970", "exp", json!(-1)),
        ("that has ended", "exp", json!(now_and(-11))),
        ("that ended long ago", "exp", json!(0)),
        ("that is not good yet", "nbf", json!(now_and(30))),
        ("with a beginning that is text", "nbf", json!("soon")),
        ("of nobody", "sub", Value::Null),
        ("of an empty name", "sub", json!("")),
        ("of a number", "sub", json!(7)),
        ("of a name with a line break", "sub", json!("ada\n")),
        ("of a name too long", "sub", json!("a".repeat(513))),
    ]
}

/// Tokens of which none may be taken, by what is wrong with them.
fn bad_tokens(issuer: &Issuer) -> Vec<(String, String)> {
    let mut bad = Vec::new();
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let mut add = |what: &str, token| bad.push((format!("{algorithm} {what}"), token));
        let good = issuer.token(algorithm, &claims("ada"));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        for (what, name, value) in bad_claims() {
            add(what, issuer.token(algorithm, &claims_with(name, value)));
        }
        for (what, header) in [
            ("with a critical extension", json!({ "alg": algorithm, "crit": ["exp"], "exp": 1 })),
            ("with an empty list of these", json!({ "alg": algorithm, "crit": [] })),
        ] {
            add(what, issuer.token_with(&header, &claims("ada")));
        }
        add("without its signature", format!("{signed}."));
        add("without its last part", signed.to_owned());
        add("with a fourth part", format!("{good}.x"));
        add("with another's body", {
            let eve = base64url(claims("eve").to_string().as_bytes());
            format!("{header}.{eve}.{signature}")
        });
        let other = Issuer::new();
        let (_, foreign) = other
            .token(algorithm, &claims("ada"))
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        if matches!(algorithm, "ES256" | "EdDSA") {
            add("signed by another key", format!("{signed}.{foreign}"));
        }
        let mut bent = good.clone().into_bytes();
        let at = signed.len() + 5;
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        add("with a bent signature", String::from_utf8(bent).unwrap());
        // Each algorithm's name over the signature of this one.
        for named in
            ["none", "None", "nOnE", "", "HS256", "RS256", "ES256", "EdDSA", "HS512", "PS256"]
        {
            if named == algorithm {
                continue;
            }
            let header = base64url(json!({ "alg": named }).to_string().as_bytes());
            let message = format!("{header}.{body}");
            let signature = base64url(&issuer.sign(algorithm, message.as_bytes()));
            add(&format!("called {named:?}"), format!("{message}.{signature}"));
            add(&format!("called {named:?}, unsigned"), format!("{message}."));
        }
        let twice = r#""sub":"eve"}"#;
        let text = claims("ada").to_string();
        let doubled = message(
            &json!({ "alg": algorithm }).to_string(),
            &format!("{},{twice}", text.strip_suffix('}').unwrap()),
        );
        let signature = base64url(&issuer.sign(algorithm, doubled.as_bytes()));
        add("with a claim twice", format!("{doubled}.{signature}"));
        let list = message(&json!({ "alg": algorithm }).to_string(), "[]");
        let signature = base64url(&issuer.sign(algorithm, list.as_bytes()));
        add("of a list", format!("{list}.{signature}"));
    }
    bad.extend(confused_tokens(issuer));
    for text in ["", ".", "..", "a.b.c", "{}.{}.{}", "null", "\u{0}.\u{0}.\u{0}"] {
        bad.push((format!("no token: {text:?}"), text.to_owned()));
    }
    bad
}

/// Tokens that are signed with what is public as if it were a secret, in each form that somebody could think of.
fn confused_tokens(issuer: &Issuer) -> Vec<(String, String)> {
    let mut bad = Vec::new();
    let pem = issuer.pem();
    let blocks = pem.split_inclusive("-----END ").collect::<Vec<_>>();
    let mut secrets = vec![pem.clone(), pem.trim_end().to_owned(), issuer.jwks("").to_string()];
    secrets.extend(blocks.iter().map(|&block| block.to_owned()));
    let raw = [issuer.rsa.public().as_ref(), pem.as_bytes(), b"", &SECRET.as_bytes()[1..]];
    let secrets = secrets.iter().map(|text| text.as_bytes()).chain(raw);
    for (index, secret) in secrets.enumerate() {
        let message = message(&json!({ "alg": "HS256" }).to_string(), &claims("ada").to_string());
        let signature = base64url(&sign_with_secret(secret, message.as_bytes()));
        bad.push((format!("public key {index} as a secret"), format!("{message}.{signature}")));
    }
    bad
}

#[tokio::test]
async fn x10_tokens_with_anything_wrong_are_refused_with_one_and_the_same_word() {
    let issuer = Issuer::new();
    let world = trusting(&issuer, vec![grant("user-{sub}", &["*"], true)]).await;
    let bad = bad_tokens(&issuer);
    assert!(bad.len() >= 150, "{}", bad.len());
    for (what, token) in bad {
        let bye = hear(world.address, "user-ada", &token).await.map(|welcome| welcome.principal);
        let bye = bye.expect_err(&what);
        assert_eq!(
            (bye.code, &*bye.reason),
            (ByeCode::Unauthorized, "the token is not accepted"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn rights_come_from_templates_and_from_a_claim_and_names_that_are_none_grant_nothing() {
    let issuer = Issuer::new();
    let templates = vec![
        grant("user-{sub}", &["*"], true),
        grant("team/{teams}", &["tasks/*", "people/{sub}"], false),
    ];
    let world = trusting(&issuer, templates).await;
    let mut said = claims("ada");
    said["teams"] = json!(["red", "blue", "*", "a/b", "", 7]);
    said["rejoin"] = json!({ "spaces": [
        { "space": "demo", "collections": ["notes"], "write": true },
        { "space": "open-*" },
        { "space": "a//b", "write": true },
        { "space": "half", "collections": ["", "ok"] },
    ]});
    let token = issuer.token("ES256", &said);
    let rights = |space: &'static str| {
        let (token, address) = (token.clone(), world.address);
        async move {
            let mut client = Client::new(space, 1);
            client.token = Some(token);
            client.pattern = None;
            let welcome = client.join(address).await.map_err(|ended| ended.bye().code)?;
            let told =
                welcome.rights.iter().map(|right| format!("{}:{}", right.pattern, right.write));
            Ok::<_, ByeCode>(told.collect::<Vec<_>>())
        }
    };
    assert_eq!(rights("user-ada").await.unwrap(), ["*:true"]);
    assert_eq!(rights("team/red").await.unwrap(), ["tasks/*:false", "people/ada:false"]);
    assert_eq!(rights("team/7").await.unwrap(), ["tasks/*:false", "people/ada:false"]);
    assert_eq!(rights("demo").await.unwrap(), ["notes:true"]);
    assert_eq!(rights("open-7").await.unwrap(), ["*:false"]);
    for none in ["user-bob", "team/*", "team/a/b", "team/green", "a", "half", "rejoin/age"] {
        assert_eq!(rights(none).await.unwrap_err(), ByeCode::NoSpace, "{none}");
    }
    // A claim of another form grants nothing, and takes nothing away.
    said["rejoin"] = json!({ "spaces": [{ "space": "demo", "write": true, "admin": true }] });
    let token = issuer.token("ES256", &said);
    assert!(hear(world.address, "user-ada", &token).await.is_ok());
    assert_eq!(hear(world.address, "demo", &token).await.unwrap_err().code, ByeCode::NoSpace);
}

#[tokio::test]
async fn each_form_of_a_file_of_keys_is_read_alone() {
    let issuer = Issuer::new();
    let pem = issuer.pem();
    let forms = pem.split_inclusive("KEY-----\n").collect::<Vec<_>>();
    let blocks = forms.chunks(2).map(|block| block.concat());
    let jwks = issuer.jwks("");
    let one = jwks["keys"][1].to_string();
    let forms = blocks.zip(["RS256", "RS256", "ES256", "EdDSA"]);
    let forms = forms.chain([(jwks.to_string(), "RS256"), (one, "ES256")]);
    for (text, algorithm) in forms {
        let world = World::with(|directory, config| {
            let keys = Some(directory.file("keys", &text));
            config.jwt = Some(JwtConfig { keys, ..jwt(vec![grant("*", &["*"], true)]) });
        })
        .await;
        for other in ["RS256", "ES256", "EdDSA", "HS256"] {
            let heard = hear(world.address, "a", &issuer.token(other, &claims("ada"))).await;
            let is_known = other == algorithm || text.len() > 1_000;
            assert_eq!(heard.is_ok(), is_known && other != "HS256", "{other} by {text}");
        }
    }
}

#[tokio::test]
async fn tokens_of_a_file_are_taken_beside_jwts() {
    let issuer = Issuer::new();
    let tokens = "[[tokens]]\ntoken = 'of-a-script'\nprincipal = 'script'\n\
                  spaces = [{ space = 'user-*', write = true }]\n";
    let world = World::with(|directory, config| {
        config.tokens = Some(directory.file("tokens.toml", tokens));
        let secret = Some(directory.file("secret", SECRET));
        config.jwt = Some(JwtConfig { secret, ..jwt(vec![grant("user-{sub}", &["*"], true)]) });
    })
    .await;
    assert_eq!(hear(world.address, "user-ada", "of-a-script").await.unwrap().principal, "script");
    let token = issuer.token("HS256", &claims("ada"));
    assert_eq!(hear(world.address, "user-ada", &token).await.unwrap().principal, "ada");
    let eve = hear(world.address, "user-ada", "of-eve").await.unwrap_err();
    assert_eq!(eve.code, ByeCode::Unauthorized);
}

#[tokio::test]
async fn x10_files_that_hold_no_usable_key_are_refused_at_the_start() {
    let issuer = Issuer::new();
    let private = include_str!("rsa-of-tests-alone.pem");
    let jwks = issuer.jwks("").to_string();
    let short = json!({ "keys": [{ "kty": "RSA", "n": base64url(&[0xff; 128]), "e": "AQAB" }] });
    let cases = [
        ("keys", "", "neither PEM"),
        ("keys", "hello", "neither PEM"),
        ("keys", "{\"keys\":[]}", "holds no key"),
        ("keys", private, "private key"),
        ("keys", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "key 1 is none"),
        ("keys", &short.to_string(), "holds no key"),
        ("secret", "short", "at least 32 bytes"),
        ("secret", "", "at least 32 bytes"),
        ("secret", &issuer.pem(), "neither PEM nor JSON"),
        ("secret", private, "neither PEM nor JSON"),
        ("secret", &jwks, "neither PEM nor JSON"),
    ];
    for (which, text, complaint) in cases {
        let directory = Directory::new();
        let file = Some(directory.file("file", text));
        let mut config = Config::new(directory.path().join("data"));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (keys, secret) = if which == "keys" { (file, None) } else { (None, file) };
        config.jwt = Some(JwtConfig { keys, secret, ..jwt(Vec::new()) });
        let error = rejoin_server::Server::open(config).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(complaint), "{which} {text:?}: {error}");
    }
}

/// What an issuer publishes, on this machine.
struct Published {
    url: String,
    said: Arc<Mutex<Said>>,
    serving: JoinHandle<()>,
}

struct Said {
    /// Status and body.
    answer: (u16, String),
    /// When it was asked.
    asked: Vec<Instant>,
}

impl Published {
    async fn new(jwks: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let said = Said { answer: (200, jwks.to_string()), asked: Vec::new() };
        let said = Arc::new(Mutex::new(said));
        let answers = Arc::clone(&said);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await.unwrap();
                let (status, body) = {
                    let mut said = answers.lock().unwrap();
                    said.asked.push(Instant::now());
                    said.answer.clone()
                };
                let location = if status == 302 { "Location: /other\r\n" } else { "" };
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n{location}Connection: close\r\n\r\n{body}",
                    body.len(),
                );
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self { url, said, serving }
    }

    fn answers(&self, status: u16, body: &str) {
        self.said.lock().unwrap().answer = (status, body.to_owned());
    }

    fn asked(&self) -> Vec<Instant> {
        self.said.lock().unwrap().asked.clone()
    }

    async fn world(&self) -> World {
        let url = self.url.clone();
        World::with(|_, config| {
            let jwks = Some(url);
            config.jwt = Some(JwtConfig { jwks, ..jwt(vec![grant("user-{sub}", &["*"], true)]) });
        })
        .await
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn named(issuer: &Issuer, algorithm: &str, suffix: &str) -> String {
    let header = json!({ "alg": algorithm, "kid": format!("{algorithm}{suffix}") });
    issuer.token_with(&header, &claims("ada"))
}

#[tokio::test]
async fn x10_p22_new_keys_are_taken_at_once_and_old_ones_until_they_are_taken_back() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let published = Published::new(&old.jwks("-1")).await;
    let world = published.world().await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        hear(world.address, "user-ada", &named(&old, algorithm, "-1")).await.unwrap();
    }
    assert_eq!(published.asked().len(), 1, "fetched at the start, and not for each token");
    // A session of the old key goes on while both are published.
    let mut ada = Client::new("user-ada", 9);
    ada.token = Some(named(&old, "ES256", "-1"));
    ada.join(world.address).await.unwrap();
    let mut both = old.jwks("-1");
    let added = new.jwks("-2")["keys"].as_array().unwrap().clone();
    both["keys"].as_array_mut().unwrap().extend(added);
    published.answers(200, &both.to_string());
    hear(world.address, "user-ada", &named(&new, "ES256", "-2")).await.unwrap();
    hear(world.address, "user-ada", &named(&old, "ES256", "-1")).await.unwrap();
    ada.push("a", "still here").await.unwrap();
    ada.settle().await.unwrap();
    // The old one is taken back: what it signed is no good, not even in a session.
    published.answers(200, &new.jwks("-2").to_string());
    let unknown = hear(world.address, "user-ada", &named(&new, "ES256", "-3")).await.unwrap_err();
    assert_eq!(unknown.code, ByeCode::Unauthorized);
    let bye = timeout(PATIENCE, ada.end()).await.unwrap().bye();
    assert_eq!((bye.code, &*bye.reason), (ByeCode::Unauthorized, "the token was revoked"));
    let gone = hear(world.address, "user-ada", &named(&old, "ES256", "-1")).await.unwrap_err();
    assert_eq!(gone.code, ByeCode::Unauthorized);
}

#[tokio::test]
async fn x10_keys_are_fetched_seldom_however_many_unknown_ones_are_named() {
    let issuer = Issuer::new();
    let published = Published::new(&issuer.jwks("")).await;
    let world = published.world().await;
    let started = Instant::now();
    let tries = (0..40).map(|number| {
        let token = named(&issuer, "EdDSA", &format!("-{number}"));
        let address = world.address;
        tokio::spawn(async move { hear(address, "user-ada", &token).await.map(drop) })
    });
    for tried in tries.collect::<Vec<_>>() {
        assert_eq!(tried.await.unwrap().unwrap_err().code, ByeCode::Unauthorized);
    }
    // Others go on meanwhile, with keys that are known.
    hear(world.address, "user-ada", &named(&issuer, "EdDSA", "")).await.unwrap();
    let asked = published.asked();
    let most = 2 + started.elapsed().as_secs() / 3;
    assert!(asked.len() as u64 <= most, "{} times in {:?}", asked.len(), started.elapsed());
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] > Duration::from_millis(2_900));
    }
}

#[tokio::test]
async fn x10_p22_while_the_issuer_is_down_its_last_keys_hold_across_starts_and_bearers_of_others_wait()
 {
    let issuer = Issuer::new();
    let published = Published::new(&issuer.jwks("")).await;
    let mut world = published.world().await;
    let good = named(&issuer, "EdDSA", "");
    for (status, body) in [
        (500, "down"),
        (200, "<html>log in to the hotel's network</html>"),
        (200, "{\"keys\":[]}"),
        (302, ""),
        (200, &*format!("{{\"keys\":[{}]}}", " ".repeat(300 << 10))),
    ] {
        published.answers(status, body);
        world.restart().await;
        hear(world.address, "user-ada", &good).await.unwrap();
    }
    // It may be a good token of a new key: nobody is asked for another one.
    let other = named(&issuer, "EdDSA", "-2");
    let bye = hear(world.address, "user-ada", &other).await.unwrap_err();
    assert_eq!(bye.code, ByeCode::Busy);
    assert!(bye.retry_after.is_some());
    // A server that never had any says the same, and takes them when they are there.
    let mut fresh = published.world().await;
    assert_eq!(hear(fresh.address, "user-ada", &good).await.unwrap_err().code, ByeCode::Busy);
    published.answers(200, &issuer.jwks("").to_string());
    hear(fresh.address, "user-ada", &good).await.unwrap();
    fresh.stop().await;
}

#[tokio::test]
async fn a_secret_that_an_issuer_publishes_is_none() {
    let issuer = Issuer::new();
    let mut jwks = issuer.jwks("");
    let oct = json!({ "kty": "oct", "alg": "HS256", "k": base64url(SECRET.as_bytes()) });
    jwks["keys"].as_array_mut().unwrap().push(oct.clone());
    let published = Published::new(&jwks).await;
    let world = published.world().await;
    let token = issuer.token("HS256", &claims("ada"));
    let refused = hear(world.address, "user-ada", &token).await.unwrap_err();
    assert_eq!(refused.code, ByeCode::Unauthorized);
    // In a file that nobody else reads it is one.
    let world = World::with(|directory, config| {
        let keys: PathBuf = directory.file("keys.json", &oct.to_string());
        config.jwt =
            Some(JwtConfig { keys: Some(keys), ..jwt(vec![grant("user-{sub}", &["*"], true)]) });
    })
    .await;
    hear(world.address, "user-ada", &token).await.unwrap();
}

#[tokio::test]
async fn x10_keys_of_a_file_do_not_hide_that_a_published_one_is_new() {
    let (of_file, old, new) = (Issuer::new(), Issuer::new(), Issuer::new());
    let published = Published::new(&old.jwks("-1")).await;
    let url = published.url.clone();
    let mut world = World::with(|directory, config| {
        let keys = Some(directory.file("keys.pem", &of_file.pem()));
        let grants = vec![grant("user-{sub}", &["*"], true)];
        config.jwt = Some(JwtConfig { keys, jwks: Some(url), ..jwt(grants) });
    })
    .await;
    published.answers(200, &new.jwks("-2").to_string());
    for token in [named(&of_file, "ES256", "-0"), named(&new, "ES256", "-2")] {
        hear(world.address, "user-ada", &token).await.unwrap();
    }
    // One that nobody knows, while the issuer is down, may be good; one that is named by a known key is not.
    published.answers(500, "down");
    let of_none = named(&old, "ES256", "-3");
    assert_eq!(hear(world.address, "user-ada", &of_none).await.unwrap_err().code, ByeCode::Busy);
    let forged = named(&old, "ES256", "-2");
    let refused = hear(world.address, "user-ada", &forged).await.unwrap_err();
    assert_eq!(refused.code, ByeCode::Unauthorized);
    world.stop().await;
}
