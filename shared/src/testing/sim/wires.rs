//! What passes on the lines: marks of what was seen there, and what must not pass.

use super::{World, tokens::name_in};
use crate::{
    message::{
        AskChunk, ChunkFrom, FEATURE_SKETCH, Identity, Message, Mode, RefillOutcome, RejectCode,
        Roots, Walk,
    },
    protocol::wire::{self, Assembler},
    tree::WalkBody,
};
use alloc::{collections::BTreeSet, format, string::String};

/// Numbers of the messages that are many, and of which it is enough to know that they are there.
const PUSH: u8 = 2;
const CHANGES: u8 = 4;

/// What passed on a line.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Messages to the server that go in parts.
    pushed: Assembler,
    /// As whom the device said hello.
    pub(super) principal: Option<String>,
    chunks: u32,
    walks: u32,
    asked_chunk: bool,
    /// Whether both ends know sketches.
    sketches: bool,
    /// Subscriptions that have a reason to heal: the welcome, or what was begun before.
    may_heal: BTreeSet<u32>,
}

impl World {
    /// Looks at a message that is about to leave; whether a bad middleman swallows it.
    pub(super) fn look_at(&mut self, line: u64, to_server: bool, frame: &[u8]) -> bool {
        let Ok((_, content)) = wire::split_frame(frame) else {
            return false;
        };
        let assembler = self.lines.get_mut(&line).filter(|_| to_server);
        let whole = assembler.map(|open| open.passed.pushed.take(content));
        let message = match &whole {
            Some(Ok(Some(whole))) => whole,
            Some(_) => return false,
            None => content,
        };
        let number = if let [0x85, number, ..] = message { Some(*number) } else { None };
        if number == Some(PUSH) {
            self.check_owner(line);
            self.sends(line, message);
        } else if number != Some(CHANGES) {
            self.read(line, to_server, message);
        }
        let one_in = self.plan.lose_one_in;
        let loses = !self.calm && one_in > 0 && number == Some(CHANGES);
        let lost = loses && self.net.once_in(one_in);
        if lost {
            self.mark("changes lost");
        }
        lost
    }

    fn read(&mut self, line: u64, to_server: bool, message: &[u8]) {
        match wire::decode(message) {
            Ok(message) if to_server => self.look_at_question(line, &message),
            Ok(message) => self.look_at_answer(line, &message),
            Err(_) => {}
        }
    }

    fn look_at_question(&mut self, line: u64, message: &Message) {
        let plain = self.is_faithful();
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let (passed, device) = (&mut open.passed, open.device);
        let heals = |passed: &Passed, id: &u32| passed.may_heal.contains(id);
        if let Message::Hello(hello) = message {
            passed.principal = hello.token.as_deref().map(|token| String::from(name_in(token)));
        } else if let Message::AskChunk(AskChunk { from, .. }) = message {
            let first = !core::mem::replace(&mut passed.asked_chunk, true);
            if first && matches!(from, ChunkFrom::Behind(_)) {
                self.mark("snapshot resumed");
            }
        } else if let Message::Walk(walk) = message {
            passed.walks += 1;
            if passed.walks == 6 {
                self.mark("long walk");
            }
            self.look_at_walk(line, walk);
        } else if let Message::AskRoots(ask) = message {
            if plain && ask.after.is_none() && !heals(passed, &ask.subscription) {
                self.object(format!("device {device} heals for no reason: {ask:?}"));
            }
        } else if let Message::Recall(_) | Message::Refill(_) = message {
            self.check_owner(line);
        }
    }

    /// Who asks for roots hears of no collection beyond its subscription.
    fn look_at_roots(&mut self, roots: &Roots) {
        let at = usize::try_from(roots.subscription).unwrap_or(usize::MAX);
        let patterns = self.plan.patterns();
        let covers = |name| patterns.get(at).is_some_and(|pattern| pattern.covers(name));
        if !roots.roots.iter().all(|(name, _)| covers(name)) {
            self.object(format!("roots beyond the subscription: {roots:?}"));
        }
    }

