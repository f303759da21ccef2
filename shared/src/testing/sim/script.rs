//! A run as text, to be read and kept: which faults there may be, line by line, and what was decided, as
//! hexadecimal digits. What is as in a quiet world is left out. Planted bugs are no part of it.

use super::{
    plan::Plan,
    tape::{STREAMS, Stream, Tape},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

/// Digits of a line.
const LINE_BYTES: usize = 48;

/// A run: the same one gives the same events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Which faults there may be, and how large the world is.
    pub plan: Plan,
    /// What was decided.
    pub tape: Tape,
}

/// A line that is none of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither a trait of a world nor a stream of decisions")]
pub struct ScriptError {
    /// Its number, from 1 on.
    pub line: usize,
}

/// A trait of a world, as text.
trait Trait {
    fn show(&self) -> String;
    /// Returns whether it could be read.
    fn read(&mut self, text: &str) -> bool;
}

macro_rules! plain {
    ($($kind:ty),*) => {
        $(impl Trait for $kind {
            fn show(&self) -> String {
                self.to_string()
            }

            fn read(&mut self, text: &str) -> bool {
                text.parse().map(|value| *self = value).is_ok()
            }
        })*
    };
}

plain!(bool, u32, u64, usize);

impl Trait for Option<u64> {
    fn show(&self) -> String {
        self.map_or_else(|| "usual".to_string(), |value| value.to_string())
    }

    fn read(&mut self, text: &str) -> bool {
        if text == "usual" {
            *self = None;
            return true;
        }
        text.parse().map(|value| *self = Some(value)).is_ok()
    }
}

macro_rules! traits {
    ($($name:ident),* $(,)?) => {
        impl Plan {
            /// Its traits by name.
            pub(super) fn traits(&self) -> Vec<(&'static str, String)> {
                let Self { $($name,)* bug: _ } = self;
                Vec::from([$((stringify!($name), $name.show())),*])
            }

            /// Returns whether there is such a trait, and such a value of it.
            pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
                match name {
                    $(stringify!($name) => self.$name.read(value),)*
                    _ => false,
                }
            }
        }
    };
}

traits!(
    devices,
    tabs,
    writes,
    records,
    cut_one_in,
    silence_one_in,
    crash_one_in,
    restart_one_in,
    step_one_in,
    fault_one_in,
    rollback_one_in,
    rejections,
    relaxed,
    page_bytes_aim,
    fold_entries_min,
    chunk_bytes_aim,
    long_walks,
    server_sketches,
    device_sketches,
    pairs,
    batch_records,
    whole_space,
    newcomer,
    evict_one_in,
    account_one_in,
    copy_one_in,
    loses_secret,
    lose_one_in,
    line_bytes_per_s,
    large_one_in,
    retention_ms,
    away_one_in,
    rot_one_in,
    rots_records,
    record_bytes_max,
    tamper_one_in,
    part_one_in,
    hostile_one_in,
    full_one_in,
    sick_one_in,
    torn,
    drift_ppm,
    server_steps,
    heals_some,
    generations,
    mangle_one_in,
    expiry_one_in,
    upgrades,
    call_one_in,
);

impl Plan {
    /// One with no fault, whose every choice is the quiet one.
    #[must_use]
    pub fn quiet() -> Self {
        Self::draw_from(&mut Stream::of_tape(Vec::new()))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quiet = Plan::quiet().traits();
        for ((name, value), (_, usual)) in self.plan.traits().into_iter().zip(quiet) {
            if value != usual {
                writeln!(f, "{name} = {value}")?;
            }
        }
        for (name, stream) in STREAMS.iter().zip(&self.tape.streams) {
            for line in stream.chunks(LINE_BYTES) {
                let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(f, "{name}: {digits}")?;
            }
        }
        Ok(())
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

impl Script {
    fn read(&mut self, line: &str) -> bool {
        if let Some((name, value)) = line.split_once(" = ") {
            return self.plan.set(name, value);
        }
        let Some((name, digits)) = line.split_once(": ") else {
            return false;
        };
        let place = STREAMS.iter().position(|known| *known == name);
        let stream = place.and_then(|at| self.tape.streams.get_mut(at));
        stream.zip(unhex(digits)).map(|(stream, bytes)| stream.extend(bytes)).is_some()
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    /// Empty lines and those that begin with `#` say nothing.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut script = Self { plan: Plan::quiet(), tape: Tape::default() };
        for (at, line) in text.lines().enumerate() {
            let says = !line.is_empty() && !line.starts_with('#');
            if says && !script.read(line) {
                return Err(ScriptError { line: at + 1 });
            }
        }
        Ok(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_comes_back_from_its_text() {
        for seed in 0..200 {
            let streams = [b"ab".to_vec(), Vec::new(), (0..200).collect(), [0].into(), [].into()];
            let [plan, net, disk, clock, apps] = streams;
            let tape = Tape { streams: [plan, net, disk, clock, apps, Vec::new()] };
            let script = Script { plan: Plan::draw(seed), tape };
            assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn text_that_is_no_script_is_refused_with_its_line() {
        let error = |text: &str| text.parse::<Script>().map_err(|error| error.line);
        assert_eq!(error("# of a world\n\ndevices = 2\nmoons = 1\n"), Err(4));
        assert_eq!(error("devices = many"), Err(1));
        assert_eq!(error("net: 0"), Err(1));
        assert_eq!(error("net: zz"), Err(1));
        assert_eq!(error("nat: 00"), Err(1));
        assert_eq!(error("devices"), Err(1));
    }

    #[test]
    fn quiet_world_has_no_fault() {
        let quiet = Plan::quiet();
        let faults = quiet.traits().into_iter().filter(|(name, _)| name.ends_with("_one_in"));
        assert!(faults.into_iter().all(|(_, value)| value == "0"));
        assert_eq!(Script { plan: quiet, tape: Tape::default() }.to_string(), "");
    }
}
