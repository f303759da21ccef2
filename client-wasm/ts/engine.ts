/** Loads the WebAssembly, once, when it is first needed. */

import initialise, * as bindings from "../pkg/rejoin.js";
import { SyncError } from "./errors.js";
import type { RawEngineClass } from "./raw.js";

/** The WebAssembly of the package: compiled, as bytes, as the answer to a request, or where it is. */
export type Wasm = WebAssembly.Module | BufferSource | Response | URL | string;

/** Gives the WebAssembly when it is needed. */
export type Source = () => Wasm | Promise<Wasm>;

let loading: Promise<RawEngineClass> | undefined;

/**
 * The engine of this page: `source` is asked by the first call alone. A failed attempt is not remembered,
 * and the next one asks again.
 */
export function loadEngine(source: Source): Promise<RawEngineClass> {
  loading ??= initialiseFrom(source).catch((cause: unknown) => {
    loading = undefined;
    const message = "the WebAssembly of rejoin could not be loaded";
    throw new SyncError("load", message, { retryable: true, cause });
  });
  return loading;
}

async function initialiseFrom(source: Source): Promise<RawEngineClass> {
  await initialise({ module_or_path: await source() });
  return (bindings as unknown as { readonly Engine: RawEngineClass }).Engine;
}

/** The version of the engine, which is loaded if it is not yet. */
export async function versionOf(source: Source): Promise<string> {
  await loadEngine(source);
  return bindings.version();
}
