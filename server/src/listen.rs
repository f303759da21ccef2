//! Accepting connections, within limits, until the process ends.
//!
//! Invariant: a connection holds its [`Slot`] for as long as it lives, upgraded or not; headers that do
//! not come in time end it. Absent: what requests mean.

use crate::{
    app::App,
    census::{Census, Slot},
    tls::Tls,
};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rejoin_core::protocol::limits::HANDSHAKE_WITHIN;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// How long accepting rests after an error, which is mostly "too many open files".
const REST: Duration = Duration::from_millis(100);

/// The same time for each: to be greeted in TLS, and to say what is asked for.
const HANDSHAKE_TIME: Duration = Duration::from_millis(HANDSHAKE_WITHIN.0);

/// What is held of a request before it is answered.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Accepts until `stopping` becomes true. Connections that are over the limit are closed unread.
pub(crate) async fn accept(
    listener: TcpListener,
    app: App,
    census: Census,
    tls: Option<Arc<Tls>>,
    mut stopping: watch::Receiver<bool>,
) {
    let census = Arc::new(census);
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
        // Small messages should not wait for company; without the option they are only slower.
        stream.set_nodelay(true).ok();
        let (app, stopping) = (app.clone(), stopping.clone());
        match &tls {
            None => drop(tokio::spawn(serve(stream, slot, app, stopping))),
            Some(tls) => {
                let greeting = timeout(HANDSHAKE_TIME, tls.acceptor().accept(stream));
                tokio::spawn(async move {
                    match greeting.await {
                        Ok(Ok(stream)) => serve(stream, slot, app, stopping).await,
                        Ok(Err(error)) => debug!(%error, "a connection was not encrypted"),
                        Err(_elapsed) => debug!("a client takes too long to be greeted, closed"),
                    }
                });
            }
        }
    }
}

/// Serves requests until the peer is done, is upgraded, or the process ends.
async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    slot: Slot,
    app: App,
    mut stopping: watch::Receiver<bool>,
) {
    let slot = Arc::new(slot);
    let service = app.service(&slot);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEADER_BYTES_MAX)
        .header_read_timeout(HANDSHAKE_TIME)
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
