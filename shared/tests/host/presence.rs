//! Presence: who is told of whom, how often, and what is forgotten.

use crate::world::{Client, World, grant};
use rejoin_core::{
    protocol::{
        host::{Grant, HostInput, HostNote, PeerId},
        limits::{
            DEAD_AFTER, PRESENCE_BYTES_PER_S, PRESENCE_EVERY, PRESENCE_GONE_MAX,
            PRESENCE_SPACE_BYTES_MAX, PRESENCE_TABS_MAX, PRESENCE_VALUE_BYTES_MAX,
        },
        message::{ByeCode, FEATURE_PRESENCE, Message, Other, Others, Presence},
        wire,
    },
    record::Value,
};
use std::collections::BTreeMap;

/// One who takes part; the welcome is taken in.
fn joined(world: &mut World, number: u8, principal: &str) -> Client {
    let mut client = Client::new(number);
    client.features = FEATURE_PRESENCE;
    let welcome = client.connect_as(world, principal, false);
    assert_eq!(welcome.features, FEATURE_PRESENCE);
    client
}

/// One who takes part and has asked who is there.
fn listening(world: &mut World, number: u8, principal: &str) -> Client {
    let client = joined(world, number, principal);
    world.say(client.peer, &Message::Presence(Presence::default()));
    client
}

fn show(world: &mut World, client: &Client, tab: u64, value: Value) {
    let presence = Presence { here: vec![(tab, value)], gone: Vec::new() };
    world.say(client.peer, &Message::Presence(presence));
}

fn hide(world: &mut World, client: &Client, tab: u64) {
    world.say(client.peer, &Message::Presence(Presence { here: Vec::new(), gone: vec![tab] }));
}

/// What came, as messages of presence.
fn told(world: &mut World, client: &Client) -> Vec<Others> {
    others_of(world.hear(client.peer))
}

fn others_of(heard: Vec<Message>) -> Vec<Others> {
    let others = heard.into_iter().filter_map(|message| match message {
        Message::Others(others) => Some(others),
        _ => None,
    });
    others.collect()
}

/// Whom a client knows of, after all that came to it.
#[derive(Default)]
struct Known(BTreeMap<u64, Other>);

impl Known {
    fn hear(&mut self, world: &mut World, client: &Client) -> usize {
        self.take(told(world, client))
    }

    fn take(&mut self, all: Vec<Others>) -> usize {
        let count = all.len();
        for others in all {
            if others.anew {
                self.0.clear();
            }
            for id in others.gone {
                self.0.remove(&id);
            }
            self.0.extend(others.here.into_iter().map(|other| (other.id, other)));
        }
        count
    }

    fn values(&self) -> Vec<Value> {
        self.0.values().map(|other| other.value.clone()).collect()
    }
}

/// A text whose encoding takes so many bytes.
fn text_of(bytes: usize) -> Value {
    assert!(bytes > 300, "three bytes tell its length");
    Value::text(&"x".repeat(bytes - 3))
}

fn ticks(world: &mut World, count: u64) {
    for _ in 0..count {
        world.pass(PRESENCE_EVERY.0);
    }
}

#[test]
fn what_a_tab_shows_reaches_the_others_with_its_principal_until_it_is_gone() {
    let mut world = World::new();
    let ann = listening(&mut world, 1, "ann");
    let bob = listening(&mut world, 2, "bob");
    let anew = Others { anew: true, ..Others::default() };
    ticks(&mut world, 2);
    for listener in [&ann, &bob] {
        let heard = told(&mut world, listener);
        assert_eq!(heard, core::slice::from_ref(&anew), "nobody is there, and that is told");
    }
    show(&mut world, &ann, 7, Value::int(1));
    let [others] = &told(&mut world, &bob)[..] else { panic!("at once") };
    let [other] = &others.here[..] else { panic!("one") };
    assert_eq!((other.principal.as_str(), &other.value), ("ann", &Value::int(1)));
    assert!(!others.anew);
    let id = other.id;
    ticks(&mut world, 1);
    show(&mut world, &ann, 7, Value::Null);
    let same = Other { id, principal: String::from("ann"), value: Value::Null };
    let changed = Others { here: vec![same], ..Others::default() };
    assert_eq!(told(&mut world, &bob), [changed], "null is a value like others");
    ticks(&mut world, 1);
    hide(&mut world, &ann, 7);
    assert_eq!(told(&mut world, &bob), [Others { gone: vec![id], ..Others::default() }]);
    ticks(&mut world, 1);
    show(&mut world, &ann, 7, Value::int(2));
    assert_ne!(told(&mut world, &bob)[0].here[0].id, id, "it is somebody new");
    assert!(told(&mut world, &ann).iter().all(|others| others.here.is_empty()), "not oneself");
}

