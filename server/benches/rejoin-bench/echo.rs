//! The least that fan-out costs: a bare axum WebSocket server that sends what anybody says to everybody.

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    routing::get,
};
use std::io::{Write, stdout};
use tokio::{net::TcpListener, sync::broadcast};

/// Says where it listens, and serves until it is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let (said, _) = broadcast::channel::<Message>(1_024);
    let upgrade = get(
        |upgrade: WebSocketUpgrade, State(said): State<broadcast::Sender<Message>>| async move {
            upgrade.on_upgrade(move |socket| talk(socket, said))
        },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, Router::new().route("/sync", upgrade).with_state(said)).await?)
}

async fn talk(mut socket: WebSocket, said: broadcast::Sender<Message>) {
    let mut heard = said.subscribe();
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                // Nobody listens, not even this one, only when it ends.
                Some(Ok(message @ Message::Binary(_))) => drop(said.send(message)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            message = heard.recv() => match message {
                Ok(message) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
        }
    }
}
