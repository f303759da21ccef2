//! A server in this process, and limits to waiting.

use rejoin_client::{Client, Options, Pattern, SpaceId};
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
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes soon")
}

/// Waits until the client is as `done` says.
pub(crate) async fn until(client: &Client, done: impl Fn(&Client) -> bool) {
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
pub(crate) struct World {
    directory: TempDir,
    pub(crate) address: SocketAddr,
    tokens: Option<PathBuf>,
    /// From its next start on the server forgets what was removed so long ago.
    pub(crate) retention: Option<Duration>,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_tokens(None).await
    }

    /// A server that asks for one of the tokens in the text of a file of tokens, if there is one.
    pub(crate) async fn with_tokens(tokens: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let tokens = tokens.map(|text| {
            let file = directory.path().join("tokens.toml");
            std::fs::write(&file, text).unwrap();
            file
        });
        let mut world = Self { directory, address, tokens, retention: None, server: None };
        world.start().await;
        world
    }

    /// Starts the server, where it was before.
    pub(crate) async fn start(&mut self) {
        let mut config = Config::new(self.path("server"));
        config.listen = self.address;
        config.tokens = self.tokens.clone();
        config.retention = self.retention.unwrap_or(config.retention);
        config.scrub = "1s".parse().unwrap();
        let server = Server::open(config).await.unwrap();
        self.address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or(()) };
            server.run(stopped).await.unwrap();
        });
        self.server = Some((stop, running));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((stop, running)) = self.server.take() {
            stop.send(()).unwrap();
            soon(running).await.unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/sync", self.address)
    }

    /// A client of the collection `name` in the file `name`.
    pub(crate) async fn client(&self, file: &str, name: &str) -> Client {
        open(&self.path(file), name, Some(self.url())).await
    }
}

/// A client of one collection.
pub(crate) async fn open(path: &Path, name: &str, server: Option<String>) -> Client {
    let collections = vec![Pattern::parse(name).unwrap()];
    let options = Options::new(path, SpaceId::parse("home").unwrap(), collections);
    Client::open(Options { server, ..options }).await.unwrap()
}
