//! An engine that is welcomed as another principal than the one whose records it holds.

#![expect(clippy::unwrap_used, reason = "a test: whatever goes wrong here should stop it")]

use rejoin_core::{
    hlc::Hlc,
    id::{
        CollectionName, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId,
        Seq, SpaceId,
    },
    io::{CommitOutcome, Ticket},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Output, Wish, WishError},
        message::{Bye, ByeCode, Identity, Limits, Message, Mode, Recalled, Welcome},
        wire,
    },
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::{block_on, memory::MemoryStore},
    time::{MonoMillis, Now, WallMillis},
};

const NOW: Now = Now { wall: WallMillis(1_700_000_000_000), mono: MonoMillis(1_000) };

/// One holder of a store, with what came out of it last.
struct Holder {
    engine: Engine,
    sent: Vec<Message>,
    notices: Vec<Notice>,
    done: Vec<(u64, Result<u64, WishError>)>,
    /// Another holder writes this many rows before the next commit is carried out.
    overtaken: u8,
}

impl Holder {
    fn open(store: &MemoryStore) -> Self {
        let engine = Engine::open(EngineConfig {
            space: Some(SpaceId::parse("demo").unwrap()),
            patterns: vec![Pattern::All],
            fresh: ReplicaId::from_bytes([1; 16]),
            token: None,
            trace: false,
            walk: rejoin_core::tree::WalkLimits::default(),
        })
        .unwrap();
        let (sent, notices, done) = (Vec::new(), Vec::new(), Vec::new());
        let mut holder = Self { engine, sent, notices, done, overtaken: 0 };
        holder.run(store);
        holder
    }

    fn put(&mut self, store: &MemoryStore, input: Input) {
        self.engine.handle(NOW, input);
        self.run(store);
    }

    fn run(&mut self, store: &MemoryStore) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Query { ticket, queries } => {
                    let result = Ok(block_on(store.read(&queries)).unwrap());
                    self.engine.handle(NOW, Input::Answered { ticket, result });
                }
                Output::Commit { ticket, batch } => {
                    if core::mem::take(&mut self.overtaken) > 0 {
                        Self::open(store).write(store, 9, "of another tab");
                    }
                    let outcome = block_on(store.commit(batch)).unwrap();
                    self.committed(ticket, outcome);
                }
                Output::Send(frame) => {
                    let (_, message) = wire::split_frame(&frame).unwrap();
                    self.sent.push(wire::decode(message).unwrap());
                }
                Output::Close { .. } => {}
                Output::Done { id, result } => {
                    self.done.push((id, result.map(|receipt| receipt.number)));
                }
                Output::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn committed(&mut self, ticket: Ticket, outcome: CommitOutcome) {
        self.engine.handle(NOW, Input::Committed { ticket, result: Ok(outcome) });
    }

    fn ask(&mut self, store: &MemoryStore, id: u64, wish: Wish) -> Result<u64, WishError> {
        self.put(store, Input::Ask { id, wish });
        let done = self.done.pop().unwrap();
        assert_eq!(done.0, id);
        done.1
    }

    fn write(&mut self, store: &MemoryStore, id: u64, name: &str) {
        let collection = CollectionName::parse("tasks").unwrap();
        let key = RecordKey { collection, id: RecordId::parse(&format!("{id}")).unwrap() };
        let field = FieldName::parse("title").unwrap();
        let action = FieldAction::Set(Kind::Lww, Value::Text(name.into()));
        let change = Change { key, action: Action::Add(vec![FieldChange { field, action }]) };
        let wish = Wish::Write { changes: vec![change], relaxed: false };
        self.ask(store, id, wish).unwrap();
    }

    /// A connection, welcomed as `principal`; what is sent from then on is kept.
    fn connect(&mut self, store: &MemoryStore, number: u8, principal: &str) {
        let incarnation = Incarnation::from_bytes([number; 16]);
        let fresh = ReplicaId::from_bytes([100 + number; 16]);
        self.sent.clear();
        if self.engine.replica().is_denied() {
            // It takes another id, and says nothing before.
            self.put(store, Input::Connected { incarnation, fresh, salt: 0 });
            assert_eq!((self.engine.replica().id(), self.sent.len()), (fresh, 0));
        }
        self.put(store, Input::Connected { incarnation, fresh, salt: 0 });
        assert!(matches!(self.sent.last(), Some(Message::Hello(_))));
        self.sent.clear();
        self.hear(store, &welcome(principal));
        if matches!(self.sent.last(), Some(Message::Recall(_))) {
            let (accepted, unsure) = (Vec::new(), Vec::new());
            self.hear(store, &Message::Recalled(Recalled { accepted, unsure }));
        }
    }

