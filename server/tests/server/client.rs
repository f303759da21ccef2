//! A client from the messages of the protocol: pushes fresh records, follows the feed, checks roots.

use crate::world::PATIENCE;
use futures_util::{SinkExt, StreamExt};
use rejoin_core::{
    codec,
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, Cursor, Digest, Epoch, FieldName, Incarnation, Pattern, RecordId,
        RecordKey, ReplicaId, Seq, SpaceId, key_hash,
    },
    protocol::{
        limits::EPOCHS_MAX,
        message::{
            Body, Bye, Changes, Entry, Hello, Message, Mode, Outcome, Place, Push, PushRow,
            PushWrite, Resume, Subscription, Welcome,
        },
        wire,
    },
    record::{Cell, Kind, Record, Siblings, State, Value, VersionVector},
    time::WallMillis,
    tree::{Trie, combine_roots},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, Message as Frame, client::IntoClientRequest, http::HeaderValue},
};

/// A connection, which puts checks behind what it is given and takes them off what comes.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: wire::Chain,
    received: wire::Chain,
}

impl Socket {
    /// Sends what a frame carries.
    pub(crate) async fn say(&mut self, frame: Vec<u8>) -> Result<(), Error> {
        let sealed = self.sent.seal(frame);
        self.send(Frame::Binary(sealed.into())).await
    }

    /// The same in pieces of so many bytes with a pause before each, as they come over a slow line.
    pub(crate) async fn say_slowly(
        &mut self,
        frame: Vec<u8>,
        bytes: usize,
        pause: Duration,
    ) -> Result<(), Error> {
        let sealed = self.sent.seal(frame);
        let length = u16::try_from(sealed.len()).expect("no longer frame is said so");
        // Binary and whole, its length in two bytes, masked with zeros: that is, not at all.
        let head = [[0x82, 0xfe], length.to_be_bytes(), [0; 2], [0; 2]].concat();
        for piece in [head, sealed].concat().chunks(bytes) {
            sleep(pause).await;
            self.stream.get_mut().write_all(piece).await?;
        }
        Ok(())
    }

    /// Sends bytes that need not be frames.
    #[cfg(target_os = "linux")]
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = self.stream.get_mut().write_all(bytes);
        Ok(timeout(PATIENCE, sent).await.expect("taken in time")?)
    }

    /// Sends anything, as it is.
    pub(crate) async fn send(&mut self, frame: Frame) -> Result<(), Error> {
        timeout(PATIENCE, self.stream.send(frame)).await.expect("taken in time")
    }

    /// What comes next, soon.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, Error>> {
        let next = timeout(PATIENCE, self.stream.next()).await.expect("a message in time");
        Some(next?.map(|frame| match frame {
            Frame::Binary(sealed) => {
                let opened = self.received.open(&sealed).expect("the next frame");
                Frame::Binary(opened.to_vec().into())
            }
            other => other,
        }))
    }

    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        self.stream.close(None).await
    }
}

/// Opens a WebSocket; `origin` as a browser would name it.
pub(crate) async fn dial(address: SocketAddr, origin: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}/sync").into_client_request()?;
    let protocol = HeaderValue::from_static("rejoin.v1");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    if let Some(origin) = origin {
        let origin = HeaderValue::from_str(origin).expect("an origin");
        request.headers_mut().insert("Origin", origin);
    }
    let (stream, _response) = timeout(PATIENCE, connect_async_with_config(request, None, true))
        .await
        .expect("in time")?;
    let (sent, received) = (wire::Chain::of_initiator(), wire::Chain::of_responder());
    Ok(Socket { stream, sent, received })
}

/// One durable copy, with its session if it has one.
pub(crate) struct Client {
    pub(crate) socket: Option<Socket>,
    assembler: wire::Assembler,
    pub(crate) channel: u64,
    pub(crate) space: SpaceId,
    pub(crate) token: Option<String>,
    pub(crate) replica: ReplicaId,
    pub(crate) versions: Vec<u32>,
    pub(crate) features: u64,
    /// What it asks for, if anything.
    pub(crate) pattern: Option<Pattern>,
    known: Vec<Incarnation>,
    clock: u64,
    pub(crate) cursor: Option<Cursor>,
    place: Place,
    /// The server's clock when it was last at the head.
    time: Hlc,
    epochs: Vec<Epoch>,
    number: u64,
    /// What was pushed, by row number, until it is acknowledged.
    pub(crate) outbox: BTreeMap<u64, (RecordKey, Hlc, Record)>,
    own: BTreeMap<RecordKey, Record>,
    /// Keys of rows that were acknowledged.
    pub(crate) acknowledged: BTreeSet<RecordKey>,
    pub(crate) base: BTreeMap<RecordKey, Record>,
    /// Over `base`, entry by entry.
    tries: BTreeMap<CollectionName, Trie>,
    /// The root that was last stated and agreed with.
    pub(crate) verified: Option<(Seq, Digest)>,
}

