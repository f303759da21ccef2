#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (rejoin_fuzz::Target::named("engine").run)(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    rejoin_fuzz::without_fuzzer(rejoin_fuzz::Target::named("engine"))
}
