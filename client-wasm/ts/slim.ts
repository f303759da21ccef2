/**
 * The package without the place of its WebAssembly: the app hands it over, for bundlers and hosts that
 * have their own way with such files. Everything else is as in `rejoin`.
 */

import type { Database } from "./db.js";
import { loadEngine, versionOf, type Source, type Wasm } from "./engine.js";
import { onPage, opener } from "./open.js";
import type { Opening, OpenOptions, SchemaShape } from "./types.js";

/** Where the WebAssembly comes from. A page loads it once: of several, the first counts. */
export interface WithWasm {
  /**
   * The file `rejoin/rejoin_bg.wasm` of the same version: a compiled module, its bytes, the answer to a
   * request, or its address. A function is called when it is needed, and again after a failure.
   */
  readonly wasm: Wasm | Source;
}

/**
 * `open` of `rejoin`.
 *
 * @example
 * import wasm from "rejoin/rejoin_bg.wasm"; // a WebAssembly.Module, where the host makes one
 *
 * const db = await open({ name: "todo", schema, wasm });
 */
export function open<S extends SchemaShape, C extends keyof S & string = keyof S & string>(
  options: Omit<OpenOptions<S, C>, "worker"> & WithWasm,
): Promise<Database<Opening<S, C>>> {
  const source = sourceOf(options);
  return opener.open(
    options,
    onPage(() => loadEngine(source)),
  );
}

/**
 * `destroy` of `rejoin`.
 *
 * @example
 * await destroy("todo", { wasm });
 */
export function destroy(name: string, options: WithWasm): Promise<void> {
  const source = sourceOf(options);
  return opener.destroy(
    name,
    onPage(() => loadEngine(source)),
  );
}

/**
 * `version` of `rejoin`.
 *
 * @example
 * console.log(await version({ wasm }));
 */
export function version(options: WithWasm): Promise<string> {
  return versionOf(sourceOf(options));
}

export * from "./api.js";
export type { Source, Wasm } from "./engine.js";

function sourceOf({ wasm }: WithWasm): Source {
  // The type of modules has no members, so nothing tells TypeScript that they are no functions.
  return typeof wasm === "function" ? (wasm as Source) : () => wasm;
}
