//! A replica's state: base and overlay, made from pages and a log that every holder of the store applies
//! in the same order.
//!
//! Invariant: only received entries write the base; a local write, its rejection, its new stamp and its
//! replay never do. Absent: peers, frames on the way, deadlines, stores (a batch is a value here).

mod base;
mod bytes;
mod change;
mod entry;
mod fold;
mod intent;
mod load;
mod overlay;
mod page;
mod plan;
mod receive;
mod replay;
mod scrub;
mod settle;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;
mod torn;
mod write;

pub use base::{Base, Held};
pub use bytes::{decode_entry, encode_entry, row_digest};
pub use change::{Action, Change, ChangeError, FieldAction, FieldChange};
pub use entry::{Entry, Healing, Opened, Settlement, Standing, Welcomed};
pub use fold::{
    Fold, META_FOLDED, META_HEADER, META_LEADER, folded_number, load_queries, log_key, log_number,
};
pub use intent::{Intent, Restamped, Row, RowWrite};
pub use load::{Damage, LoadError, Stored};
pub use overlay::{Counts, OutboxRow, Overlay, RowState};
pub use plan::plan_row;
pub use scrub::{META_SCRUBBED, TreeCheck, decode_scrubbed, encode_scrubbed};
pub use state::{Applied, Replica};
pub use torn::LostRow;
pub use write::{Tentative, WriteError};
