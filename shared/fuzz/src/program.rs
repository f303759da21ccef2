//! The targets by name, and a program that runs one without a fuzzer.

use crate::{decoders, sessions, stores, texts, trees, worlds};
use rejoin_core::testing::{rng::Rng, twin};
use std::{fs, path::Path, process::ExitCode};

/// The program of a target: libFuzzer's under cargo-fuzz, otherwise [`without_fuzzer`].
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ($crate::Target::$target.run)(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::without_fuzzer($crate::Target::$target)
        }
    };
}

/// Something that takes bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the program, and of its folders in `corpus` and `crashes`.
    pub name: &'static str,
    /// Takes an input; panics if a promise does not hold.
    pub run: fn(&[u8]),
    /// A good input.
    pub seed: fn(&mut Rng) -> Vec<u8>,
}

/// All there are.
pub const TARGETS: [Target; 9] = [
    Target::DECODE,
    Target::CHUNK,
    Target::RESPOND,
    Target::JSON,
    Target::HOST,
    Target::ENGINE,
    Target::DEVICE_STORE,
    Target::SERVER_STORE,
    Target::TAPE,
];

/// Each program names its own: a fuzzer looks through all code that is linked after each input.
impl Target {
    /// Everything that turns bytes of a peer into values.
    pub const DECODE: Self =
        Self { name: "decode", run: decoders::decode, seed: decoders::decode_seed };
    /// Chunks of snapshots.
    pub const CHUNK: Self =
        Self { name: "chunk", run: decoders::chunk, seed: decoders::chunk_seed };
    /// Steps of a walk.
    pub const RESPOND: Self =
        Self { name: "respond", run: trees::respond, seed: trees::respond_seed };
    /// JSON and CSV that people and other programs write.
    pub const JSON: Self = Self { name: "json", run: texts::json, seed: texts::json_seed };
    /// What peers say to a server.
    pub const HOST: Self = Self { name: "host", run: sessions::host, seed: sessions::host_seed };
    /// What a server says to a device.
    pub const ENGINE: Self =
        Self { name: "engine", run: sessions::engine, seed: sessions::engine_seed };
    /// What a device finds in its store.
    pub const DEVICE_STORE: Self =
        Self { name: "device_store", run: stores::device, seed: stores::seed };
    /// What a server finds in its store.
    pub const SERVER_STORE: Self =
        Self { name: "server_store", run: stores::server, seed: stores::seed };
    /// Decisions of the simulator.
    pub const TAPE: Self = Self { name: "tape", run: worlds::tape, seed: worlds::seed };

    /// Takes so many inputs that are made up by damaging good ones.
    pub fn made_up(&self, runs: u64) {
        let mut rng = Rng::new(0xf022);
        for _ in 0..runs {
            let mut bytes = (self.seed)(&mut rng);
            for _ in 0..rng.below(6) {
                twin::damage(&mut rng, &mut bytes);
            }
            (self.run)(&bytes);
        }
    }

    /// Writes good inputs into a folder, for a fuzzer to begin with.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_seeds(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut rng = Rng::new(0xc0);
        for at in 0..SEEDS {
            fs::write(folder.join(format!("seed-{at:02}")), (self.seed)(&mut rng))?;
        }
        Ok(())
    }
}

/// Good inputs that a fuzzer begins with.
const SEEDS: u32 = 24;

/// Takes each file that is named, or `-runs=N` inputs that are made up; `-seeds=FOLDER` writes good ones there.
#[must_use]
pub fn without_fuzzer(target: Target) -> ExitCode {
    let mut runs = 100_000;
    let mut files = 0;
    for word in std::env::args().skip(1) {
        let done = if let Some(number) = word.strip_prefix("-runs=") {
            number.parse::<u64>().map(|number| runs = number).map_err(|error| error.to_string())
        } else if let Some(folder) = word.strip_prefix("-seeds=") {
            files += 1;
            target.write_seeds(Path::new(folder)).map_err(|error| error.to_string())
        } else {
            files += 1;
            fs::read(&word).map(|bytes| (target.run)(&bytes)).map_err(|error| error.to_string())
        };
        if let Err(error) = done {
            eprintln!("{word}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if files == 0 {
        target.made_up(runs);
        println!("{runs} inputs");
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was found once stays mended.
    #[test]
    fn inputs_that_once_failed_pass() {
        for target in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes").join(target.name);
            for file in fs::read_dir(folder).into_iter().flatten() {
                (target.run)(&fs::read(file.unwrap().path()).unwrap());
            }
        }
    }

    #[test]
    fn inputs_that_are_made_up_pass() {
        TARGETS.iter().for_each(|target| target.made_up(300));
    }
}
