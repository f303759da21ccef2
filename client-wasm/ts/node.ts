/** The package where files are not fetched: Node.js and its kin; declared by `index.ts`. */

import { readFile } from "node:fs/promises";
import { url } from "../pkg/rejoin_url.js";
import { loadEngine, versionOf } from "./engine.js";
import type { Entry } from "./entry.js";
import { onPage, opener } from "./open.js";

const load = onPage(() => loadEngine(read));

export const open: Entry["open"] = (options) => opener.open(options, load);
export const destroy: Entry["destroy"] = (name) => opener.destroy(name, load);
export const version: Entry["version"] = () => versionOf(read);

export * from "./api.js";

function read(): Promise<Uint8Array<ArrayBuffer>> {
  return readFile(url());
}