impl Client {
    pub(crate) fn new(space: &str, name: u8) -> Self {
        Self {
            assembler: wire::Assembler::default(),
            socket: None,
            channel: 1,
            space: SpaceId::parse(space).expect("a name"),
            token: None,
            replica: ReplicaId::from_bytes([name; 16]),
            versions: vec![1],
            features: 0,
            pattern: Some(Pattern::All),
            known: Vec::new(),
            clock: 0,
            cursor: None,
            place: Place::default(),
            time: Hlc::ZERO,
            epochs: Vec::new(),
            number: 0,
            outbox: BTreeMap::new(),
            own: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            base: BTreeMap::new(),
            tries: BTreeMap::new(),
            verified: None,
        }
    }

    /// A client that is welcomed.
    pub(crate) async fn joined(address: SocketAddr, space: &str, name: u8) -> Self {
        let mut client = Self::new(space, name);
        client.join(address).await.expect("a welcome");
        client
    }

    /// Connects and says hello; streams the feed from where it stands.
    pub(crate) async fn join(&mut self, address: SocketAddr) -> Result<Welcome, Ended> {
        self.assembler = wire::Assembler::default();
        self.socket =
            Some(dial(address, None).await.map_err(|error| Ended::Broken(Box::new(error)))?);
        self.say_hello().await?;
        match self.next().await? {
            Message::Welcome(welcome) => {
                self.known = self.known.split_off(self.known.len().saturating_sub(1));
                self.epochs.insert(0, welcome.epoch);
                self.epochs.dedup();
                self.epochs.truncate(EPOCHS_MAX);
                let streams = matches!(welcome.modes.as_slice(), [(1, Mode::Feed | Mode::InSync)]);
                assert!(
                    streams || self.cursor.is_none(),
                    "the server lost what it had: {welcome:?}"
                );
                if !streams && self.pattern.is_some() {
                    let place = self.place.clone();
                    self.say(&Message::Resume(Resume { subscription: 1, place, time: self.time }))
                        .await?;
                }
                let seq = self.cursor.map_or(Seq(0), |cursor| cursor.seq);
                self.cursor = Some(Cursor { epoch: welcome.epoch, seq });
                Ok(welcome)
            }
            Message::Bye(bye) => Err(Ended::Bye(bye)),
            other => panic!("before the welcome: {other:?}"),
        }
    }

    pub(crate) async fn say_hello(&mut self) -> Result<(), Ended> {
        let hello = self.hello();
        self.say(&Message::Hello(hello)).await
    }

    pub(crate) fn hello(&mut self) -> Hello {
        self.clock += 1;
        let serial = u128::from(wall().0) << 64 | u128::from(self.clock);
        let incarnation = Incarnation::from_bytes(serial.to_be_bytes());
        let known = self.known.clone();
        self.known.push(incarnation);
        Hello {
            versions: self.versions.clone(),
            features: self.features,
            replica: self.replica,
            incarnation,
            known,
            space: self.space.clone(),
            token: self.token.clone(),
            clock: wall(),
            subscriptions: self
                .pattern
                .iter()
                .map(|pattern| Subscription {
                    id: 1,
                    pattern: pattern.clone(),
                    cursor: self.cursor,
                    place: self.place.clone(),
                    root: None,
                    time: self.time,
                })
                .collect(),
            epochs: self.epochs.clone(),
        }
    }

    pub(crate) async fn say(&mut self, message: &Message) -> Result<(), Ended> {
        self.say_bytes(wire::encode_frame(self.channel, message)).await
    }

    /// Sends a frame that holds anything.
    pub(crate) async fn say_bytes(&mut self, frame: Vec<u8>) -> Result<(), Ended> {
        let sent = self.socket.as_mut().expect("a connection").say(frame).await;
        sent.map_err(|error| Ended::Broken(Box::new(error)))
    }

    /// Sends anything, as it is.
    pub(crate) async fn send(&mut self, frame: Frame) -> Result<(), Ended> {
        let sent = self.socket.as_mut().expect("a connection").send(frame).await;
        sent.map_err(|error| Ended::Broken(Box::new(error)))
    }

