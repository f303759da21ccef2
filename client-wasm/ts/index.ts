/**
 * Local-first data for web apps: write offline, close, reopen, rejoin, verified.
 *
 * Importing this touches neither the network nor the browser: it is safe in server rendering.
 */

import { url } from "../pkg/rejoin_url.js";
import { loadEngine, versionOf } from "./engine.js";
import type { Entry } from "./entry.js";
import { type Load, opener } from "./open.js";
import { remoteEngine, startWorker } from "./remote.js";

const load: Load = async (worker) => (worker ? remoteEngine(startWorker) : loadEngine(url));

/**
 * Opens a database; creates it if needed. Resolves when local data can be read and written, and does
 * not wait for the network. Opening the same database again gives the same object.
 *
 * @example
 * const db = await open({
 *   name: "todo",
 *   schema,
 *   sync: { url: "wss://example.org/sync", space: "demo" },
 * });
 */
export const open: Entry["open"] = (options) => opener.open(options, load);

/**
 * Deletes a local database, unsent writes included; closes it first if this page has it open.
 *
 * @example
 * await destroy("todo");
 */
export const destroy: Entry["destroy"] = (name) => opener.destroy(name, load);

/**
 * The version of the engine inside the package; loads the WebAssembly on the first call.
 *
 * @example
 * console.log(await version());
 */
export const version: Entry["version"] = () => versionOf(url);

export * from "./api.js";
