// The same seeds must come out of WebAssembly as out of this machine's own code: `shared/tests/golden`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const GOLDEN = new URL("../../../shared/tests/golden/twin.hex", import.meta.url);
const BUILD = new URL("../../../test-artifacts/client-wasm/pkg/", import.meta.url);

const bindings = await import(new URL("rejoin.js", BUILD).href);
bindings.initSync({ module: readFileSync(new URL("rejoin_bg.wasm", BUILD)) });

for (const line of readFileSync(GOLDEN, "utf8").trim().split("\n")) {
  const [seeds, expected] = line.split(" = ");
  test(`webassembly_makes_of_${seeds}_seeds_what_native_code_makes`, () => {
    assert.equal(bindings.twin_digest(Number(seeds)), expected);
  });
}
