import { promisify } from "node:util";
import webpack from "webpack";

const stats = await promisify(webpack)({
  mode: "production",
  context: import.meta.dirname,
  entry: { main: "./main.js", inline: "./inline.js", slim: "./slim.js" },
  module: { rules: [{ test: /\.wasm$/u, type: "asset/resource" }] },
  // The WebAssembly inside the JavaScript is larger than what webpack likes.
  performance: { hints: false },
});
if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString());
