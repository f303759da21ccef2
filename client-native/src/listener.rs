//! What comes out of the engine: answers to those who asked, notices to those who listen.

use crate::{ClientError, OpenError, ports};
use rejoin_core::{
    driver::{EngineCell, Listener},
    io::FaultClass,
    port::Clock,
    protocol::engine::{Input, Notice, Receipt, WishError},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{broadcast, oneshot, watch};

/// Notices that a listener may be behind.
const NOTICES_MAX: usize = 4_096;

type Answer = oneshot::Sender<Result<Receipt, WishError>>;

/// Who waits for an answer.
#[derive(Debug, Default)]
struct Waiting {
    answers: BTreeMap<u64, Answer>,
    asked: u64,
    closed: bool,
}

/// What the client and its driver share beside the engine.
#[derive(Debug)]
pub(crate) struct Hub {
    waiting: Mutex<Waiting>,
    notices: Mutex<Option<broadcast::Sender<Notice>>>,
    /// Grows with everything that comes out of the engine.
    steps: watch::Sender<u64>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            notices: Mutex::new(Some(broadcast::Sender::new(NOTICES_MAX))),
            steps: watch::Sender::new(0),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a wish, and where its answer will come.
    pub(crate) fn ask(
        &self,
    ) -> Result<(u64, oneshot::Receiver<Result<Receipt, WishError>>), ClientError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(ClientError::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        waiting.asked += 1;
        let id = waiting.asked;
        waiting.answers.insert(id, sender);
        Ok((id, receiver))
    }

    /// Nothing more will come out of the engine.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.answers.clear();
        drop(waiting);
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.step();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting().closed
    }

    fn step(&self) {
        self.steps.send_modify(|steps| *steps += 1);
    }

    pub(crate) fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    pub(crate) fn notices(&self) -> Notices {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        Notices(notices.as_ref().map(broadcast::Sender::subscribe))
    }
}

/// Some notices were missed: too many came since the last one was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} notices were missed")]
pub struct Missed(pub u64);

/// Notices, from the moment it was made on.
#[derive(Debug)]
pub struct Notices(Option<broadcast::Receiver<Notice>>);

impl Notices {
    /// The next notice; `None` once the client is closed. Cancel safe.
    ///
    /// # Errors
    /// [`Missed`]: what was to be learnt from the missed ones must be read anew. The next call goes on
    /// with the oldest that is kept.
    pub async fn next(&mut self) -> Result<Option<Notice>, Missed> {
        let Some(receiver) = &mut self.0 else {
            return Ok(None);
        };
        match receiver.recv().await {
            Ok(notice) => Ok(Some(notice)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
        }
    }

    /// The next notice, if there is one already.
    ///
    /// # Errors
    /// [`Missed`], as in [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<Notice>, Missed> {
        match self.0.as_mut().map(broadcast::Receiver::try_recv) {
            Some(Ok(notice)) => Ok(Some(notice)),
            Some(Err(broadcast::error::TryRecvError::Lagged(missed))) => Err(Missed(missed)),
            None
            | Some(Err(
                broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed,
            )) => Ok(None),
        }
    }
}

/// The driver's listener.
#[derive(Debug)]
pub(crate) struct HubListener<C> {
    pub(crate) hub: Arc<Hub>,
    pub(crate) engine: ports::SharedEngine,
    pub(crate) clock: C,
    /// The fencing token of this run.
    pub(crate) token: [u8; 16],
    /// Who waits for the engine to be open and to lead.
    pub(crate) opening: Option<oneshot::Sender<Result<(), OpenError>>>,
}

impl<C: Clock> HubListener<C> {
    fn opened(&mut self, result: Result<(), OpenError>) {
        if let Some(opening) = self.opening.take() {
            // Who opened may have given up.
            opening.send(result).ok();
        }
    }
}

impl<C: Clock> Listener for HubListener<C> {
    fn done(&mut self, id: u64, result: Result<Receipt, WishError>) {
        let answer = self.hub.waiting().answers.remove(&id);
        if let Some(answer) = answer {
            // Who asked may have gone: the wish was carried out all the same.
            answer.send(result).ok();
        }
        self.hub.step();
    }

    fn notice(&mut self, notice: Notice) {
        if notice == Notice::Opened {
            // The file is locked to this process: no one else can lead.
            let now = self.clock.now();
            let token = self.token;
            self.engine.with(|engine| engine.handle(now, Input::Lead { token }));
        } else if notice == Notice::Leading {
            self.opened(Ok(()));
        } else if notice == Notice::Deposed {
            self.opened(Err(OpenError::Store(FaultClass::Transient)));
        } else if let Notice::Unreadable(class) = &notice {
            self.opened(Err(OpenError::Store(*class)));
        } else if let Notice::Refused(error) = &notice {
            self.opened(Err(OpenError::Damaged(*error)));
        } else if let Notice::OtherSpace { held } = &notice {
            self.opened(Err(OpenError::OtherSpace { held: held.clone() }));
        }
        let notices = self.hub.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notices) = &*notices {
            // An error means that no one listens.
            notices.send(notice).ok();
        }
        drop(notices);
        self.hub.step();
    }
}
