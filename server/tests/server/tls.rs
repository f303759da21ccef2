//! TLS without a proxy: clients are greeted, and by another certificate once the files are others.

use crate::world::{Directory, PATIENCE, Process, World};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rejoin_client::{Client, Link, Options, Pattern, SpaceId, Value, key, put, set};
use rejoin_server::TlsFiles;
use std::{fs, net::SocketAddr, path::Path, process::Command};
use tokio::time::timeout;

/// Writes a certificate for `localhost`, its key, and the authority that vouches for it.
fn certify(directory: &Directory) -> (TlsFiles, std::path::PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let files = TlsFiles {
        certificate: directory.file("server.pem", &certificate.pem()),
        key: directory.file("server.key", &key.serialize_pem()),
    };
    (files, directory.file("ca.pem", &pem))
}

async fn open(file: &Path, address: SocketAddr, ca: &Path) -> Client {
    let space = SpaceId::parse("home").unwrap();
    let options = Options::new(file, space, vec![Pattern::parse("tasks").unwrap()]);
    let server = Some(format!("wss://localhost:{}/sync", address.port()));
    let authorities = Some(ca.to_owned());
    Client::open(Options { server, authorities, ..options }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_sync_over_tls_and_who_speaks_none_is_refused() {
    let mut ca = None;
    let world = World::with(|directory, config| {
        let (files, authority) = certify(directory);
        config.tls = Some(files);
        ca = Some(authority);
    })
    .await;
    let client = open(&world.directory.path().join("a.db"), world.address, &ca.unwrap()).await;
    let task = put(key("tasks", "a").unwrap(), [set("title", Value::text("x")).unwrap()]);
    client.write(vec![task]).await.unwrap();
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    assert_eq!(client.status().link, Link::Live);
    client.close().await.unwrap();
    let plain = crate::client::Client::new("home", 1).join(world.address).await;
    assert!(plain.is_err(), "{plain:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_is_shown_from_then_on_and_half_of_one_is_not() {
    let directory = Directory::new();
    let (files, _) = certify(&directory);
    let [certificate, key] = [&files.certificate, &files.key].map(|path| path.to_str().unwrap());
    let data = directory.path().join("data");
    let tls = ["--tls-cert", certificate, "--tls-key", key];
    let mut process = Process::start_with(&data, &tls);
    let first = fs::read_to_string(key).unwrap();
    let (_, ca) = certify(&directory);
    let second = fs::read_to_string(key).unwrap();
    fs::write(key, first).unwrap();
    process.line(&["the certificate is still the one before"]).await;
    fs::write(key, second).unwrap();
    process.hang_up();
    process.line(&["the certificate was replaced"]).await;
    let client = open(&directory.path().join("a.db"), process.address, &ca).await;
    timeout(PATIENCE, client.synced()).await.unwrap().unwrap();
    client.close().await.unwrap();
}

#[test]
fn a_certificate_that_is_none_is_refused_before_anything_is_opened() {
    let directory = Directory::new();
    let (files, _) = certify(&directory);
    let data = directory.path().join("data");
    let nothing = directory.file("nothing.pem", "");
    let other = directory.file("other.key", &KeyPair::generate().unwrap().serialize_pem());
    for (certificate, key, complaint) in [
        (&nothing, &files.key, "there is no certificate in it"),
        (&files.certificate, &nothing, "nothing.pem: "),
        (&files.certificate, &other, "and its key"),
        (&directory.path().join("none.pem"), &files.key, "cannot read"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
        command.env_clear().arg("--data").arg(&data);
        command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
    assert!(!data.exists());
}
