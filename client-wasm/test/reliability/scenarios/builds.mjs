// B06, B16, B21: two builds of the app at once, of which one knows a later form of the database.

import { Tab } from "../page.mjs";
import { pause, until, within } from "../time.mjs";

/** Tells the old tab within this time that it is in the way. */
const UPGRADE_MS = 3_000;
/** By when that has happened at all: a database that nobody lets go of is waited for without end. */
const NEVER_MS = 10_000;

/** Where the later build is: one whose stores have the next version. */
const LATER = "/later";

/** Runs in a page: the later build lays the database out anew; how long that takes. */
function upgrade(name) {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(`rejoin/${name}`, 2);
    request.onupgradeneeded = () => request.result.createObjectStore("later").put("kept", "row");
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      request.result.close();
      resolve(performance.now() - started);
    };
  });
}

/** Runs in a page: what of the later build's own is in the database. */
function rowOfLater(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(`rejoin/${name}`);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const { result } = request;
      if (!result.objectStoreNames.contains("later")) {
        reject(new Error("the row of the later build is gone"));
        return;
      }
      const row = result.transaction("later").objectStore("later").get("row");
      row.onerror = () => reject(row.error);
      row.onsuccess = () => {
        result.close();
        resolve(row.result);
      };
    };
  });
}

/** The old build cannot have the database, and leaves it as it is. */
async function isRefused(cycle, old, later) {
  await old.load();
  cycle.same("the old build, loaded again", await old.tryDatabase(), "reload_needed");
  cycle.same("the row of the later build", await later.run(rowOfLater, cycle.name), "kept");
}

/** A tab of the old build writes while the later build takes the database. */
export async function b06(cycle) {
  const { random, name } = cycle;
  const profile = await cycle.profile().start();
  const old = await (await Tab.open(profile.context, cycle)).database();
  await old.found();
  if (random.chance(1, 2)) cycle.line.cut();
  await old.keepWriting("old", random.pick([0, 20_000]));
  await pause(random.between(20, 500));
  const later = await Tab.open(profile.context, cycle, { base: LATER });
  const upgraded = later.run(upgrade, name);
  const took = await within(NEVER_MS, "the later build has the database", upgraded);
  if (took > UPGRADE_MS) cycle.fault("wrong", `the later build waited for ${took} ms`);
  await old.until("told", '(status) => status.storage.problem === "reload_needed"');
  await old.stop();
  cycle.same("writes of the old tab", await old.tryWrite("late", 2), ["storage", "storage"]);
  const shown = new Set((await old.seen()).marks.map(([id]) => id));
  const hidden = [...cycle.ledger.promised].filter((id) => !shown.has(id));
  cycle.same("promised writes that the old tab does not show", hidden, []);
  await isRefused(cycle, old, later);
  cycle.line.mend();
  await later.database();
  await later.write("later", 5);
  await cycle.settle(later);
}

/** The page comes from a service worker that holds the old build; the later one has taken the database. */
export async function b16(cycle) {
  const { name } = cycle;
  const profile = await cycle.profile().start();
  const old = await Tab.open(profile.context, cycle);
  await old.run(async () => {
    await navigator.serviceWorker.register("/test/reliability/worker.js", { scope: "/" });
    await navigator.serviceWorker.ready;
  });
  // Once through the worker, and again without any server.
  await old.load();
  await old.database();
  await old.found();
  cycle.line.cut();
  await old.write("offline", 5);
  await old.load();
  const kept = await old.page.reload();
  cycle.same("the page comes from the worker", kept.fromServiceWorker(), true);
  await old.load();
  await old.database();
  await old.write("again", 5);
  const later = await Tab.open(profile.context, cycle, { base: LATER });
  await later.run(upgrade, name);
  for (let reload = 0; reload < 2; reload += 1) await isRefused(cycle, old, later);
  cycle.line.mend();
  await later.database();
  await cycle.settle(later);
}

/** Other builds talk on the same channel, in forms that nobody knows. */
export async function b21(cycle) {
  const { random, name } = cycle;
  const profile = await cycle.profile().start();
  const tabs = [];
  while (tabs.length < 2) tabs.push(await (await Tab.open(profile.context, cycle)).database());
  await tabs[0].found();
  const stranger = await Tab.open(profile.context, cycle);
  const kinds = ["hello", "grew", "ask", "adopt", "status", "holding", "stop", ""];
  const versions = [0, 1, 2, "1", null, -1, 1.5];
  const bodies = [null, {}, [], "text", 1e9, { state: 7 }, { state: "live", pending: "many" }];
  const words = Array.from({ length: 200 }, () => ({
    ...{ v: random.pick(versions), kind: random.pick(kinds) },
    ...{ sync: random.pick(bodies), discard: random.pick(bodies), visible: random.pick(bodies) },
  }));
  const strange = [...words, null, 7, "hello", [], new Uint8Array(9)];
  for (const [at, tab] of tabs.entries()) await tab.keepWriting(`${at}`);
  await stranger.run(
    ({ name, strange }) => {
      const channel = new BroadcastChannel(`rejoin/${name}`);
      for (const word of strange) channel.postMessage(word);
    },
    { name, strange },
  );
  await pause(500);
  for (const tab of tabs) await tab.stop();
  await until(10_000, "one tab leads", async () => {
    const leads = await Promise.all(tabs.map((tab) => tab.leads()));
    return leads.filter(Boolean).length === 1;
  });
  await cycle.settle(...tabs);
}
