//! Runs of a world: from a seed, a plan, a tape or a script.

use super::{
    World,
    plan::Plan,
    script::Script,
    shrink::kind,
    tape::{Stream, Streams, Tape},
};
use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec::Vec,
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Events that happened.
    pub events: u64,
    /// Hash over all of them.
    pub trace: [u8; 32],
    /// Writes that were reported durable.
    pub written: u64,
    /// What happened how often, for the marks that must not be zero.
    pub marks: BTreeMap<&'static str, u64>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed; 0 of a run from a tape.
    pub seed: u64,
    /// The oracle's words.
    pub what: String,
    /// What runs the same way again.
    pub script: Box<Script>,
    /// The last messages, as devices saw them.
    pub story: Vec<String>,
}

/// Runs the world of `seed` as drawn.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    let mut streams = Streams::of_seed(seed);
    let plan = Plan::draw_from(&mut streams.plan);
    play(seed, plan, streams)
}

/// Runs the world of `seed` under `plan`.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_plan(seed: u64, plan: Plan) -> Result<Outcome, Failure> {
    play(seed, plan, Streams::of_seed(seed))
}

/// Runs the world whose every decision, its plan's too, is on a tape: any bytes. A short tape is a short calm world.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_tape(bytes: &[u8]) -> Result<Outcome, Failure> {
    let mut streams = Streams::of_tape(Tape::from_bytes(bytes));
    let plan = Plan::draw_from(&mut streams.plan);
    play(0, plan, streams)
}

/// Runs a world again.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_script(script: Script) -> Result<Outcome, Failure> {
    play(0, script.plan, Streams::of_tape(script.tape))
}

/// What happens in the world of `seed`: the digest of its trace as hexadecimal digits, or what an oracle objects to.
#[must_use]
pub fn trace(seed: u64) -> String {
    match run(seed) {
        Ok(outcome) => outcome.trace.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(failure) => failure.what,
    }
}

/// The run of `seed` as a script: what was decided in it.
#[must_use]
pub fn script(seed: u64) -> Script {
    let mut streams = Streams::of_seed(seed);
    let plan = Plan::draw_from(&mut streams.plan);
    let (_, _, tape) = attempt(seed, plan.clone(), streams);
    Script { plan, tape }
}

/// Runs a world again and tells its story, however it ends.
///
/// # Errors
/// What an oracle objects to.
pub fn tell(script: &Script) -> (Vec<String>, Result<Outcome, String>) {
    let streams = Streams::of_tape(script.tape.clone());
    let mut world = World::new(0, script.plan.clone(), streams);
    world.story = Some(VecDeque::new());
    let ran = world.run_out();
    (world.story.unwrap_or_default().into(), ran)
}

/// What comes of a world, and its story when an oracle objects.
pub(super) fn play(seed: u64, plan: Plan, streams: Streams) -> Result<Outcome, Failure> {
    let (ran, _, tape) = attempt(seed, plan.clone(), streams);
    ran.map_err(|what| {
        let script = Box::new(Script { plan, tape });
        let (story, again) = tell(&script);
        let same = again.err().is_some_and(|again| kind(&again) == kind(&what));
        let story = if same { story } else { Vec::from(["from its tape it is another".into()]) };
        Failure { seed, what, script, story }
    })
}

/// What comes of a world, after how many events, and what was decided in it.
pub(super) fn attempt(
    seed: u64,
    plan: Plan,
    streams: Streams,
) -> (Result<Outcome, String>, u64, Tape) {
    let mut world = World::new(seed, plan, streams);
    let ran = world.run_out();
    (ran, world.events, world.tape())
}

impl World {
    /// Runs to the end. A panic is an objection too.
    fn run_out(&mut self) -> Result<Outcome, String> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run()));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panic: {}", text.unwrap_or_default()))
        })?;
        Ok(Outcome {
            events: self.events,
            trace: self.trace.digest(),
            written: self.ledger.written(),
            marks: core::mem::take(&mut self.marks),
        })
    }

    /// What was decided.
    fn tape(&mut self) -> Tape {
        let taken = |stream: &mut Stream| core::mem::replace(stream, Stream::of_seed(0));
        let streams = Streams {
            plan: taken(&mut self.planned),
            net: taken(&mut self.net),
            disk: taken(&mut self.disk),
            clock: taken(&mut self.clock),
            apps: taken(&mut self.apps),
            faults: taken(&mut self.faults),
        };
        streams.tape()
    }
}
