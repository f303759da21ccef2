//! Those who have no replica: they ask the server to write, and ask again when they hear nothing.
//!
//! Every row of a request adds to the ledger, so what is done twice, or by halves, does not add up, and the note that it
//! leaves carries the row's stamp. What it does to other records is for the reference to say: all that was accepted
//! before, it has seen (`super::reference`). Absent: a server that has lost history, or whose clock has jumped by years,
//! may have lost its memory of answers: there nobody asks twice.

use super::{Event, World, plan::Plan, server::grant};
use crate::{
    hlc::Stamp,
    id::{Digest, RecordKey, Seq},
    io::{Batch, Keyspace, Write},
    protocol::host::{
        DirectAnswer, DirectCode, DirectDone, DirectRefusal, DirectResults, DirectRow, DirectWrite,
        Expected, HostInput, MemoKey, StoredRecord, kept_answer,
    },
    record::{State, Value},
    replica::Action,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// What the ledger has them under, beside devices.
pub(super) const CALLERS: usize = usize::MAX;
/// Who they are: one is somebody who has devices too.
const NAMES: [&str; 2] = ["ann", "clerk"];
/// Milliseconds until a caller who was told to wait, or hears nothing, asks again.
const PAUSE_MS: u64 = 700;
/// Rows of a request, at most.
const ROWS_MAX: u64 = 3;

/// Names a request.
type Name = [u8; 32];

/// One row of a request.
#[derive(Debug, Clone)]
pub(super) struct Called {
    pub(super) row: DirectRow,
    /// What it notes in the ledger.
    token: String,
    /// The place of the answer that it goes on from.
    pub(super) since: Option<Seq>,
    /// Whether it writes where it may not.
    forbidden: bool,
}

#[derive(Debug)]
struct Request {
    principal: &'static str,
    rows: Vec<Called>,
}

/// What they ask for and hear, kept outside the system.
#[derive(Debug, Default)]
pub(super) struct Callers {
    requests: BTreeMap<Name, Request>,
    /// Requests that are on their way, or whose answer is.
    open: BTreeSet<Name>,
    /// Those that the server has, by their numbers.
    asked: BTreeMap<u64, Name>,
    numbers: u64,
    /// What each record was when they heard of it last.
    known: BTreeMap<RecordKey, (Digest, Seq)>,
    /// What they were told is not done.
    refused: BTreeSet<String>,
    /// Where each row of a request was committed.
    done: BTreeMap<Name, Vec<Option<Seq>>>,
    /// Records that they have asked to remove.
    removed: BTreeSet<RecordKey>,
}

/// The answers that a commit keeps, and under which stamp each row's note stands.
#[derive(Debug, Default)]
pub(super) struct Kept {
    answers: Vec<(Name, Vec<Option<Seq>>)>,
    stamps: BTreeMap<String, Vec<Stamp>>,
}

impl Kept {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut kept = Self::default();
        for write in &batch.writes {
            match write {
                Write::Put { keyspace: Keyspace::Meta, row } => {
                    kept.answers.extend(kept_answer(row));
                }
                Write::Put { keyspace: Keyspace::Records, row } => {
                    let read = StoredRecord::read_row(row).ok();
                    let notes = read.filter(|(key, _)| key.id.as_str() == "notes");
                    let cells = notes.into_iter().flat_map(|(_, stored)| stored.record.cells);
                    for (_, cell) in cells {
                        let State::Set(set) = cell.state else { continue };
                        for (element, adds) in &set.elements {
                            if let Value::Text(token) = element {
                                kept.stamps.insert(token.clone(), adds.iter().collect());
                            }
                        }
                    }
                }
                Write::Put { .. } | Write::Delete { .. } => {}
            }
        }
        kept
    }
}

impl Callers {
    /// Whether all have heard what became of what they asked for, or given it up.
    pub(super) fn is_answered(&self) -> bool {
        self.open.is_empty()
    }
}

