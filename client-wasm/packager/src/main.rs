//! Writes the JavaScript side of the bindings: `rejoin-packager MODULE.wasm OUT_DIR`.
//!
//! It is the `wasm-bindgen` command with one job, linked from `Cargo.lock` instead of installed by
//! hand: the macro in the crate and the tool that reads what it left in the module then always agree.
//!
//! Absent: optimising (`wasm-opt` does that afterwards) and TypeScript.

use anyhow::{Context as _, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};
use wasm_bindgen_cli_support::Bindgen;

/// Name of the written files: `rejoin.js`, `rejoin.d.ts`, `rejoin_bg.wasm`.
const OUT_NAME: &str = "rejoin";

fn main() -> anyhow::Result<()> {
    let (module, out_dir) = arguments(env::args_os().skip(1))?;
    package(&module, &out_dir)
}

fn arguments(given: impl Iterator<Item = OsString>) -> anyhow::Result<(PathBuf, PathBuf)> {
    let given: Vec<OsString> = given.collect();
    let [module, out_dir] = given.as_slice() else {
        bail!("usage: rejoin-packager MODULE.wasm OUT_DIR");
    };
    Ok((module.into(), out_dir.into()))
}

/// Where the WebAssembly is, in words that bundlers recognise; a module of its own, since some find them in
/// every module that is imported, whether they are used or not. It lies beside the WebAssembly: so do the
/// two where a bundler moves code and leaves the address alone.
const URL_MODULE: &str = "export const url = () => new URL(\"rejoin_bg.wasm\", import.meta.url);\n";
const URL_TYPES: &str = "export declare const url: () => URL;\n";

/// Empties `out_dir` and writes the bindings of `module` there, for ES modules that are told where their
/// WebAssembly is, and beside them the module that knows.
fn package(module: &Path, out_dir: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    if out_dir.exists() {
        // A file that an earlier version wrote must not travel in the package.
        fs::remove_dir_all(out_dir)
            .with_context(|| format!("cannot empty {}", out_dir.display()))?;
    }
    let mut bindgen = Bindgen::new();
    bindgen
        .input_bytes(OUT_NAME, bytes)
        .web(true)?
        .typescript(true)
        .omit_default_module_path(true)
        .remove_producers_section(true)
        .generate(out_dir)
        .with_context(|| format!("cannot write the bindings of {}", module.display()))?;
    for (name, text) in [("url.js", URL_MODULE), ("url.d.ts", URL_TYPES)] {
        let path = out_dir.join(format!("{OUT_NAME}_{name}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split_whitespace().map(OsString::from)
    }

    #[test]
    fn two_arguments_are_the_module_and_the_directory() {
        let (module, out_dir) = arguments(words("a.wasm pkg")).unwrap();
        assert_eq!((module, out_dir), ("a.wasm".into(), "pkg".into()));
    }

    #[test]
    fn any_other_number_of_arguments_is_answered_with_the_usage() {
        for line in ["", "a.wasm", "a.wasm pkg more"] {
            let error = arguments(words(line)).unwrap_err().to_string();
            assert!(error.starts_with("usage:"), "{error}");
        }
    }

    #[test]
    fn an_absent_module_is_named_and_nothing_is_emptied() {
        let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = package(Path::new("absent.wasm"), manifest_dir).unwrap_err();
        assert!(error.to_string().contains("absent.wasm"), "{error}");
        assert!(manifest_dir.join("Cargo.toml").exists());
    }
}
