// Before the first write on a connection the client has Chromium begin a new log, by creating and deleting a
// database of another name (src/store/idb/log.rs).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, newPage } from "./world.mjs";

const LIMITS = { timeout: 60_000 };
/** As often as it is tried, as long as each try is waited for, and some time to write. */
const PATIENCE_MS = 2 * 2_000 + 1_500;
/** The app was told once that a crash may take writes along, and can still read it. */
const RISK = { told: [true], now: true };
const NO_RISK = { told: [], now: false };

let world;
before(async () => (world = await launch()), LIMITS);
after(() => world.close(), LIMITS);

/** Pages of one profile. */
async function pages(context, count) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  return Promise.all(Array.from({ length: count }, () => watchedPage(browserContext)));
}

async function watchedPage(browserContext) {
  const page = await newPage(browserContext, world.origin);
  await page.evaluate(() => {
    globalThis.isLog = (name) => name.startsWith("rejoin-log/");
    /** How many logs this page has begun. */
    globalThis.logs = 0;
    const { deleteDatabase } = IDBFactory.prototype;
    IDBFactory.prototype.deleteDatabase = function (name) {
      const request = deleteDatabase.call(this, name);
      if (isLog(name)) request.addEventListener("success", () => (logs += 1));
      return request;
    };
    /** What the app was told of its risk, and what it reads now. */
    globalThis.risks = () => {
      const all = events.filter(({ type }) => type === "storage").map(({ storage }) => storage);
      const told = all.map(({ atRisk }) => atRisk);
      const changes = told.filter((risk, at) => risk !== (told[at - 1] ?? false));
      return { told: changes, now: engine.status().storage.atRisk };
    };
    /** The databases that are there for logs alone. */
    globalThis.leftOver = async () =>
      (await indexedDB.databases()).map(({ name }) => name).filter(isLog);
    /** The next transaction meets a connection that has ended without a word. */
    globalThis.loseConnection = () => {
      const { transaction } = IDBDatabase.prototype;
      IDBDatabase.prototype.transaction = function (...rest) {
        IDBDatabase.prototype.transaction = transaction;
        this.close();
        return transaction.apply(this, rest);
      };
    };
    globalThis.timed = async (work) => {
      const started = performance.now();
      await work();
      return performance.now() - started;
    };
    /** How this page's calls for logs, and for nothing else, end: `answer` instead of what the browser says. */
    globalThis.instead = (method, answer) => {
      const { [method]: real } = IDBFactory.prototype;
      IDBFactory.prototype[method] = function (name, ...rest) {
        return isLog(name) ? answer() : real.call(this, name, ...rest);
      };
      return () => void (IDBFactory.prototype[method] = real);
    };
  });
  return page;
}

test("a_log_is_begun_once_for_a_connection_and_leaves_nothing_behind", LIMITS, async (context) => {
  const [page] = await pages(context, 1);
  const seen = await page.evaluate(async () => {
    await openEngine("plain");
    await add("1", "a");
    await add("2", "b");
    return { logs, risks: risks(), left: await leftOver() };
  });
  assert.deepEqual(seen, { logs: 1, risks: NO_RISK, left: [] });
});

test("a_connection_that_is_opened_anew_gets_a_log_of_its_own", LIMITS, async (context) => {
  const [page] = await pages(context, 1);
  const seen = await page.evaluate(async () => {
    await openEngine("anew");
    await add("1", "a");
    loseConnection();
    await add("2", "b");
    return { logs, risks: risks(), rows: (await all()).length };
  });
  assert.deepEqual(seen, { logs: 2, risks: NO_RISK, rows: 2 });
});

test(
  "a_connection_that_ends_before_it_has_its_log_counts_for_no_other",
  LIMITS,
  async (context) => {
    const [page] = await pages(context, 1);
    const seen = await page.evaluate(async () => {
      await openEngine("before");
      await add("1", "a");
      await engine.close();
      // The next connection's log is asked for, and no answer comes until the connection is lost.
      let first;
      const { open } = IDBFactory.prototype;
      IDBFactory.prototype.open = function (name, ...rest) {
        const request = open.call(this, name, ...rest);
        if (!isLog(name)) request.addEventListener("success", () => (first ??= request.result));
        return request;
      };
      const answers = instead("deleteDatabase", () => ({}));
      logs = 0;
      await openEngine("before");
      const added = add("2", "b");
      await until(async () => (await leftOver()).length === 1);
      first.close();
      first.dispatchEvent(new Event("close"));
      answers();
      await added;
      return { logs, risks: risks(), rows: (await all()).length };
    });
    // The other is the second try for the connection that was lost, which is no harm.
    assert.deepEqual(seen, { logs: 2, risks: NO_RISK, rows: 2 });
  },
);