impl Plan {
    /// Whether the same request may be made twice.
    const fn may_call_again(&self) -> bool {
        self.copy_one_in == 0 && self.step_one_in == 0
    }
}

impl World {
    /// Somebody asks for something.
    pub(super) fn call(&mut self) {
        let name = self.apps.bytes::<32>();
        let principal = self.apps.one_of("clerk", &NAMES);
        let rows = (0..1 + self.apps.below(ROWS_MAX)).map(|_| self.called_row()).collect();
        self.mark("called");
        self.callers.requests.insert(name, Request { principal, rows });
        self.callers.open.insert(name);
        let delay = 1 + self.net.below(40);
        self.at(delay, Event::Call { name });
    }

    fn called_row(&mut self) -> Called {
        let (mut changes, token) = self.ledger_entry();
        let forbidden = self.plan.rejections && self.apps.once_in(6);
        if forbidden {
            changes.push(self.mixed_change("locked"));
        }
        let mut row = Called {
            row: DirectRow { expected: Vec::new(), changes },
            token,
            since: None,
            forbidden,
        };
        if self.apps.once_in(3) {
            return row;
        }
        let mut change = self.mixed_change("mixed");
        let key = change.key.clone();
        match &mut change.action {
            Action::Remove { erase } => {
                *erase = false;
                self.callers.removed.insert(key.clone());
            }
            Action::Add(fields)
            | Action::Put(fields)
            | Action::Update(fields)
            | Action::Upsert(fields) => {
                let mut named = BTreeSet::new();
                fields.retain(|change| named.insert(change.field.clone()));
            }
        }
        row.row.changes.push(change);
        let expected = match self.apps.below(4) {
            1 => Some(Expected::Live),
            2 => Some(Expected::Absent),
            3 => self.callers.known.get(&key).map(|(digest, seq)| {
                row.since = Some(*seq);
                Expected::OneOf(Vec::from([*digest]))
            }),
            _ => None,
        };
        row.row.expected.extend(expected.map(|expected| (key, expected)));
        row
    }

    /// A request reaches the server, if that is up.
    pub(super) fn called(&mut self, name: Name) {
        if self.server.host.is_none() {
            return self.call_again(name);
        }
        let Some(request) = self.callers.requests.get(&name) else {
            return;
        };
        self.callers.numbers += 1;
        let number = self.callers.numbers;
        let rows = request.rows.iter().map(|called| called.row.clone()).collect();
        let write = DirectWrite {
            number,
            grant: grant(Some(request.principal)),
            rows,
            memo: Some(MemoKey { name, content: name }),
        };
        self.tell(99, 1, format_args!("asked {number} {write:?}"));
        self.callers.asked.insert(number, name);
        self.tell_host(HostInput::Write(write));
    }

    fn call_again(&mut self, name: Name) {
        self.at(PAUSE_MS, Event::Call { name });
    }

    /// Nobody hears what became of a request.
    fn call_unheard(&mut self, name: Name) {
        if self.plan.may_call_again() {
            self.mark("called again");
            self.call_again(name);
        } else {
            self.callers.open.remove(&name);
        }
    }

    /// The server is dead, and with it all that it was asked.
    pub(super) fn calls_unheard(&mut self) {
        for name in core::mem::take(&mut self.callers.asked).into_values() {
            self.call_unheard(name);
        }
    }

    /// The server has answered.
    pub(super) fn answered(&mut self, number: u64, answer: DirectAnswer) {
        self.tell(99, 1, format_args!("answered {number} {answer:?}"));
        let Some(name) = self.callers.asked.remove(&number) else {
            return self.object(format!("request {number} was answered twice"));
        };
        let results = match answer {
            DirectAnswer::Judged(results) => results,
            DirectAnswer::Remembered(results) => {
                self.mark("answer remembered");
                results
            }
            DirectAnswer::Busy => return self.call_again(name),
            DirectAnswer::Unavailable => return self.call_unheard(name),
            DirectAnswer::Reused | DirectAnswer::Unsure => {
                return self.object(format!("request {number} was answered {answer:?}"));
            }
        };
        if !self.calm && self.net.once_in(6) {
            self.mark("answer lost");
            return self.call_unheard(name);
        }
        self.callers.open.remove(&name);
        self.heard(name, results);
    }