#[test]
fn presence_goes_with_its_connection_however_that_ends() {
    let mut world = World::new();
    let bob = listening(&mut world, 2, "bob");
    let mut known = Known::default();
    let gone = |world: &mut World, known: &mut Known| {
        ticks(world, 1);
        known.hear(world, &bob);
        known.values().is_empty()
    };
    let ann = |world: &mut World, known: &mut Known| {
        let ann = joined(world, 1, "ann");
        show(world, &ann, 1, Value::int(1));
        ticks(world, 1);
        known.hear(world, &bob);
        assert_eq!(known.values(), [Value::int(1)]);
        ann
    };
    let left = ann(&mut world, &mut known);
    world.put(HostInput::Gone { peer: left.peer });
    assert!(gone(&mut world, &mut known), "closed");
    let stripped = ann(&mut world, &mut known);
    let none = Grant { rights: Vec::new(), ..grant("ann") };
    world.put(HostInput::Regranted { peer: stripped.peer, grant: none });
    assert_eq!(world.closed[&stripped.peer].code, ByeCode::NoSpace);
    assert!(gone(&mut world, &mut known), "without a right");
    // Nobody hears from it again, and the one who listens says something now and then.
    ann(&mut world, &mut known);
    for _ in 0..=DEAD_AFTER.0 / 5_000 {
        world.say(bob.peer, &Message::Ping { nonce: 1 });
        world.pass(5_000);
    }
    assert!(gone(&mut world, &mut known), "silent");
}

#[test]
fn nobody_is_told_who_did_not_ask_and_without_the_feature_it_is_misconduct() {
    let mut world = World::new();
    let ann = joined(&mut world, 1, "ann");
    let silent = joined(&mut world, 2, "bob");
    let mut old = Client::new(3);
    assert_eq!(old.connect(&mut world).features, 0);
    show(&mut world, &ann, 1, Value::int(1));
    ticks(&mut world, 3);
    assert_eq!(told(&mut world, &silent), []);
    assert_eq!(told(&mut world, &old), []);
    show(&mut world, &old, 1, Value::int(1));
    assert_eq!(world.closed[&old.peer].code, ByeCode::Misbehaved);
}

#[test]
fn one_message_each_interval_with_the_latest_state_alone() {
    let mut world = World::new();
    let ann = joined(&mut world, 1, "ann");
    let bob = listening(&mut world, 2, "bob");
    let mut known = Known::default();
    let mut messages = 0;
    for at in 0..1_000 {
        show(&mut world, &ann, 1, Value::int(at));
        world.pass(1);
        messages += known.hear(&mut world, &bob);
    }
    assert!((18..=21).contains(&messages), "{messages} in a second");
    ticks(&mut world, 1);
    known.hear(&mut world, &bob);
    assert_eq!(known.values(), [Value::int(999)], "the last one arrives");
    show(&mut world, &ann, 1, Value::int(999));
    ticks(&mut world, 2);
    assert_eq!(known.hear(&mut world, &bob), 0, "nothing has changed");
}

