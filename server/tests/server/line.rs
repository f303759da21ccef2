//! A connection on which every channel is another replica's, and on which all that comes is written down.

use crate::client::{Socket, dial, wall};
use rejoin_core::{
    codec,
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId, SpaceId,
    },
    protocol::{
        message::{
            Bye, ByeCode, FEATURE_PRESENCE, Hello, Message, Outcome, Place, Push, PushRow,
            PushWrite, Subscription,
        },
        wire,
    },
    record::{Cell, Kind, Record, State, Value, VersionVector},
    time::WallMillis,
};
use std::{collections::BTreeMap, net::SocketAddr};
use tokio_tungstenite::tungstenite::Message as Frame;

/// One connection, a channel after the other.
pub(crate) struct Line {
    socket: Socket,
    channel: u64,
    assemblers: BTreeMap<u64, wire::Assembler>,
    /// Names the replica of the open channel.
    pub(crate) serial: u64,
    /// The time of the last row, which is its number, too.
    pub(crate) clock: u64,
    /// All that came, as text.
    pub(crate) heard: Vec<String>,
}

impl Line {
    pub(crate) async fn new(address: SocketAddr, serial: u64) -> Self {
        let socket = dial(address, None).await.unwrap();
        let (assemblers, heard) = (BTreeMap::new(), Vec::new());
        Self { socket, channel: 0, assemblers, serial: serial << 32, clock: wall().0, heard }
    }

    pub(crate) async fn say(&mut self, message: &Message) {
        self.socket.say(wire::encode_frame(self.channel, message)).await.unwrap();
    }

    /// The next message of the open channel.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let Some(Ok(Frame::Binary(frame))) = self.socket.next().await else {
                panic!("the connection ended")
            };
            let (channel, bytes) = wire::split_frame(&frame).unwrap();
            let assembler = self.assemblers.entry(channel).or_default();
            let Some(message) = assembler.take(bytes).unwrap() else { continue };
            let message = wire::decode(&message).unwrap();
            let mut text = format!("{message:?}");
            if let Message::Chunk(chunk) = &message {
                text += &format!("{:?}", chunk.open().unwrap().unwrap());
                for record in chunk.open().unwrap().unwrap() {
                    text += &format!("{:?}", codec::decode_record(&record.bytes).unwrap());
                }
            }
            self.heard.push(text);
            match message {
                // What was on its way when its channel was closed.
                _ if channel != self.channel => {}
                Message::Ping { nonce } => self.say(&Message::Pong { nonce, state: None }).await,
                message => return message,
            }
        }
    }

    /// Opens a channel as a replica of its own; what is answered.
    pub(crate) async fn hello(
        &mut self,
        space: &str,
        token: Option<&String>,
        pattern: Option<&str>,
    ) -> Message {
        self.channel += 1;
        self.serial += 1;
        let bytes = u128::from(self.serial).to_be_bytes();
        let hello = Hello {
            versions: vec![1],
            features: FEATURE_PRESENCE,
            replica: ReplicaId::from_bytes(bytes),
            incarnation: Incarnation::from_bytes(bytes),
            known: Vec::new(),
            space: SpaceId::parse(space).unwrap(),
            token: token.cloned(),
            clock: wall(),
            subscriptions: pattern
                .map(|pattern| Subscription {
                    id: 1,
                    pattern: Pattern::parse(pattern).unwrap(),
                    cursor: None,
                    place: Place::default(),
                    root: None,
                    time: Hlc::ZERO,
                })
                .into_iter()
                .collect(),
            epochs: Vec::new(),
        };
        self.say(&Message::Hello(hello)).await;
        self.next().await
    }

    /// Ends the channel, if it is open.
    pub(crate) async fn end(&mut self) {
        let bye = Bye { code: ByeCode::Done, reason: String::new(), retry_after: None };
        self.say(&Message::Bye(bye)).await;
    }

    /// What comes until one of it is wanted, or the channel ends.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut came = Vec::new();
        loop {
            let message = self.next().await;
            let over = is_wanted(&message) || matches!(message, Message::Bye(_));
            came.push(message);
            if over {
                return came;
            }
        }
    }

    pub(crate) fn stamp(&mut self) -> Stamp {
        self.clock += 1;
        let replica = ReplicaId::from_bytes(u128::from(self.serial).to_be_bytes());
        Stamp { hlc: Hlc::at(WallMillis(self.clock)), replica }
    }

    pub(crate) fn row(&mut self, writes: &[(RecordKey, &str, bool)], removes: bool) -> PushRow {
        let stamp = self.stamp();
        let writes: Vec<PushWrite> = writes
            .iter()
            .map(|(key, text, updates)| {
                let mut delta = record(stamp, text);
                if removes {
                    delta.cells.clear();
                    delta.removed.seen.set(stamp.replica, stamp.hlc);
                }
                let (key, saw) = (key.clone(), VersionVector::new());
                PushWrite { key, saw, updates: *updates, delta }
            })
            .collect();
        let digest = [7; 16];
        PushRow {
            number: self.clock,
            hlc: stamp.hlc,
            origin: None,
            insisted: false,
            digest,
            writes,
        }
    }

    pub(crate) async fn push(&mut self, row: PushRow) -> String {
        self.say(&Message::Push(Push { named: 0, rows: vec![row] })).await;
        let came = self.until(|message| matches!(message, Message::Ack(_))).await;
        match came.last().unwrap() {
            Message::Ack(ack) => match &ack.outcomes[0].1 {
                Outcome::Accepted { .. } => "accepted".to_owned(),
                Outcome::Rejected { code, .. } => format!("rejected {code:?}"),
                other => format!("{other:?}"),
            },
            other => told(other),
        }
    }
}

pub(crate) fn told(message: &Message) -> String {
    match message {
        Message::Welcome(_) => "welcome".to_owned(),
        Message::Bye(bye) => format!("bye {:?}", bye.code),
        other => panic!("unexpected: {other:?}"),
    }
}

pub(crate) fn record(stamp: Stamp, text: &str) -> Record {
    let mut record = Record::default();
    record.seen.set(stamp.replica, stamp.hlc);
    let state = State::Lww { stamp, value: Some(Value::text(text)) };
    record.cells.insert((FieldName::parse("f").unwrap(), Kind::Lww), Cell { since: None, state });
    record
}

pub(crate) fn key(collection: &str, id: &str) -> RecordKey {
    let collection = CollectionName::parse(collection).unwrap();
    RecordKey { collection, id: RecordId::parse(id).unwrap() }
}