    fn hear(&mut self, store: &MemoryStore, message: &Message) {
        self.put(store, Input::Frame(wire::encode_frame(0, message)));
    }

    fn has_pushed(&self) -> bool {
        self.sent.iter().any(|message| matches!(message, Message::Push(_)))
    }
}

fn welcome(principal: &str) -> Message {
    Message::Welcome(Welcome {
        version: 1,
        features: 0,
        principal: principal.into(),
        rights: Vec::new(),
        limits: Limits { frame_bytes: 0, record_bytes: 0, value_bytes: 0, batch_records: 0 },
        clock: NOW.wall,
        epoch: Epoch::from_bytes([7; 16]),
        horizon: Hlc::ZERO,
        lineage: Vec::new(),
        head: Seq(0),
        accepted: None,
        identity: Identity::Confirmed,
        modes: vec![(0, Mode::Feed)],
        copied: None,
    })
}

/// A leader of Ada's with one row that waits, blocked because Bob was welcomed.
fn blocked(store: &MemoryStore) -> Holder {
    let mut holder = Holder::open(store);
    holder.put(store, Input::Lead { token: [5; 16] });
    holder.connect(store, 1, "ada");
    holder.put(store, Input::Disconnected);
    holder.write(store, 1, "of Ada");
    holder.connect(store, 2, "bob");
    assert_eq!(holder.engine.status().link, Link::Blocked);
    assert!(!holder.has_pushed());
    holder
}

#[test]
fn b24_adopted_rows_are_pushed_in_the_new_name() {
    let store = MemoryStore::new();
    let mut holder = blocked(&store);
    assert_eq!(holder.ask(&store, 2, Wish::Adopt), Ok(0));
    assert_eq!(holder.engine.replica().principal(), Some("bob"));
    holder.connect(&store, 3, "bob");
    assert!(holder.has_pushed());
    assert_eq!(holder.engine.status().pending, 1);
}

/// A commit that another tab overtook was made again as one that keeps the rows.
#[test]
fn b24_discarded_rows_stay_discarded_when_another_tab_was_first() {
    let store = MemoryStore::new();
    let mut holder = blocked(&store);
    holder.overtaken = 1;
    assert_eq!(holder.ask(&store, 2, Wish::DiscardPending), Ok(0));
    assert_eq!(holder.engine.status().pending, 0);
    holder.connect(&store, 3, "bob");
    assert!(!holder.has_pushed());
    let reopened = Holder::open(&store);
    assert_eq!(reopened.engine.status().pending, 0);
    assert_eq!(reopened.engine.replica().principal(), Some("bob"));
}

/// Once the own account is back, nothing must be written over to the one that was met before.
#[test]
fn b24_nothing_can_be_adopted_when_the_own_account_is_back() {
    let store = MemoryStore::new();
    let mut holder = blocked(&store);
    holder.put(&store, Input::Disconnected);
    holder.connect(&store, 3, "ada");
    assert!(holder.has_pushed());
    for wish in [Wish::Adopt, Wish::DiscardPending] {
        assert_eq!(holder.ask(&store, 2, wish), Err(WishError::NothingToAdopt));
    }
    assert_eq!(holder.engine.status().pending, 1);
}

/// The peer refuses another principal's token within a session: it had to be supplied twice.
#[test]
fn a_token_supplied_within_a_session_gets_a_hello_of_its_own() {
    let store = MemoryStore::new();
    let mut holder = Holder::open(&store);
    holder.put(&store, Input::Lead { token: [5; 16] });
    holder.connect(&store, 1, "ada");
    let bye = |reason: &str| {
        Message::Bye(Bye { code: ByeCode::Unauthorized, reason: reason.into(), retry_after: None })
    };
    holder.put(&store, Input::Token(Some("token of bob".into())));
    holder.hear(&store, &bye("the token is another principal's"));
    assert!(holder.engine.wants_connection());
    holder.connect(&store, 2, "bob");
    assert_eq!(holder.engine.status().link, Link::Blocked);
    holder.hear(&store, &bye("it has expired"));
    assert!(!holder.engine.wants_connection());
    assert_eq!(holder.engine.status().link, Link::NeedsToken);
}
