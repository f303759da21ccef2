//! Tokens and TLS, as the program's users give them.

use crate::{
    Run, bare, command, packages, rejoin, run, spawn,
    support::{World, soon},
    write,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

const TOKENS: &str = "
[[tokens]]
token = 'of-ada'
principal = 'ada'
spaces = [{ space = 'home', write = true }]
[[tokens]]
token = 'of-reader'
principal = 'reader'
spaces = [{ space = 'home' }]
";

/// Passes connections on to the server, in TLS before it, as a reverse proxy does; where it listens, and
/// the certificate of the authority that vouches for `localhost`.
async fn tls_proxy(to: SocketAddr) -> (SocketAddr, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust it goes away: that is what is tested.
                if let Ok(mut near) = acceptor.accept(near).await {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    copy_bidirectional(&mut near, &mut far).await.ok();
                }
            });
        }
    });
    (address, pem)
}

#[tokio::test]
async fn a_server_behind_tls_is_checked_against_the_authorities_of_a_file() {
    let world = World::with_tokens(Some(TOKENS)).await;
    let (proxy, pem) = tls_proxy(world.address).await;
    let ca = write(&world.path("ca.pem"), &pem);
    let file = write(&world.path("a.jsonl"), &packages(0..20));
    let at = |host: &str, name: &str| {
        let url = format!("wss://{host}:{}/sync", proxy.port());
        let place = ["--server", &url, "--space", "home", "--collection", "packages"];
        let mut command = bare(name, &place);
        command.env("REJOIN_TOKEN", "of-ada");
        command
    };

    let done = run(at("localhost", "import").args(["--ca", &ca, "--key", "Package", &file])).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("imported 20 records") && done.out.contains("verified "));
    let done = run(at("localhost", "verify").env("REJOIN_CA", &ca)).await;
    assert!(done.out.starts_with("verified ") && done.out.ends_with(" 20 records\n"));

    let patience = ["--timeout", "1"];
    let refused = run(at("localhost", "verify").args(patience)).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("invalid peer certificate: UnknownIssuer"), "{}", refused.err);
    let refused = run(at("127.0.0.1", "verify").args(patience).args(["--ca", &ca])).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("certificate not valid for name"), "{}", refused.err);
    let refused = run(at("localhost", "verify").args(["--ca", &file])).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("there is no certificate in it"), "{}", refused.err);
    let refused = rejoin(&world, "verify", &["--ca", &ca]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("they are for wss://"), "{}", refused.err);
}

fn is_refused(run: &Run, code: &str) {
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains(&format!("the server refused ({code})")), "{}", run.err);
}

#[tokio::test]
async fn a_token_is_taken_from_the_environment_a_file_or_the_command_line() {
    let world = World::with_tokens(Some(TOKENS)).await;
    let file = write(&world.path("a.jsonl"), &packages(0..3));
    let token = write(&world.path("token"), "of-ada\n");
    let import = ["--key", "Package", &file];

    let done = rejoin(&world, "import", &[&import[..], &["--token-file", &token]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    for (name, value) in [("REJOIN_TOKEN", "of-reader"), ("REJOIN_TOKEN_FILE", &token)] {
        let done = run(command(&world, "verify", &[]).env(name, value)).await;
        assert_eq!(done.code, Some(0), "{name}: {}", done.err);
    }
    let done = rejoin(&world, "verify", &["--token", "of-reader"]).await;
    assert_eq!(done.code, Some(0), "{}", done.err);

    is_refused(&rejoin(&world, "verify", &[]).await, "Unauthorized");
    is_refused(&rejoin(&world, "verify", &["--token", "of-eve"]).await, "Unauthorized");
    let elsewhere = ["--server", &world.url(), "--space", "other", "--collection", "packages"];
    let refused = run(bare("verify", &elsewhere).env("REJOIN_TOKEN", "of-ada")).await;
    is_refused(&refused, "NoSpace");
    let both = ["--token", "of-ada", "--token-file", &token];
    let refused = rejoin(&world, "verify", &both).await;
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    let refused = rejoin(&world, "verify", &["--token-file", "nowhere"]).await;
    assert!(refused.code == Some(2) && refused.err.contains("nowhere"), "{}", refused.err);
}

#[tokio::test]
async fn lines_that_the_token_may_not_write_are_named_and_not_lost_in_silence() {
    let world = World::with_tokens(Some(TOKENS)).await;
    let file = write(&world.path("a.jsonl"), &packages(0..3));
    let import = ["--key", "Package", "--token", "of-reader", &file];
    let refused = rejoin(&world, "import", &import).await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    for line in 1..=3 {
        let named = format!("a.jsonl:{line}: refused (Forbidden)");
        assert!(refused.err.contains(&named), "{}", refused.err);
    }
    assert!(refused.out.starts_with("imported 0 records"), "{}", refused.out);
}

#[tokio::test]
async fn a_watch_whose_token_is_withdrawn_ends_with_the_reason() {
    let mut world = World::with_tokens(Some(TOKENS)).await;
    let mut child = spawn(&world, "watch", &["--all", "--token", "of-ada", "--trace"]);
    let done = run(command(&world, "import", &["--key", "Package", "--token", "of-ada"])
        .arg(write(&world.path("a.jsonl"), &packages(0..1))))
    .await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let mut out = child.stdout.take().unwrap();
    soon(out.read_u8()).await.unwrap();
    world.stop().await;
    write(&world.path("tokens.toml"), &TOKENS.replace("of-ada", "of-someone-else"));
    world.start().await;
    let mut err = String::new();
    soon(child.stderr.take().unwrap().read_to_string(&mut err)).await.unwrap();
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(2), "{err}");
    assert!(err.contains("the server refused (Unauthorized)"), "{err}");
    assert!(err.contains("disconnected, trying again"), "{err}");
    assert!(err.contains("-> hello") || err.contains("-> Hello"), "{err}");
}
