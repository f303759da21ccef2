//! Accepting connections, within limits, until the process ends.
//!
//! Invariant: a connection holds its [`Slot`] for as long as it lives, upgraded or not; headers that do
//! not come in time end it. Absent: what requests mean.

use crate::{app::App, config::ConnectionLimits};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rejoin_core::protocol::limits::HANDSHAKE_WITHIN;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{debug, warn};

/// How long accepting rests after an error, which is mostly "too many open files".
const REST: Duration = Duration::from_millis(100);

/// What is held of a request before it is answered.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// How many connections there are, in all and by address.
#[derive(Debug)]
struct Census {
    limits: ConnectionLimits,
    by_address: Mutex<(u32, BTreeMap<IpAddr, u32>)>,
}

/// A connection's place among the limited number; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *counts;
        let here = by_address.entry(address).or_default();
        if *all >= self.limits.connections_max || *here >= self.limits.connections_per_address_max {
            return None;
        }
        *here += 1;
        *all += 1;
        Some(Slot { census: Arc::clone(self), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *counts;
        *all = all.saturating_sub(1);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until `stopping` becomes true. Connections that are over the limit are closed unread.
pub(crate) async fn accept(
    listener: TcpListener,
    app: App,
    limits: ConnectionLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let census = Arc::new(Census { limits, by_address: Mutex::default() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                sleep(REST).await;
                continue;
            }
        };
        let Some(slot) = census.enter(address.ip()) else {
            debug!(address = %address.ip(), "too many connections, closed");
            continue;
        };
        tokio::spawn(serve(stream, slot, app.clone(), stopping.clone()));
    }
}

/// Serves requests until the peer is done, is upgraded, or the process ends.
async fn serve(stream: TcpStream, slot: Slot, app: App, mut stopping: watch::Receiver<bool>) {
    // Small messages should not wait for company; without the option they are only slower.
    stream.set_nodelay(true).ok();
    let slot = Arc::new(slot);
    let service = app.service(&slot);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEADER_BYTES_MAX)
        .header_read_timeout(Duration::from_millis(HANDSHAKE_WITHIN.0))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection failed");
    }
    drop(slot);
}

/// Resolves when the process ends.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender there is no server any more.
    stopping.wait_for(|stopping| *stopping).await.ok();
}
