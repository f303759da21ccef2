//! Messages to bytes. One function per shape, items in the order of its fields.

use super::{Numbered, walk::write_walk};
use crate::{
    codec::{
        Writer, write_dictionary, write_key, write_record, write_stamp, write_value, write_vector,
    },
    id::{Cursor, Digest, Pattern, RecordKey},
    message::{
        AskChunk, Body, Bye, Changes, Chunk, ChunkFrom, Conflict, Copied, Entry, Hello, Kept, Left,
        Limits, Message, Origin, Other, Others, Outcome, Place, Presence, Push, PushRow, PushWrite,
        Refill, RefillOutcome, Refilled, Right, Roots, Stated, Subscription, Taken, Welcome,
    },
};
use alloc::vec::Vec;

/// The bytes of a message: `[type, replicas, names, base, body]`.
///
/// Lists and texts beyond their limits are written all the same, and no peer will read them: keeping to
/// the limits is the caller's part.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut body = Writer::with_dictionary();
    write_body(&mut body, message);
    let (body, dictionary) = body.into_parts();
    let mut out = Writer::new();
    out.array(5);
    out.uint(type_number(message));
    write_dictionary(&mut out, &dictionary);
    out.raw(&body);
    out.into_bytes()
}

const fn type_number(message: &Message) -> u64 {
    match message {
        Message::Hello(_) => 0,
        Message::Welcome(_) => 1,
        Message::Push(_) => 2,
        Message::Ack(_) => 3,
        Message::Changes(_) => 4,
        Message::Resume(_) => 5,
        Message::AskRoots(_) => 6,
        Message::Roots(_) => 7,
        Message::Walk(_) => 8,
        Message::Records(_) => 9,
        Message::AskChunk(_) => 10,
        Message::Chunk(_) => 11,
        Message::Recall(_) => 12,
        Message::Recalled(_) => 13,
        Message::Ping { .. } => 14,
        Message::Pong { .. } => 15,
        Message::Refresh { .. } => 16,
        Message::Bye(_) => 17,
        Message::Refill(_) => 18,
        Message::Refilled(_) => 19,
        Message::Copied(_) => 20,
        Message::Presence(_) => 21,
        Message::Others(_) => 22,
    }
}

fn write_body(out: &mut Writer, message: &Message) {
    match message {
        Message::Hello(message) => hello(out, message),
        Message::Welcome(message) => welcome(out, message),
        Message::Push(message) => push(out, message),
        Message::Ack(message) => {
            out.array(1);
            pairs(out, &message.outcomes, |out, (row, outcome)| {
                out.uint(*row);
                write_outcome(out, outcome);
            });
        }
        Message::Changes(message) => changes(out, message),
        Message::Resume(message) => {
            out.array(3);
            out.uint(u64::from(message.subscription));
            place(out, &message.place);
            out.hlc(message.time);
        }
        Message::AskRoots(message) => {
            out.array(2);
            out.uint(u64::from(message.subscription));
            optional(out, message.after.as_ref(), |out, name| {
                out.name(name.as_str());
            });
        }
        Message::Roots(message) => roots(out, message),
        Message::Walk(message) => {
            out.array(3);
            out.uint(u64::from(message.subscription));
            out.name(message.collection.as_str());
            write_walk(out, &message.message);
        }
        Message::Records(message) => {
            out.array(2);
            out.uint(u64::from(message.subscription));
            list(out, &message.entries, entry);
        }
        Message::AskChunk(message) => ask_chunk(out, message),
        Message::Chunk(message) => chunk(out, message),
        Message::Recall(message) => {
            out.array(1);
            list(out, &message.rows, origin);
        }
        Message::Recalled(message) => {
            out.array(2);
            list(out, &message.accepted, taken);
            list(out, &message.unsure, origin);
        }
        Message::Ping { nonce } => {
            out.array(1);
            out.uint(*nonce);
        }
        Message::Pong { nonce, state } => {
            out.array(2);
            out.uint(*nonce);
            optional(out, state.as_ref(), stated);
        }
        Message::Refresh { token } => {
            out.array(1);
            out.text(token);
        }
        Message::Bye(message) => bye(out, message),
        Message::Refill(message) => refill(out, message),
        Message::Refilled(message) => refilled(out, message),
        Message::Copied(message) => copied(out, message),
        Message::Presence(message) => presence(out, message),
        Message::Others(message) => others(out, message),
    }
}

