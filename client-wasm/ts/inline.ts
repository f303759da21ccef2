/** The package in JavaScript alone, for places where a second file cannot be served; declared by `index.ts`. */

import { packed } from "../pkg/rejoin_inline.js";
import { loadEngine, versionOf } from "./engine.js";
import type { Entry } from "./entry.js";
import { onPage, opener } from "./open.js";

const load = onPage(() => loadEngine(unpack));

export const open: Entry["open"] = (options) => opener.open(options, load);
export const destroy: Entry["destroy"] = (name) => opener.destroy(name, load);
export const version: Entry["version"] = () => versionOf(unpack);

export * from "./api.js";

/** From base64 over gzip. No request is made, so no policy on connections can refuse it. */
function unpack(): Promise<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}
