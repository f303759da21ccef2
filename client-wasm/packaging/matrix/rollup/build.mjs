import { nodeResolve } from "@rollup/plugin-node-resolve";
import { copyFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { rollup } from "rollup";

const bundle = await rollup({
  input: { main: "main.js", inline: "inline.js" },
  plugins: [nodeResolve({ browser: true })],
  onwarn(warning) {
    throw new Error(warning.message);
  },
});
await bundle.write({ dir: "dist", format: "es", chunkFileNames: "[name].js" });
// It leaves addresses alone: what is beside the module must be beside the bundle.
const wasm = fileURLToPath(import.meta.resolve("rejoin/rejoin_bg.wasm"));
await copyFile(wasm, "dist/rejoin_bg.wasm");
