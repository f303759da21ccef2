// Firefox over WebDriver BiDi: a profile and its tabs, in the shape of those of Chromium.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { inPage, SOON_MS, Tab } from "./page.mjs";
import { runs } from "./running.mjs";
import { TextSocket } from "./socket.mjs";
import { within } from "./time.mjs";

const FIREFOXES = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
const START_MS = 60_000;
const REPORTS = "report";
/** Nothing of its own that asks the network or writes later. */
const PREFERENCES = `
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.startup.page", 0);
user_pref("browser.sessionstore.resume_from_crash", false);
user_pref("toolkit.startup.max_resumed_crashes", -1);
`;

/** The program, if there is one. */
export const firefox = () =>
  process.env.REJOIN_FIREFOX ?? FIREFOXES.find((path) => existsSync(path));

/** A profile of Firefox on the disk. */
export class FirefoxProfile {
  #folder;
  #process;
  #socket;
  #asked = new Map();
  #count = 0;
  #tabs = new Map();

  constructor(folder = mkdtempSync(join(tmpdir(), "rejoin-firefox-"))) {
    this.#folder = folder;
    writeFileSync(join(folder, "user.js"), PREFERENCES);
  }

  async start() {
    const flags = ["--headless", "--no-remote", "--remote-debugging-port=0"];
    const child = spawn(firefox(), [...flags, "--profile", this.#folder], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    this.#process = child;
    runs(child);
    const lines = createInterface({ input: child.stderr });
    const listening = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        const found = /WebDriver BiDi listening on (\S+)$/u.exec(line);
        if (found !== null) resolve(found[1]);
      });
      child.once("exit", () => reject(new Error("Firefox ended before it was up")));
    });
    const address = await within(START_MS, "Firefox starts", listening);
    this.#socket = await TextSocket.open(`${address}/session`, (text) => this.#hear(text));
    await this.ask("session.new", { capabilities: {} });
    await this.ask("session.subscribe", { events: ["script.message", "log.entryAdded"] });
    return this;
  }

  /** A command, and its result. */
  ask(method, params) {
    this.#count += 1;
    const id = this.#count;
    const answered = new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.#socket.send(JSON.stringify({ id, method, params }));
    return within(SOON_MS, method, answered);
  }

  #hear(text) {
    const { id, type, result, error, message, method, params } = JSON.parse(text);
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (type === "error") asked?.reject(new Error(`${error}: ${message}`));
    else if (asked !== undefined) asked.resolve(result);
    const tab = this.#tabs.get(params?.source?.context);
    if (method === "script.message") tab?.cycle.ledger.hear(...JSON.parse(params.data.value));
    if (method === "log.entryAdded" && params.level === "error") tab?.complained(params.text);
  }

  /** A tab with the package in it. */
  async tab(cycle) {
    const { context } = await this.ask("browsingContext.create", { type: "tab" });
    const tab = new FirefoxTab(this, context, cycle);
    this.#tabs.set(context, tab);
    await tab.load();
    return tab;
  }

  /** SIGKILL for every process of this browser. */
  async kill() {
    const child = this.#process;
    if (child === undefined) return;
    const ended = once(child, "exit");
    this.#process = undefined;
    process.kill(-child.pid, "SIGKILL");
    await ended;
    this.#socket?.close();
    this.#tabs.clear();
  }

  /** The same bytes as a profile of its own; the browser must be down. */
  copy() {
    const folder = mkdtempSync(join(tmpdir(), "rejoin-firefox-"));
    const filter = (path) => !/\/(?:lock|\.parentlock)$/u.test(path);
    cpSync(this.#folder, folder, { recursive: true, filter });
    return new FirefoxProfile(folder);
  }

  async remove() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** One tab. */
class FirefoxTab extends Tab {
  constructor(profile, context, cycle) {
    super(undefined, cycle);
    this.profile = profile;
    this.context = context;
  }

  async load() {
    const { context } = this;
    await this.profile.ask("browsingContext.navigate", {
      ...{ context, url: this.cycle.origin, wait: "complete" },
    });
    const hear = "(hear) => { globalThis.report = (...told) => hear(JSON.stringify(told)); }";
    await this.#call(hear, [{ type: "channel", value: { channel: REPORTS } }]);
    await this.run(inPage, "");
  }

  run(work, argument) {
    const text = `async (text) => JSON.stringify(await (${work})(...JSON.parse(text)))`;
    return this.#call(text, [{ type: "string", value: JSON.stringify([argument]) }]);
  }

  async until(what, holds, limit = SOON_MS) {
    const work = `() => untilHolds(() => (${holds})(db.status), ${limit})`;
    if (!(await this.run(work))) this.cycle.fault("stuck", `not within ${limit} ms: ${what}`);
  }

  async #call(functionDeclaration, given) {
    const { result, exceptionDetails } = await this.profile.ask("script.callFunction", {
      ...{ functionDeclaration, arguments: given, awaitPromise: true },
      target: { context: this.context },
    });
    if (exceptionDetails !== undefined) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }
}
