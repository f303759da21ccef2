//! A host on a store in memory, scripted peers, and a model of what a client keeps.

use rejoin_core::{
    codec,
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, Cursor, Digest, Epoch, FieldName, Incarnation, Pattern, RecordId,
        RecordKey, ReplicaId, Seq, SpaceId, key_hash,
    },
    io::{CommitOutcome, FaultClass, Keyspace},
    port::Store,
    protocol::{
        host::{
            DirectAnswer, Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId, Quota,
            RefillPolicy,
        },
        message::{
            Body, Bye, Changes, Entry, Hello, Kept, Message, Origin, Place, Proof, Push, PushRow,
            PushWrite, Right, Subscription, Welcome,
        },
        wire,
    },
    record::{Cell, Kind, Record, State, Value, VersionVector},
    testing::{block_on, memory::MemoryStore},
    time::{Millis, MonoMillis, Now, WallMillis},
    tree::{Trie, combine_roots},
};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const WALL: u64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    pub(crate) inbox: BTreeMap<PeerId, VecDeque<Message>>,
    pub(crate) closed: BTreeMap<PeerId, Bye>,
    pub(crate) notes: Vec<HostNote>,
    /// Answers to direct writes.
    pub(crate) written: Vec<(u64, DirectAnswer)>,
    pub(crate) sent: Vec<(PeerId, std::sync::Arc<[u8]>)>,
    /// Whether sockets take everything at once.
    pub(crate) sockets_take: bool,
    /// The next commit fails so; `true`: it happened all the same.
    pub(crate) fail_commit: Option<(FaultClass, bool)>,
    /// Effects wait here instead of being carried out.
    pub(crate) hold: bool,
    pub(crate) held: VecDeque<HostOutput>,
    /// Most queries of one read.
    pub(crate) queries_most: usize,
    peers: u64,
}

pub(crate) fn epoch(number: u8) -> Epoch {
    Epoch::from_bytes([number; 16])
}