#[test]
fn changes_go_first_on_a_congested_line_and_presence_is_left_out() {
    let mut world = World::new();
    let mut ann = joined(&mut world, 1, "ann");
    let bob = listening(&mut world, 2, "bob");
    ticks(&mut world, 1);
    told(&mut world, &bob);
    world.sockets_take = false;
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    let owed: usize =
        world.sent.iter().filter(|(to, _)| *to == bob.peer).map(|(_, bytes)| bytes.len()).sum();
    let heard = world.hear(bob.peer);
    assert!(heard.iter().any(|message| matches!(message, Message::Changes(_))));
    for at in 0..20 {
        show(&mut world, &ann, 1, Value::int(at));
        ticks(&mut world, 1);
    }
    assert_eq!(told(&mut world, &bob), [], "its socket has not taken the change");
    world.put(HostInput::Sent { peer: bob.peer, bytes: owed });
    let latest = told(&mut world, &bob);
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0].here[0].value, Value::int(19));
}

#[test]
fn values_and_tabs_end_at_their_limits() {
    for (bytes, good) in [(-1, true), (0, true), (1, false)] {
        let mut world = World::new();
        let ann = joined(&mut world, 1, "ann");
        let bytes = PRESENCE_VALUE_BYTES_MAX.checked_add_signed(bytes).unwrap();
        show(&mut world, &ann, 1, text_of(bytes));
        let code = world.closed.get(&ann.peer).map(|bye| bye.code);
        assert_eq!(code, (!good).then_some(ByeCode::TooLarge), "{bytes}");
    }
    for (tabs, good) in [(-1, true), (0, true), (1, false)] {
        let mut world = World::new();
        let ann = joined(&mut world, 1, "ann");
        let tabs = PRESENCE_TABS_MAX.checked_add_signed(tabs).unwrap() as u64;
        // One after the other: a message has its own limit.
        (0..tabs).for_each(|tab| show(&mut world, &ann, tab, Value::int(1)));
        let code = world.closed.get(&ann.peer).map(|bye| bye.code);
        assert_eq!(code, (!good).then_some(ByeCode::TooLarge), "{tabs}");
        if good {
            show(&mut world, &ann, 0, Value::int(2));
            hide(&mut world, &ann, 0);
            show(&mut world, &ann, tabs, Value::int(1));
            assert!(!world.closed.contains_key(&ann.peer), "one takes another's place");
        }
    }
}

/// FAILURES X27: one in, ten thousand out.
#[test]
fn x27_fan_out_keeps_to_its_budget_and_everybody_is_told_in_the_end() {
    let mut world = World::new();
    let listeners: Vec<Client> =
        (0..200).map(|number| listening(&mut world, number, "bob")).collect();
    let ann = joined(&mut world, 250, "ann");
    ticks(&mut world, 2);
    world.sent.clear();
    let seconds = 10;
    for at in 0..seconds * 20 {
        let mut value = "x".repeat(PRESENCE_VALUE_BYTES_MAX - 20);
        value.push_str(&at.to_string());
        show(&mut world, &ann, 1, Value::text(&value));
        ticks(&mut world, 1);
    }
    let sent: usize = world.sent.iter().map(|(_, bytes)| bytes.len()).sum();
    let most = PRESENCE_BYTES_PER_S * usize::try_from(seconds).unwrap();
    assert!(sent < most + PRESENCE_BYTES_PER_S, "{sent} bytes in {seconds} s");
    assert!(sent > most / 2, "{sent} bytes: the budget is used");
    show(&mut world, &ann, 1, Value::int(5));
    ticks(&mut world, 40);
    for listener in &listeners {
        let last = told(&mut world, listener).pop().expect("told");
        assert_eq!(last.here[0].value, Value::int(5));
    }
}

