//! The servers of others, in Node.js, as the browser's benchmark installs them.

use anyhow::Context;
use std::{
    io::{BufRead, BufReader, ErrorKind, Write, stderr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::task::block_in_place;

/// A server of another, which ends with this.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    pub(crate) url: String,
    /// Messages with which a client changes something.
    pub(crate) changes: Vec<Vec<u8>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends, and takes its server with it, when nobody speaks to it any more.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// y-websocket's server, and so many messages that change its document.
pub(crate) async fn y_websocket(changes: usize) -> anyhow::Result<Option<Peer>> {
    let Some((child, said)) = block_in_place(|| start(&["y-websocket", &changes.to_string()]))?
    else {
        return Ok(None);
    };
    let url = said.get("url").and_then(|url| url.as_str()).context("no address")?.to_owned();
    let changes =
        said.get("changes").and_then(|changes| changes.as_array()).context("no changes")?;
    let changes = changes.iter().filter_map(|change| bytes(change.as_str()?)).collect();
    Ok(Some(Peer { child, url, changes }))
}

/// Documents per second that clients of PouchDB's server put, each of which waits for one before the next.
pub(crate) async fn pouchdb_writes(clients: u32, time: Duration) -> anyhow::Result<Option<f64>> {
    let (clients, time) = (clients.to_string(), time.as_millis().to_string());
    let Some((mut child, said)) = block_in_place(|| start(&["pouchdb", &clients, &time]))? else {
        return Ok(None);
    };
    drop(child.stdin.take());
    child.wait()?;
    Ok(said.get("written").and_then(serde_json::Value::as_f64))
}

/// Runs `peers.mjs` until it has said its line; `None` without Node.js.
fn start(arguments: &[&str]) -> anyhow::Result<Option<(Child, serde_json::Value)>> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/rejoin-bench/peers.mjs");
    let mut command = Command::new("node");
    command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            writeln!(stderr(), "without the servers of others: there is no Node.js").ok();
            return Ok(None);
        }
        Err(error) => return Err(error).context("node"),
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
    let said = serde_json::from_str(&line).with_context(|| format!("{arguments:?}: {line}"))?;
    Ok(Some((child, said)))
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