test("what_a_page_that_ended_has_left_behind_is_removed", LIMITS, async (context) => {
  const [ended, page] = await pages(context, 2);
  await ended.evaluate(async () => {
    instead("deleteDatabase", () => ({}));
    await openEngine("left");
    await until(async () => (await leftOver()).length === 1);
  });
  await ended.close();
  const seen = await page.evaluate(async () => {
    const before = await leftOver();
    await openEngine("left");
    await add("1", "a");
    return { before, logs, risks: risks(), after: await leftOver() };
  });
  assert.deepEqual(seen, {
    before: ["rejoin-log/rejoin/left"],
    logs: 1,
    risks: NO_RISK,
    after: [],
  });
});

test("tabs_that_begin_logs_at_once_all_get_theirs", LIMITS, async (context) => {
  const tabs = await pages(context, 3);
  for (const name of ["one", "two", "three", "four", "five"]) {
    const write = (tab, at) =>
      tab.evaluate(
        async ({ name, at }) => {
          logs = 0;
          await openEngine(name);
          await add(`${at}`, "a");
          const seen = { logs, risks: risks() };
          await engine.close();
          return seen;
        },
        { name, at },
      );
    const seen = await Promise.all(tabs.map(write));
    assert.deepEqual(seen, Array(tabs.length).fill({ logs: 1, risks: NO_RISK }), name);
  }
  assert.deepEqual(await tabs[0].evaluate(() => leftOver()), []);
});

test(
  "a_log_that_another_tab_is_in_the_way_of_holds_no_write_up_for_long",
  LIMITS,
  async (context) => {
    const [page, other] = await pages(context, 2);
    await other.evaluate(async () => {
      // As a tab that stands still between the two: it holds on, whatever it is asked.
      globalThis.held = await new Promise((resolve) => {
        const request = indexedDB.open("rejoin-log/rejoin/blocked");
        request.onsuccess = () => resolve(request.result);
      });
    });
    const blocked = await page.evaluate(async () => {
      await openEngine("blocked");
      const first = await timed(() => add("1", "a"));
      const second = await timed(() => add("2", "b"));
      return { first, second, logs, risks: risks(), rows: (await all()).length };
    });
    assert.deepEqual([blocked.logs, blocked.risks, blocked.rows], [0, RISK, 2]);
    assert.ok(blocked.first < PATIENCE_MS, `the first write took ${blocked.first} ms`);
    assert.ok(blocked.second < 1_000, `the second write took ${blocked.second} ms`);
    await other.evaluate(() => held.close());
    // What was asked for is done to the end, though nobody waits for it.
    await page.evaluate(() => until(async () => (await leftOver()).length === 0));
  },
);

test("a_write_that_waits_for_its_log_finds_its_store_closed", LIMITS, async (context) => {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await newPage(browserContext, world.origin, "test-build");
  const told = await page.evaluate(() => bindings.commit_into_a_close("closed"));
  assert.equal(told, "InvalidStateError");
});

for (const [how, method, answer] of [
  ["is_refused", "deleteDatabase", "throw new DOMException('not now', 'UnknownError')"],
  ["is_never_opened", "open", "return {}"],
]) {
  test(`a_log_that_${how}_is_told_and_writes_go_on`, LIMITS, async (context) => {
    const [page] = await pages(context, 1);
    const seen = await page.evaluate(
      async ({ method, answer }) => {
        const asAlways = instead(method, new Function(answer));
        await openEngine("without");
        await add("1", "a");
        await add("2", "b");
        const without = risks();
        asAlways();
        loseConnection();
        await add("3", "c");
        return { without, later: risks(), rows: (await all()).length };
      },
      { method, answer },
    );
    assert.deepEqual(seen, { without: RISK, later: { told: [true, false], now: false }, rows: 3 });
  });
}