fn config(number: u8) -> HostConfig {
    HostConfig::new(SpaceId::parse("demo").unwrap(), epoch(number), [9; 32])
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(MemoryStore::new(), 1)
    }

    pub(crate) fn on(store: MemoryStore, number: u8) -> Self {
        Self::with(store, config(number))
    }

    pub(crate) fn without_sketches() -> Self {
        let mut config = config(1);
        config.walk.cells_max = 0;
        Self::with(MemoryStore::new(), config)
    }

    /// Another space of the same server, which has one secret for all.
    pub(crate) fn of_space(name: &str) -> Self {
        let mut config = config(2);
        config.space = SpaceId::parse(name).unwrap();
        Self::with(MemoryStore::new(), config)
    }

    pub(crate) fn with_little_memory() -> Self {
        let mut config = config(1);
        config.recent_bytes_max = 0;
        Self::with(MemoryStore::new(), config)
    }

    /// One whose operator lets records have `bytes` at most.
    pub(crate) fn of_small_records(store: MemoryStore, number: u8, bytes: u32) -> Self {
        let mut config = config(number);
        config.limits.record_bytes = bytes;
        Self::with(store, config)
    }

    /// One of a space that may hold so much.
    pub(crate) fn of_quota(records: u64, bytes: u64) -> Self {
        let mut config = config(1);
        config.quota = Quota { records, bytes };
        Self::with(MemoryStore::new(), config)
    }

    /// A host that reads all that is stored again, three times a minute.
    pub(crate) fn scrubbed() -> Self {
        let mut config = config(1);
        config.scrub = Some(Millis(20_000));
        Self::with(MemoryStore::new(), config)
    }

    /// Under a policy for what comes back; another secret than before, if the old one is lost.
    pub(crate) fn refilled_by(
        store: MemoryStore,
        number: u8,
        policy: RefillPolicy,
        lost: bool,
    ) -> Self {
        let mut config = config(number);
        config.refill = policy;
        if lost {
            config.proof_key = [number; 32];
        }
        Self::with(store, config)
    }

    /// A host that keeps what is dead for so long, of a server that has run for so long, when the wall clock shows
    /// so much beyond the usual.
    pub(crate) fn keeping(
        store: MemoryStore,
        number: u8,
        retention: u64,
        (ran, beyond): (u64, u64),
    ) -> Self {
        let mut config = config(number);
        config.retention = Millis(retention);
        config.ran = Millis(ran);
        config.recent_bytes_max = 0;
        Self::at(store, config, WallMillis(WALL + beyond))
    }

    fn with(store: MemoryStore, config: HostConfig) -> Self {
        Self::at(store, config, WallMillis(WALL))
    }

    fn at(store: MemoryStore, config: HostConfig, wall: WallMillis) -> Self {
        let now = Now { wall, mono: MonoMillis(1_000) };
        let mut world = Self {
            host: Host::open(config, now),
            store,
            now,
            inbox: BTreeMap::new(),
            closed: BTreeMap::new(),
            notes: Vec::new(),
            written: Vec::new(),
            sent: Vec::new(),
            sockets_take: true,
            fail_commit: None,
            hold: false,
            held: VecDeque::new(),
            queries_most: 0,
            peers: 0,
        };
        world.run();
        world
    }

    pub(crate) fn restart(self, number: u8) -> Self {
        let mut world = Self::on(self.store, number);
        world.peers = self.peers;
        world
    }

    pub(crate) fn put(&mut self, input: HostInput) {
        self.host.handle(self.now, input);
        self.run();
    }

    pub(crate) fn release(&mut self) {
        self.hold = false;
        self.run();
    }

    pub(crate) fn run(&mut self) {
        loop {
            while let Some(output) = self.host.poll() {
                self.held.push_back(output);
            }
            let at = self.held.iter().position(|output| {
                !self.hold
                    || !matches!(output, HostOutput::Query { .. } | HostOutput::Commit { .. })
            });
            let Some(output) = at.and_then(|at| self.held.remove(at)) else {
                return;
            };
            self.carry_out(output);
        }
    }

    pub(crate) fn carry_out(&mut self, output: HostOutput) {
        match output {
            HostOutput::Send { peer, bytes } => {
                let message = wire::decode(&bytes).unwrap();
                self.inbox.entry(peer).or_default().push_back(message);
                let len = bytes.len();
                self.sent.push((peer, bytes));
                if self.sockets_take {
                    let input = HostInput::Sent { peer, bytes: len };
                    self.host.handle(self.now, input);
                }
            }
            HostOutput::Query { ticket, queries } => {
                self.queries_most = self.queries_most.max(queries.len());
                let result = Ok(block_on(self.store.read(&queries)).unwrap());
                let input = HostInput::Answered { ticket, result };
                self.host.handle(self.now, input);
            }
            HostOutput::Commit { ticket, batch } => {
                let result = match self.fail_commit.take() {
                    Some((class, happened)) => {
                        if happened {
                            let outcome = block_on(self.store.commit(batch)).unwrap();
                            assert_eq!(outcome, CommitOutcome::Applied);
                        }
                        Err(class)
                    }
                    None => Ok(block_on(self.store.commit(batch)).unwrap()),
                };
                let input = HostInput::Committed { ticket, result };
                self.host.handle(self.now, input);
            }
            HostOutput::Close { peer, bye } => {
                self.closed.insert(peer, bye);
            }
            HostOutput::Note(note) => self.notes.push(note),
            HostOutput::Written { number, answer } => self.written.push((number, answer)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now.wall.0 += millis;
        self.now.mono.0 += millis;
        self.put(HostInput::Deadline);
    }

    pub(crate) fn open(&mut self, hello: Hello, grant: Grant) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.put(HostInput::Opened { peer, hello, grant });
        peer
    }

    pub(crate) fn say(&mut self, peer: PeerId, message: &Message) {
        let bytes = wire::encode(message);
        self.put(HostInput::Message { peer, bytes });
    }

    pub(crate) fn hear(&mut self, peer: PeerId) -> Vec<Message> {
        self.inbox.remove(&peer).unwrap_or_default().into()
    }

    pub(crate) fn feed_rows(&self) -> usize {
        self.store.rows(Keyspace::Feed).len()
    }
}

