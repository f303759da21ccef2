import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inBoth, launch, load, newPage } from "./world.mjs";

const LIMITS = { timeout: 120_000 };

let world;
before(async () => (world = await launch()), LIMITS);
after(() => world.close(), LIMITS);

/** Pages of one profile, each with the database open. */
async function tabs(context, count, name, worker) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const pages = [];
  for (let index = 0; index < count; index += 1) {
    const page = await newPage(browserContext, world.origin, undefined, worker);
    await page.evaluate((name) => openEngine(name), name);
    pages.push(page);
  }
  return pages;
}

const leads = (page) => page.evaluate(() => engine.status().leader);
const untilLeads = (page, limit) =>
  page.evaluate((limit) => until(() => engine.status().leader, limit), limit);

inBoth("two_tabs_write_at_once_and_both_see_everything", LIMITS, async (context, worker) => {
  const pages = await tabs(context, 2, "both", worker);
  const write = (page, tab) =>
    page.evaluate(async (tab) => {
      const writer = async (lane) => {
        for (let index = 0; index < 200; index += 1) await add(`${tab}-${lane}-${index}`, "a");
      };
      await Promise.all([writer(0), writer(1)]);
    }, tab);
  await Promise.all(pages.map(write));
  for (const page of pages) {
    await page.evaluate(() => until(async () => (await all()).length === 800));
    const ids = await page.evaluate(async () => (await all()).map(([id]) => id));
    assert.equal(new Set(ids).size, 800);
    assert.equal(await page.evaluate(() => engine.status().pending), 800);
  }
  await load(pages[0], world.origin, undefined, worker);
  const left = await pages[0].evaluate(async () => {
    await openEngine("both");
    return (await all()).length;
  });
  assert.equal(left, 800);
});

inBoth(
  "one_tab_leads_and_another_takes_over_at_once_when_it_closes",
  LIMITS,
  async (context, worker) => {
    const [first, second] = await tabs(context, 2, "closing", worker);
    await untilLeads(first);
    assert.equal(await leads(second), false);
    const took = second.evaluate(() => until(() => engine.status().leader));
    await first.close();
    assert.ok((await took) < 1_000 + 500, `${await took} ms`);
  },
);

inBoth("a_crashed_leader_is_replaced_within_a_second", LIMITS, async (context, worker) => {
  const [first, second] = await tabs(context, 2, "crashing", worker);
  await untilLeads(first);
  await first.evaluate(() => add("1", "before the crash"));
  const crashed = new Promise((resolve) => first.once("crash", resolve));
  const took = crashed.then(() => second.evaluate(() => until(() => engine.status().leader)));
  const session = await first.context().newCDPSession(first);
  session.send("Page.crash").catch(() => undefined);
  assert.ok((await took) < 1_000, `${await took} ms`);
  assert.equal((await second.evaluate(all_)).length, 1);
});

inBoth("a_changed_record_is_told_in_the_other_tab", LIMITS, async (context, worker) => {
  const [first, second] = await tabs(context, 2, "told", worker);
  await second.evaluate(() => engine.watch("tasks", true));
  await first.evaluate(() => add("1", "from the first"));
  const took = await second.evaluate(() =>
    until(() => events.some(({ type, changes }) => type === "changed" && changes[0].row !== null)),
  );
  assert.ok(took < 1_000, `${took} ms`);
});

test("b21_words_that_fit_nothing_are_passed_over", LIMITS, async (context) => {
  const [first, second] = await tabs(context, 2, "strange");
  const faults = [];
  for (const page of [first, second]) page.on("pageerror", (error) => faults.push(error));
  await untilLeads(first);
  for (const page of [first, second]) await page.evaluate(() => engine.attend());
  await second.evaluate(async () => {
    const channel = new BroadcastChannel("rejoin/strange");
    const known = ["hello", "grew", "adopt", "status", "holding", "who", "present", "others"];
    const strange = { sync: { state: 7 }, discard: 1, tab: 1, value: 2n ** 80n, told: null };
    for (const v of [0, 1, 2, "1", undefined]) {
      for (const kind of [...known, "of another build"])
        channel.postMessage({ v, kind, ...strange });
    }
    for (const word of [null, 7, "hello", [], new Uint8Array(9)]) channel.postMessage(word);
    await add("1", "after all of them");
  });
  await first.evaluate(() => until(async () => (await all()).length === 1));
  assert.equal(await leads(first), true);
  assert.deepEqual(faults, []);
  const shown = await first.evaluate(() => events.flatMap(({ here = [] }) => here));
  assert.deepEqual(shown, []);
});

inBoth("a_hidden_leader_hands_over_to_a_visible_tab", LIMITS, async (context, worker) => {
  const [first, second] = await tabs(context, 2, "hidden", worker);
  await untilLeads(first);
  await first.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await untilLeads(second, 1_000);
  await first.evaluate(() => until(() => !engine.status().leader));
});

