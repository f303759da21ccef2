//! Groups that wait a moment for more.

use crate::world::{Client, World, seq};
use rejoin_core::protocol::host::{HostNote, HostOutput};

fn commits(world: &World) -> usize {
    world.held.iter().filter(|output| matches!(output, HostOutput::Commit { .. })).count()
}

/// One whose row takes so many milliseconds to be committed, while the rows of two others come to wait; all that
/// follows is held back until it is released.
fn busy(commit_millis: u64) -> (World, [Client; 3]) {
    let mut world = World::new();
    let mut clients = [Client::new(1), Client::new(2), Client::new(3)];
    clients.iter_mut().for_each(|client| drop(client.connect(&mut world)));
    world.hold = true;
    for (client, id) in clients.iter_mut().zip(["a", "b", "c"]) {
        let row = client.set(1, id, "title", "first");
        client.push(&mut world, &[row]);
        if id == "a" {
            let read = world.held.pop_front().unwrap();
            world.carry_out(read);
            world.run();
        }
    }
    assert_eq!(commits(&world), 1);
    world.now.mono.0 += commit_millis;
    let commit = world.held.pop_front().unwrap();
    world.carry_out(commit);
    world.run();
    assert_eq!(world.host.facts().head, seq(1));
    (world, clients)
}

/// By how many commits the others were.
fn groups(world: &World) -> usize {
    let mut heads: Vec<_> = world
        .notes
        .iter()
        .filter_map(|note| match note {
            HostNote::Pushed { head, .. } => Some(*head),
            _ => None,
        })
        .collect();
    heads.dedup();
    heads.len() - 1
}

#[test]
fn who_was_acknowledged_goes_with_those_who_waited() {
    let (mut world, [mut ann, ..]) = busy(6);
    assert!(world.held.is_empty(), "a group was begun at once");
    let row = ann.set(10, "a", "title", "second");
    ann.push(&mut world, &[row]);
    world.release();
    assert_eq!(world.host.facts().head, seq(4));
    assert_eq!(groups(&world), 1);
}

#[test]
fn who_does_not_come_back_is_not_waited_for_for_long() {
    let (mut world, _clients) = busy(6);
    assert!(world.held.is_empty(), "a group was begun at once");
    assert!(world.host.deadline().unwrap() <= world.now.mono + rejoin_core::time::Millis(3));
    world.release();
    assert_eq!(world.host.facts().head, seq(1));
    world.pass(3);
    assert_eq!(world.host.facts().head, seq(3));
    assert_eq!(groups(&world), 1);
}

#[test]
fn nobody_waits_where_commits_are_fast() {
    let (mut world, _clients) = busy(1);
    assert_eq!(world.held.len(), 1, "the next group is read");
    world.release();
    assert_eq!(world.host.facts().head, seq(3));
}
