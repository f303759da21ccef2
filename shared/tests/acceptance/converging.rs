//! Devices that write apart, in whatever order they meet again.

use crate::world::{Shown, World, set, shown, task, title, title_of, touch};
use rejoin_core::{
    protocol::{engine::Wish, message::Mode},
    record::Value,
    replica::FieldAction,
};

/// Histories of two devices that turn one field over and over, meeting and parting at any point.
const HISTORIES: u64 = 1_000;

#[test]
fn flip_flop_of_two_devices_ends_in_one_value_on_both_and_the_server() {
    let mut first_to_connect = [0; 2];
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        let devices = [world.device(), world.device()];
        world.devices[1].skew = i64::try_from(world.rng.below(4_000)).unwrap() - 2_000;
        let mut writes = Vec::new();
        for turn in 0..4 + world.rng.below(20) {
            let device = world.rng.index(2);
            match world.rng.below(6) {
                0 => world.connect(device),
                1 => world.disconnect(device),
                2 => world.reopen(device),
                _ => {
                    let text = format!("{device} in turn {turn}");
                    let receipt = world.write(device, vec![task("shared", &text)]);
                    writes.push((receipt.stamp, text));
                }
            }
            let count = world.rng.index(25);
            world.steps(count);
        }
        let receipt = world.write(0, vec![task("shared", "the last of 0")]);
        writes.push((receipt.stamp, "the last of 0".to_owned()));
        let first = world.rng.index(2);
        first_to_connect[first] += 1;
        world.connect(first);
        let count = world.rng.index(60);
        world.steps(count);
        world.connect(1 - first);
        world.settle();
        let seen = world.agreed();
        assert_eq!(seen.len(), 1, "seed {seed}");
        // The same write wins everywhere: the one with the greatest stamp.
        let last = writes.iter().max().map(|(_, text)| text.as_str());
        assert_eq!(title_of(&seen, "shared"), last, "seed {seed}");
        for device in devices {
            assert!(world.rejected(device).is_empty(), "seed {seed}");
        }
    }
    assert!(first_to_connect.into_iter().all(|count| count > 300), "{first_to_connect:?}");
}

#[test]
fn union_of_any_local_and_foreign_changes_is_on_both_sides() {
    for was_there_before in [true, false] {
        for local in 0..=8 {
            for foreign in 0..=8 {
                let case = format!("{local} local, {foreign} foreign, before: {was_there_before}");
                let mut world = World::new(local * 9 + foreign);
                let (left, right) = (world.device(), world.device());
                if was_there_before {
                    world.write(left, vec![task("first", "x")]);
                    world.connect(left);
                    world.settle();
                    world.disconnect(left);
                }
                world.connect(right);
                for number in 0..foreign {
                    world.write(right, vec![task(&format!("foreign {number}"), "theirs")]);
                }
                world.settle();
                for number in 0..local {
                    world.write(left, vec![task(&format!("local {number}"), "ours")]);
                }
                world.connect(left);
                world.settle();
                let seen = world.agreed();
                let before = u64::from(was_there_before);
                assert_eq!(seen.len() as u64, local + foreign + before, "{case}");
                for number in 0..local {
                    assert_eq!(title_of(&seen, &format!("local {number}")), Some("ours"), "{case}");
                }
                for number in 0..foreign {
                    let id = format!("foreign {number}");
                    assert_eq!(title_of(&seen, &id), Some("theirs"), "{case}");
                }
            }
        }
    }
}

#[test]
fn two_writers_and_the_server_hold_21_of_21_records_after_ten_rounds() {
    let mut world = World::new(6);
    let (left, right) = (world.device(), world.device());
    world.write(left, vec![task("0", "first")]);
    world.connect(left);
    world.connect(right);
    world.settle();
    for round in 1..=10 {
        world.write(left, vec![task(&format!("left {round}"), "x")]);
        world.write(right, vec![task(&format!("right {round}"), "y")]);
        world.settle();
        assert_eq!(world.agreed().len(), 1 + 2 * round);
    }
    assert_eq!(world.agreed().len(), 21);
}

#[test]
fn edit_reaches_another_connected_device_without_any_timer() {
    let mut world = World::new(3);
    let (left, right) = (world.device(), world.device());
    world.connect(left);
    world.connect(right);
    world.settle();
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { (left, right) } else { (right, left) };
        let text = format!("round {round}");
        world.write(from, vec![task("1", &text)]);
        world.run_dry();
        assert_eq!(title_of(&world.seen(to), "1"), Some(text.as_str()));
    }
}

/// How a pull can start, and a world in which one is about to: the last device has what is not there yet.
fn about_to_pull(mode: Mode) -> (World, usize) {
    let config = crate::world::Config { page_bytes_aim: Some(300), ..Default::default() };
    let mut world = World::with(7, config);
    let (left, right) = (world.device(), world.device());
    let image = (mode == Mode::Heal).then(|| world.store.snapshot());
    world.connect(left);
    world.write(left, vec![touch("shared", vec![title("old"), add(1)])]);
    world.settle();
    if mode != Mode::Snapshot {
        world.connect(right);
        world.settle();
        world.disconnect(right);
    }
    if let Some(image) = image {
        // Another server, on another store, to which everything is written anew.
        world.disconnect(left);
        world.restart_host_on(Some(image));
        let writer = world.device();
        world.connect(writer);
        world.write(writer, vec![touch("shared", vec![title("old"), add(1)])]);
        world.settle();
        world.disconnect(writer);
    }
    world.connect(left);
    for number in 0..12 {
        world.write(left, vec![task(&format!("theirs {number}"), "x")]);
    }
    world.settle();
    (world, right)
}

