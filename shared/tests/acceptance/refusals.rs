//! What is refused, and a server that cannot store, hold up nothing else.

use crate::world::{Config, World, key, set, task, title, title_of, touch};
use rejoin_core::{
    io::FaultClass,
    protocol::engine::Wish,
    record::Value,
    replica::{Action, Change, FieldAction},
};

fn locked(id: &str) -> Change {
    Change { key: key("locked", id), action: Action::Upsert(vec![title("no")]) }
}

#[test]
fn p15_record_that_the_server_refuses_blocks_no_other() {
    let mut world = World::with(12, Config { locked: true, ..Config::default() });
    let (left, right) = (world.device(), world.device());
    world.connect(right);
    // In the middle of what waits, and again while connected.
    for number in 0..5 {
        world.write(left, vec![task(&format!("before {number}"), "x")]);
    }
    let poison = world.write(left, vec![locked("1")]);
    for number in 0..5 {
        world.write(left, vec![task(&format!("after {number}"), "x")]);
    }
    world.connect(left);
    world.settle();
    assert_eq!(world.rejected(left), [poison.number]);
    assert_eq!(world.seen(right).len(), 10);
    let again = world.write(left, vec![locked("2")]);
    world.write(left, vec![task("later", "x")]);
    world.write(right, vec![task("theirs", "x")]);
    world.settle();
    assert_eq!(world.rejected(left), [poison.number, again.number]);
    assert_eq!(title_of(&world.seen(right), "later"), Some("x"));
    assert_eq!(title_of(&world.seen(left), "theirs"), Some("x"));
    // It stays so over restarts of both, until the user decides.
    world.reopen(left);
    world.restart_host();
    world.write(left, vec![task("much later", "x")]);
    world.connect(left);
    world.settle();
    assert_eq!(world.rejected(left), [poison.number, again.number]);
    for number in [poison.number, again.number] {
        world.wish(left, Wish::Discard { number });
    }
    world.settle();
    assert_eq!(world.agreed().len(), 13);
}

/// Each device's part is within the limit and both together are not: no device could have known.
#[test]
fn p15_record_that_grew_too_large_by_merging_blocks_no_other() {
    let mut world = World::with(12, Config { record_bytes: Some(3_000), ..Config::default() });
    let (left, right) = (world.device(), world.device());
    for (device, name) in [(left, "left"), (right, "right")] {
        let large = set(name, FieldAction::Resolve(Value::text(&"x".repeat(2_000))));
        world.write(device, vec![task(&format!("{name} before"), "x")]);
        world.write(device, vec![touch("shared", vec![large])]);
        world.write(device, vec![task(&format!("{name} after"), "x")]);
    }
    world.connect(left);
    world.settle();
    world.connect(right);
    world.settle();
    let rejected = world.rejected(right);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(world.rejected(left), [0; 0]);
    world.wish(right, Wish::Discard { number: rejected[0] });
    world.settle();
    assert_eq!(world.agreed().len(), 5);
}

/// Full, read-only or slow for a while: the host acknowledges nothing, the devices keep everything.
#[test]
fn s06_server_that_cannot_store_acknowledges_nothing_and_loses_nothing() {
    for class in
        [FaultClass::Transient, FaultClass::Full, FaultClass::Permanent, FaultClass::Corrupt]
    {
        let mut world = World::new(10);
        let device = world.device();
        world.connect(device);
        world.settle();
        world.host_fault = Some(class);
        for number in 0..5 {
            world.write(device, vec![task(&format!("{number}"), "x")]);
            world.steps(50);
        }
        // It would try again without end.
        world.steps(2_000);
        assert_eq!(world.devices[device].engine.status().pending, 5, "{class:?}");
        assert_eq!(world.devices[device].engine.replica().base().len(), 0, "{class:?}");
        world.host_fault = None;
        // As whoever runs it would, after seeing to the disk.
        world.restart_host();
        world.settle();
        assert_eq!(world.agreed().len(), 5, "{class:?}");
    }
}
