import { build } from "esbuild";
import { copyFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const options = {
  bundle: true,
  minify: true,
  outdir: "dist",
  publicPath: "/dist",
  logLevel: "warning",
};
const results = [
  await build({ ...options, entryPoints: ["main.js"], format: "esm" }),
  await build({ ...options, entryPoints: ["slim.js"], format: "esm", loader: { ".wasm": "file" } }),
  // A classic script, which knows nothing of its own address.
  await build({ ...options, entryPoints: ["inline.js"], format: "iife" }),
];
if (results.some(({ warnings }) => warnings.length > 0)) throw new Error("esbuild warned");
// It leaves addresses alone: what is beside the module must be beside the bundle.
const wasm = fileURLToPath(import.meta.resolve("rejoin/rejoin_bg.wasm"));
await copyFile(wasm, "dist/rejoin_bg.wasm");
