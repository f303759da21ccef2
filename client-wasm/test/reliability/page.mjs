// A tab with the package: what it writes it reports at once, so that the ledger survives it.

import { Stuck, within } from "./time.mjs";

/** How long a client has for whatever it does by itself, on a machine that is busy with much else. */
export const SOON_MS = 90_000;
const FOREVER = 1e9;
const EXPECTED =
  /WebSocket connection to|establish a connection|connection to ws:|ERR_NETWORK_CHANGED|ERR_CONNECTION_REFUSED/u;
/** Requests that stand in for a WebSocket fail as one does. */
const CARRIED = /\/sync\/(?:open|send|receive|close)\b/u;

/** Tries again what the machine's network broke off: other programs come and go with interfaces of theirs. */
async function patiently(load) {
  for (let tries = 2; ; tries -= 1) {
    try {
      return await load();
    } catch (error) {
      if (tries === 0 || !/ERR_NETWORK_CHANGED|Failed to fetch/u.test(error.message)) throw error;
    }
  }
}

/** One tab. */
export class Tab {
  constructor(page, cycle) {
    this.page = page;
    this.cycle = cycle;
  }

  /** A tab of `context` with the package loaded; `shim` runs in it before anything else. */
  static async open(context, cycle, { shim, argument, base } = {}) {
    const page = await context.newPage();
    const tab = new Tab(page, cycle);
    page.on("pageerror", (error) => cycle.noise(`page error: ${error}`));
    page.on("console", (message) => {
      if (message.type() !== "error" || CARRIED.test(message.location().url)) return;
      tab.complained(message.text());
    });
    await page.exposeFunction("report", (...told) => cycle.ledger.hear(...told));
    if (shim !== undefined) await page.addInitScript(shim, argument);
    await page.addInitScript((bug) => void (globalThis.rejoinBug = bug), cycle.bug);
    await tab.load(base);
    return tab;
  }

  /** An error on the console. */
  complained(text) {
    if (!EXPECTED.test(text) && !CARRIED.test(text)) this.cycle.noise(text);
  }

  /** Loads the package, again too. */
  async load(base = this.cycle.base) {
    await patiently(async () => {
      await within(SOON_MS, "the page loads", this.page.goto(this.cycle.origin));
      await this.run(inPage, base);
    });
  }

  /** Runs a function in the page; a page that does not answer is stuck. */
  run(work, argument) {
    return within(SOON_MS, "the page answers", this.page.evaluate(work, argument));
  }

  /** Opens the cycle's database. */
  async database(more = {}) {
    const { url, space, name, worker } = this.cycle;
    await this.run((options) => openDatabase(options), { url, space, name, worker, ...more });
    return this;
  }

  /** Opens the database; the code with which that fails. */
  tryDatabase(more = {}) {
    const { url, space, name, worker } = this.cycle;
    const options = { url, space, name, worker, ...more };
    return this.run((options) => code(() => openDatabase(options)), options);
  }

  /** The one record that must exist before anybody adds to it. */
  async found() {
    await this.run(() => db.totals.add({ id: "all", sum: 0 }));
    await this.synced();
  }

  /** Whether there is that record. */
  isFounded() {
    return this.run(async () => (await db.totals.get("all")) !== undefined);
  }

  /** Writes `count` rows, each of which must be taken. */
  async write(lane, count, size = 0) {
    const failures = await this.tryWrite(lane, count, size);
    if (failures.length > 0) throw new Error(`writes to ${lane} failed: ${failures}`);
  }

  /** Writes `count` rows; the codes of those that failed. */
  tryWrite(lane, count, size = 0) {
    return this.run((work) => write(work), { lane, count, size });
  }

  /** Goes on writing until the page ends or {@link stop}. */
  keepWriting(lane, size = 0) {
    return this.begin(lane, FOREVER, size);
  }

  /** Begins to write `count` rows. */
  async begin(lane, count, size = 0) {
    await this.run((work) => void write(work), { lane, count, size });
  }

  /** Waits until all that was begun is written. */
  finished() {
    return this.until("written", "() => writing === 0");
  }

  /** Ends what {@link keepWriting} began. */
  async stop() {
    await this.run(() => stopWriting());
    await this.finished();
  }

  status() {
    return this.run(() => db.status);
  }

  /** Waits until the page's status fits; `holds` runs in the page. */
  async until(what, holds, limit = SOON_MS) {
    const met = this.page.evaluate(
      `untilHolds(() => { const status = db.status; return (${holds})(status); }, ${limit})`,
    );
    if (await within(limit + 5_000, what, met)) return;
    const status = JSON.stringify(await this.status());
    throw new Stuck(`not within ${limit} ms: ${what}; status ${status}`);
  }

  /** Waits until the server has everything and the roots agree. */
  synced() {
    return this.until("synced", "(status) => status.synced && status.state === 'live'");
  }

