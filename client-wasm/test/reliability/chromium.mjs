// A Chromium of its own for each profile, in a process group of its own: it can be killed whole, and what it
// keeps on the disk be cut, copied and damaged while it is down.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { runs } from "./running.mjs";
import { within } from "./time.mjs";

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const START_MS = 30_000;
const END_MS = 20_000;
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
  ...["--disable-dev-shm-usage", "--disable-extensions", "--disable-component-update"],
  ...["--disable-background-networking", "--disable-breakpad", "--remote-debugging-port=0"],
];

/** The browser's program. */
export function program() {
  const found = process.env.REJOIN_BROWSER ?? BROWSERS.find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(
      "no Chromium: install it (Debian: apt-get install chromium) or set REJOIN_BROWSER",
    );
  }
  return found;
}

/** A profile on the disk, and its browser while one runs. */
export class Profile {
  #folder;
  #process;
  #browser;

  constructor(folder = mkdtempSync(join(tmpdir(), "rejoin-profile-"))) {
    this.#folder = folder;
  }

  /** Starts the browser on what the profile holds. */
  async start() {
    const process = spawn(program(), [...FLAGS, `--user-data-dir=${this.#folder}`, "about:blank"], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    this.#process = process;
    runs(process);
    const lines = createInterface({ input: process.stderr });
    const listening = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        const found = /^DevTools listening on (\S+)$/u.exec(line);
        if (found !== null) resolve(found[1]);
      });
      process.once("exit", () => reject(new Error("Chromium ended before it was up")));
      process.once("error", reject);
    });
    const address = await within(START_MS, "Chromium starts", listening);
    this.#browser = await chromium.connectOverCDP(address);
    return this;
  }

  /** The browser's own context: what is in it is on the disk. */
  get context() {
    return this.#browser.contexts()[0];
  }

  /** A context that leaves nothing behind. */
  privateContext() {
    return this.#browser.newContext();
  }

  /** A session with the browser as a whole. */
  session() {
    return this.#browser.newBrowserCDPSession();
  }

  /** SIGKILL for every process of this browser at once. */
  async kill() {
    await this.#end(() => this.#signal("SIGKILL"));
  }

  /** Ends the browser as its user would. */
  async close() {
    await this.#end(async () => {
      const session = await this.session();
      await session.send("Browser.close").catch(() => undefined);
    });
  }

  async #end(end) {
    const process = this.#process;
    if (process === undefined) return;
    const running = process.exitCode === null && process.signalCode === null;
    const ended = running ? once(process, "exit") : undefined;
    try {
      if (running) await end();
      await within(END_MS, "Chromium ends", ended);
    } catch (error) {
      this.#signal("SIGKILL");
      throw error;
    } finally {
      this.#process = undefined;
      await this.#browser?.close().catch(() => undefined);
      this.#browser = undefined;
    }
    // What the group still had to say to the disk when its head was gone.
    this.#signal("SIGKILL", process);
  }

  #signal(signal, { pid } = this.#process) {
    try {
      process.kill(-pid, signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }

  /** The processes that run pages. */
  async renderers() {
    const session = await this.session();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    return processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  }

  /** The same bytes as a profile of its own; the browser must be down. */
  copy() {
    const folder = mkdtempSync(join(tmpdir(), "rejoin-profile-"));
    cpSync(this.#folder, folder, { recursive: true, filter: (path) => !/\/Singleton/u.test(path) });
    return new Profile(folder);
  }

  /** Takes over what another profile stored for the origin; both must be down. */
  restore(other) {
    rmSync(this.databases(), { recursive: true, force: true });
    cpSync(other.databases(), this.databases(), { recursive: true });
  }

  /** Where IndexedDB keeps everything. */
  databases() {
    return join(this.#folder, "Default", "IndexedDB");
  }

  /** The files of LevelDB in which the databases of the one origin are. */
  files() {
    const origin = readdirSync(this.databases()).find((name) => name.endsWith(".leveldb"));
    const folder = join(this.databases(), origin);
    return readdirSync(folder).map((name) => ({ name, path: join(folder, name) }));
  }

  /** Forgets everything. */
  async remove() {
    if (this.#process !== undefined) await this.kill();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