fn add(amount: i64) -> rejoin_core::replica::FieldChange {
    set("votes", FieldAction::Add(amount))
}

/// A write of this device at every point of a pull: at the first step, the second, and so on.
fn write_at_every_step_of_a_pull(mode: Mode) -> usize {
    // What the server of before had counted comes back to the one that has lost it.
    let votes = if mode == Mode::Heal { 4 } else { 3 };
    for before in 0.. {
        let (mut world, device) = about_to_pull(mode);
        world.connect(device);
        for done in 0..before {
            if !world.step() {
                assert!(before > 20, "a pull of {done} steps");
                return done;
            }
        }
        let changes = vec![
            task("ours", "written meanwhile"),
            touch("shared", vec![title("new"), add(2)]),
            task("theirs 3", "edited meanwhile"),
        ];
        let id = world.ask(device, changes);
        world.settle();
        let answer = world.devices[device].answers.get(&id);
        assert!(matches!(answer, Some(Ok(_))), "{mode:?}, step {before}: {answer:?}");
        assert_eq!(world.devices[device].modes.last(), Some(&mode), "step {before}");
        assert!(world.rejected(device).is_empty());
        for device in 0..world.devices.len() {
            world.connect(device);
        }
        world.settle();
        let seen = world.agreed();
        assert_eq!(seen.len(), 14, "{mode:?}, step {before}");
        assert_eq!(title_of(&seen, "ours"), Some("written meanwhile"), "{mode:?}, step {before}");
        assert_eq!(title_of(&seen, "shared"), Some("new"), "{mode:?}, step {before}");
        assert_eq!(shown(&seen, "shared", "votes"), Some(&Shown::Counter(votes)), "step {before}");
        let edited = title_of(&seen, "theirs 3");
        assert_eq!(edited, Some("edited meanwhile"), "{mode:?}, step {before}");
    }
    0
}

#[test]
fn local_write_at_any_step_of_a_pull_is_neither_lost_nor_stuck() {
    write_at_every_step_of_a_pull(Mode::Feed);
}

#[test]
fn local_write_at_any_step_of_a_snapshot_is_neither_lost_nor_stuck() {
    write_at_every_step_of_a_pull(Mode::Snapshot);
}

#[test]
fn local_write_at_any_step_of_a_heal_is_neither_lost_nor_stuck() {
    write_at_every_step_of_a_pull(Mode::Heal);
}

#[test]
fn both_values_of_a_review_field_stay_until_one_is_chosen() {
    let mut world = World::new(21);
    let (left, right) = (world.device(), world.device());
    let note = |text: &str| set("note", FieldAction::Resolve(Value::text(text)));
    let both = Shown::Review(vec![Value::text("Friday"), Value::text("Saturday")]);
    world.write(left, vec![touch("1", vec![title("Plan"), note("Friday")])]);
    world.write(right, vec![touch("1", vec![note("Saturday")])]);
    for device in [left, right] {
        world.connect(device);
    }
    world.settle();
    assert_eq!(shown(&world.agreed(), "1", "note"), Some(&both));
    // Other writes, a restart of either end and a newcomer choose nothing.
    world.write(left, vec![touch("1", vec![title("Plan the trip"), add(1)])]);
    world.settle();
    world.reopen(right);
    world.restart_host();
    let third = world.device();
    for device in [right, third] {
        world.connect(device);
    }
    world.settle();
    assert_eq!(shown(&world.agreed(), "1", "note"), Some(&both));
    let chosen = Wish::Write { changes: vec![touch("1", vec![note("Friday")])], relaxed: false };
    world.wish(third, chosen);
    world.settle();
    let one = Shown::Review(vec![Value::text("Friday")]);
    assert_eq!(shown(&world.agreed(), "1", "note"), Some(&one));
}

#[test]
fn ten_devices_on_one_record_agree_and_count_every_write() {
    let mut world = World::new(16);
    let devices: Vec<usize> = (0..10).map(|_| world.device()).collect();
    devices.iter().for_each(|device| world.connect(*device));
    let mut votes = 0;
    for turn in 0..200 {
        let device = world.rng.index(devices.len());
        let vote = i64::from(world.rng.byte()) - 100;
        let tag = set("tags", FieldAction::Insert(vec![Value::int(turn)]));
        world.ask(device, vec![touch("shared", vec![title(&format!("{turn}")), add(vote), tag])]);
        votes += vote;
        let count = world.rng.index(60);
        world.steps(count);
    }
    world.settle();
    let seen = world.agreed();
    assert_eq!(seen.len(), 1);
    assert_eq!(shown(&seen, "shared", "votes"), Some(&Shown::Counter(votes)));
    let tags = (0..200).map(Value::int).collect();
    assert_eq!(shown(&seen, "shared", "tags"), Some(&Shown::Set(tags)));
}