    fn heard(&mut self, name: Name, results: DirectResults) {
        let Some(request) = self.callers.requests.get(&name) else {
            return;
        };
        let rows = request.rows.clone();
        let done: Vec<Option<Seq>> =
            results.iter().map(|result| result.as_ref().ok().and_then(|done| done.seq)).collect();
        // What is kept is what was committed; where nothing was done nothing is kept.
        let kept = self.callers.done.get(&name);
        let nothing = done.iter().all(Option::is_none);
        if kept.map_or(!nothing, |kept| *kept != done) {
            return self.object(format!("answered {done:?}, committed {kept:?}: {rows:?}"));
        }
        for (called, result) in rows.into_iter().zip(results) {
            match result {
                Ok(done) => self.heard_done(&called, &done),
                Err(refused) => self.heard_refused(called, &refused),
            }
        }
    }

    fn heard_done(&mut self, called: &Called, done: &DirectDone) {
        let Some(seq) = done.seq.filter(|_| !called.forbidden) else {
            return self.object(format!("{called:?} was answered by {done:?}"));
        };
        self.ledger.promise(CALLERS, &called.token);
        for record in &done.records {
            match record.digest {
                Some(digest) => self.callers.known.insert(record.key.clone(), (digest, seq)),
                None => self.callers.known.remove(&record.key),
            };
        }
    }

    fn heard_refused(&mut self, called: Called, refused: &DirectRefusal) {
        self.mark("call refused");
        let may = match refused.code {
            DirectCode::Forbidden => called.forbidden,
            DirectCode::Unexpected => !called.row.expected.is_empty(),
            DirectCode::Exists | DirectCode::Absent => called.row.changes.len() > 2,
            DirectCode::TooLarge => self.plan.has_small_records() || self.plan.large_one_in > 0,
            // Where fields are of two kinds, where stamps are used up, and where spaces are bounded.
            DirectCode::Invalid | DirectCode::UpgradeServer | DirectCode::Quota => false,
        };
        if !may {
            return self.object(format!("{called:?} was refused: {refused:?}"));
        }
        self.callers.refused.insert(called.token);
    }

    /// The server's store has carried out a commit with answers: which rows were accepted where, under which stamps.
    pub(super) fn answers_kept(&mut self, kept: Kept) -> Vec<(Seq, Stamp, Called)> {
        let mut accepted = Vec::new();
        for (name, done) in kept.answers {
            let Some(request) = self.callers.requests.get(&name) else {
                self.object(format!("an answer to nobody: {name:?}"));
                continue;
            };
            for (called, seq) in request.rows.iter().zip(&done) {
                let stamps = kept.stamps.get(&called.token).map(Vec::as_slice);
                match (seq, stamps) {
                    (Some(seq), Some([stamp])) => accepted.push((*seq, *stamp, called.clone())),
                    (None, None) => {}
                    (_, stamps) => {
                        let what = format!("{called:?} is done at {seq:?}, noted at {stamps:?}");
                        self.objection.get_or_insert(what);
                    }
                }
            }
            if let Some(before) = self.callers.done.insert(name, done)
                && !self.server_rewound
            {
                self.object(format!("{name:?} was done before, at {before:?}"));
            }
        }
        accepted
    }

    /// Whether anybody has ever asked to remove the record.
    pub(super) fn removes(&self, key: &RecordKey) -> bool {
        self.ledger.removes(key) || self.callers.removed.contains(key)
    }

    /// At rest nothing is there that was said not to be done.
    pub(super) fn check_refused(&self, seen: &BTreeSet<String>) -> Result<(), String> {
        let mut both = self.callers.refused.intersection(seen);
        both.next().map_or(Ok(()), |token| Err(format!("{token} was refused, and is there")))
    }
}
