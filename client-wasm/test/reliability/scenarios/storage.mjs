// B09 to B13: the browser has no room, loses the data or its connection to them, or keeps none.

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { Tab } from "../page.mjs";

const openTab = async (profile, cycle, more) =>
  (await Tab.open(profile.context, cycle, more)).database();

/** The browser has room up to a level drawn anew for each cycle, and gets more later. */
export async function b09(cycle) {
  const { random, origin } = cycle;
  const profile = await cycle.profile().start();
  const tab = await Tab.open(profile.context, cycle);
  const session = await tab.page.context().newCDPSession(tab.page);
  // Set before anything is written: the browser remembers for a while how much space there was.
  const quotaSize = random.between(2, 40) * 25_000;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize });
  await tab.database();
  await tab.found();
  const offline = random.chance(1, 2);
  if (offline) cycle.line.cut();
  const codes = new Set();
  for (let lane = 0; codes.size === 0 && lane < 40; lane += 1) {
    const failed = await tab.tryWrite(`fill${lane}`, 4, random.between(1_000, 60_000));
    for (const code of failed) codes.add(code);
  }
  cycle.same("why writes fail", [...codes], ["quota"]);
  cycle.same("the problem", (await tab.status()).storage.problem, "quota");
  // Nothing of a refused write is shown.
  const { marks } = await tab.seen();
  cycle.same("what is shown", marks.length, cycle.ledger.promised.size);
  cycle.line.mend();
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  await tab.write("room", 4);
  cycle.same("the problem later", (await tab.status()).storage.problem, undefined);
  await cycle.settle(tab);
}

/** The site's data are cleared while a tab is open, or while none is. */
export async function b10(cycle) {
  const { random, origin } = cycle;
  const profile = await cycle.profile().start();
  let tab = await openTab(profile, cycle);
  await tab.found();
  await tab.write("known", 10);
  await tab.synced();
  const { replica } = await tab.status();
  if (random.chance(1, 2)) {
    cycle.line.cut();
    await tab.write("unsent", 5);
  }
  const open = random.chance(1, 2);
  if (!open) await tab.page.goto("about:blank");
  const session = await tab.page.context().newCDPSession(tab.page);
  const storageTypes = random.pick(["all", "indexeddb"]);
  await session.send("Storage.clearDataForOrigin", { origin, storageTypes });
  const { unsent } = cycle.ledger;
  cycle.ledger.forgive();
  if (open) {
    // Nothing is taken that cannot be kept, and the app is told why.
    const failed = await tab.tryWrite("nowhere", 2);
    // The first may have been under way when the database went.
    const known = failed.filter((code) => code === "storage" || code === "unknown");
    cycle.same("writes without a database", [failed.length, known.length], [2, 2]);
    await tab.until("told", '(status) => status.storage.problem === "evicted"');
  }
  await tab.load();
  await tab.database();
  cycle.same("the id goes on", (await tab.status()).replica === replica, false);
  // Who clears everything clears what could tell, too.
  if (storageTypes === "indexeddb") await tab.tells(unsent);
  cycle.line.mend();
  await tab.synced();
  await tab.write("afresh", 5);
  await cycle.settle(tab);
}

/** Runs in the page: one transaction that cannot be begun, or all from one on. */
function losesConnection({ at, name, once }) {
  const begin = IDBDatabase.prototype.transaction;
  let count = 0;
  globalThis.fail = () => void (count = at);
  globalThis.heal = () => void (count = Infinity);
  IDBDatabase.prototype.transaction = function transaction(...rest) {
    count += 1;
    if (once ? count === at : count >= at && count < Infinity) {
      throw new DOMException("the connection is lost", name);
    }
    return begin.apply(this, rest);
  };
}

