// What the browser tests stand on: a server of static files on a free port, Chromium, and pages that
// hold one engine each.

import { readFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const BUILT = fileURLToPath(new URL("../../../test-artifacts/client-wasm/", import.meta.url));
/** The builds for tests, by the path under which pages find them. */
const TEST_BUILDS = { "test-build": "pkg", "tested/pkg": "pkg", "later/pkg": "later" };
/** Which build the pages load: that of the package, unless told otherwise. */
const BUILD = process.env.REJOIN_TEST_BUILD ?? "pkg";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The file that is served at a path. */
function fileAt(path) {
  const [, build, below] = /^\/(test-build|tested\/pkg|later\/pkg)(\/.*)$/u.exec(path) ?? [];
  if (build !== undefined) return join(BUILT, TEST_BUILDS[build], below);
  return join(PACKAGE, path.replace(/^\/(?:tested|later)\//u, "/"));
}

/**
 * The files of the package under `/`, those of the test build under `/test-build/`, under `/tested/` the package
 * with the test build in it, and under `/later/` with the build that comes after it.
 */
export async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    if (path === "/") {
      response
        .writeHead(200, { "content-type": "text/html" })
        .end('<!doctype html><title>test</title><link rel="icon" href="data:,">');
      return;
    }
    const file = fileAt(path);
    try {
      const body = await readFile(file);
      const headers = { "content-type": TYPES[extname(file)] ?? "text/plain" };
      response.writeHead(200, { ...headers, "service-worker-allowed": "/" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  return server;
}

/** Chromium and the static files; `close` ends both. */
export async function launch() {
  const executablePath = process.env.REJOIN_BROWSER ?? BROWSERS.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error("no Chromium: set REJOIN_BROWSER to its path");
  const server = await serve();
  const origin = `http://localhost:${server.address().port}`;
  const browser = await chromium.launch({
    executablePath,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
  });
  return {
    browser,
    origin,
    async close() {
      await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * The same test with the engine on the page and with the engine in a worker, which the body is told as its second
 * argument.
 */
export function inBoth(name, limits, body) {
  test(name, limits, (context) => body(context, false));
  test(`${name} (in a worker)`, limits, (context) => body(context, true));
}

/** Runs in the worker of the last database that was opened in one; `bindings` are those of the worker. */
export async function inWorker(page, work, ...args) {
  const worker = page.workers().at(-1);
  const bindings = worker.url().replace("dist/worker.js", "pkg/rejoin.js");
  const program = `(async () => (${work})(await import(${JSON.stringify(bindings)}), ...${JSON.stringify(args)}))()`;
  return worker.evaluate(program);
}

/**
 * A page of `context` with the engine's class as `Engine`, that of the worker if it is to run in one; what it logs as
 * an error is thrown.
 */
export async function newPage(context, origin, build = BUILD, worker = false) {
  const page = await context.newPage();
  if (process.env.REJOIN_TEST_LOG) {
    page.on("console", (message) => console.log(message.text()));
    page.on("pageerror", (error) => console.log("page error", error));
  }
  await load(page, origin, build, worker);
  return page;
}

/** Opens the test page, again too. */
export async function load(page, origin, build = BUILD, worker = false) {
  await page.goto(origin);
  await page.evaluate(prepare, [build, worker]);
}

/** Runs in the page. */
async function prepare([build, worker]) {
  if (worker) {
    const { remoteEngine, startWorker } = await import(
      build === "pkg" ? "/dist/remote.js" : "/tested/dist/remote.js"
    );
    globalThis.bindings = { Engine: remoteEngine(startWorker) };
  } else {
    const bindings = await import(`/${build}/rejoin.js`);
    await bindings.default({ module_or_path: `/${build}/rejoin_bg.wasm` });
    globalThis.bindings = bindings;
  }
  const columns = [
    ["title", "lww"],
    ["votes", "counter"],
    ["tags", "set"],
    ["note", "review"],
  ];
  globalThis.openEngine = async (name, more = {}) => {
    globalThis.events = [];
    const options = {
      ...{ name, url: null, space: "test", token: null, asks: false },
      collections: [{ pattern: "tasks", columns }],
      ...more,
    };
    globalThis.engine = await bindings.Engine.open(options, (event) => events.push(event));
  };
  globalThis.add = (id, title, more = []) =>
    engine.write(
      [
        {
          op: "add",
          collection: "tasks",
          id,
          erase: false,
          fields: [["title", "lww", "set", title], ...more],
        },
      ],
      { relaxed: false, echo: true },
    );
  globalThis.all = async () => {
    const rows = [];
    let after = null;
    do {
      const page = await engine.scan("tasks", after, 100);
      rows.push(...page.rows);
      after = page.next;
    } while (after !== null);
    return rows.map(({ id, values }) => [id, ...values]);
  };
  /** Deletes a database that is not open, as the browser may. */
  globalThis.evict = (name) =>
    new Promise((resolve, reject) => {
      const request = indexedDB.deleteDatabase(`rejoin/${name}`);
      request.onsuccess = resolve;
      request.onerror = () => reject(request.error);
    });
  globalThis.until = async (holds, limit = 10_000) => {
    const start = performance.now();
    while (!(await holds())) {
      if (performance.now() - start > limit) throw new Error(`not within ${limit} ms: ${holds}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return performance.now() - start;
  };
  globalThis.failure = async (work) => {
    try {
      await work();
      return "nothing failed";
    } catch (error) {
      return error.code ?? `${error}`;
    }
  };
}