pub(crate) fn grant(principal: &str) -> Grant {
    Grant {
        principal: principal.to_owned(),
        rights: vec![Right { pattern: Pattern::All, write: true }],
    }
}

pub(crate) fn key(id: &str) -> RecordKey {
    RecordKey {
        collection: CollectionName::parse("tasks").unwrap(),
        id: RecordId::parse(id).unwrap(),
    }
}

pub(crate) fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

/// What a client keeps, as far as the host can tell.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) peer: PeerId,
    pub(crate) replica: ReplicaId,
    pub(crate) incarnation: u8,
    pub(crate) known: Vec<Incarnation>,
    pub(crate) features: u64,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) base: BTreeMap<RecordKey, Record>,
    /// With what each record of the base came: position and proof.
    pub(crate) marks: BTreeMap<RecordKey, (Epoch, Seq, Proof)>,
    pub(crate) place: Place,
    /// The host's clock when it was last at the head, and the horizon then.
    pub(crate) time: Hlc,
    pub(crate) horizon: Hlc,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) epoch: Epoch,
    pub(crate) rows: BTreeMap<Hlc, PushRow>,
    pub(crate) conflicts: Vec<(RecordKey, rejoin_core::protocol::message::Conflict)>,
    /// Bodies that came: own, delta, whole.
    pub(crate) bodies: [usize; 3],
    pub(crate) cuts: Vec<bool>,
    pub(crate) verified: usize,
    pub(crate) accepted: Option<Hlc>,
    pub(crate) named: u64,
}

