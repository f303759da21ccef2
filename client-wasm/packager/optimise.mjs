// Shrinks the WebAssembly in place and refuses a module that a browser could not load:
// `node optimise.mjs MODULE.wasm`, after the bindings were written.

import { execFileSync } from "node:child_process";
import { readFileSync, renameSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";

// What every browser of the last years has and rustc emits by default; anything more would need
// `--all-features` and could leave a browser behind without a word.
const FEATURES = [
  "--enable-bulk-memory",
  "--enable-multivalue",
  "--enable-mutable-globals",
  "--enable-nontrapping-float-to-int",
  "--enable-reference-types",
  "--enable-sign-ext",
];

const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error("usage: node optimise.mjs MODULE.wasm");
  process.exit(2);
}

const before = readFileSync(path);
const optimised = `${path}.tmp`;
execFileSync(process.execPath, [wasmOpt(), "-Oz", ...FEATURES, path, "-o", optimised], {
  stdio: "inherit",
});
const after = readFileSync(optimised);
refuseForeignImports(after);
renameSync(optimised, path);
console.log(`${path}: ${kib(before)} -> ${kib(after)} KiB, gzipped ${kib(gzipSync(after))} KiB`);

function wasmOpt() {
  const manifest = createRequire(import.meta.url).resolve("binaryen/package.json");
  const { bin } = JSON.parse(readFileSync(manifest, "utf8"));
  return join(dirname(manifest), bin["wasm-opt"]);
}

// A call into C that no one provides compiles and links; it shows only as an import from "env".
function refuseForeignImports(bytes) {
  const foreign = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).filter(
    ({ module }) => module !== "./rejoin_bg.js",
  );
  if (foreign.length > 0) {
    const names = foreign.map(({ module, name }) => `${module}.${name}`).join(", ");
    throw new Error(`the module imports what the bindings do not provide: ${names}`);
  }
}

function kib(bytes) {
  return (bytes.length / 1024).toFixed(1);
}
