//! The driver, with a line that takes nothing for now.

use crate::world::{field, key, pattern, start, welcome};
use rejoin_core::{
    driver::{Bell, EngineCell, Listener, Ports, Ring, drive},
    id::{ReplicaId, SpaceId},
    io::FaultClass,
    port::{Clock, Dialer, Entropy, Fault, Frame, FrameSink, FrameStream},
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Receipt, Wish, WishError},
        limits::PUSH_BYTES_IN_FLIGHT_MAX,
        message::{Message, Mode},
        wire::{self, Chain},
    },
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::memory::MemoryStore,
    time::{MonoMillis, Now},
    tree::WalkLimits,
};
use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::Mutex,
    task::{Context, Poll, Waker},
};

struct Shared(Mutex<Engine>);

impl EngineCell for &Shared {
    fn with<T>(&self, with: impl FnOnce(&mut Engine) -> T) -> T {
        with(&mut self.0.lock().unwrap())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Fault for Never {
    fn class(&self) -> FaultClass {
        FaultClass::Transient
    }
}

/// Takes no frame.
struct Stuck;

impl FrameSink for Stuck {
    type Error = Never;

    async fn send(&mut self, _frame: Frame) -> Result<(), Never> {
        pending().await
    }

    async fn close(&mut self) -> Result<(), Never> {
        Ok(())
    }
}

/// What the peer has said and was not read.
#[derive(Default)]
struct Inbox(Mutex<VecDeque<Vec<u8>>>);

impl FrameStream for &Inbox {
    type Error = Never;

    async fn recv(&mut self) -> Result<Option<Frame>, Never> {
        poll_fn(|_| match self.0.lock().unwrap().pop_front() {
            Some(frame) => Poll::Ready(Ok(Some(Frame(frame)))),
            None => Poll::Pending,
        })
        .await
    }
}

impl<'a> Dialer for &'a Inbox {
    type Sink = Stuck;
    type Stream = &'a Inbox;
    type Error = Never;

    async fn dial(&self) -> Result<(Stuck, &'a Inbox), Never> {
        Ok((Stuck, self))
    }
}

/// Time stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        start()
    }

    async fn sleep_until(&self, _deadline: MonoMillis) {
        pending::<()>().await;
    }
}

struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
    }
}

/// Rings every other time that it is asked.
struct Ringing(bool);

impl Bell for Ringing {
    async fn rung(&mut self) -> Ring {
        poll_fn(|_| {
            self.0 = !self.0;
            if self.0 { Poll::Ready(Ring::Fed) } else { Poll::Pending }
        })
        .await
    }
}

struct Silent;

impl Listener for Silent {
    fn done(&mut self, _id: u64, result: Result<Receipt, WishError>) {
        result.unwrap();
    }

    fn notice(&mut self, _notice: Notice) {}
}

/// Long enough for all that can be done.
fn turn(mut driving: Pin<&mut impl Future<Output = ()>>) {
    for _ in 0..100 {
        assert!(driving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

/// With shorter parts more of them waited for a slow line than the driver read beside: it heard nothing until they had
/// left, took the peer for dead, and began anew, for ever.
#[test]
fn all_that_is_sent_before_it_is_answered_keeps_nobody_from_hearing() {
    let engine = Engine::open(EngineConfig {
        space: Some(SpaceId::parse("demo").unwrap()),
        patterns: vec![pattern("notes")],
        fresh: ReplicaId::from_bytes([1; 16]),
        token: None,
        trace: false,
        walk: WalkLimits::default(),
    });
    let shared = Shared(Mutex::new(engine.unwrap()));
    let engine = &shared;
    let (store, inbox) = (MemoryStore::new(), Inbox::default());
    let dialer = &inbox;
    let ports = Ports { store: &store, dialer: Some(&dialer), clock: &Still };
    let (mut entropy, mut bell, mut listener) = (Zeros, Ringing(false), Silent);
    let mut driving = pin!(drive(&engine, ports, &mut entropy, &mut bell, &mut listener));
    let mut chain = Chain::of_responder();
    let mut hear = |message: &Message| {
        let frame = chain.seal(wire::encode_frame(0, message));
        inbox.0.lock().unwrap().push_back(frame);
    };
    engine.with(|engine| engine.handle(start(), Input::Lead { token: [1; 16] }));
    turn(driving.as_mut());
    hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    turn(driving.as_mut());
    assert_ne!(engine.with(|engine| engine.status().link), Link::Opening);
    // Up to its limit, and then the largest batch.
    let mut written = 0;
    for (id, bytes) in [(1, 250_000), (2, 250_000), (3, 750_000)] {
        written += bytes;
        let fields = (0..bytes / 250_000).map(|at| {
            let action = FieldAction::Set(Kind::Lww, Value::text(&"x".repeat(250_000)));
            FieldChange { field: field(&format!("f{at}")), action }
        });
        let action = Action::Upsert(fields.collect());
        let changes = vec![Change { key: key("notes", &id.to_string()), action }];
        let wish = Wish::Write { changes, relaxed: false };
        engine.with(|engine| engine.handle(start(), Input::Ask { id, wish }));
        turn(driving.as_mut());
    }
    assert!(written > 2 * PUSH_BYTES_IN_FLIGHT_MAX);
    let outbox = engine.with(|engine| engine.pushing_facts());
    assert!(outbox.contains("next: 6"), "all of it was sent: {outbox}");
    hear(&Message::Ping { nonce: 1 });
    turn(driving.as_mut());
    assert!(inbox.0.lock().unwrap().is_empty(), "it listens");
}