    /// The next message but pings, which are answered.
    pub(crate) async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            let socket = self.socket.as_mut().expect("a connection");
            let frame = match socket.next().await {
                Some(Ok(Frame::Binary(frame))) => frame,
                Some(Ok(Frame::Close(close))) => {
                    return Err(Ended::Closed(close.map(|close| close.code.into())));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Ended::Broken(Box::new(error))),
                None => return Err(Ended::Closed(None)),
            };
            let (channel, bytes) = wire::split_frame(&frame).expect("a channel");
            assert_eq!(channel, self.channel, "a frame of another channel");
            let Some(message) = self.assembler.take(bytes).expect("a part") else { continue };
            match wire::decode(&message).expect("a message") {
                Message::Ping { nonce } => {
                    self.say(&Message::Pong { nonce, state: None }).await?;
                }
                message => return Ok(message),
            }
        }
    }

    /// Queues a fresh record with this text and pushes it.
    pub(crate) async fn push(&mut self, id: &str, text: &str) -> Result<(), Ended> {
        let row = self.row(id, text);
        self.say(&Message::Push(Push { named: 0, rows: vec![row] })).await
    }

    /// Pushes again what is not acknowledged.
    pub(crate) async fn push_again(&mut self) -> Result<(), Ended> {
        let rows = self.outbox.iter();
        let rows: Vec<PushRow> =
            rows.map(|(number, (key, hlc, delta))| to_row(*number, key, *hlc, delta)).collect();
        for rows in rows.chunks(100) {
            self.say(&Message::Push(Push { named: 0, rows: rows.to_vec() })).await?;
        }
        Ok(())
    }

    /// Pushes a value of a reviewed field, without having seen any other.
    pub(crate) async fn push_sibling(
        &mut self,
        id: &str,
        field: &str,
        text: &str,
    ) -> Result<(), Ended> {
        self.number += 1;
        let stamp = Stamp { hlc: self.tick(), replica: self.replica };
        let mut siblings = Siblings::default();
        siblings.context.raise(stamp.replica, stamp.hlc);
        siblings.values.insert(stamp, Value::text(text));
        let state = State::Review(siblings);
        let name = FieldName::parse(field).expect("a name");
        let mut delta = Record::default();
        delta.seen.raise(stamp.replica, stamp.hlc);
        delta.cells.insert((name, Kind::Review), Cell { since: None, state });
        let key = key(id);
        self.own.insert(key.clone(), delta.clone());
        self.outbox.insert(self.number, (key.clone(), stamp.hlc, delta.clone()));
        let row = to_row(self.number, &key, stamp.hlc, &delta);
        self.say(&Message::Push(Push { named: 0, rows: vec![row] })).await
    }

    pub(crate) fn row(&mut self, id: &str, text: &str) -> PushRow {
        self.number += 1;
        let hlc = self.tick();
        let stamp = Stamp { hlc, replica: self.replica };
        let mut delta = Record::default();
        delta.seen.set(self.replica, hlc);
        let title = FieldName::parse("title").expect("a name");
        let state = State::Lww { stamp, value: Some(Value::text(text)) };
        delta.cells.insert((title, Kind::Lww), Cell { since: None, state });
        let key = key(id);
        self.own.insert(key.clone(), delta.clone());
        self.outbox.insert(self.number, (key.clone(), hlc, delta.clone()));
        to_row(self.number, &key, hlc, &delta)
    }

    fn tick(&mut self) -> Hlc {
        self.clock = self.clock.max(wall().0) + 1;
        // Ahead by no more than what was written in one go.
        Hlc::at(WallMillis(self.clock))
    }

    /// Takes in messages until all that was pushed is acknowledged.
    pub(crate) async fn settle(&mut self) -> Result<(), Ended> {
        while !self.outbox.is_empty() {
            let message = self.next().await?;
            self.take_in(message)?;
        }
        Ok(())
    }

    /// Takes in messages until a root is stated at a position of at least `seq`.
    pub(crate) async fn sync(&mut self, seq: Seq) -> Result<(), Ended> {
        while self.verified.is_none_or(|(verified, _)| verified < seq) {
            let message = self.next().await?;
            self.take_in(message)?;
        }
        Ok(())
    }

    /// Takes in messages until it holds so many records.
    pub(crate) async fn hold(&mut self, records: usize) -> Result<(), Ended> {
        while self.base.len() < records {
            let message = self.next().await?;
            self.take_in(message)?;
        }
        Ok(())
    }

    pub(crate) fn take_in(&mut self, message: Message) -> Result<(), Ended> {
        match message {
            Message::Ack(ack) => {
                for (number, outcome) in ack.outcomes {
                    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
                    let (key, _, _) = self.outbox.remove(&number).expect("a row that waits");
                    self.acknowledged.insert(key);
                }
            }
            Message::Changes(changes) => self.apply(changes),
            Message::Pong { .. } => {}
            Message::Bye(bye) => return Err(Ended::Bye(bye)),
            other => panic!("unexpected: {other:?}"),
        }
        Ok(())
    }

    fn apply(&mut self, changes: Changes) {
        assert_eq!(changes.after, self.place, "changes that do not continue");
        for entry in changes.entries {
            self.apply_entry(entry);
        }
        self.place = changes.upto;
        if changes.cut
            && let Some(cursor) = &mut self.cursor
        {
            cursor.seq = self.place.seq;
        }
        if let Some(stated) = changes.state {
            assert_eq!(stated.seq, self.place.seq);
            self.time = stated.hlc;
            let root = roots_of(&mut self.tries);
            assert_eq!(stated.roots, [(1, root)], "another root at {}", stated.seq);
            self.verified = Some((stated.seq, root));
        }
    }

    fn apply_entry(&mut self, entry: Entry) {
        let record = self.base.entry(entry.key.clone()).or_default();
        match entry.body {
            Body::Whole(whole) => *record = whole,
            Body::Delta(delta) => {
                for stamp in delta.seen.iter() {
                    record.seen.set(stamp.replica, stamp.hlc);
                }
                for stamp in delta.removed.seen.iter() {
                    record.removed.seen.set(stamp.replica, stamp.hlc);
                }
                record.removed.buried = delta.removed.buried.or(record.removed.buried);
                record.cells.extend(delta.cells);
            }
            Body::Own(_) => {
                *record = self.own.get(&entry.key).expect("a row of its own").clone();
            }
            other => panic!("unknown: {other:?}"),
        }
        let digest = codec::record_digest(&codec::encode_record(record));
        assert!(digest.as_bytes().starts_with(&entry.check), "another record: {record:?}");
        let trie = self.tries.entry(entry.key.collection.clone()).or_default();
        trie.insert(key_hash(&entry.key), digest);
    }

    /// The root over all that it holds, computed from the records.
    pub(crate) fn root(&self) -> Digest {
        let mut tries: BTreeMap<CollectionName, Trie> = BTreeMap::new();
        for (key, record) in &self.base {
            let digest = codec::record_digest(&codec::encode_record(record));
            let trie = tries.entry(key.collection.clone()).or_default();
            trie.insert(key_hash(key), digest);
        }
        roots_of(&mut tries)
    }

    /// Takes in messages until the channel or the connection ends.
    pub(crate) async fn end(&mut self) -> Ended {
        loop {
            match self.next().await {
                Ok(message) => {
                    if let Err(ended) = self.take_in(message) {
                        return ended;
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    /// What the server's close frame says, after its `Bye`.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        match self.next().await {
            Err(Ended::Closed(code)) => code,
            other => panic!("no close: {other:?}"),
        }
    }
}

fn roots_of(tries: &mut BTreeMap<CollectionName, Trie>) -> Digest {
    combine_roots(tries.iter_mut().map(|(name, trie)| (name, trie.root())))
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Bye(Bye),
    Closed(Option<u16>),
    Broken(#[expect(dead_code, reason = "shown when a test fails")] Box<Error>),
}

impl Ended {
    pub(crate) fn bye(self) -> Bye {
        match self {
            Self::Bye(bye) => bye,
            other => panic!("no bye: {other:?}"),
        }
    }
}

pub(crate) fn key(id: &str) -> RecordKey {
    RecordKey {
        collection: CollectionName::parse("tasks").expect("a name"),
        id: RecordId::parse(id).expect("a name"),
    }
}

fn to_row(number: u64, key: &RecordKey, hlc: Hlc, delta: &Record) -> PushRow {
    let digest = Digest::of("test.row", &[&codec::encode_record(delta)]);
    let mut short = [0; 16];
    short.copy_from_slice(digest.as_bytes().first_chunk::<16>().expect("32 bytes"));
    let write = PushWrite {
        key: key.clone(),
        saw: VersionVector::new(),
        updates: false,
        delta: delta.clone(),
    };
    let (origin, insisted) = (None, false);
    PushRow { number, hlc, origin, insisted, digest: short, writes: vec![write] }
}

pub(crate) fn wall() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    WallMillis(u64::try_from(since.as_millis()).expect("a clock before the year 584 million"))
}
