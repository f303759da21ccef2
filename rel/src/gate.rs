//! Where clients connect: passes them on to wherever the server is now, or to nobody.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// An address that stays while servers come and go behind it.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    server: watch::Sender<Option<SocketAddr>>,
    ports: Arc<Mutex<BTreeSet<u16>>>,
    passed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Opens it, with nobody behind.
    pub(crate) async fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (server, target) = watch::channel(None);
        let ports = Arc::default();
        let (used, passed) = (Arc::clone(&ports), Arc::new(AtomicU64::default()));
        let count = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((near, _)) => {
                            let (used, count) = (Arc::clone(&used), Arc::clone(&count));
                            connections.spawn(pass(near, target.clone(), used, count));
                        }
                        Err(_) => return,
                    },
                    Some(_ended) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, server, ports, passed, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/sync", self.address)
    }

    /// Lets clients through to there.
    pub(crate) fn open(&self, server: SocketAddr) {
        self.server.send_replace(Some(server));
    }

    /// Cuts every connection, and lets nobody through.
    pub(crate) fn shut(&self) {
        self.server.send_replace(None);
    }
}

impl Gate {
    /// From which ports connections went on.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections went on.
    pub(crate) fn connections(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut near: TcpStream,
    mut target: watch::Receiver<Option<SocketAddr>>,
    ports: Arc<Mutex<BTreeSet<u16>>>,
    passed: Arc<AtomicU64>,
) {
    let Some(server) = *target.borrow_and_update() else { return };
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    // Frames are written whole: waiting for more to send with them only delays them.
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    passed.fetch_add(1, Ordering::Relaxed);
    if let Ok(from) = far.local_addr() {
        ports.lock().unwrap_or_else(PoisonError::into_inner).insert(from.port());
    }
    tokio::select! {
        // However it ends, both ends hear of it.
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = target.changed() => {}
    }
}
