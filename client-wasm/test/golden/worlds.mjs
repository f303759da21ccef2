// `node worlds.mjs FIRST COUNT`: what happens in the simulated worlds of these seeds in WebAssembly, a line for each.
// `cargo rel determinism` compares them with this machine's own code.

import { readFileSync, writeSync } from "node:fs";

const BUILD = new URL("../../../test-artifacts/client-wasm/pkg/", import.meta.url);

const bindings = await import(new URL("rejoin.js", BUILD).href);
bindings.initSync({ module: readFileSync(new URL("rejoin_bg.wasm", BUILD)) });

const [first, count] = process.argv.slice(2).map(Number);
for (let seed = first; seed < first + count; seed++) {
  writeSync(1, `${seed} ${bindings.sim_trace(seed).split("\n")[0]}\n`);
}
