//! Where a subscription can start from.

use crate::world::{Config, World, task};
use rejoin_core::protocol::message::Mode;

/// Small pages: a pull of a few records has a middle.
fn paged() -> World {
    World::with(13, Config { page_bytes_aim: Some(300), ..Config::default() })
}

fn write_some(world: &mut World, device: usize, name: &str, count: usize) {
    for number in 0..count {
        world.write(device, vec![task(&format!("{name} {number}"), name)]);
    }
}

#[test]
fn first_sync_to_an_empty_server_brings_everything_there() {
    let mut world = paged();
    let first = world.device();
    write_some(&mut world, first, "offline", 50);
    world.connect(first);
    world.settle();
    assert_eq!(world.agreed().len(), 50);
    // A second one that was never online either, and a third with nothing.
    let (second, third) = (world.device(), world.device());
    write_some(&mut world, second, "as well", 50);
    world.connect(second);
    world.connect(third);
    world.settle();
    assert_eq!(world.agreed().len(), 100);
}

#[test]
fn subscription_without_a_cursor_gets_everything() {
    let mut world = paged();
    let (writer, newcomer) = (world.device(), world.device());
    write_some(&mut world, writer, "x", 40);
    world.connect(writer);
    world.settle();
    world.connect(newcomer);
    world.settle();
    assert_eq!(world.devices[newcomer].modes, [Mode::Snapshot]);
    assert_eq!(world.agreed().len(), 40);
}

#[test]
fn subscription_with_an_old_cursor_gets_what_came_since() {
    for host_restarts in [false, true] {
        let mut world = paged();
        let (writer, sleeper) = (world.device(), world.device());
        world.connect(writer);
        world.connect(sleeper);
        write_some(&mut world, writer, "before", 20);
        world.settle();
        world.disconnect(sleeper);
        write_some(&mut world, writer, "since", 20);
        write_some(&mut world, writer, "before", 5);
        world.settle();
        if host_restarts {
            // Another epoch, of the same lineage: the cursor stays good.
            world.restart_host();
            world.settle();
            write_some(&mut world, writer, "after the restart", 20);
            world.settle();
        }
        world.reopen(sleeper);
        world.connect(sleeper);
        world.settle();
        assert_eq!(world.devices[sleeper].modes.last(), Some(&Mode::Feed));
        assert_eq!(world.agreed().len(), if host_restarts { 60 } else { 40 });
    }
}

/// The server's disk was put back to a copy, then written to: the cursor names a place in a history that
/// is gone, where other things stand now.
#[test]
fn subscription_with_a_cursor_of_another_epoch_heals_and_gets_everything() {
    let mut world = paged();
    let (writer, sleeper) = (world.device(), world.device());
    world.connect(writer);
    world.connect(sleeper);
    write_some(&mut world, writer, "before", 20);
    world.settle();
    let copy = world.store.snapshot();
    world.restart_host();
    world.settle();
    // Both hold a cursor of the epoch that the copy does not know.
    world.disconnect(sleeper);
    world.disconnect(writer);
    world.restart_host_on(Some(copy));
    let third = world.device();
    world.connect(third);
    write_some(&mut world, third, "other", 30);
    world.settle();
    write_some(&mut world, sleeper, "local", 5);
    for device in [writer, sleeper] {
        world.reopen(device);
        world.connect(device);
    }
    world.settle();
    assert_eq!(world.devices[sleeper].modes.last(), Some(&Mode::Heal));
    assert_eq!(world.agreed().len(), 55);
}