fn list<T>(out: &mut Writer, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
    out.array(items.len());
    items.iter().for_each(|item| write(out, item));
}

/// A list whose items are pairs: `write` writes two items.
pub(super) fn pairs<T>(out: &mut Writer, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
    out.array(items.len() * 2);
    items.iter().for_each(|item| write(out, item));
}

fn optional<T>(out: &mut Writer, item: Option<&T>, write: impl FnOnce(&mut Writer, &T)) {
    match item {
        Some(item) => write(out, item),
        None => out.null(),
    }
}

fn hello(out: &mut Writer, message: &Hello) {
    out.array(10);
    list(out, &message.versions, |out, version| {
        out.uint(u64::from(*version));
    });
    out.uint(message.features);
    out.replica(&message.replica);
    out.bytes(message.incarnation.as_bytes());
    list(out, &message.known, |out, incarnation| {
        out.bytes(incarnation.as_bytes());
    });
    out.text(message.space.as_str());
    optional(out, message.token.as_ref(), |out, token| out.text(token));
    out.uint(message.clock.0);
    list(out, &message.subscriptions, subscription);
    list(out, &message.epochs, |out, epoch| {
        out.bytes(epoch.as_bytes());
    });
}

fn subscription(out: &mut Writer, value: &Subscription) {
    out.array(6);
    out.uint(u64::from(value.id));
    pattern(out, &value.pattern);
    optional(out, value.cursor.as_ref(), cursor);
    place(out, &value.place);
    optional(out, value.root.as_ref(), digest);
    out.hlc(value.time);
}

fn pattern(out: &mut Writer, value: &Pattern) {
    let (number, name) = match value {
        Pattern::All => (0, None),
        Pattern::Exact(name) => (1, Some(name)),
        Pattern::Prefix(name) => (2, Some(name)),
    };
    out.array(if name.is_some() { 2 } else { 1 });
    out.uint(number);
    if let Some(name) = name {
        out.name(name.as_str());
    }
}

fn cursor(out: &mut Writer, value: &Cursor) {
    out.array(2);
    out.bytes(value.epoch.as_bytes());
    out.uint(value.seq.0);
}

fn place(out: &mut Writer, value: &Place) {
    out.array(2);
    out.uint(value.seq.0);
    optional(out, value.key.as_ref(), key);
}

fn key(out: &mut Writer, value: &RecordKey) {
    out.array(2);
    write_key(out, value);
}

pub(super) fn digest(out: &mut Writer, value: &Digest) {
    out.bytes(value.as_bytes());
}

fn welcome(out: &mut Writer, message: &Welcome) {
    out.array(14);
    out.uint(u64::from(message.version));
    out.uint(message.features);
    out.text(&message.principal);
    list(out, &message.rights, right);
    limits(out, &message.limits);
    out.uint(message.clock.0);
    out.bytes(message.epoch.as_bytes());
    out.hlc(message.horizon);
    list(out, &message.lineage, left);
    out.uint(message.head.0);
    optional(out, message.accepted.as_ref(), |out, hlc| out.hlc(*hlc));
    out.uint(message.identity.number());
    pairs(out, &message.modes, |out, (subscription, mode)| {
        out.uint(u64::from(*subscription));
        out.uint(mode.number());
    });
    optional(out, message.copied.as_ref(), |out, hlc| out.hlc(*hlc));
}

fn right(out: &mut Writer, value: &Right) {
    out.array(2);
    pattern(out, &value.pattern);
    out.bool(value.write);
}

