import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import type { Plugin } from "vite";

const PLACEHOLDER = "__PRECACHE__";
// Not part of the page: maps are for people, the settings belong to whoever serves the page.
const leftOut = (file: string) =>
  file.endsWith(".map") || file === "sw.js" || file === "config.json";

/**
 * Tells the service worker which files make up this build. The version is a hash over all of them, so
 * a build that changes nothing replaces nothing.
 */
export function offline(): Plugin {
  return {
    name: "rejoin-demo-offline",
    apply: "build",
    async writeBundle({ dir }) {
      if (dir === undefined) return;
      const entries = await readdir(dir, { recursive: true, withFileTypes: true });
      const files = entries
        .filter((entry) => entry.isFile())
        .map((entry) => relative(dir, join(entry.parentPath, entry.name)).split(sep).join("/"))
        .filter((file) => !leftOut(file))
        .sort();
      const hash = createHash("sha256");
      for (const file of files) hash.update(`${file}\n`).update(await readFile(join(dir, file)));
      const worker = join(dir, "sw.js");
      const source = await readFile(worker, "utf8");
      if (!source.includes(PLACEHOLDER)) throw new Error(`${worker} does not name ${PLACEHOLDER}`);
      const precache = { version: hash.digest("hex").slice(0, 16), files };
      await writeFile(worker, source.replace(PLACEHOLDER, JSON.stringify(precache)));
    },
  };
}

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "connect-src 'self' ws: wss:",
  "img-src 'self' data:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** The built pages carry a content security policy, for hosts that send no headers. */
export function contentSecurityPolicy(): Plugin {
  return {
    name: "rejoin-demo-csp",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
        injectTo: "head-prepend",
      },
    ],
  };
}
