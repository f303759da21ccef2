/**
 * What the browser tests stand on: the real server, the built page behind `vite preview` in a process of
 * its own (so that the server alone can be killed), and Chromium.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const artifacts = join(root, "test-artifacts");

/** Longer than any wait between two attempts to connect (at most 30 s). */
export const RECONNECT_MS = 45_000;
const START_MS = 30_000;

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

const BROWSERS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

export function launchBrowser() {
  const executablePath = process.env.REJOIN_BROWSER ?? BROWSERS.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error("no Chromium: set REJOIN_BROWSER to its path");
  return chromium.launch({
    executablePath,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** The most recently built one of the two profiles. */
function binary(name) {
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  const built = ["release", "debug"]
    .map((profile) => join(target, profile, name))
    .filter(existsSync);
  if (built.length === 0) throw new Error(`${name} is not built: cargo build --release -p ${name}`);
  return built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

/** A process whose lines can be waited for. */
class Child {
  #lines = [];
  #waiting = new Set();
  #process;

  constructor(command, args, env = {}) {
    this.#process = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.#take(line));
    }
    this.ended = once(this.#process, "exit").then(([code]) => code);
  }

  get output() {
    return this.#lines.join("\n");
  }

  /** Resolves with the first line, printed already or later, that matches. */
  line(pattern, within = START_MS) {
    const printed = this.#lines.find((line) => pattern.test(line));
    if (printed !== undefined) return Promise.resolve(printed);
    return new Promise((resolve, reject) => {
      const wait = { pattern, resolve };
      this.#waiting.add(wait);
      const fail = (why) => reject(new Error(`${why}: no line like ${pattern} in\n${this.output}`));
      setTimeout(() => fail(`${within} ms are over`), within).unref();
      this.ended.then((code) => fail(`ended with ${code}`));
    });
  }

  async kill(signal = "SIGKILL") {
    this.#process.kill(signal);
    await this.ended;
  }

  #take(line) {
    // What is coloured for people is matched without colours.
    const plain = line.replace(/\u001b\[[0-9;]*m/gu, "");
    this.#lines.push(plain);
    for (const wait of this.#waiting) {
      if (!wait.pattern.test(plain)) continue;
      this.#waiting.delete(wait);
      wait.resolve(plain);
    }
  }
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** Polls, because a port has no event for "somebody listens now". */
async function answers(url, child) {
  let gone = false;
  child.ended.then(() => (gone = true));
  const end = Date.now() + START_MS;
  for (;;) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    if (gone || Date.now() > end) throw new Error(`${url} does not answer:\n${child.output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A server and a page, each of which can be killed and started again on its port. */
export class World {
  static async start() {
    const world = new World(await freePort(), await freePort());
    await Promise.all([world.startServer(), world.startPage()]);
    return world;
  }

  constructor(serverPort, pagePort) {
    this.serverPort = serverPort;
    this.pagePort = pagePort;
    this.data = mkdtempSync(join(tmpdir(), "rejoin-demo-test-"));
    this.url = `http://127.0.0.1:${pagePort}/`;
    this.sync = `ws://127.0.0.1:${serverPort}/sync`;
  }

  async startServer() {
    const listen = `127.0.0.1:${this.serverPort}`;
    const args = ["--listen", listen, "--data", this.data, "--auth", "none", "--log", "info"];
    this.server = new Child(binary("rejoin-server"), args);
    await answers(`http://${listen}/healthz`, this.server);
  }

  async startPage() {
    const vite = join(
      dirname(fileURLToPath(import.meta.resolve("vite/package.json"))),
      "bin/vite.js",
    );
    const port = ["--host", "127.0.0.1", "--port", String(this.pagePort), "--strictPort"];
    this.page = new Child(process.execPath, [vite, "preview", "web-demo", ...port], {
      REJOIN_SERVER: `http://127.0.0.1:${this.serverPort}/`,
    });
    await answers(this.url, this.page);
  }

  /** Runs the command-line program to its end; its output, if it ended well. */
  async run(...args) {
    const child = new Child(binary("rejoin"), args);
    const code = await child.ended;
    if (code !== 0)
      throw new Error(`rejoin ${args.join(" ")} ended with ${code}:\n${child.output}`);
    return child.output;
  }

  async stop() {
    await Promise.all([this.server?.kill(), this.page?.kill()]);
    rmSync(this.data, { recursive: true, force: true });
  }
}

/** Opens a page; what it logs as an error fails the test that asks `faults()`. */
export async function openPage(context, url) {
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.goto(url);
  return { page, faults: () => faults };
}

/** The badge within `scope` shows `state`, and as many writes to send as given. */
export const badge = (scope, state, { pending = 0, timeout = RECONNECT_MS } = {}) =>
  scope
    .locator(`[data-testid=badge][data-state=${state}][data-pending="${pending}"]`)
    .waitFor({ timeout });

export const task = (scope, title) =>
  scope.locator("[data-testid=task]", { has: scope.page().getByText(title, { exact: true }) });

export async function addTask(scope, title) {
  await scope.getByTestId("new-task").fill(title);
  await scope.getByTestId("new-task").press("Enter");
  await task(scope, title).waitFor();
}

/** The service worker has put the page aside. */
export const pageIsKept = (page) =>
  page.evaluate(async () => {
    const { active } = await navigator.serviceWorker.ready;
    if (active.state === "activated") return;
    await new Promise((resolve) => active.addEventListener("statechange", resolve, { once: true }));
  });

export async function screenshot(page, name) {
  mkdirSync(artifacts, { recursive: true });
  await page.screenshot({ path: join(artifacts, `${name}.png`) });
}