fn limits(out: &mut Writer, value: &Limits) {
    out.array(4);
    out.uint(u64::from(value.frame_bytes));
    out.uint(u64::from(value.record_bytes));
    out.uint(u64::from(value.value_bytes));
    out.uint(u64::from(value.batch_records));
}

fn left(out: &mut Writer, value: &Left) {
    out.array(3);
    out.bytes(value.epoch.as_bytes());
    out.uint(value.seq.0);
    out.hlc(value.hlc);
}

fn push(out: &mut Writer, message: &Push) {
    out.array(2);
    out.uint(message.named);
    list(out, &message.rows, row);
}

fn row(out: &mut Writer, value: &PushRow) {
    out.array(6);
    out.uint(value.number);
    out.hlc(value.hlc);
    optional(out, value.origin.as_ref(), write_stamp);
    out.bool(value.insisted);
    out.bytes(&value.digest);
    list(out, &value.writes, write);
}

fn origin(out: &mut Writer, value: &Origin) {
    out.array(2);
    write_stamp(out, &value.stamp);
    out.bytes(&value.digest);
}

/// The stamp of the copy is null where it is the origin's.
fn taken(out: &mut Writer, value: &Taken) {
    out.array(3);
    origin(out, &value.origin);
    let other = Some(&value.stamp).filter(|stamp| **stamp != value.origin.stamp);
    optional(out, other, write_stamp);
    out.uint(value.seq.0);
}

fn write(out: &mut Writer, value: &PushWrite) {
    out.array(4);
    key(out, &value.key);
    write_vector(out, &value.saw);
    out.bool(value.updates);
    write_record(out, &value.delta);
}

fn write_outcome(out: &mut Writer, value: &Outcome) {
    let mut head = |len, variant, first| {
        out.array(len);
        out.uint(variant);
        out.uint(first);
    };
    match value {
        Outcome::Accepted { seq } => head(2, 0, seq.0),
        Outcome::Rejected { number, code, reason } => {
            head(4, 1, *number);
            out.uint(code.number());
            out.text(reason);
        }
        Outcome::Returned { number } => head(2, 2, *number),
        Outcome::Ahead { number, by } => {
            head(3, 3, *number);
            out.uint(by.0);
        }
        Outcome::Stale { number, seq } => {
            head(3, 4, *number);
            out.uint(seq.0);
        }
        Outcome::Taken { number, stamp, seq } => {
            head(4, 5, *number);
            write_stamp(out, stamp);
            out.uint(seq.0);
        }
    }
}

fn changes(out: &mut Writer, message: &Changes) {
    out.array(6);
    list(out, &message.subscriptions, |out, subscription| {
        out.uint(u64::from(*subscription));
    });
    place(out, &message.after);
    place(out, &message.upto);
    out.bool(message.cut);
    list(out, &message.entries, entry);
    optional(out, message.state.as_ref(), stated);
}

fn entry(out: &mut Writer, value: &Entry) {
    out.array(6);
    key(out, &value.key);
    out.uint(value.seq.0);
    out.bytes(&value.check);
    out.bytes(&value.proof);
    out.array(2);
    match &value.body {
        Body::Delta(record) => {
            out.uint(0);
            write_record(out, record);
        }
        Body::Whole(record) => {
            out.uint(1);
            write_record(out, record);
        }
        Body::Own(hlc) => {
            out.uint(2);
            out.hlc(*hlc);
        }
    }
    list(out, &value.conflicts, conflict);
}

fn conflict(out: &mut Writer, value: &Conflict) {
    // An absent value is told by the shorter array, as in a cell: null is a value.
    out.array(if value.value.is_some() { 4 } else { 3 });
    out.field(&value.field);
    write_stamp(out, &value.won);
    write_stamp(out, &value.lost);
    if let Some(value) = &value.value {
        write_value(out, value);
    }
}

