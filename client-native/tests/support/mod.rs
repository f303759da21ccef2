//! A server in this process, and limits to waiting.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use rejoin_client::{Client, Fields, FieldName, Options, Pattern, SpaceId, Value, Visible};
use rejoin_server::{Config, Server};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// Far beyond what anything takes; not a delay.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, within reason.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes soon")
}

/// Waits until the client is as `done` says.
pub async fn until(client: &Client, done: impl Fn(&Client) -> bool) {
    soon(async {
        loop {
            let changed = client.changed();
            if done(client) {
                return;
            }
            changed.await;
        }
    })
    .await;
}

/// A directory with a server's data and clients' files.
pub struct World {
    pub directory: TempDir,
    pub address: SocketAddr,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self { directory, address, server: None };
        world.start().await;
        world
    }

    /// Starts the server, where it was before.
    pub async fn start(&mut self) {
        let mut config = Config::new(self.path("server"));
        config.listen = self.address;
        let server = Server::open(config).await.unwrap();
        self.address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or(()) };
            server.run(stopped).await.unwrap();
        });
        self.server = Some((stop, running));
    }

    pub async fn stop(&mut self) {
        if let Some((stop, running)) = self.server.take() {
            stop.send(()).unwrap();
            soon(running).await.unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("ws://{}/sync", self.address)
    }

    pub async fn client(&self, name: &str) -> Client {
        open(&self.path(name), Some(self.url())).await
    }
}

pub async fn open(path: &Path, server: Option<String>) -> Client {
    let collections = vec![Pattern::parse("tasks").unwrap()];
    let space = SpaceId::parse("home").unwrap();
    let options = Options { server, ..Options::new(path, space, collections) };
    Client::open(options).await.unwrap()
}

pub fn text(fields: &Fields, name: &str) -> Option<String> {
    match fields.get(&FieldName::parse(name).unwrap()) {
        Some(Visible::Value(Value::Text(text))) => Some(text.clone()),
        _ => None,
    }
}