inBoth(
  "a_stolen_lock_makes_a_leader_follow_and_lead_again_later",
  LIMITS,
  async (context, worker) => {
    const [first] = await tabs(context, 1, "stolen", worker);
    await untilLeads(first);
    await first.evaluate(async () => {
      const lock = "rejoin/stolen/leader";
      await new Promise((resolve) => {
        navigator.locks.request(lock, { steal: true }, async () => {
          resolve();
          await new Promise((release) => (globalThis.release = release));
        });
      });
      await until(() => !engine.status().leader);
      await add("1", "as a follower");
      release();
    });
    await untilLeads(first);
  },
);

inBoth(
  "a_tab_whose_database_was_deleted_leaves_the_lead_to_others",
  LIMITS,
  async (context, worker) => {
    const [first, second] = await tabs(context, 2, "deleted", worker);
    await untilLeads(first);
    await second.evaluate(async () => {
      await engine.close();
      await bindings.Engine.destroy("deleted");
      await openEngine("deleted");
    });
    await untilLeads(second);
    await second.evaluate(() => add("1", "in the new database"));
    assert.equal(await leads(first), false);
  },
);

test("a_tab_whose_database_was_upgraded_leaves_the_lead_to_others", LIMITS, async (context) => {
  const [first] = await tabs(context, 1, "upgraded");
  await untilLeads(first);
  const left = await first.evaluate(async () => {
    await new Promise((resolve, reject) => {
      const request = indexedDB.open("rejoin/upgraded", 2);
      request.onsuccess = () => resolve(request.result.close());
      request.onerror = () => reject(request.error);
    });
    await until(async () => (await navigator.locks.query()).held.length === 0);
    const { leader, storage } = engine.status();
    return { leader, problem: storage.problem, write: await failure(() => add("1", "a")) };
  });
  assert.deepEqual(left, { leader: false, problem: "reload_needed", write: "storage" });
});

test("a_tab_that_cannot_claim_the_lead_asks_again_after_a_pause", LIMITS, async (context) => {
  const [page] = await tabs(context, 1, "full");
  const results = await page.evaluate(async () => {
    await add("1", "a");
    await engine.close();
    const { transaction } = IDBDatabase.prototype;
    const refused = [];
    IDBDatabase.prototype.transaction = function (stores, mode, ...more) {
      if (mode !== "readwrite") return transaction.call(this, stores, mode, ...more);
      refused.push(performance.now());
      throw new DOMException("", "QuotaExceededError");
    };
    await openEngine("full");
    await until(() => refused.length >= 3);
    const gaps = refused.slice(1).map((at, index) => at - refused[index]);
    IDBDatabase.prototype.transaction = transaction;
    await until(() => engine.status().leader, 40_000);
    return { least: Math.min(...gaps), rows: (await all()).length };
  });
  assert.equal(results.rows, 1);
  // A second at least; browsers round the time.
  assert.ok(results.least >= 900, `${results.least} ms`);
});

test(
  "a_frozen_leader_is_replaced_and_writes_nothing_as_one_when_it_wakes",
  LIMITS,
  async (context) => {
    const [first, second] = await tabs(context, 2, "frozen");
    await untilLeads(first);
    const token = () =>
      second.evaluate(async () => {
        const done = (request) =>
          new Promise((resolve, reject) => {
            request.onsuccess = () => resolve(request.result);
            request.onerror = () => reject(request.error);
          });
        const database = await done(indexedDB.open("rejoin/frozen"));
        const leader = new TextEncoder().encode("leader");
        const found = await done(database.transaction("meta").objectStore("meta").get(leader));
        database.close();
        return String(found);
      });
    // Stopped where it is, with its lock, until the debugger lets it go on.
    const session = await first.context().newCDPSession(first);
    await session.send("Debugger.enable");
    const paused = new Promise((resolve) => session.once("Debugger.paused", resolve));
    await session.send("Debugger.pause");
    const waking = first.evaluate(() => add("1", "written when it woke"));
    await paused;
    await untilLeads(second, 60_000);
    await second.evaluate(() => add("2", "by the new leader"));
    const claimed = await token();
    await session.send("Debugger.disable");
    await waking;
    await first.evaluate(() => until(() => !engine.status().leader));
    for (const page of [first, second]) {
      await page.evaluate(() => until(async () => (await all()).length === 2));
    }
    assert.equal(await token(), claimed);
    assert.equal(await leads(second), true);
  },
);

inBoth("destroy_closes_the_database_in_other_tabs", LIMITS, async (context, worker) => {
  const [first, second] = await tabs(context, 2, "destroyed", worker);
  const results = await second.evaluate(async () => {
    await engine.close();
    await bindings.Engine.destroy("destroyed");
    return (await indexedDB.databases()).length;
  });
  assert.equal(results, 0);
  const after = await first.evaluate(async () => [
    await failure(() => add("1", "a")),
    engine.status().storage.problem,
    (await indexedDB.databases()).length,
  ]);
  assert.deepEqual(after, ["storage", "evicted", 0]);
});

const all_ = () => all();
