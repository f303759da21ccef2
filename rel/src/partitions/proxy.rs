//! A line with one trouble: the first connections meet it, those that follow pass.
//!
//! Each way is read and written on its own, with a queue between: what stands still or comes late on one way keeps
//! nothing of the other, and arrives in its order, as with TCP, even if who sent it is gone by then.

use rejoin_core::testing::rng::Rng;
use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, yield_now},
    time::{Instant, sleep_until},
};

/// What a line does to a connection.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// Behind so many bytes of one way, this happens.
    Behind(Way, u64, Blow),
    /// Each byte goes in a segment of its own.
    Dribble,
    /// Whatever goes either way takes so long, and longer by up to `jitter`, by these dice.
    Slow { latency: Duration, jitter: Duration, seed: u64 },
    /// Somebody else answers, with this.
    Answer(Vec<u8>),
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The client.
    Up,
    /// The server.
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blow {
    /// The connection ends.
    Cut,
    /// It ends with a reset, at both ends.
    Reset,
    /// This way stands still for so long; the other goes on.
    Stall(Duration),
    /// This way carries nothing any more, not even its end; the other goes on.
    Silence,
    /// Somebody else goes on with these words.
    Words(Vec<u8>),
}

impl Trouble {
    /// Its name among the figures.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Behind(_, _, Blow::Cut) => "cut",
            Self::Behind(_, _, Blow::Reset) => "reset",
            Self::Behind(_, _, Blow::Stall(_)) => "stall",
            Self::Behind(_, _, Blow::Silence) => "silence",
            Self::Behind(_, _, Blow::Words(_)) => "words",
            Self::Dribble => "dribble",
            Self::Slow { .. } => "slow",
            Self::Answer(_) => "answer",
        }
    }

    /// Whether a session with it waits most of its time, if only for its next attempt.
    pub(super) const fn waits(&self) -> bool {
        !self.cuts() && !matches!(self, Self::None | Self::Dribble)
    }

    /// Whether the connection is cut: there are so many of these that nobody waits for the pause behind them.
    pub(super) const fn cuts(&self) -> bool {
        matches!(self, Self::Behind(_, _, Blow::Cut))
    }

    /// Whether a session may end before it comes: it says the same each time, but not in as many messages.
    pub(super) const fn may_miss(&self) -> bool {
        matches!(self, Self::Behind(..))
    }

    /// The same, so many parts of its way earlier.
    pub(super) fn earlier(&self, parts: u64, of: u64) -> Self {
        let Self::Behind(way, at, blow) = self else { return self.clone() };
        Self::Behind(*way, at - at * parts / of, blow.clone())
    }

    /// Whether all that is sent arrives or is lost some time, and ends are told of the end.
    pub(super) const fn ends(&self) -> bool {
        !matches!(self, Self::Behind(_, _, Blow::Silence))
    }

    /// How many connections meet it: who answers instead of the server does so when he is asked again.
    const fn connections(&self) -> usize {
        if matches!(self, Self::Answer(_)) { 3 } else { 1 }
    }
}

/// Pieces that are on their way; behind them the sender has to wait.
const PIECES_MAX: usize = 1_024;

/// What has happened on a line.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Bytes of the client that arrived.
    up: AtomicU64,
    /// Bytes of the server that arrived.
    down: AtomicU64,
    connections: AtomicU64,
    struck: AtomicBool,
}