impl Client {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            peer: PeerId(0),
            replica: ReplicaId::from_bytes([number; 16]),
            incarnation: 0,
            known: Vec::new(),
            features: 0,
            patterns: vec![Pattern::All],
            base: BTreeMap::new(),
            marks: BTreeMap::new(),
            place: Place::default(),
            time: Hlc::ZERO,
            horizon: Hlc::ZERO,
            cursor: None,
            epoch: epoch(0),
            rows: BTreeMap::new(),
            conflicts: Vec::new(),
            bodies: [0; 3],
            cuts: Vec::new(),
            verified: 0,
            accepted: None,
            named: 0,
        }
    }

    pub(crate) fn incarnation_of(&self, number: u8) -> Incarnation {
        let mut bytes = *self.replica.as_bytes();
        bytes[15] = number;
        Incarnation::from_bytes(bytes)
    }

    pub(crate) fn hello(&mut self, root: bool) -> Hello {
        self.incarnation += 1;
        let root = (root && self.cursor.is_some()).then(|| self.root());
        Hello {
            versions: vec![1],
            features: self.features,
            replica: self.replica,
            incarnation: self.incarnation_of(self.incarnation),
            known: self.known.clone(),
            space: SpaceId::parse("demo").unwrap(),
            token: None,
            clock: WallMillis(WALL),
            subscriptions: self
                .patterns
                .iter()
                .enumerate()
                .map(|(id, pattern)| Subscription {
                    id: u32::try_from(id).unwrap(),
                    pattern: pattern.clone(),
                    cursor: self.cursor,
                    place: self.place.clone(),
                    root,
                    time: self.time,
                })
                .collect(),
            epochs: Vec::new(),
        }
    }

    /// Opens a session; the welcome, the rest taken in.
    pub(crate) fn connect(&mut self, world: &mut World) -> Welcome {
        self.connect_as(world, "ann", true)
    }

    pub(crate) fn connect_as(&mut self, world: &mut World, principal: &str, root: bool) -> Welcome {
        self.connect_with(world, grant(principal), root)
    }

    pub(crate) fn connect_with(&mut self, world: &mut World, grant: Grant, root: bool) -> Welcome {
        let hello = self.hello(root);
        self.peer = world.open(hello, grant);
        self.named = 0;
        let heard = world.hear(self.peer);
        let mut heard = heard.into_iter();
        let Some(Message::Welcome(welcome)) = heard.next() else {
            panic!("no welcome");
        };
        self.known = vec![self.incarnation_of(self.incarnation)];
        self.epoch = welcome.epoch;
        self.accepted = welcome.accepted;
        for message in heard {
            self.take(message);
        }
        welcome
    }

    /// Takes in everything that came; what is no change is given back.
    pub(crate) fn listen(&mut self, world: &mut World) -> Vec<Message> {
        let heard = world.hear(self.peer);
        heard.into_iter().filter_map(|message| self.take(message)).collect()
    }

    fn take(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::Changes(changes) => {
                self.apply(changes);
                None
            }
            other => Some(other),
        }
    }

    pub(crate) fn apply(&mut self, changes: Changes) {
        assert_eq!(changes.after, self.place, "the feed goes on where I stand");
        for entry in &changes.entries {
            self.apply_entry(entry);
        }
        self.place = changes.upto.clone();
        self.cuts.push(changes.cut);
        if changes.cut {
            assert_eq!(changes.upto.key, None);
            self.cursor = Some(Cursor { epoch: self.epoch, seq: changes.upto.seq });
        }
        if let Some(state) = changes.state {
            assert_eq!(state.seq, self.place.seq);
            self.stands_at(&state);
            for (id, root) in state.roots {
                let pattern = self.patterns[id as usize].clone();
                assert_eq!(root, self.root_of(&pattern), "what I hold is what the host holds");
                self.verified += 1;
            }
        }
    }

    /// Forgets what the host has collected.
    pub(crate) fn stands_at(&mut self, state: &rejoin_core::protocol::message::Stated) {
        self.time = state.hlc;
        self.horizon = state.horizon;
        let collected = |record: &Record| record.burial().is_some_and(|at| at <= state.horizon);
        self.base.retain(|_, record| !collected(record));
    }

    pub(crate) fn apply_entry(&mut self, entry: &Entry) {
        let mut record = self.base.remove(&entry.key).unwrap_or_default();
        match &entry.body {
            Body::Own(upto) => {
                self.bodies[0] += 1;
                for row in self.rows.range(..=*upto).map(|(_, row)| row) {
                    let done = record.seen.get(&self.replica) >= Some(row.hlc);
                    for write in &row.writes {
                        if write.key == entry.key && !done {
                            record.join(&write.delta);
                        }
                    }
                }
            }
            Body::Delta(delta) => {
                self.bodies[1] += 1;
                for stamp in delta.seen.iter() {
                    record.seen.set(stamp.replica, stamp.hlc);
                }
                for stamp in delta.removed.seen.iter() {
                    record.removed.seen.set(stamp.replica, stamp.hlc);
                }
                if delta.removed.buried.is_some() {
                    record.removed.buried = delta.removed.buried;
                }
                record.cells.extend(delta.cells.clone());
            }
            Body::Whole(whole) => {
                self.bodies[2] += 1;
                record = whole.clone();
            }
            other => panic!("{other:?}"),
        }
        let digest = codec::record_digest(&codec::encode_record(&record));
        assert_eq!(digest.as_bytes()[..8], entry.check, "{:?}", entry.key);
        for conflict in &entry.conflicts {
            self.conflicts.push((entry.key.clone(), conflict.clone()));
        }
        self.base.insert(entry.key.clone(), record);
        self.marks.insert(entry.key.clone(), (self.epoch, entry.seq, entry.proof));
    }

    /// A record of the base, to be brought back.
    pub(crate) fn kept(&self, id: &str) -> Kept {
        let key = key(id);
        let (epoch, seq, proof) = self.marks[&key];
        Kept { epoch, seq, proof, record: self.base[&key].clone(), key }
    }

    pub(crate) fn trie(&self, collection: &CollectionName) -> Trie {
        self.base
            .iter()
            .filter(|(key, _)| key.collection == *collection)
            .map(|(key, record)| rejoin_core::tree::Entry {
                key_hash: key_hash(key),
                digest: codec::record_digest(&codec::encode_record(record)),
            })
            .collect()
    }

    pub(crate) fn root(&self) -> Digest {
        self.root_of(&self.patterns[0])
    }

    fn root_of(&self, pattern: &Pattern) -> Digest {
        let mut names: Vec<_> = self.base.keys().map(|key| key.collection.clone()).collect();
        names.dedup();
        names.retain(|name| pattern.covers(name));
        let roots: Vec<_> = names.iter().map(|name| self.trie(name).root()).collect();
        combine_roots(names.iter().zip(roots))
    }

    /// A row at `WALL + millis`.
    pub(crate) fn row(&mut self, millis: u64, writes: Vec<(RecordKey, Record)>) -> PushRow {
        let hlc = Hlc::at(WallMillis(WALL + millis));
        let row = PushRow {
            number: millis,
            hlc,
            origin: None,
            insisted: false,
            digest: digest16(&writes),
            writes: writes
                .into_iter()
                .map(|(key, mut delta)| {
                    delta.seen.set(self.replica, hlc);
                    let saw =
                        self.base.get(&key).map(|record| record.seen.clone()).unwrap_or_default();
                    PushWrite { key, saw, updates: false, delta }
                })
                .collect(),
        };
        self.rows.insert(hlc, row.clone());
        row
    }

    /// Removes a record as far as it is known here.
    pub(crate) fn remove(&mut self, millis: u64, id: &str) -> PushRow {
        let mut delta = Record::default();
        let seen = self.base.get(&key(id)).map(|record| record.seen.clone());
        delta.removed.seen = seen.unwrap_or_default();
        delta.removed.seen.raise(self.replica, self.stamp(millis).hlc);
        self.row(millis, vec![(key(id), delta)])
    }

    /// Sets a field of a record that is there.
    pub(crate) fn update(&mut self, millis: u64, id: &str, value: &str) -> PushRow {
        let mut row = self.set(millis, id, "title", value);
        row.writes.iter_mut().for_each(|write| write.updates = true);
        self.rows.insert(row.hlc, row.clone());
        row
    }

    pub(crate) fn stamp(&self, millis: u64) -> Stamp {
        Stamp { hlc: Hlc::at(WallMillis(WALL + millis)), replica: self.replica }
    }

    /// Sets one text field of one record.
    pub(crate) fn set(&mut self, millis: u64, id: &str, name: &str, value: &str) -> PushRow {
        let delta = self.lww(millis, name, value);
        self.row(millis, vec![(key(id), delta)])
    }

    pub(crate) fn lww(&self, millis: u64, name: &str, value: &str) -> Record {
        let state = State::Lww { stamp: self.stamp(millis), value: Some(Value::text(value)) };
        cell(name, Kind::Lww, None, state)
    }

    pub(crate) fn push(&self, world: &mut World, rows: &[PushRow]) {
        let push = Push { named: self.named, rows: rows.to_vec() };
        world.say(self.peer, &Message::Push(push));
    }
}

/// What a row is, under whatever stamp it is pushed.
pub(crate) fn origin_of(client: &Client, row: &PushRow) -> Origin {
    let own = Stamp { hlc: row.hlc, replica: client.replica };
    Origin { stamp: row.origin.unwrap_or(own), digest: row.digest }
}

pub(crate) fn cell(name: &str, kind: Kind, since: Option<Stamp>, state: State) -> Record {
    let mut record = Record::default();
    record.cells.insert((field(name), kind), Cell { since, state });
    record
}

pub(crate) fn vector(entries: &[Stamp]) -> VersionVector {
    entries.iter().map(|stamp| (stamp.replica, stamp.hlc)).collect()
}

fn digest16(writes: &[(RecordKey, Record)]) -> [u8; 16] {
    let bytes: Vec<u8> =
        writes.iter().flat_map(|(_, record)| codec::encode_record(record)).collect();
    let digest = Digest::of("row", &[&bytes]);
    digest.as_bytes()[..16].try_into().unwrap()
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq(number)
}
