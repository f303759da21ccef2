//! Prints what many waiting rows of one record cost: writing them, and making them for the peer.
//!
//! `cargo run --release -p rejoin-core --example push_figures`
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(clippy::disallowed_types, reason = "measuring takes a clock; the crate itself has none")]

use rejoin_core::{
    id::{CollectionName, FieldName, Pattern, RecordId, RecordKey, ReplicaId},
    replica::{Action, Change, FieldAction, FieldChange, Replica},
    time::WallMillis,
};
use std::{error::Error, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    for count in [1_000, 5_000, 10_000, 20_000, 40_000] {
        let mut replica = Replica::new(ReplicaId::from_bytes([1; 16]), &[Pattern::All]);
        let key = RecordKey {
            collection: CollectionName::parse("posts")?,
            id: RecordId::parse("popular")?,
        };
        let votes = FieldChange { field: FieldName::parse("votes")?, action: FieldAction::Add(1) };
        let change = Change { key, action: Action::Upsert(Vec::from([votes])) };
        let started = Instant::now();
        for _ in 0..count {
            replica.write(core::slice::from_ref(&change), WallMillis(1_700_000_000_000))?;
            replica.confirm();
        }
        let written = started.elapsed();
        let numbers: Vec<u64> = replica.waiting().collect();
        let started = Instant::now();
        for number in &numbers {
            replica.push_row(*number)?;
        }
        let made = started.elapsed();
        println!(
            "{} increments: written in {written:.1?}, made for the peer in {made:.1?}",
            numbers.len()
        );
    }
    Ok(())
}
