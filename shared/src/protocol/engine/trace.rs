//! Messages in words, for a protocol log.

use crate::message::{Message, Mode, PROOF_BYTES};
use alloc::{format, string::String, vec::Vec};

/// A message in a few words, for people.
pub(super) fn describe(message: &Message) -> (&'static str, String) {
    match message {
        Message::Hello(hello) => ("Hello", format!("{} subscriptions", hello.subscriptions.len())),
        Message::Welcome(welcome) => {
            let modes: Vec<Mode> = welcome.modes.iter().map(|(_, mode)| *mode).collect();
            ("Welcome", format!("{modes:?} head {}", welcome.head))
        }
        Message::Push(push) => ("Push", format!("{} rows", push.rows.len())),
        Message::Ack(ack) => ("Ack", format!("{} rows", ack.outcomes.len())),
        Message::Changes(changes) => {
            let cut = if changes.cut { ", cut" } else { "" };
            let (records, upto) = (changes.entries.len(), changes.upto.seq);
            ("Changes", format!("{records} records up to {upto}{cut}"))
        }
        Message::Resume(resume) => ("Resume", format!("from {}", resume.place.seq)),
        Message::AskRoots(_) => ("AskRoots", String::new()),
        Message::Roots(roots) => ("Roots", format!("{} collections", roots.roots.len())),
        Message::Walk(walk) => ("Walk", format!("{}", walk.collection)),
        Message::Records(records) => ("Records", format!("{} records", records.entries.len())),
        Message::AskChunk(ask) => ("AskChunk", format!("{:?}", ask.from)),
        Message::Chunk(chunk) => {
            let records = chunk.packed.proofs.len() / PROOF_BYTES;
            ("Chunk", format!("{records} records"))
        }
        Message::Recall(recall) => ("Recall", format!("{} rows", recall.rows.len())),
        Message::Copied(copied) => ("Copied", format!("{} rows", copied.rows.len())),
        Message::Recalled(recalled) => {
            ("Recalled", format!("{} accepted", recalled.accepted.len()))
        }
        Message::Ping { .. } => ("Ping", String::new()),
        Message::Pong { state, .. } => {
            ("Pong", state.as_ref().map_or_else(String::new, |state| format!("at {}", state.seq)))
        }
        Message::Refresh { .. } => ("Refresh", String::new()),
        Message::Bye(bye) => ("Bye", format!("{:?}", bye.code)),
        Message::Refill(refill) => ("Refill", format!("{} records", refill.entries.len())),
        Message::Presence(presence) => ("Presence", format!("{} here", presence.here.len())),
        Message::Others(others) => ("Others", format!("{} here", others.here.len())),
        Message::Refilled(refilled) => ("Refilled", format!("{} records", refilled.outcomes.len())),
    }
}