fn stated(out: &mut Writer, value: &Stated) {
    out.array(4);
    out.uint(value.seq.0);
    out.hlc(value.horizon);
    out.hlc(value.hlc);
    pairs(out, &value.roots, |out, (subscription, root)| {
        out.uint(u64::from(*subscription));
        digest(out, root);
    });
}

fn roots(out: &mut Writer, message: &Roots) {
    out.array(6);
    out.uint(u64::from(message.subscription));
    out.uint(message.seq.0);
    out.hlc(message.horizon);
    out.hlc(message.hlc);
    pairs(out, &message.roots, |out, (collection, root)| {
        out.name(collection.as_str());
        digest(out, root);
    });
    out.bool(message.more);
}

fn chunk(out: &mut Writer, message: &Chunk) {
    out.array(9);
    write_chunk_head(out, message);
    let packed = &message.packed;
    out.bytes(&packed.sum);
    optional(out, packed.inflated.as_ref(), |out, size| out.uint(u64::from(*size)));
    out.bytes(&packed.columns);
    out.bytes(&packed.proofs);
}

/// What a chunk says beside its records, in the form that its mark is taken over.
pub(in crate::message) fn chunk_head(message: &Chunk) -> Vec<u8> {
    let mut out = Writer::new();
    write_chunk_head(&mut out, message);
    out.into_bytes()
}

fn write_chunk_head(out: &mut Writer, message: &Chunk) {
    out.uint(u64::from(message.subscription));
    optional(out, message.after.as_ref(), key);
    optional(out, message.upto.as_ref(), key);
    out.bool(message.more);
    out.uint(message.total);
}

fn ask_chunk(out: &mut Writer, message: &AskChunk) {
    out.array(2);
    out.uint(u64::from(message.subscription));
    match &message.from {
        ChunkFrom::Start => {
            out.array(1);
            out.uint(0);
        }
        ChunkFrom::Behind(place) => {
            out.array(2);
            out.uint(1);
            key(out, place);
        }
        ChunkFrom::Next => {
            out.array(1);
            out.uint(2);
        }
    }
}

fn refill(out: &mut Writer, message: &Refill) {
    out.array(2);
    out.uint(u64::from(message.subscription));
    list(out, &message.entries, kept);
}

fn refilled(out: &mut Writer, message: &Refilled) {
    out.array(2);
    out.uint(u64::from(message.subscription));
    list(out, &message.outcomes, refill_outcome);
}

fn kept(out: &mut Writer, value: &Kept) {
    out.array(5);
    key(out, &value.key);
    out.bytes(value.epoch.as_bytes());
    out.uint(value.seq.0);
    out.bytes(&value.proof);
    write_record(out, &value.record);
}

fn refill_outcome(out: &mut Writer, value: &RefillOutcome) {
    out.array(2);
    match value {
        RefillOutcome::Joined(seq) => {
            out.uint(0);
            out.uint(seq.0);
        }
        RefillOutcome::Refused(code) => {
            out.uint(1);
            out.uint(code.number());
        }
    }
}

fn copied(out: &mut Writer, message: &Copied) {
    out.array(1);
    list(out, &message.rows, taken);
}

fn presence(out: &mut Writer, message: &Presence) {
    out.array(2);
    pairs(out, &message.here, |out, (tab, value)| {
        out.uint(*tab);
        write_value(out, value);
    });
    list(out, &message.gone, |out, tab| out.uint(*tab));
}

fn others(out: &mut Writer, message: &Others) {
    out.array(3);
    out.bool(message.anew);
    list(out, &message.here, other);
    list(out, &message.gone, |out, id| out.uint(*id));
}

fn other(out: &mut Writer, value: &Other) {
    out.array(3);
    out.uint(value.id);
    out.text(&value.principal);
    write_value(out, &value.value);
}

fn bye(out: &mut Writer, message: &Bye) {
    out.array(3);
    out.uint(message.code.number());
    out.text(&message.reason);
    optional(out, message.retry_after.as_ref(), |out, after| {
        out.uint(after.0);
    });
}
