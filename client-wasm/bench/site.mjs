// The pages' origin: a page for each peer, with the peer's code bundled into one file, cross-origin isolated so that
// clocks are fine.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, extname } from "node:path";
import { fileURLToPath } from "node:url";

const PAGES = fileURLToPath(new URL("pages", import.meta.url));
const NODE_MODULES = fileURLToPath(new URL("node_modules", import.meta.url));
const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
const ISOLATED = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};
const HTML =
  '<!doctype html><title>bench</title><link rel="icon" href="data:,"><script type="module" src="page.js"></script>';
/** WebAssembly that a page loads from beside itself. */
const WASM = {
  rejoin: `${PACKAGE}/pkg/rejoin_bg.wasm`,
  automerge: `${NODE_MODULES}/@automerge/automerge/dist/automerge.wasm`,
  loro: `${NODE_MODULES}/loro-crdt/browser/loro_wasm_bg.wasm`,
};

/** A page's files, by their names. */
async function bundle(page) {
  const { build } = await import("esbuild");
  const entry = `import { open } from "./${page}.js"; import { offer } from "./harness.js"; offer(open);`;
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: PAGES },
    bundle: true,
    minify: true,
    format: "esm",
    target: "chrome120",
    alias: { rejoin: `${PACKAGE}/dist/index.js`, ws: `${PAGES}/browser-ws.js` },
    define: { global: "globalThis", "process.env.NODE_ENV": '"production"' },
    outdir: "/",
    write: false,
    logLevel: "error",
  });
  const files = new Map([
    ["index.html", HTML],
    ["page.js", outputFiles[0].contents],
  ]);
  const wasm = WASM[page];
  if (wasm !== undefined) files.set(basename(wasm), await readFile(wasm));
  return files;
}

/** Serves `/<page>/`. */
export class Site {
  #server;
  #pages = new Map();

  static async start() {
    const site = new Site();
    site.#server = createServer((request, response) => void site.#answer(request, response));
    site.#server.listen(0, "localhost");
    await once(site.#server, "listening");
    return site;
  }

  get origin() {
    return `http://localhost:${this.#server.address().port}`;
  }

  /** The address of a page, which is bundled by now. */
  async address(page) {
    if (!this.#pages.has(page)) this.#pages.set(page, await bundle(page));
    return `${this.origin}/${page}/index.html`;
  }

  async stop() {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request, response) {
    const [, page, name] = new URL(request.url, this.origin).pathname.split("/");
    const body = this.#pages.get(page)?.get(name);
    if (body === undefined) return void response.writeHead(404).end();
    const headers = { "content-type": TYPES[extname(name)], "cache-control": "no-store" };
    response.writeHead(200, { ...ISOLATED, ...headers }).end(body);
  }
}
