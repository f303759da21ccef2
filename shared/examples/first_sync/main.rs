//! Prints what an import and a first sync take over a slow link: messages, virtual time, processor time, commits,
//! and the bytes on the wire beside those of the same data as gzipped JSON.
//!
//! `cargo run --release -p rejoin-core --example first_sync -- [RECORDS] [BYTES] [RTT_MS] [KBIT_PER_S]`
//! `cargo run --release -p rejoin-core --example first_sync -- compare [FILE.jsonl ...]`
//!
//! The second form syncs 100,000 tasks, and the records of each file: one object in a line, with an id in `$id`, `id`
//! or `Package`. Stores take no time, so what is shown is what the protocol costs.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not measured is passed over")]
#![expect(clippy::expect_used, reason = "what cannot be here is a broken measurement")]

mod data;
mod world;

use data::Set;
use std::{env, fs};
use world::World;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, files)) if first == "compare" => {
            compare(&data::tasks(100_000));
            for file in files {
                let text = fs::read_to_string(file).expect("a file that can be read");
                compare(&data::of_lines(file, text));
            }
        }
        _ => one_shape(&arguments),
    }
}

fn one_shape(arguments: &[String]) {
    let number = |at: usize, default: u64| {
        arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (records, bytes, rtt_ms, kbit) =
        (number(0, 63_666), number(1, 1_000), number(2, 100), number(3, 100_000));
    println!("{records} records of {bytes} bytes, {rtt_ms} ms round trip, {kbit} kbit/s");
    let mut world = World::new(rtt_ms / 2, kbit);
    let writer = world.open();
    world.run(|world| world.is_verified(writer));
    told(&mut world, "connected");
    world.import(writer, &data::alike(records, bytes));
    told(&mut world, "import");
    let reader = world.open();
    world.run(|world| world.is_verified(reader));
    told(&mut world, "first sync");
    world.rest();
    told(&mut world, "and folded");
}

fn told(world: &mut World, what: &str) {
    let (figures, ms) = world.figures();
    println!("{}", figures.told(what, ms));
}

fn compare(set: &Set) {
    let mut world = World::new(50, 100_000);
    let writer = world.open();
    world.run(|world| world.is_verified(writer));
    world.import(writer, &set.changes);
    let (import, _) = world.figures();
    let reader = world.open();
    world.run(|world| world.is_verified(reader));
    let (sync, _) = world.figures();
    println!("{}: {} records", set.name, set.changes.len());
    println!("  as JSON              {:>12} bytes", set.json.len());
    println!("  gzipped (gzip -6)    {:>12} bytes", data::gzipped(&set.json));
    println!("  first sync           {:>12} bytes, both ways", sync.bytes);
    println!("  pushed               {:>12} bytes, both ways", import.bytes);
    println!(
        "  server, first sync   {:>12.2?}, and {:.2?} for deflating",
        sync.host, sync.deflating
    );
    println!("  client, first sync   {:>12.2?}", sync.clients);
}
