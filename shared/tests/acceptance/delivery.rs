//! Messages that come twice, late, or out of an old session.

use crate::world::{
    Config, Delivered, Seen, Shown, Strike, World, key, set, shown, task, title, touch,
};
use rejoin_core::{
    protocol::{engine::Notice, message::ByeCode, wire},
    record::{Kind, Value},
    replica::{Action, Change, FieldAction},
};
use std::collections::BTreeSet;

/// Shuffles of a recorded session that are replayed.
const REPLAYS: u64 = 60;
/// Stories of devices that give their lines up.
const STORIES: u64 = 100;

/// Two writers that meet, part and meet again, a newcomer, and a device that has to heal.
struct Story {
    world: World,
    devices: Vec<usize>,
}

fn every_kind(id: &str, by: &str, number: i64) -> Change {
    let text = || Value::text(by);
    touch(
        id,
        vec![
            title(by),
            set("first", FieldAction::Set(Kind::Fww, text())),
            set("high", FieldAction::Set(Kind::Max, Value::int(number))),
            set("low", FieldAction::Set(Kind::Min, Value::int(number))),
            set("votes", FieldAction::Add(number)),
            set("tags", FieldAction::Insert(vec![text(), Value::int(number)])),
            set("note", FieldAction::Resolve(text())),
        ],
    )
}

fn story(twice: Option<usize>) -> Story {
    story_on(twice, None)
}

/// The same, on a line that does something to one frame.
fn story_on(twice: Option<usize>, strike: Option<(usize, Strike)>) -> Story {
    let config = Config { page_bytes_aim: Some(400), locked: true, ..Config::default() };
    let mut world = World::with(11, config);
    world.twice = twice;
    world.strike = strike;
    let empty = world.store.snapshot();
    // Its base comes from a server that nobody knows later.
    let stranger = world.device();
    world.connect(stranger);
    world.settle();
    world.disconnect(stranger);
    world.restart_host_on(Some(empty));
    let (left, right) = (world.device(), world.device());
    for (device, by) in [(left, "left"), (right, "right")] {
        world.write(device, vec![every_kind("shared", by, 3), task(by, "x")]);
        world.write(device, vec![every_kind("shared", by, 2)]);
        // Who was first does not depend on what is delivered twice.
        world.settle();
        world.connect(device);
    }
    world.settle();
    world.disconnect(right);
    // Refused, with what was planned on it; then what the two had not seen of each other.
    let locked = Change { key: key("locked", "1"), action: Action::Upsert(vec![title("no")]) };
    world.write(left, vec![locked, every_kind("shared", "left", 100)]);
    world.write(left, vec![every_kind("shared", "left", 7)]);
    let remove = Change { key: key("tasks", "right"), action: Action::Remove { erase: false } };
    world.write(left, vec![remove]);
    world.settle();
    world.write(right, vec![every_kind("shared", "right", -1), task("right", "edited")]);
    let newcomer = world.device();
    for device in [right, newcomer, stranger] {
        world.connect(device);
    }
    world.settle();
    Story { world, devices: vec![stranger, left, right, newcomer] }
}

/// What all agree on, once all are connected and at rest.
fn outcome(world: &mut World) -> Seen {
    let rejected = world.rejected(1);
    assert_eq!(rejected.len(), 1, "what was refused is kept: {rejected:?}");
    let mut seen = world.agreed();
    seen.retain(|key, _| key.collection.as_str() != "locked");
    seen
}

fn names_of(tape: &[Delivered]) -> BTreeSet<String> {
    let messages = tape.iter().map(|delivered| {
        let (_, bytes) = wire::split_frame(&delivered.frame).unwrap();
        let text = format!("{:?}", wire::decode(bytes).unwrap());
        text.split(|end: char| !end.is_alphanumeric()).next().unwrap_or_default().to_owned()
    });
    messages.collect()
}

#[test]
fn recorded_story_has_the_messages_of_every_way_to_sync() {
    let mut story = story(None);
    outcome(&mut story.world);
    let names = names_of(&story.world.tape);
    for name in [
        "Hello", "Welcome", "Push", "Ack", "Changes", "Resume", "AskRoots", "Roots", "Walk",
        "Records", "AskChunk", "Chunk",
    ] {
        assert!(names.contains(name), "no {name} in {names:?}");
    }
}

