// What the packaging tests stand on: the packed package, fresh apps outside the workspace, a server of
// plain files, and Chromium.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

export const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const APP = fileURLToPath(new URL("app", import.meta.url));
const PAGES = fileURLToPath(new URL("pages", import.meta.url));
const START_MS = 60_000;
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};
const BROWSERS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** A folder outside the checkout: nothing above it lends a module to what is inside. */
export const newFolder = () => mkdtemp(join(tmpdir(), "rejoin-packaging-"));
export const remove = (folder) => rm(folder, { recursive: true, force: true });

/** Runs a command to its end; what it printed is told if it fails. */
export async function run(folder, command, ...args) {
  // npm tells its scripts where they run: an app of its own is elsewhere.
  const ours = /^(INIT_CWD$|npm_(package|lifecycle|config_local))/u;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd: folder, env });
    return stdout;
  } catch (error) {
    throw new Error(`${[command, ...args].join(" ")}\n${error.stdout}${error.stderr}`);
  }
}

/** `npm pack` of this package or of `source`: where the tarball is, and what npm says about it. */
export async function pack(folder, source = PACKAGE) {
  const [manifest] = JSON.parse(
    await run(source, "npm", "pack", "--json", "--pack-destination", folder),
  );
  return { ...manifest, path: join(folder, manifest.filename) };
}

/** An app that has installed the tarball by name and `tools`. */
export async function newApp(folder, tarball, tools) {
  await cp(APP, folder, { recursive: true });
  await install(folder, tarball, tools);
}

/** Installs the tarball by name and `tools`, from npm's cache first. */
export async function install(folder, tarball, tools) {
  const manifest = {
    name: "outside",
    private: true,
    type: "module",
    dependencies: { rejoin: `file:${tarball}` },
    devDependencies: tools,
  };
  await writeFile(join(folder, "package.json"), JSON.stringify(manifest));
  await npmInstall(folder);
}

/** `npm install`, from npm's cache first; of `packages` as well. */
export const npmInstall = (folder, ...packages) =>
  run(folder, "npm", "install", "--prefer-offline", "--no-audit", "--no-fund", ...packages);

export const bin = (folder, name, path) => join(folder, "node_modules", name, path);

/** Serves the files below `folder`, as any host of static files does. */
export async function serve(folder) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    try {
      const file = join(folder, path === "/" ? "index.html" : path);
      const body = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "text/plain" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** `vite`, the development server, on a port of its choice. */
export function develop(folder) {
  const vite = bin(folder, "vite", "bin/vite.js");
  return start(folder, vite, "--host", "127.0.0.1", "--port", "0");
}

/** A server that runs in Node.js and says where it listens. */
export async function start(folder, program, ...args) {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: folder,
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const close = async () => {
    child.kill();
    await ended;
  };
  try {
    const origin = await new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const found = line.replace(/\u001b\[[0-9;]*m/gu, "").match(/http:\/\/127\.0\.0\.1:\d+/u);
        if (found) resolve(found[0]);
      });
      setTimeout(
        () => reject(new Error(`${program} does not say where it listens`)),
        START_MS,
      ).unref();
      ended.then((code) => reject(new Error(`${program} ended with ${code}`)));
    });
    return { origin, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What REJOIN_BROWSER names, else the system's, else the one that Playwright fetched. */
export function launchBrowser() {
  const executablePath = process.env.REJOIN_BROWSER ?? BROWSERS.find((path) => existsSync(path));
  return chromium.launch({
    executablePath: executablePath ?? chromium.executablePath(),
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
  });
}

/** Copies the scripts around `pages/show.js` into an app. */
export const addScripts = (folder) => cp(PAGES, folder, { recursive: true });

/** Writes a page that such a script fills; `script` is the element, `head` stands before it. */
export function addPage(folder, name, script, head = "") {
  const icon = '<link rel="icon" href="data:,">';
  const body = `<body><ul></ul>${script}</body>`;
  const page = `<!doctype html><html lang="en">${icon}<title>Outside</title>${head}${body}</html>`;
  return writeFile(join(folder, name), page);
}

/** A policy that names what is allowed; all else is forbidden. */
export const policy = (allowed) =>
  `<meta http-equiv="content-security-policy" content="default-src 'none'; ${allowed}">`;

/**
 * The page at `address` stores a record, and has it after a reload, without a complaint and without asking
 * anyone else; for its WebAssembly it asks if that `isFile`. `shown` is what the record looks like, `workers` how many
 * workers the page has then.
 */
export async function keepsARecord(browser, address, options = {}) {
  const { shown = "Written outside", isFile = true, workers = 0 } = options;
  const { page, complaints, foreign, asked, close } = await visit(browser, address);
  try {
    await page.locator("body[data-rows='0']").waitFor({ state: "attached" });
    await page.evaluate(() => window.app.write("Written outside"));
    await page.getByText(shown).waitFor();
    await page.reload();
    await page.getByText(shown).waitFor();
    assert.equal(
      asked.some((path) => path.endsWith(".wasm")),
      isFile,
    );
    assert.equal(page.workers().length, workers);
  } finally {
    assert.deepEqual({ complaints, foreign }, { complaints: [], foreign: [] });
    await close();
  }
}

/** A page, what it complained about, and what it asked of other origins. */
export async function visit(browser, address) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const complaints = [];
  const foreign = [];
  const asked = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = new URL(request.url());
    asked.push(url.pathname);
    const local = url.protocol === "data:" || url.host === new URL(address).host;
    if (!local) foreign.push(url.href);
  });
  await page.goto(address);
  return { page, complaints, foreign, asked, close: () => context.close() };
}
