/** Loads the WebAssembly, once, when it is first needed. */

import initialise, * as bindings from "../pkg/rejoin.js";
import { SyncError } from "./errors.js";
import type { RawEngineClass } from "./raw.js";

let loading: Promise<RawEngineClass> | undefined;

/** The engine; a failed attempt is not remembered. */
export function loadEngine(): Promise<RawEngineClass> {
  loading ??= initialise().then(
    () => (bindings as unknown as { readonly Engine: RawEngineClass }).Engine,
    (cause: unknown) => {
      loading = undefined;
      const message = "the WebAssembly of rejoin could not be loaded";
      throw new SyncError("load", message, { retryable: true, cause });
    },
  );
  return loading;
}

/**
 * The version of the engine inside the package; loads the WebAssembly on the first call.
 *
 * @example
 * console.log(await version());
 */
export async function version(): Promise<string> {
  await loadEngine();
  return bindings.version();
}
