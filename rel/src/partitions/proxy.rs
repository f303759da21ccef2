//! A line with one trouble: the first connection meets it, those that follow pass.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the first connection meets.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// It ends behind so many bytes that the client sent.
    CutUp(u64),
    /// It ends behind so many bytes that the server sent.
    CutDown(u64),
    /// Each byte goes in a segment of its own.
    Dribble,
    /// Somebody else answers, with this.
    Answer(Vec<u8>),
    /// It ends at once, with a reset.
    Reset,
}

/// Bytes that went up and down.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) passed: Arc<Passed>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn new(server: SocketAddr, trouble: Trouble) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let passed = Arc::new(Passed::default());
        let count = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            let mut trouble = trouble;
            while let Ok((near, _)) = listener.accept().await {
                let met = std::mem::replace(&mut trouble, Trouble::None);
                // How it ends is what the client has to live with.
                tokio::spawn(meet(near, server, met, Arc::clone(&count)));
            }
        });
        Ok(Self { address, passed, task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn meet(
    mut near: TcpStream,
    server: SocketAddr,
    trouble: Trouble,
    passed: Arc<Passed>,
) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    if let Trouble::Answer(bytes) = &trouble {
        // What was asked is read first: closing before that would reset the answer away.
        let asked = near.read(&mut [0; 4_096]).await?;
        if asked == 0 {
            return Ok(());
        }
        near.write_all(bytes).await?;
        return near.shutdown().await;
    }
    if matches!(trouble, Trouble::Reset) {
        return near.set_zero_linger();
    }
    let far = TcpStream::connect(server).await?;
    far.set_nodelay(true)?;
    let (up, down) = match trouble {
        Trouble::CutUp(up) => (up, u64::MAX),
        Trouble::CutDown(down) => (u64::MAX, down),
        Trouble::None | Trouble::Dribble | Trouble::Answer(_) | Trouble::Reset => {
            (u64::MAX, u64::MAX)
        }
    };
    let step = if matches!(trouble, Trouble::Dribble) { 1 } else { usize::MAX };
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = {
        let (read, write) = far.into_split();
        (read, write)
    };
    tokio::select! {
        ended = pass(near_in, far_out, up, step, &passed.up) => ended,
        ended = pass(far_in, near_out, down, step, &passed.down) => ended,
    }
}

/// Passes at most `most` bytes on, in pieces of at most `step`.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut most: u64,
    step: usize,
    passed: &AtomicU64,
) -> std::io::Result<()> {
    let mut bytes = [0; 4_096];
    while most > 0 {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let kept = usize::try_from(most).unwrap_or(read).min(read);
        for piece in bytes.get(..kept).unwrap_or_default().chunks(step) {
            to.write_all(piece).await?;
            if step == 1 {
                // Another segment: the one before has gone.
                tokio::task::yield_now().await;
            }
        }
        most -= u64::try_from(kept).unwrap_or(most);
        passed.fetch_add(u64::try_from(kept).unwrap_or_default(), Ordering::Relaxed);
    }
    Ok(())
}
