// Compiles the WebAssembly that is shipped: `node compile.mjs`. Its panic messages name source files;
// what stands there is the same wherever it was compiled, and says nothing about that machine.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const TARGET = ["--target", "wasm32-unknown-unknown"];

const checkout = fileURLToPath(new URL("../..", import.meta.url)).replace(/[/\\]$/u, "");
const cargoHome = process.env.CARGO_HOME ?? join(homedir(), ".cargo");

// The folders below, each named after a registry or its mirror, must be there to be listed.
cargo("fetch", "--locked", ...TARGET);
const sources = join(cargoHome, "registry", "src");
const registries = existsSync(sources) ? readdirSync(sources) : [];

// The last that matches wins: a checkout may lie below Cargo's home, or the reverse.
const renamed = [
  [homedir(), "/home"],
  [cargoHome, "/cargo"],
  ...registries.map((name) => [join(sources, name), "/crates"]),
  [checkout, "/rejoin"],
].map(([from, to]) => `--remap-path-prefix=${from}=${to}`);

const given = process.env.CARGO_ENCODED_RUSTFLAGS?.split("\x1f") ?? split(process.env.RUSTFLAGS);
// Encoded, for a path may contain spaces.
process.env.CARGO_ENCODED_RUSTFLAGS = [...given, ...renamed].join("\x1f");
cargo("build", "--locked", "--profile", "wasm", ...TARGET, "-p", "rejoin-wasm");

function cargo(...args) {
  execFileSync("cargo", args, { stdio: "inherit" });
}

function split(flags = "") {
  return flags.split(/\s+/u).filter((flag) => flag !== "");
}
