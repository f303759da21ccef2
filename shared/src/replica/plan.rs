//! From changes to the writes of one row, whoever holds the records that they are made on.
//!
//! Absent: clocks, outboxes, stores.

use super::{
    change::{Action, Change, ChangeError, check_record, plan},
    intent::{Intent, RowWrite},
    write::WriteError,
};
use crate::{
    codec::{CodecError, encode_record},
    hlc::Stamp,
    id::RecordKey,
    message::{
        PushRow,
        limits::{BATCH_RECORDS_MAX, FRAME_BYTES_MAX, PAGE_BYTES_AIM},
        wire::row_frame_bytes,
    },
    record::{Cell, Record, State},
    sorted::SortedMap,
};
use alloc::vec::Vec;

/// What an entry of a version vector takes, stored.
const DOT_BYTES: usize = 26;

/// Whether a removal finds nothing to remove, and nothing to overwrite.
fn is_done(action: &Action, view: &Record) -> bool {
    let Action::Remove { erase } = action else {
        return false;
    };
    let holds = |cell: &Cell| match &cell.state {
        State::Lww { value, .. } => value.is_some(),
        State::Later { .. } => false,
        state @ (State::Fww(_)
        | State::Max(_)
        | State::Min(_)
        | State::Counter(_)
        | State::Set(_)
        | State::Review(_)) => State::empty(state.kind()).is_some_and(|empty| empty != *state),
    };
    let overwrites = *erase && view.cells.values().any(holds);
    !view.is_live() && !overwrites
}

/// A record under changes.
struct View {
    record: Record,
    /// About what is sent of it, at most.
    bytes: usize,
    /// Where its write is among those of the row.
    written: Option<usize>,
}

/// What changes come to.
pub(super) struct Planned {
    pub(super) writes: Vec<RowWrite>,
    /// Bytes of the records afterwards: no more is sent, but for what a dictionary adds.
    pub(super) sent_about: usize,
}

/// What `changes` come to as one row at `stamp`, on the records that `latest` gives.
///
/// # Errors
/// [`WriteError`].
pub(super) fn plan_all(
    changes: &[Change],
    stamp: Stamp,
    mut latest: impl FnMut(&RecordKey) -> Result<Record, CodecError>,
) -> Result<Planned, WriteError> {
    let mut views: SortedMap<&RecordKey, View> = SortedMap::new();
    let mut writes: Vec<RowWrite> = Vec::new();
    for change in changes {
        let View { mut record, bytes, written } = match views.remove(&change.key) {
            Some(known) => known,
            None => View { record: latest(&change.key)?, bytes: 0, written: None },
        };
        if is_done(&change.action, &record) {
            views.insert(&change.key, View { record, bytes, written });
            continue;
        }
        let write = plan(change, &record)?;
        write.apply(stamp, &mut record);
        let bytes = encode_record(&record).len();
        check_record(&change.key, &record, bytes)?;
        let bytes = bytes + write.saw.len() * DOT_BYTES;
        let at = written.unwrap_or(writes.len());
        views.insert(&change.key, View { record, bytes, written: Some(at) });
        match writes.get_mut(at) {
            // One row writes a record once: what it saw is what it saw first.
            Some(known) => {
                if !matches!(change.action, Action::Update(_) | Action::Remove { .. }) {
                    known.intents.retain(|intent| *intent != Intent::Remove);
                }
                // What it makes whole, or may make anew, it does not need.
                known.updates &= write.updates;
                known.intents.extend(write.intents);
            }
            None => writes.push(write),
        }
    }
    if writes.is_empty() {
        return Err(ChangeError::Empty.into());
    }
    if writes.len() > BATCH_RECORDS_MAX {
        let (got, max) = (writes.len(), BATCH_RECORDS_MAX);
        return Err(ChangeError::BatchTooLarge { got, max, unit: "records" }.into());
    }
    let sent_about = views.values().map(|view| view.bytes).sum();
    Ok(Planned { writes, sent_about })
}

/// What `changes` do as one row at `stamp` to the records that `latest` gives, as a peer pushes it; its number and
/// digest are for who sends it.
///
/// # Errors
/// [`WriteError`]; `Empty` where there is nothing to be done.
pub fn plan_row(
    changes: &[Change],
    stamp: Stamp,
    mut latest: impl FnMut(&RecordKey) -> Result<Record, CodecError>,
) -> Result<PushRow, WriteError> {
    let planned = plan_all(changes, stamp, &mut latest)?;
    let sent = planned.writes.iter().map(|write| {
        let delta = write.delta(stamp, &latest(&write.key)?);
        Ok(write.sent(delta))
    });
    let writes = sent.collect::<Result<_, CodecError>>()?;
    let hlc = stamp.hlc;
    let row = PushRow { number: 0, hlc, origin: None, insisted: false, digest: [0; 16], writes };
    check_sent(planned.sent_about, &row)?;
    Ok(row)
}

/// The peer gets touched cells in full: small changes of large records may be too much for a frame.
///
/// # Errors
/// [`ChangeError::BatchTooLarge`].
pub(super) fn check_sent(sent_about: usize, row: &PushRow) -> Result<(), ChangeError> {
    if sent_about > PAGE_BYTES_AIM {
        let (got, max) = (row_frame_bytes(row), FRAME_BYTES_MAX);
        if got > max {
            return Err(ChangeError::BatchTooLarge { got, max, unit: "bytes to send" });
        }
    }
    Ok(())
}