impl Met {
    /// Bytes of the client and of the server that arrived.
    pub(super) fn passed(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// How often a client has come.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether the trouble came.
    pub(super) fn struck(&self) -> bool {
        self.struck.load(Ordering::Relaxed)
    }

    fn strike(&self) {
        self.struck.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) met: Arc<Met>,
    /// Each connection has one of its receivers.
    open: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn new(server: SocketAddr, trouble: Trouble) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let met = Arc::new(Met::default());
        let open = watch::Sender::new(());
        let (meeting, opening) = (Arc::clone(&met), open.clone());
        let task = tokio::spawn(async move {
            let troubles = std::iter::repeat_n(trouble.clone(), trouble.connections());
            let mut troubles = troubles.chain(std::iter::repeat(Trouble::None));
            while let (Ok((near, _)), Some(trouble)) = (listener.accept().await, troubles.next()) {
                meeting.connections.fetch_add(1, Ordering::Relaxed);
                let (met, is_open) = (Arc::clone(&meeting), opening.subscribe());
                tokio::spawn(async move {
                    // How it ends is what the client has to live with.
                    meet(near, server, trouble, &met).await.ok();
                    drop(is_open);
                });
            }
        });
        Ok(Self { address, met, open, task })
    }

    /// Waits until nothing is on its way any more, to either end, of whoever has come.
    pub(super) async fn over(&self) {
        self.open.closed().await;
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
    met: &Met,
) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    if let Trouble::Answer(bytes) = &trouble {
        // What was asked is read first: closing before that would reset the answer away.
        let asked = near.read(&mut [0; 4_096]).await?;
        if asked == 0 {
            return Ok(());
        }
        met.strike();
        near.write_all(bytes).await?;
        return near.shutdown().await;
    }
    let mut far = TcpStream::connect(server).await?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    let way = |way, passed| Line { way, trouble: &trouble, passed, met };
    let ended = tokio::try_join!(
        way(Way::Up, &met.up).pass(near_in, far_out),
        way(Way::Down, &met.down).pass(far_in, near_out),
    );
    match ended {
        Ok(_) => Ok(()),
        // Both hear of an end first, whatever is unread.
        Err(Torn::Cut) => near.shutdown().await.and(far.shutdown().await),
        Err(Torn::Reset) => {
            let reset = near.set_zero_linger();
            far.set_zero_linger().and(reset)
        }
    }
}

/// How a connection ended before its time.
#[derive(Debug, PartialEq, Eq)]
enum Torn {
    Cut,
    Reset,
}

/// Bytes, and when they arrive.
struct Piece {
    at: Instant,
    bytes: Vec<u8>,
    /// Whether somebody else says them.
    is_foreign: bool,
}

/// One way of a connection.
struct Line<'a> {
    way: Way,
    trouble: &'a Trouble,
    passed: &'a AtomicU64,
    met: &'a Met,
}

