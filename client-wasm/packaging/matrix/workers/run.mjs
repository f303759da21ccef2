// Bundles the worker, runs it as Cloudflare does, and prints what it answers. The runtime compiles the
// WebAssembly and gives the worker a module: there, nothing may be compiled from bytes.

import { build } from "esbuild";
import { Miniflare } from "miniflare";

const { metafile } = await build({
  entryPoints: ["worker.js"],
  outdir: "dist",
  bundle: true,
  format: "esm",
  conditions: ["workerd", "worker", "browser"],
  loader: { ".wasm": "copy" },
  metafile: true,
});
const written = Object.keys(metafile.outputs);
const module = (path) => ({ type: path.endsWith(".wasm") ? "CompiledWasm" : "ESModule", path });
const entryFirst = written.toSorted((a, b) => a.endsWith(".wasm") - b.endsWith(".wasm"));
const runtime = new Miniflare({
  modulesRoot: "dist",
  modules: entryFirst.map(module),
  compatibilityDate: "2025-07-01",
});
const answer = await runtime.dispatchFetch("http://localhost/");
console.log(await answer.text());
await runtime.dispose();
