// What failed in the projects before this one and only a browser can show: see docs/ACCEPTANCE.md.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { launch } from "./world.mjs";

const LIMITS = { timeout: 120_000 };
const WITH_SERVER = { ...LIMITS, skip: serverProgram() === undefined && "no rejoin-server" };

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

/** A page with the package, and what went wrong in it without being caught. */
async function packagePage(context) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await browserContext.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (message) => {
    if (/panicked|unreachable/u.test(message.text())) faults.push(message.text());
  });
  await page.goto(world.origin);
  await page.evaluate(async () => {
    globalThis.rejoin = await import("/dist/index.js");
    const { counter, defineSchema, text } = rejoin;
    globalThis.schema = defineSchema({ tasks: { title: text(), votes: counter() } });
    // Every call of the interface, by name; each gives a promise or throws.
    globalThis.calls = (db) => ({
      add: () => db.tasks.add({ title: "added" }),
      put: () => db.tasks.put("put", { title: "put" }),
      update: () => db.tasks.update("kept", { votes: rejoin.increment(1) }),
      remove: () => db.tasks.remove("gone"),
      batch: () => db.batch((batch) => batch.tasks.put("batch", { title: "batched" })),
      get: () => db.tasks.get("kept"),
      all: () => db.tasks.all(),
      first: () => db.tasks.where({ title: "kept" }).first(),
      count: () => db.tasks.count(),
      live: () => db.tasks.live().ready,
      roots: () => db.roots(),
      retry: () => db.rejected.retry(1),
      discard: () => db.rejected.discard(1),
      pause: () => db.network.pause(),
      resume: () => db.network.resume(),
      token: () => db.setToken("any"),
    });
    globalThis.outcomes = async (calls) => {
      const outcome = async (call) => {
        try {
          await call();
          return "done";
        } catch (error) {
          return error instanceof rejoin.SyncError ? error.code : `untyped: ${error}`;
        }
      };
      // All at once: none waits for the one before it.
      const entries = Object.entries(calls).map(async ([name, call]) => [
        name,
        await outcome(call),
      ]);
      return Object.fromEntries(await Promise.all(entries));
    };
  });
  return { page, faults };
}

/** Somebody who takes connections and never says a word: a socket that stays closed as long as it can. */
async function silence(context) {
  const sockets = new Set();
  const server = createServer((socket) => sockets.add(socket)).listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}/sync`, sockets };
}

test(
  "calls_before_the_socket_is_open_during_close_and_after_it_never_panic",
  LIMITS,
  async (context) => {
    const { url, sockets } = await silence(context);
    const { page, faults } = await packagePage(context);
    const { before, during, after, left, states } = await page.evaluate(async (url) => {
      const options = { name: "calls", schema, sync: { url, space: "test" } };
      const db = await rejoin.open(options);
      const states = [db.status.state];
      await db.tasks.put("kept", { title: "kept" });
      const before = await outcomes(calls(db));
      states.push(db.status.state);
      const waiting = outcomes({ synced: () => db.synced() });
      const closing = db.close();
      const during = { ...(await outcomes({ ...calls(db), close: () => db.close() })) };
      await closing;
      const after = { ...(await outcomes({ ...calls(db), close: () => db.close() })) };
      Object.assign(during, await waiting);
      Object.assign(after, await outcomes({ synced: () => db.synced() }));
      const again = await rejoin.open(options);
      const left = (await again.tasks.all()).map(({ title }) => title).toSorted();
      await again.close();
      return { before, during, after, left, states };
    }, url);
    assert.ok(sockets.size > 0, "a connection was under way");
    assert.ok(!states.includes("live"), `${states}`);
    // There is no rejected write to retry; all else does what it says without a server.
    const { retry, discard, ...others } = before;
    assert.deepEqual([retry, discard], ["absent", "absent"]);
    assert.deepEqual(new Set(Object.values(others)), new Set(["done"]));
    for (const { close, ...rest } of [during, after]) {
      assert.equal(close, "done", "closing twice is no error");
      assert.deepEqual(new Set(Object.values(rest)), new Set(["closed"]), JSON.stringify(rest));
    }
    assert.deepEqual(left, ["added", "batched", "kept", "put"]);
    assert.deepEqual(faults, []);
  },
);

/** Whether a file of the server's data holds the text. */
const stored = (server, text) =>
  readdirSync(server.data, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .some((entry) => readFileSync(join(entry.parentPath, entry.name)).includes(text));

test("foreign_data_of_the_origin_is_neither_touched_nor_synced", WITH_SERVER, async (context) => {
  const server = await Server.start(context, world.origin);
  const { page, faults } = await packagePage(context);
  const result = await page.evaluate(async (url) => {
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    // By the app's own name, by the package's, and with stores and records that look like ours.
    const names = ["log", "rejoin", "rejoin-log", "keyval-store"];
    const stores = ["records", "feed", "log", "page", "meta", "tasks"];
    for (const name of names) {
      const request = indexedDB.open(name, 3);
      request.onupgradeneeded = () => {
        for (const store of stores) {
          const foreign = { collection: "tasks", id: "1", title: "a foreign secret" };
          request.result.createObjectStore(store).put(foreign, "tasks/1");
        }
      };
      (await done(request)).close();
    }
    localStorage.setItem("tasks", "a foreign secret");
    const content = async () => {
      const found = {};
      for (const name of names) {
        const db = await done(indexedDB.open(name));
        for (const store of db.objectStoreNames) {
          const rows = db.transaction(store).objectStore(store);
          found[`${name} ${db.version} ${store}`] = JSON.stringify(await done(rows.getAll()));
        }
        db.close();
      }
      return { ...found, local: localStorage.getItem("tasks"), count: localStorage.length };
    };
    const before = await content();
    const db = await rejoin.open({ name: "log", schema, sync: { url, space: "test" } });
    await db.tasks.add({ title: "one of our own" });
    await db.synced();
    const synced = await content();
    await db.destroy();
    return { before, synced, destroyed: await content() };
  }, server.url);
  assert.equal(Object.keys(result.before).length, 4 * 6 + 2);
  assert.deepEqual(result.synced, result.before);
  assert.deepEqual(result.destroyed, result.before);
  const other = await packagePage(context);
  const titles = await other.page.evaluate(async (url) => {
    const db = await rejoin.open({ name: "other", schema, sync: { url, space: "test" } });
    await db.synced();
    return (await db.tasks.all()).map(({ title }) => title);
  }, server.url);
  assert.deepEqual(titles, ["one of our own"]);
  assert.ok(stored(server, "one of our own"), "what was synced can be found on the server");
  assert.ok(!stored(server, "a foreign secret"), "what is not ours can not");
  assert.deepEqual([...faults, ...other.faults], []);
});