  /** Of these writes none is gone, or the page says so. */
  async tells(ids) {
    const marks = new Set((await this.seen()).marks.map(([id]) => id));
    const gone = ids.filter((id) => !marks.has(id));
    const { writesLost } = (await this.status()).storage;
    if (gone.length > 0 && !writesLost) this.cycle.fault("lost", `not a word about ${gone}`);
    if (gone.length > 0) this.cycle.log(`${gone.length} of ${ids.length} gone, told`);
  }

  leads() {
    return this.run(() => db.status.leader);
  }

  /** Everything that the page shows. */
  seen() {
    return this.run(() => seen());
  }

  /** The renderer ends without a word. */
  async crash() {
    const crashed = new Promise((resolve) => this.page.once("crash", resolve));
    const session = await this.page.context().newCDPSession(this.page);
    session.send("Page.crash").catch(() => undefined);
    await within(SOON_MS, "the page crashes", crashed);
    await this.page.close();
  }

  close() {
    return this.page.close();
  }
}

/** Runs in the page: what the other functions call there. */
export async function inPage(base) {
  globalThis.rejoin = await import(`${base}/dist/index.js`);
  const { counter, defineSchema, increment, json, number, open, text } = rejoin;
  const schema = defineSchema({
    marks: { amount: number(), text: text().default("") },
    twins: { of: text() },
    lanes: { at: number() },
    totals: { sum: counter() },
    odds: { value: json() },
  });
  globalThis.openDatabase = async ({ url, space, name, token, worker }) => {
    const access = token === undefined ? {} : { token };
    globalThis.db = await open({ name, schema, sync: { url, space, ...access }, worker });
  };
  const amount = (id) => {
    let hash = 7;
    for (const letter of id) hash = (hash * 31 + letter.charCodeAt(0)) % 9973;
    return 1 + hash;
  };
  // Nothing that a disk could store in less.
  const noise = (size) => {
    const bytes = new Uint8Array(Math.ceil(size / 2));
    for (let at = 0; at < bytes.length; at += 65_536) {
      crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    }
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  };
  let goesOn = true;
  globalThis.writing = 0;
  globalThis.stopWriting = () => void (goesOn = false);
  const row = async (lane, index, size) => {
    const id = `${lane}.${index}`;
    const added = db.batch((batch) => {
      batch.marks.add({ id, amount: amount(id), text: noise(size) });
      batch.twins.add({ id, of: id });
      batch.lanes.put(lane, { at: index });
      batch.totals.update("all", { sum: increment(amount(id)) });
    });
    try {
      const receipt = await added.receipt;
      report(receipt.durability, id);
      // Who writes sees what was written; unless it was taken away meanwhile.
      const mark = await db.marks.get(id).catch(() => ({}));
      if (mark === undefined) report("unseen", id);
      receipt.synced.then(
        () => report("synced", id),
        () => undefined,
      );
    } catch (error) {
      report("failed", id, error.code ?? `${error}`);
      throw error;
    }
  };
  /** Two at a time, as an app that does not wait would. */
  globalThis.write = async ({ lane, count, size }) => {
    goesOn = true;
    writing += 1;
    const failures = [];
    for (let index = 0; index < count && goesOn; index += 2) {
      const rows = [row(lane, index, size)];
      if (index + 1 < count) rows.push(row(lane, index + 1, size));
      const results = await Promise.allSettled(rows);
      const refused = results.filter(({ status }) => status === "rejected");
      failures.push(...refused.map(({ reason }) => reason));
      if (refused.length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    writing -= 1;
    return failures.map(({ code }) => code);
  };
  globalThis.seen = async () => {
    const pairs = async (table, field) =>
      (await table.all()).map((row) => [row.id, row[field]]).toSorted();
    return {
      marks: await pairs(db.marks, "amount"),
      twins: (await pairs(db.twins, "of")).map(([id]) => id),
      lanes: await pairs(db.lanes, "at"),
      sum: (await db.totals.get("all"))?.sum ?? 0,
      roots: await db.roots(),
      rejected: db.status.rejected,
    };
  };
  globalThis.untilHolds = async (holds, limit) => {
    const end = Date.now() + limit;
    while (!holds()) {
      if (Date.now() > end) return false;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return true;
  };
  /** A value as text that tells apart what is different. */
  globalThis.plain = (value) => {
    if (Array.isArray(value)) return `[${value.map(plain)}]`;
    if (value instanceof Uint8Array) return `bytes ${[...value]}`;
    if (typeof value !== "object" || value === null) {
      return `${typeof value} ${typeof value === "string" ? JSON.stringify(value) : value}`;
    }
    const entries = Object.entries(value).map(([key, inner]) => [
      JSON.stringify(key),
      plain(inner),
    ]);
    return `{${entries.toSorted(([one], [other]) => (one < other ? -1 : 1))}}`;
  };
  globalThis.code = async (work) => {
    try {
      await work();
      return "done";
    } catch (error) {
      return error instanceof rejoin.SyncError ? error.code : `untyped: ${error}`;
    }
  };
}