#[test]
fn p02_message_that_arrives_twice_changes_nothing_whichever_it_is() {
    let mut plain = story(None);
    let expected = outcome(&mut plain.world);
    let count = plain.world.tape.len();
    assert!(count > 50, "{count} messages");
    for at in 0..count {
        let mut story = story(Some(at));
        assert_eq!(outcome(&mut story.world), expected, "message {at} twice");
    }
}

/// Not even a word about the other end: only the line is to blame, and a new one puts it right.
#[test]
fn p02_frame_that_a_live_line_loses_repeats_swaps_or_changes_costs_a_connection_whichever_it_is() {
    let mut plain = story(None);
    let expected = outcome(&mut plain.world);
    let count = plain.world.tape.len();
    for strike in [Strike::Lost, Strike::Repeated, Strike::Late, Strike::Changed] {
        let mut noticed = 0;
        for at in 0..count {
            let mut struck = story_on(None, Some((at, strike)));
            assert_eq!(outcome(&mut struck.world), expected, "frame {at}: {strike:?}");
            let world = &struck.world;
            // A line that is left before anything follows is not found out.
            assert!(world.bad_lines <= 1, "frame {at}: {strike:?}");
            noticed += world.bad_lines;
            for notice in world.devices.iter().flat_map(|device| &device.notices) {
                if let Notice::Ended { code, .. } = notice {
                    let blames = matches!(code, ByeCode::Malformed | ByeCode::Misbehaved);
                    assert!(!blames, "frame {at}: {strike:?}: {notice:?}");
                }
            }
        }
        assert!(2 * noticed > count, "{strike:?}: {noticed} of {count}");
    }
}

/// Lines that devices gave up go on delivering, hellos too, while newer ones are in use.
#[test]
fn p02_messages_that_arrive_late_on_lines_that_were_given_up_change_nothing() {
    let mut abandoned = 0;
    for seed in 0..STORIES {
        let config = Config { page_bytes_aim: Some(400), ..Config::default() };
        let mut world = World::with(seed, config);
        let devices = [world.device(), world.device()];
        devices.iter().for_each(|device| world.connect(*device));
        let mut votes = 0;
        for turn in 0..30 {
            let device = world.rng.index(2);
            let vote = i64::from(world.rng.byte());
            let note = format!("{turn}");
            let tags = set("tags", FieldAction::Insert(vec![Value::text(&note)]));
            let fields = vec![set("votes", FieldAction::Add(vote)), tags];
            world.write(device, vec![touch("shared", fields), task(&note, "x")]);
            votes += vote;
            let count = world.rng.index(12);
            world.steps(count);
            if world.rng.once_in(3) {
                world.abandon(device);
                abandoned += 1;
            }
        }
        world.settle();
        let seen = world.agreed();
        assert_eq!(seen.len(), 31, "seed {seed}");
        assert_eq!(shown(&seen, "shared", "votes"), Some(&Shown::Counter(votes)), "seed {seed}");
        let Some(Shown::Set(tags)) = shown(&seen, "shared", "tags") else { panic!("no set") };
        assert_eq!(tags.len(), 30, "seed {seed}");
    }
    assert!(abandoned > STORIES * 5, "{abandoned} lines");
}

/// All that a device and the host ever told each other comes once more over its next connection, in
/// any order.
#[test]
fn p10_c14_replay_of_recorded_sessions_in_any_order_over_a_later_connection_changes_nothing() {
    let mut plain = story(None);
    let expected = outcome(&mut plain.world);
    for seed in 0..REPLAYS {
        let Story { mut world, devices } = story(None);
        world.rng = rejoin_core::testing::rng::Rng::new(seed);
        let mut tape = world.tape.clone();
        if seed % 2 == 1 {
            for last in (1..tape.len()).rev() {
                let other = world.rng.index(last + 1);
                tape.swap(last, other);
            }
        }
        for device in &devices {
            world.disconnect(*device);
            world.connect(*device);
        }
        let count = world.rng.index(40);
        world.steps(count);
        for Delivered { device, up, frame } in tape {
            // What ends a session is followed by a new one, and the replay goes on in that.
            let count = world.rng.index(4);
            world.steps(count);
            world.arrive(device, up, &frame);
        }
        world.settle();
        assert_eq!(outcome(&mut world), expected, "seed {seed}");
    }
}
