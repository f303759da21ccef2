// What an app pays to have Rejoin: `npm run size -w client-wasm`. A minimal app is bundled and minified; its
// two files, the JavaScript and the WebAssembly, are told by part in bytes, raw and as servers compress them.
// Fails above the budget. Needs the package built.

import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

/** What the whole may take, by brotli: never more than it took once. Lower it when there is less. */
const BROTLI_BYTES_MAX = 349_000;
/** Where it is to go. */
const BROTLI_BYTES_AIM = 100_000;

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const APP = `
  import { defineSchema, open, text } from "rejoin";
  const schema = defineSchema({ tasks: { title: text() } });
  const { tasks } = await open({ name: "app", schema });
  const { id } = await tasks.add({ title: "Buy milk" });
  console.log(await tasks.get(id));`;
/** The bindings as the facade takes them. */
const BINDINGS = `export * from "./pkg/rejoin.js"; export { default } from "./pkg/rejoin.js";`;

const wasm = measure(await readFile(`${PACKAGE}pkg/rejoin_bg.wasm`));
const script = measure(await bundle(APP));
const bindings = measure(await bundle(BINDINGS));
const facade = script.map((bytes, column) => bytes - bindings[column]);
const total = wasm.map((bytes, column) => bytes + script[column]);
const parts = [
  ["bytes", "raw", "gzip", "brotli"],
  ["engine (WebAssembly)", ...wasm],
  ["bindings (JavaScript)", ...bindings],
  ["facade and app (JavaScript)", ...facade],
  ["total", ...total],
];
for (const [part, ...columns] of parts) {
  console.log(
    part.padEnd(28),
    ...columns.map((column) => column.toLocaleString("en").padStart(10)),
  );
}

const brotli = total.at(-1);
console.log(
  `budget ${BROTLI_BYTES_MAX.toLocaleString("en")}, aim ${BROTLI_BYTES_AIM.toLocaleString("en")}`,
);
if (brotli > BROTLI_BYTES_MAX) {
  console.error(`${brotli - BROTLI_BYTES_MAX} bytes above the budget of ${import.meta.filename}`);
  process.exitCode = 1;
} else if (brotli < BROTLI_BYTES_MAX * 0.99) {
  console.log("there is less now: lower the budget, so that it stays");
}
console.log(brotli);

async function bundle(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: PACKAGE },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
    logLevel: "warning",
  });
  return outputFiles[0].contents;
}

/** Raw, gzip, brotli; each at its best. */
function measure(bytes) {
  const best = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
  const sizes = [bytes, gzipSync(bytes, { level: 9 }), brotliCompressSync(bytes, best)];
  return sizes.map(({ length }) => length);
}