    /// No sketch passes where one end does not know them.
    fn look_at_walk(&mut self, line: u64, walk: &Walk) {
        let sketches = self.lines.get(&line).is_some_and(|open| open.passed.sketches);
        let body = &walk.message.body;
        if matches!(body, WalkBody::Cells(_) | WalkBody::Wanted(_)) && !sketches {
            self.object(format!("sketch to or from one who knows none: {body:?}"));
        } else if matches!(body, WalkBody::Wanted(_)) {
            self.mark("sketch decoded");
        }
    }

    fn look_at_answer(&mut self, line: u64, message: &Message) {
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        if let Message::Refilled(refilled) = message {
            self.look_at_refilled(&refilled.outcomes);
        } else if let Message::Welcome(welcome) = message {
            let (device, tab) = (open.device, open.tab);
            let wanted = |mode: &Mode| matches!(mode, Mode::Heal | Mode::Snapshot | Mode::Rebase);
            let asked = welcome.modes.iter().filter(|(_, mode)| wanted(mode));
            let begun = self.heals_begun(device, tab);
            if let Some(open) = self.lines.get_mut(&line) {
                let server = self.plan.server_knows_sketches(open.server_life);
                let device = self.plan.device_knows_sketches(open.life);
                if server != device {
                    *self.marks.entry("another release met").or_default() += 1;
                }
                open.passed.sketches = welcome.features & FEATURE_SKETCH > 0 && server && device;
                open.passed.may_heal = asked.map(|(id, _)| *id).chain(begun).collect();
            }
            if welcome.modes.iter().any(|(_, mode)| *mode == Mode::Heal) {
                self.mark("heal asked for");
            }
            if welcome.modes.iter().any(|(_, mode)| *mode == Mode::Rebase) {
                self.rebased();
            }
            if welcome.identity == Identity::Foreign {
                self.mark("foreign");
                // A server that knew nothing had bound the id to who came next: the rows go on under another one, and
                // whose rows others have brought back it tells no foreigner: they count again.
                self.renamed = true;
                self.doubles |= self.server_rewound;
            }
        } else if let Message::Roots(roots) = message {
            self.look_at_roots(roots);
        } else if let Message::Walk(walk) = message {
            self.look_at_walk(line, walk);
        } else if let Message::Chunk(chunk) = message
            && chunk.upto > chunk.after
        {
            open.passed.chunks += 1;
            if open.passed.chunks == 4 {
                self.mark("many chunks");
            }
        }
    }

    /// A server that lost nothing is brought nothing back: what it does not have was removed. What it lost comes back,
    /// too large together with what came since or not.
    fn look_at_refilled(&mut self, outcomes: &[RefillOutcome]) {
        if !self.server_rewound && self.plan.rot_one_in == 0 {
            self.object(format!("the server had lost nothing of what was brought: {outcomes:?}"));
        }
        for outcome in outcomes {
            if matches!(outcome, RefillOutcome::Refused(code) if *code != RejectCode::RecordGone) {
                self.object(format!("what the server had lost was refused: {outcome:?}"));
            }
        }
    }

    /// Subscriptions of which a tab holds a snapshot or heal that is not over.
    fn heals_begun(&self, device: usize, tab: usize) -> BTreeSet<u32> {
        let tab = self.devices.get(device).and_then(|device| device.tabs.get(tab));
        let engine = tab.and_then(|tab| tab.engine.as_ref());
        let standings = engine.into_iter().flat_map(|engine| engine.replica().standings());
        let begun = (0..).zip(standings).filter(|(_, (_, standing))| standing.heal.is_some());
        begun.map(|(at, _)| at).collect()
    }

    /// Whether devices and server remember everything that they told each other: then what is sent always
    /// fits, and nothing is to be healed but what the welcome names.
    fn is_faithful(&self) -> bool {
        // (What moves while it is brought back is healed once more.)
        let lost = self.server_rewound || self.server.lost;
        !self.plan.relaxed && self.plan.rollback_one_in == 0 && !lost
    }
}
