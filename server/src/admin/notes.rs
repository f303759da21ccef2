//! What hosts say as events: who, where and how much, never what.

#![expect(clippy::wildcard_enum_match_arm, reason = "each function is about some of the notes")]

use super::{
    events::{Class, What, Write},
    pulse::Seat,
};
use rejoin_core::{
    hlc::Stamp,
    id::SpaceId,
    protocol::{
        host::{DamagedRow, HostNote, Mended},
        message::{ByeCode, Identity},
    },
};
use std::fmt;

/// `TooLarge` as `too_large`: names of codes for programs.
pub(super) fn word(code: &impl fmt::Debug) -> String {
    let mut word = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(character.to_lowercase());
    }
    word
}

fn write(stamp: &Stamp) -> Write {
    Write { at: stamp.hlc.wall().0, replica: stamp.replica.to_string() }
}

fn count(number: usize) -> Option<u64> {
    u64::try_from(number).ok()
}

/// The event of a note; `None` for what is no news.
pub(super) fn event(
    note: &HostNote,
    space: &SpaceId,
    seat: Option<&Seat>,
) -> Option<(Class, What)> {
    let who = What {
        space: space.to_string(),
        principal: seat.map(|seat| seat.principal.clone()),
        replica: seat.map(|seat| seat.replica.to_string()),
        ..What::default()
    };
    let event = written(note, &who).or_else(|| connected(note, &who));
    event.or_else(|| kept(note, &who)).or_else(|| wrong(note, &who))
}

fn of(who: &What, kind: &'static str) -> What {
    What { kind, ..who.clone() }
}

fn said(who: &What, kind: &'static str, detail: impl Into<String>) -> What {
    What { detail: Some(detail.into()), ..of(who, kind) }
}

/// What was written.
fn written(note: &HostNote, who: &What) -> Option<(Class, What)> {
    Some(match note {
        HostNote::Pushed { accepted, refused, head, .. } => {
            let (accepted, refused) = (count(*accepted), count(*refused));
            let head = Some(head.0);
            (Class::Activity, What { accepted, refused, head, ..of(who, "pushed") })
        }
        HostNote::Written { principal, accepted, refused, head } => {
            let class = if *accepted == 0 { Class::Refusal } else { Class::Activity };
            let (accepted, refused) = (count(*accepted), count(*refused));
            let (principal, head) = (Some(principal.clone()), Some(head.0));
            (class, What { principal, accepted, refused, head, ..of(who, "written") })
        }
        HostNote::Rejected { row, code, reason, .. } => {
            let rejected = said(who, "rejected", format!("row {row}: {reason}"));
            (Class::Refusal, What { code: Some(word(code)), ..rejected })
        }
        HostNote::Conflict { key, field, won, lost } => {
            let conflict = What {
                collection: Some(key.collection.to_string()),
                record: Some(key.id.to_string()),
                field: Some(field.to_string()),
                won: Some(write(won)),
                lost: Some(write(lost)),
                ..of(who, "conflict")
            };
            (Class::Conflict, conflict)
        }
        _ => return None,
    })
}

/// Who came.
fn connected(note: &HostNote, who: &What) -> Option<(Class, What)> {
    let what = match note {
        HostNote::Welcomed { modes, identity, .. } => {
            let mut modes: Vec<String> = modes.iter().map(|(_, mode)| word(mode)).collect();
            modes.dedup();
            let code = Some(word(identity)).filter(|_| *identity != Identity::Confirmed);
            let detail = Some(modes.join(", ")).filter(|modes| !modes.is_empty());
            What { code, detail, ..of(who, "connected") }
        }
        HostNote::Recalled { accepted, .. } => {
            let why = "a database was copied: it goes on under another replica id";
            What { accepted: count(*accepted), ..said(who, "recalled", why) }
        }
        _ => return None,
    };
    Some((Class::Activity, what))
}

/// How a space keeps what it holds.
fn kept(note: &HostNote, who: &What) -> Option<(Class, What)> {
    Some(match note {
        HostNote::Ready { head, records, .. } => {
            let opened = said(who, "opened", format!("{records} records"));
            (Class::Activity, What { head: Some(head.0), ..opened })
        }
        HostNote::Collected { records, rows, .. } => {
            let detail = format!("{records} removed records and {rows} rows are forgotten");
            (Class::Activity, said(who, "collected", detail))
        }
        HostNote::Refilled { restored, known, refused, .. } => {
            let detail = format!("{restored} records were lost and are back, {known} were there");
            let (accepted, refused) = (count(*restored), count(*refused));
            let class = if *restored > 0 { Class::Fault } else { Class::Activity };
            (class, What { accepted, refused, ..said(who, "refilled", detail) })
        }
        HostNote::Scrubbed { pass } => {
            let class = if pass.damaged > 0 { Class::Fault } else { Class::Activity };
            let detail = format!(
                "{} records read again, {} rows were damaged, {} lost",
                pass.records, pass.damaged, pass.lost
            );
            (class, said(who, "scrubbed", detail))
        }
        _ => return None,
    })
}

/// What is wrong.
fn wrong(note: &HostNote, who: &What) -> Option<(Class, What)> {
    let what = match note {
        HostNote::Damaged { row, mended } => {
            let mended = match mended {
                Mended::Derived => "it is again what it was",
                Mended::Lost => "clients that hold the record bring it back",
                Mended::Assumed | _ => "the most careful reading holds",
            };
            damaged(row, said(who, "damaged", mended))
        }
        HostNote::Renewed { .. } => {
            said(who, "renewed", "a record was lost: clients bring back what they hold")
        }
        HostNote::Alternates { .. } => {
            let why = "another server answers for this space: clients carry between two histories";
            said(who, "alternates", why)
        }
        HostNote::StoreFailed { class } => {
            What { code: Some(word(class)), ..of(who, "store_failed") }
        }
        HostNote::Fatal { class } => {
            let fatal = said(who, "fatal", "the space is not served any more");
            What { code: class.as_ref().map(word), ..fatal }
        }
        _ => return None,
    };
    Some((Class::Fault, what))
}

/// Somebody has gone.
pub(super) fn parted(seat: &Seat, code: Option<ByeCode>, reason: &str) -> What {
    What {
        kind: "disconnected",
        space: seat.pulse.space.to_string(),
        principal: Some(seat.principal.clone()),
        replica: Some(seat.replica.to_string()),
        code: code.as_ref().map(word),
        detail: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        ..What::default()
    }
}

/// Which row it was.
fn damaged(row: &DamagedRow, what: What) -> What {
    if let DamagedRow::Record(key) | DamagedRow::Derived(key) = row {
        let (collection, record) = (Some(key.collection.to_string()), Some(key.id.to_string()));
        What { collection, record, ..what }
    } else if let DamagedRow::Leaf(collection) = row {
        What { collection: Some(collection.to_string()), ..what }
    } else {
        let detail = format!("{row:?}: {}", what.detail.unwrap_or_default());
        What { detail: Some(detail), ..what }
    }
}
