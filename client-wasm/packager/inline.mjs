// Writes the WebAssembly as JavaScript, `node inline.mjs MODULE.wasm OUT.js`, and its declaration beside it.
// Compressed within the text: servers that compress make little of base64 over anything else.

import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const [module, out] = process.argv.slice(2);
if (out === undefined) {
  console.error("usage: node inline.mjs MODULE.wasm OUT.js");
  process.exit(2);
}

const packed = gzipSync(readFileSync(module), { level: 9 }).toString("base64");
writeFileSync(out, `export const packed = "${packed}";\n`);
writeFileSync(out.replace(/\.js$/u, ".d.ts"), "export declare const packed: string;\n");
