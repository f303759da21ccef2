//! Random histories: sessions end, commits fail, the host restarts, and all agree in the end.

use crate::world::{Client, World, cell, epoch, grant, key, seq, vector};
use rejoin_core::{
    hlc::Hlc,
    io::FaultClass,
    protocol::{
        host::HostInput,
        message::{Message, Mode, Outcome, PushRow},
    },
    record::{Counter, Kind, Record, State, Tally},
    sorted::SortedMap,
    testing::memory::MemoryStore,
};

/// Xorshift (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

struct Writer {
    client: Client,
    online: bool,
    added: SortedMap<u64, u64>,
    unacknowledged: SortedMap<Hlc, PushRow>,
}

impl Writer {
    fn listen(&mut self, world: &mut World) {
        for message in self.client.listen(world) {
            match message {
                Message::Ack(ack) => {
                    for (number, outcome) in ack.outcomes {
                        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
                        self.unacknowledged.retain(|_, row| row.number != number);
                    }
                }
                Message::Bye(_) => self.online = false,
                Message::Ping { .. } | Message::Pong { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn connect(&mut self, world: &mut World) {
        if world.fail_commit.is_some() {
            // The opening fails; whether its incarnation was stored is not known.
            let hello = self.client.hello(false);
            self.client.known.push(hello.incarnation);
            let peer = world.open(hello, grant("ann"));
            assert!(matches!(world.hear(peer)[..], [Message::Bye(_)]));
            world.pass(1_000);
        }
        let welcome = self.client.connect_as(world, "ann", false);
        let mode = welcome.modes[0].1;
        assert!(matches!(mode, Mode::Feed | Mode::InSync), "{mode:?}");
        self.online = true;
        let rows: Vec<PushRow> = self.unacknowledged.values().cloned().collect();
        self.client.push(world, &rows);
    }

    fn write(&mut self, world: &mut World, at: u64, dice: &mut Dice) {
        let record = dice.roll(6);
        let id = format!("r{record}");
        let delta = match dice.roll(4) {
            0 => {
                let added = self.added.entry(record).or_default();
                *added += 1 + dice.roll(9);
                let tally = Tally { added: *added, subtracted: 0 };
                let tallies = SortedMap::from([(self.client.replica, tally)]);
                let state = State::Counter(Counter(tallies));
                cell("votes", Kind::Counter, None, state)
            }
            1 => {
                let base = self.client.base.get(&key(&id));
                let mut removed = base.map(|held| held.seen.clone()).unwrap_or_default();
                removed.join(&vector(&[self.client.stamp(at)]));
                let mut delta = Record::default();
                delta.removed.seen = removed;
                delta
            }
            _ => self.client.lww(at, &format!("f{}", dice.roll(3)), &format!("v{at}")),
        };
        let row = self.client.row(at, vec![(key(&id), delta)]);
        self.unacknowledged.insert(row.hlc, row.clone());
        if self.online {
            self.client.push(world, &[row]);
        }
    }
}

#[test]
fn m01_roots_are_those_of_the_data_after_any_history_of_faults() {
    for seed in 1..=150 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut world = if seed % 2 == 0 {
            World::with_little_memory()
        } else {
            World::on(MemoryStore::new(), 1)
        };
        let mut number = 1;
        let mut writers: Vec<Writer> = (1..=3)
            .map(|number| Writer {
                client: Client::new(number),
                online: false,
                added: SortedMap::new(),
                unacknowledged: SortedMap::new(),
            })
            .collect();
        for writer in &mut writers {
            // Newcomers of an empty space, so that all are served by the feed.
            writer.connect(&mut world);
        }
        for at in 1..=120 {
            let at_dice = usize::try_from(dice.roll(3)).unwrap();
            let writer = &mut writers[at_dice];
            match dice.roll(12) {
                0 => {
                    let peer = writer.client.peer;
                    world.put(HostInput::Gone { peer });
                    // What was on its way is lost.
                    drop(world.hear(peer));
                    writer.online = false;
                }
                1 | 2 if !writer.online => writer.connect(&mut world),
                3 if dice.roll(3) == 0 => {
                    world.fail_commit = Some((FaultClass::Transient, dice.roll(2) == 0));
                }
                4 if dice.roll(6) == 0 => {
                    number += 1;
                    world = world.restart(number);
                    writers.iter_mut().for_each(|writer| writer.online = false);
                }
                5 => writer.listen(&mut world),
                _ => writer.write(&mut world, at, &mut dice),
            }
            // A failed store is looked at again before anyone comes.
            world.pass(1_000);
            for writer in &mut writers {
                world.say(writer.client.peer, &Message::Ping { nonce: 0 });
            }
        }
        settle(&mut world, &mut writers, seed);
    }
}

fn settle(world: &mut World, writers: &mut [Writer], seed: u64) {
    world.fail_commit = None;
    for writer in writers.iter_mut() {
        writer.listen(world);
        if !writer.online {
            writer.connect(world);
        }
    }
    for writer in writers.iter_mut() {
        writer.listen(world);
        assert!(writer.unacknowledged.is_empty(), "seed {seed}");
    }
    let total: usize = writers.iter().map(|writer| writer.client.rows.len()).sum();
    assert_eq!(world.host.facts().head, seq(total as u64), "seed {seed}");
    for writer in writers.iter() {
        assert_eq!(writer.client.base, writers[0].client.base, "seed {seed}");
        assert!(writer.client.verified > 0, "seed {seed}");
        assert_ne!(writer.client.epoch, epoch(0));
    }
}