/** The connection to the database fails at one call, or from one call on. */
export async function b11(cycle) {
  const { random } = cycle;
  const once = random.chance(1, 2);
  const name = random.pick(["InvalidStateError", "UnknownError"]);
  const profile = await cycle.profile().start();
  const seed = await openTab(profile, cycle);
  await seed.found();
  await seed.close();
  cycle.log(`${name} ${once ? "once" : "for ever"}`);
  const argument = { at: random.between(1, once ? 60 : 30), name, once };
  const tab = await Tab.open(profile.context, cycle, { shim: losesConnection, argument });
  let code = await tab.tryDatabase();
  if (code === "done") {
    if (!once) await tab.run(() => fail());
    // A connection that is lost for ever is tried for half a minute before a write is given up.
    const failed = await tab.tryWrite("fails", once ? 20 : 2);
    const { problem } = (await tab.status()).storage;
    if (!once && name === "UnknownError") cycle.same("the problem", problem, "unreadable");
    if (!once) cycle.same("writes without a database", failed.length, 2);
    const unknown = failed.filter((code) => code !== "storage" && code !== "unknown");
    cycle.same("why writes fail", unknown, []);
    await tab.run(() => heal());
  } else {
    cycle.same("why it does not open", code, "storage");
    await tab.run(() => heal());
    code = await tab.tryDatabase();
    cycle.same("opened again", code, "done");
  }
  // In the same page, with nobody's help.
  await tab.write("healed", 5);
  cycle.same("the problem later", (await tab.status()).storage.problem, undefined);
  await cycle.settle(tab);
}

/** Bits flip in one of the browser's own files, in one place or in many. */
export async function b12(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  let tab = await openTab(profile, cycle);
  await tab.found();
  // Much, so that LevelDB has made tables of some of it.
  for (let lane = random.between(1, 3); lane > 0; lane -= 1) {
    await tab.write(`known${lane}`, 20, random.pick([0, 20_000]));
  }
  await tab.synced();
  if (random.chance(1, 2)) {
    cycle.line.cut();
    await tab.write("unsent", 10);
  }
  await profile.close();
  const { unsent } = cycle.ledger;
  cycle.ledger.forgive();
  const files = profile.files().filter(({ name }) => !/^LO[CG]/u.test(name));
  const { path, name } = random.pick(files);
  const bytes = readFileSync(path);
  for (let flips = random.pick([1, 1, 8, 200]); flips > 0 && bytes.length > 0; flips -= 1) {
    bytes[random.between(0, bytes.length - 1)] ^= 1 << random.between(0, 7);
  }
  writeFileSync(path, bytes);
  cycle.log(`${name}, ${statSync(path).size} bytes`);
  await profile.start();
  tab = await Tab.open(profile.context, cycle);
  const code = await tab.tryDatabase();
  cycle.log(`opened: ${code}`);
  if (code === "done") {
    await tab.tells(unsent);
  } else {
    cycle.same("why it does not open", code, "storage");
    // What an app offers its user then: to start afresh.
    const { name } = cycle;
    const destroyed = await tab.run((name) => globalThis.code(() => rejoin.destroy(name)), name);
    cycle.log(`destroyed: ${destroyed}`);
    if (destroyed !== "done") await clear(tab, cycle);
    await tab.database();
  }
  cycle.line.mend();
  await tab.synced();
  await tab.write("later", 5);
  await cycle.settle(tab);
}

/** What is left when the browser can neither read nor delete: its user clears the site's data. */
async function clear(tab, { origin }) {
  await tab.page.goto("about:blank");
  const session = await tab.page.context().newCDPSession(tab.page);
  await session.send("Storage.clearDataForOrigin", { origin, storageTypes: "all" });
  await tab.load();
}

/** A private window, and a browser without a store: all is there while the page is, and goes to the server. */
export async function b13(cycle) {
  const profile = await cycle.profile().start();
  const context = await profile.privateContext();
  const hidden = await (await Tab.open(context, cycle)).database();
  await hidden.found();
  await hidden.write("private", 5);
  const shim = () => Object.defineProperty(globalThis, "indexedDB", { value: undefined });
  const bare = await Tab.open(profile.context, cycle, { shim });
  await bare.database();
  await bare.synced();
  cycle.same("the store", (await bare.status()).storage.mode, "memory");
  await bare.write("volatile", 5);
  await cycle.settle(hidden, bare);
}