#[test]
fn x27_memory_of_a_space_is_bounded_and_who_finds_no_room_is_not_shown() {
    let mut world = World::new();
    let bob = listening(&mut world, 251, "bob");
    let each = PRESENCE_TABS_MAX * PRESENCE_VALUE_BYTES_MAX;
    let peers = u8::try_from(PRESENCE_SPACE_BYTES_MAX / each + 2).unwrap();
    // The others listen too, and do not take what they are told: only this one is served.
    world.sockets_take = false;
    let read = |world: &mut World, known: &mut Known| {
        ticks(world, 1);
        let heard = world.hear(bob.peer);
        let bytes = heard.iter().map(|message| wire::encode(message).len()).sum();
        world.put(HostInput::Sent { peer: bob.peer, bytes });
        known.take(others_of(heard));
    };
    let mut last = None;
    for number in 0..peers {
        let client = joined(&mut world, number, "ann");
        for tab in 0..PRESENCE_TABS_MAX as u64 {
            show(&mut world, &client, tab, text_of(PRESENCE_VALUE_BYTES_MAX));
        }
        assert!(!world.closed.contains_key(&client.peer), "it goes on without");
        last = Some(client);
    }
    let mut known = Known::default();
    // Well before anybody counts as silent.
    for _ in 0..300 {
        read(&mut world, &mut known);
    }
    let bytes = known.0.len() * PRESENCE_VALUE_BYTES_MAX;
    assert!(bytes <= PRESENCE_SPACE_BYTES_MAX, "{bytes}");
    assert!(bytes > PRESENCE_SPACE_BYTES_MAX * 3 / 4, "{bytes}");
    assert!(bytes < usize::from(peers) * each, "some found no room");
    // Room that others leave is taken.
    let last = last.unwrap();
    let first = world.notes.iter().find_map(|note| match note {
        HostNote::Welcomed { peer, .. } if *peer != bob.peer => Some(*peer),
        _ => None,
    });
    world.put(HostInput::Gone { peer: first.unwrap() });
    show(&mut world, &last, 3, Value::text("here now"));
    (0..20).for_each(|_| read(&mut world, &mut known));
    assert!(known.values().contains(&Value::text("here now")));
}

#[test]
fn who_lags_behind_what_is_remembered_is_told_of_all_anew() {
    let mut world = World::new();
    let ann = joined(&mut world, 1, "ann");
    let bob = listening(&mut world, 2, "bob");
    show(&mut world, &ann, 1, Value::text("stays"));
    show(&mut world, &ann, 2, Value::text("goes"));
    ticks(&mut world, 2);
    let mut known = Known::default();
    known.hear(&mut world, &bob);
    assert_eq!(known.0.len(), 2);
    world.sockets_take = false;
    world.say(bob.peer, &Message::Ping { nonce: 9 });
    hide(&mut world, &ann, 2);
    for _ in 0..=PRESENCE_GONE_MAX {
        show(&mut world, &ann, 3, Value::int(1));
        hide(&mut world, &ann, 3);
    }
    let pong: usize = world.hear(bob.peer).iter().map(|message| wire::encode(message).len()).sum();
    ticks(&mut world, 2);
    world.put(HostInput::Sent { peer: bob.peer, bytes: pong });
    let [others] = &told(&mut world, &bob)[..] else { panic!("one message") };
    assert!(others.anew && others.gone.is_empty(), "{others:?}");
    assert_eq!(others.here.len(), 1);
    assert_eq!(others.here[0].value, Value::text("stays"));
}

#[test]
fn who_has_no_session_is_seen_while_he_shows_something_and_sees_who_is_there() {
    let mut world = World::new();
    let client = listening(&mut world, 1, "ada");
    told(&mut world, &client);
    show(&mut world, &client, 1, Value::text("here"));
    let guest = PeerId(900);
    assert!(world.host.visit(world.now, guest, "bob", Some(Value::int(1))));
    assert!(world.host.visit(world.now, guest, "bob", Some(Value::int(2))));
    world.pass(PRESENCE_EVERY.0);
    let mut known = Known::default();
    known.hear(&mut world, &client);
    let seen: Vec<_> =
        known.0.values().map(|other| (other.principal.as_str(), &other.value)).collect();
    assert_eq!(seen, [("bob", &Value::int(2))]);
    let present: Vec<_> = world.host.present().map(|other| other.principal).collect();
    assert_eq!(present, ["ada", "bob"]);
    assert!(world.host.visit(world.now, guest, "bob", None));
    world.pass(PRESENCE_EVERY.0);
    known.hear(&mut world, &client);
    assert!(known.0.is_empty());
    assert!(!world.host.visit(world.now, guest, "bob", Some(Value::text(&"x".repeat(5_000)))));
}
