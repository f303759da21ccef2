// A device: a browser with a profile of its own, in it one page of one peer.

import { readFileSync } from "node:fs";
import { Profile } from "../test/reliability/chromium.mjs";
import { pause, within } from "../test/reliability/time.mjs";

const ANSWER_MS = 600_000;
/** What a browser that has just started still does for itself. */
const SETTLE_MS = 700;
/** How long the page works to be told from other processes. */
const WORK_MS = 500;

export class Device {
  #profile = new Profile();
  #site;
  #page;
  #complaints = [];

  constructor(site) {
    this.#site = site;
  }

  /** Starts the browser, or ends it as its user would and starts it again on what is on the disk. */
  async start(page) {
    if (this.#page !== undefined) await this.#profile.close();
    const address = await this.#site.address(page);
    await this.#profile.start();
    this.#page = this.#profile.context.pages()[0] ?? (await this.#profile.context.newPage());
    this.#page.on("pageerror", (error) => this.#complaints.push(`${error}`));
    if (process.env.REJOIN_TEST_LOG) {
      this.#page.on("console", (message) => console.error(message.text()));
    }
    await pause(SETTLE_MS);
    await this.#page.goto(address);
    await this.#page.waitForFunction("globalThis.bench !== undefined");
  }

  /** Calls a measurement of `pages/harness.js`. */
  async call(name, ...given) {
    const answer = this.#page.evaluate(([name, given]) => bench[name](...given), [name, given]);
    try {
      return await within(ANSWER_MS, `${name} ends`, answer);
    } catch (error) {
      throw new Error([`${name}: ${error.message}`, ...this.#complaints].join("; "), {
        cause: error,
      });
    }
  }

  /**
   * Megabytes that belong to the page's process alone, after garbage was collected: the heap of JavaScript, the
   * memory of WebAssembly, and what the engine of the browser takes for itself. IndexedDB is in another process.
   */
  async memory() {
    const session = await this.#page.context().newCDPSession(this.#page);
    for (let times = 0; times < 2; times += 1) await session.send("HeapProfiler.collectGarbage");
    await session.detach();
    return privateMegabytes(await this.#renderer());
  }

  /** The page's process: the one that works while the page does. The browser has others of that kind for itself. */
  async #renderer() {
    const before = await this.#cpuTimes();
    await this.#page.evaluate((ms) => {
      const end = performance.now() + ms;
      while (performance.now() < end);
    }, WORK_MS);
    const after = await this.#cpuTimes();
    const worked = (pid) => after.get(pid) - (before.get(pid) ?? 0);
    return [...after.keys()].reduce((one, other) => (worked(other) > worked(one) ? other : one));
  }

  async #cpuTimes() {
    const session = await this.#profile.session();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    return new Map(renderers.map(({ id, cpuTime }) => [id, cpuTime]));
  }

  /** Ends everything, and removes what was stored. */
  async end() {
    await this.#profile.remove();
  }
}

function privateMegabytes(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kibibytes = [...text.matchAll(/^Private_\w+: +(\d+) kB$/gmu)].map(([, size]) =>
    Number(size),
  );
  return (kibibytes.reduce((sum, size) => sum + size, 0) * 1_024) / 1e6;
}