impl Line<'_> {
    /// Passes on what is sent until it ends. That one end is gone does not keep from the other what is on its way.
    async fn pass(
        self,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Torn> {
        let (pieces, arriving) = mpsc::channel(PIECES_MAX);
        // An end that takes nothing any more is gone: that is no trouble of the line.
        let (taken, _gone) = tokio::join!(self.take(from, pieces), self.give(&mut to, arriving));
        taken?;
        to.shutdown().await.ok();
        Ok(())
    }

    /// Reads, and says when it arrives.
    async fn take(
        &self,
        mut from: impl AsyncRead + Unpin,
        pieces: mpsc::Sender<Piece>,
    ) -> Result<(), Torn> {
        let mut blow = None;
        if let Trouble::Behind(way, behind, what) = self.trouble
            && *way == self.way
        {
            blow = Some((*behind, what));
        }
        let mut delay = Delay::of(self.trouble, self.way);
        let (mut taken, mut bytes) = (0, [0; 4_096]);
        loop {
            if let Some((_, blow)) = blow.take_if(|(behind, _)| *behind == taken) {
                match blow {
                    Blow::Cut | Blow::Reset => {
                        self.met.strike();
                        let is_cut = *blow == Blow::Cut;
                        return Err(if is_cut { Torn::Cut } else { Torn::Reset });
                    }
                    Blow::Stall(time) => delay.stands_still(*time),
                    Blow::Silence => {
                        // Where nothing more was to come, nothing is kept silent.
                        if from.read_u8().await.is_ok() {
                            self.met.strike();
                        }
                        copy(&mut from, &mut sink()).await.ok();
                        return pending().await;
                    }
                    Blow::Words(words) => {
                        self.met.strike();
                        let bytes = words.clone();
                        let words = Piece { at: Instant::now(), bytes, is_foreign: true };
                        pieces.send(words).await.ok();
                        copy(&mut from, &mut sink()).await.ok();
                        return Ok(());
                    }
                }
            }
            let left = blow.map_or(u64::MAX, |(behind, _)| behind - taken);
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let read = from.read(bytes.get_mut(..room).unwrap_or_default()).await;
            let Ok(read @ 1..) = read else { return Ok(()) };
            let now = Instant::now();
            let at = delay.arrival(now);
            if at > now {
                self.met.strike();
            }
            let bytes = bytes.get(..read).unwrap_or_default().to_vec();
            if pieces.send(Piece { at, bytes, is_foreign: false }).await.is_err() {
                return Ok(());
            }
            taken += u64::try_from(read).unwrap_or_default();
        }
    }

    /// Writes what arrives, when it does.
    async fn give(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        mut arriving: mpsc::Receiver<Piece>,
    ) -> std::io::Result<()> {
        let dribbles = matches!(self.trouble, Trouble::Dribble);
        while let Some(piece) = arriving.recv().await {
            if dribbles {
                self.met.strike();
            }
            sleep_until(piece.at).await;
            for part in piece.bytes.chunks(if dribbles { 1 } else { usize::MAX }) {
                to.write_all(part).await?;
                if dribbles {
                    // Another segment: the one before has gone.
                    yield_now().await;
                }
            }
            if !piece.is_foreign {
                let length = u64::try_from(piece.bytes.len()).unwrap_or_default();
                self.passed.fetch_add(length, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// When the pieces of one way arrive: none before an earlier one.
struct Delay {
    latency: Duration,
    jitter: Duration,
    dice: Rng,
    last: Instant,
}

impl Delay {
    fn of(trouble: &Trouble, way: Way) -> Self {
        let mut slow = (Duration::ZERO, Duration::ZERO, 0);
        if let Trouble::Slow { latency, jitter, seed } = trouble {
            slow = (*latency, *jitter, *seed);
        }
        let (latency, jitter, seed) = slow;
        let dice = Rng::new(if way == Way::Up { seed } else { !seed });
        Self { latency, jitter, dice, last: Instant::now() }
    }

    fn stands_still(&mut self, time: Duration) {
        self.last = Instant::now() + time;
    }

    /// Of a piece that is sent now.
    fn arrival(&mut self, now: Instant) -> Instant {
        let jitter = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX - 1);
        let late = self.latency + Duration::from_micros(self.dice.below(jitter + 1));
        self.last = self.last.max(now + late);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A server that says back what it hears, behind a line with this trouble; and a client of it.
    async fn echo(trouble: Trouble) -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::new(listener.local_addr().unwrap(), trouble).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    copy(&mut read, &mut write).await
                });
            }
        });
        let client = TcpStream::connect(proxy.address).await.unwrap();
        (proxy, client)
    }

    async fn reads(client: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
        let mut heard = Vec::new();
        let ended = client.read_to_end(&mut heard).await;
        (heard, ended.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn cut_line_passes_what_was_sent_before_and_no_more() {
        for way in [Way::Up, Way::Down] {
            let (proxy, mut client) = echo(Trouble::Behind(way, 3, Blow::Cut)).await;
            client.write_all(b"hello").await.unwrap();
            let (heard, error) = reads(&mut client).await;
            assert_eq!(error, None);
            assert!(b"hel".starts_with(&heard), "{heard:?}");
            proxy.over().await;
            let passed = proxy.met.passed();
            assert_eq!(if way == Way::Up { passed.0 } else { passed.1 }, 3);
            assert!(proxy.met.struck());
        }
    }

    #[tokio::test]
    async fn reset_line_tells_the_client_so() {
        for way in [Way::Up, Way::Down] {
            let (proxy, mut client) = echo(Trouble::Behind(way, 3, Blow::Reset)).await;
            client.write_all(b"hello").await.unwrap();
            assert_eq!(reads(&mut client).await.1, Some(ErrorKind::ConnectionReset));
            assert!(proxy.met.struck());
        }
    }

    #[tokio::test]
    async fn what_stands_still_one_way_arrives_in_the_end_and_the_other_way_goes_on() {
        let time = Duration::from_millis(60);
        let (proxy, mut client) = echo(Trouble::Behind(Way::Down, 2, Blow::Stall(time))).await;
        let started = Instant::now();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = [0; 2];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(proxy.met.passed().0, 5, "all of it went up");
        assert!(started.elapsed() < time, "what was before it waits for nothing");
        assert_eq!(reads(&mut client).await, (b"llo".to_vec(), None));
        assert!(started.elapsed() >= time);
        proxy.over().await;
    }

    #[tokio::test]
    async fn what_stood_still_arrives_though_its_sender_has_gone() {
        let stall = Blow::Stall(Duration::from_millis(30));
        let (proxy, mut client) = echo(Trouble::Behind(Way::Up, 2, stall)).await;
        client.write_all(b"hello").await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
        drop(client);
        proxy.over().await;
        assert_eq!(proxy.met.passed().0, 5);
    }

    #[tokio::test]
    async fn silent_line_carries_nothing_one_way_and_everything_the_other() {
        let (proxy, mut client) = echo(Trouble::Behind(Way::Down, 2, Blow::Silence)).await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = [0; 2];
        client.read_exact(&mut heard).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(20), client.read_u8()).await;
        assert!(more.is_err(), "neither bytes nor an end: {more:?}");
        assert_eq!(proxy.met.passed(), (5, 2));
    }

    #[tokio::test]
    async fn what_holds_up_nothing_has_not_struck() {
        for blow in [Blow::Stall(Duration::from_secs(9)), Blow::Silence] {
            let (proxy, mut client) = echo(Trouble::Behind(Way::Down, 5, blow)).await;
            client.write_all(b"hello").await.unwrap();
            client.read_exact(&mut [0; 5]).await.unwrap();
            assert!(!proxy.met.struck());
            client.write_all(b"!").await.unwrap();
            let more = tokio::time::timeout(Duration::from_millis(20), client.read_u8()).await;
            assert!(more.is_err() && proxy.met.struck());
        }
    }

    #[tokio::test]
    async fn slow_line_passes_everything_in_order_and_late() {
        let latency = Duration::from_millis(20);
        let slow = Trouble::Slow { latency, jitter: latency, seed: 1 };
        let (proxy, mut client) = echo(slow).await;
        let started = Instant::now();
        for word in [b"he", b"ll", b"o!"] {
            client.write_all(word).await.unwrap();
            yield_now().await;
        }
        client.shutdown().await.unwrap();
        assert_eq!(reads(&mut client).await, (b"hello!".to_vec(), None));
        assert!(started.elapsed() >= 2 * latency, "up and down");
        assert!(proxy.met.struck());
    }

    #[tokio::test]
    async fn words_stand_in_place_of_the_rest() {
        let words = Trouble::Behind(Way::Down, 2, Blow::Words(b"y".to_vec()));
        let (proxy, mut client) = echo(words).await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(reads(&mut client).await, (b"hey".to_vec(), None));
        assert_eq!(proxy.met.passed(), (5, 2), "they are no words of the server");
    }

    #[tokio::test]
    async fn only_the_first_connection_meets_it() {
        let (proxy, mut first) = echo(Trouble::Behind(Way::Up, 0, Blow::Reset)).await;
        assert_eq!(reads(&mut first).await.1, Some(ErrorKind::ConnectionReset));
        let mut second = TcpStream::connect(proxy.address).await.unwrap();
        second.write_all(b"hello").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(reads(&mut second).await, (b"hello".to_vec(), None));
    }
}
