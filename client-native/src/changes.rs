//! Short forms of changes; everything that a change can be is in [`rejoin_core::replica::Action`].

use rejoin_core::{
    id::{CollectionName, FieldName, NameError, RecordId, RecordKey},
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
};

/// The name of a record.
///
/// # Errors
/// [`NameError`] when one of the names is none.
pub fn key(collection: &str, id: &str) -> Result<RecordKey, NameError> {
    Ok(RecordKey { collection: CollectionName::parse(collection)?, id: RecordId::parse(id)? })
}

/// Sets a `lww` field, the default kind.
///
/// # Errors
/// [`NameError`] when the name is none.
pub fn set(field: &str, value: Value) -> Result<FieldChange, NameError> {
    Ok(FieldChange { field: FieldName::parse(field)?, action: FieldAction::Set(Kind::Lww, value) })
}

/// Creates a record; refused where it is live.
#[must_use]
pub fn add(key: RecordKey, fields: impl IntoIterator<Item = FieldChange>) -> Change {
    Change { key, action: Action::Add(fields.into_iter().collect()) }
}

/// Makes a record just this: what is not named becomes absent.
#[must_use]
pub fn put(key: RecordKey, fields: impl IntoIterator<Item = FieldChange>) -> Change {
    Change { key, action: Action::Put(fields.into_iter().collect()) }
}

/// Touches what is named; refused where the record is not live.
#[must_use]
pub fn update(key: RecordKey, fields: impl IntoIterator<Item = FieldChange>) -> Change {
    Change { key, action: Action::Update(fields.into_iter().collect()) }
}

/// Removes a record and overwrites its values, here and wherever this comes: of what it said nothing is kept but
/// that it was there. Of a record that was removed before, the values are overwritten too.
#[must_use]
pub const fn erase(key: RecordKey) -> Change {
    Change { key, action: Action::Remove { erase: true } }
}

/// Removes a record; refused where it is not live.
#[must_use]
pub const fn remove(key: RecordKey) -> Change {
    Change { key, action: Action::Remove { erase: false } }
}
