//! Prints what the tree costs: memory, updates, and the bytes and messages of walks.
//!
//! `cargo run --release -p rejoin-core --example tree_figures`
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(clippy::disallowed_types, reason = "measuring takes a clock; the crate itself has none")]

use rejoin_core::{
    id::Digest,
    tree::{Entry, Levels, NodeState, Trie, WalkBody, WalkError, WalkLimits, WalkMessage, respond},
};
use std::time::Instant;

fn main() -> Result<(), WalkError> {
    for count in [10_000, 20_000, 100_000, 160_000, 300_000, 1_000_000] {
        let started = Instant::now();
        let mut trie: Trie = (0..count).map(|at| entry(at, 0)).collect();
        let built = started.elapsed();
        let started = Instant::now();
        trie.root();
        let rooted = started.elapsed();
        println!(
            "{count} records: built in {built:.0?}, first root in {rooted:.0?}, update with root \
             in {:.1?}, {} bytes per record",
            update(&mut trie, count),
            trie.memory_bytes() / trie.len(),
        );
        if count == 100_000 || count == 1_000_000 {
            for differences in [1, 10, 100, 1_000, 10_000] {
                walk(&mut trie, count, differences)?;
            }
        }
    }
    Ok(())
}

fn update(trie: &mut Trie, count: u32) -> std::time::Duration {
    let rounds = 20_000;
    let changes: Vec<Entry> = (0..rounds).map(|round| entry(round * 7919 % count, 1)).collect();
    let started = Instant::now();
    for change in &changes {
        trie.insert(change.key_hash, change.digest);
        trie.root();
    }
    started.elapsed() / rounds
}

/// A third of the differences are records that one side lacks, a third the other, a third are
/// changed on one side.
fn walk(trie: &mut Trie, count: u32, differences: u32) -> Result<(), WalkError> {
    let mut other = trie.clone();
    for at in 0..differences {
        let at = at * 7 + 3;
        match at % 3 {
            0 => drop(other.remove(&entry(at, 0).key_hash)),
            1 => drop(trie.remove(&entry(at, 0).key_hash)),
            _ => drop(other.insert(entry(at, 0).key_hash, entry(at, 2).digest)),
        }
    }
    let (_, _) = (trie.root(), other.root());
    let started = Instant::now();
    let mut message = WalkMessage::open(trie, u64::from(count));
    let (mut bytes, mut messages, mut found, mut put_off) = (wire_bytes(&message), 1, 0, 0);
    loop {
        let side: &mut Trie = if messages % 2 == 0 { trie } else { &mut other };
        let response = respond(side, &message, &WalkLimits::default())?;
        found += response.differs.len();
        put_off += response.put_off;
        let Some(reply) = response.reply else { break };
        message = reply;
        bytes += wire_bytes(&message);
        messages += 1;
    }
    println!(
        "  {differences} differences: {bytes} bytes, {messages} messages, {found} found, \
         {put_off} put off, {:.1?}",
        started.elapsed()
    );
    // The same set as before for the next walk.
    trie.extend((0..differences).map(|at| entry(at * 7 + 3, 0)));
    Ok(())
}

fn entry(at: u32, version: u8) -> Entry {
    Entry {
        key_hash: Digest::of("key", &[&at.to_be_bytes()]),
        digest: Digest::of("record", &[&at.to_be_bytes(), &[version]]),
    }
}

/// What a plain encoding would take: salt and kind, then per node its prefix with lengths and kind,
/// a bitmap of children, four bytes per hash.
fn wire_bytes(message: &WalkMessage) -> usize {
    let body = match &message.body {
        WalkBody::Root(_) => 32,
        WalkBody::Equal | WalkBody::End => 0,
        WalkBody::Nodes(nodes) => nodes
            .iter()
            .map(|node| {
                let said = match &node.state {
                    NodeState::Inner { levels: Levels::One, children } => 2 + 4 * children.len(),
                    NodeState::Inner { levels: Levels::Two, children } => 32 + 4 * children.len(),
                    NodeState::List(hashes) | NodeState::Want(hashes) => 1 + 4 * hashes.len(),
                    NodeState::Open => 0,
                };
                2 + node.prefix.packed().len() + said
            })
            .sum(),
    };
    9 + body
}
