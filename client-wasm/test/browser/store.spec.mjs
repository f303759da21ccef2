import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inBoth, inWorker, launch, load, newPage } from "./world.mjs";

const LIMITS = { timeout: 60_000 };
const TEST_BUILD = "test-build";

let world;
before(async () => (world = await launch()), LIMITS);
after(() => world.close(), LIMITS);

async function onePage(context, build, worker) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  return newPage(browserContext, world.origin, build, worker);
}

inBoth("a_local_write_is_there_after_a_reload", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const receipt = await page.evaluate(async () => {
    await openEngine("reload");
    return add("1", "Hello World", [
      ["votes", "counter", "increment", 3],
      ["tags", "set", "set", ["b", "a"]],
      ["note", "review", "resolve", { big: 2n ** 60n, bytes: new Uint8Array([1, 2]), none: null }],
    ]);
  });
  assert.deepEqual([receipt.row, receipt.durability], [1, "flushed"]);
  assert.deepEqual(receipt.rows[0].values.slice(0, 3), ["Hello World", 3, ["a", "b"]]);
  await load(page, world.origin, undefined, worker);
  const [row] = await page.evaluate(async () => {
    await openEngine("reload");
    const rows = await all();
    const { value } = rows[0][4][0];
    return [[...rows[0].slice(0, 4), String(value.big), [...value.bytes], value.none]];
  });
  assert.deepEqual(row, ["1", "Hello World", 3, ["a", "b"], String(2n ** 60n), [1, 2], null]);
});

inBoth(
  "a_write_is_changed_and_told_before_its_promise_resolves",
  LIMITS,
  async (context, worker) => {
    const page = await onePage(context, undefined, worker);
    const told = await page.evaluate(async () => {
      await openEngine("order");
      engine.watch("tasks", true);
      await add("1", "a");
      const changed = events.find(({ type }) => type === "changed");
      const status = events.findLast(({ type }) => type === "status");
      return [changed.changes, status.status.pending];
    });
    assert.deepEqual(told, [
      [
        {
          collection: "tasks",
          id: "1",
          row: { id: "1", values: ["a", undefined, undefined, undefined] },
        },
      ],
      1,
    ]);
  },
);

inBoth("operations_do_what_the_interface_says", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const results = await page.evaluate(async () => {
    await openEngine("operations");
    const write = (op, id, fields = []) =>
      engine.write([{ op, collection: "tasks", id, erase: false, fields }], {
        ...{ relaxed: false, echo: true },
      });
    await add("1", "a", [["tags", "set", "add", ["x", "y"]]]);
    const set = await write("update", "1", [["tags", "set", "set", ["y", "z"]]]);
    const removals = [write("remove", "2"), write("remove", "1"), write("remove", "1")];
    const removed = await Promise.all(removals);
    // Behind one another, without waiting: the second sees the first.
    const [, after] = await Promise.all([write("put", "3"), write("remove", "3")]);
    return {
      exists: await failure(() => add("4", "a").then(() => add("4", "b"))),
      absent: await failure(() => write("update", "5", [["title", "lww", "set", "b"]])),
      kind: await failure(() => write("update", "4", [["votes", "counter", "set", 1]])),
      surrogate: await failure(() => add("6", "\ud800")),
      undefined: await failure(() => add("6", undefined)),
      date: await failure(() => add("6", new Date())),
      big: await failure(() => add("6", 2n ** 63n)),
      large: await failure(() => add("6", "x".repeat(300_000))),
      tags: set.rows[0].values[2],
      removed: removed.map(({ row, rows }) => [row > 0, rows]),
      after: after.rows,
      left: (await all()).map(([id]) => id),
    };
  });
  assert.deepEqual(results, {
    ...{ exists: "exists", absent: "absent", kind: "invalid", surrogate: "invalid" },
    ...{ undefined: "invalid", date: "invalid", big: "invalid", large: "too_large" },
    tags: ["y", "z"],
    removed: [
      [false, [null]],
      [true, [null]],
      [false, [null]],
    ],
    after: [null],
    left: ["4"],
  });
});

inBoth("rows_of_megabytes_are_read_and_told_whole", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const seen = await page.evaluate(async () => {
    await openEngine("megabytes");
    engine.watch("tasks", true);
    // Six times as long in JSON; with what JSON cannot say in rows of every part of it.
    const title = (at) => `${at}\n\t\r"\\${"\u0001".repeat(60_000)}`;
    const large = (at) => [["votes", "counter", "increment", 2n ** 60n + BigInt(at)]];
    const ops = Array.from({ length: 12 }, (_, at) => {
      const fields = [["title", "lww", "set", title(at)], ...(at % 2 === 0 ? large(at) : [])];
      return { op: "add", collection: "tasks", id: `${10 + at}`, erase: false, fields };
    });
    await engine.write(ops, { relaxed: false, echo: false });
    const told = events.findLast(({ type }) => type === "changed").changes;
    const { rows } = await engine.scan("tasks", null, 100);
    const fits = ({ id, values }, at) =>
      id === `${10 + at}` &&
      values[0] === title(at) &&
      values[1] === (at % 2 === 0 ? 2n ** 60n + BigInt(at) : undefined);
    return [rows.length, rows.every(fits), told.length, told.map(({ row }) => row).every(fits)];
  });
  assert.deepEqual(seen, [12, true, 12, true]);
});

inBoth("a_page_is_full_though_records_before_it_are_dead", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const seen = await page.evaluate(async () => {
    await openEngine("dead");
    const ids = (from, upto) => Array.from({ length: upto - from }, (_, at) => `${from + at}`);
    const write = (op, ids) => {
      const fields = op === "add" ? [["title", "lww", "set", "a"]] : [];
      const ops = ids.map((id) => ({ op, collection: "tasks", id, erase: false, fields }));
      return engine.write(ops, { relaxed: false, echo: false });
    };
    await write("add", ids(100, 300));
    await write("remove", ids(100, 130));
    const few = await engine.scan("tasks", null, 10);
    await write("remove", ids(130, 200));
    const many = await engine.scan("tasks", null, 10);
    const left = (await all()).map(([id]) => id);
    return [few.rows.map(({ id }) => id), few.next, many.rows.length, many.next, left];
  });
  const ids = (from, upto) => Array.from({ length: upto - from }, (_, at) => `${from + at}`);
  assert.deepEqual(seen, [ids(130, 140), "139", 0, "179", ids(200, 300)]);
});

inBoth(
  "calls_during_and_after_close_fail_and_writes_under_way_are_finished",
  LIMITS,
  async (context, worker) => {
    const page = await onePage(context, undefined, worker);
    const results = await page.evaluate(async () => {
      await openEngine("closing");
      const first = add("1", "a");
      const closing = engine.close();
      const during = await failure(() => add("2", "b"));
      await closing;
      await engine.close();
      const { row } = await first;
      const count = events.length;
      const codes = [];
      for (const call of [
        () => add("3", "c"),
        () => engine.get("tasks", "1"),
        () => engine.scan("tasks", null, 10),
        () => engine.roots(),
        () => engine.pause(true),
      ]) {
        codes.push(await failure(call));
      }
      const silent = events.length === count;
      await openEngine("closing");
      return { row, during, codes, silent, left: (await all()).map(([id]) => id) };
    });
    assert.deepEqual(results, {
      ...{ row: 1, during: "closed", silent: true, left: ["1"] },
      codes: ["closed", "closed", "closed", "closed", "closed"],
    });
  },
);

inBoth("other_databases_of_the_origin_are_left_alone", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const names = await page.evaluate(async () => {
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const request = indexedDB.open("log", 7);
    request.onupgradeneeded = () => request.result.createObjectStore("mine").put("kept", "key");
    const foreign = await done(request);
    await openEngine("log");
    await add("1", "a");
    await engine.close();
    await bindings.Engine.destroy("log");
    const kept = await done(foreign.transaction("mine").objectStore("mine").get("key"));
    const left = (await indexedDB.databases()).map(({ name, version }) => [name, version]);
    return { kept, left };
  });
  assert.deepEqual(names, { kept: "kept", left: [["log", 7]] });
});

inBoth(
  "a_database_belongs_to_the_space_that_it_was_first_opened_with",
  LIMITS,
  async (context, worker) => {
    const page = await onePage(context, undefined, worker);
    const seen = await page.evaluate(async () => {
      const url = "ws://localhost:9/sync";
      await openEngine("bound");
      await add("1", "before any space");
      await engine.close();
      await openEngine("bound", { url, space: "one" });
      await add("2", "of one");
      await engine.close();
      const other = await failure(() => openEngine("bound", { url, space: "two" }));
      await openEngine("bound", { url, space: "one" });
      return [other, (await all()).map(([id]) => id)];
    });
    assert.deepEqual(seen, ["other_space", ["1", "2"]]);
  },
);

test("more_collections_than_a_session_can_name_are_refused", LIMITS, async (context) => {
  const page = await onePage(context);
  const code = await page.evaluate(() => {
    const collection = (_, at) => ({ pattern: `docs/${at}`, columns: [["title", "lww"]] });
    const collections = Array.from({ length: 65 }, collection);
    return failure(() => openEngine("many", { collections }));
  });
  assert.equal(code, "too_large");
});

inBoth(
  "a_full_disk_is_a_typed_error_and_nothing_of_the_write_is_seen",
  LIMITS,
  async (context, worker) => {
    const page = await onePage(context, undefined, worker);
    const session = await page.context().newCDPSession(page);
    // Set before anything is written: the browser remembers for a while how much space there was.
    await session.send("Storage.overrideQuotaForOrigin", {
      origin: world.origin,
      quotaSize: 200_000,
    });
    const results = await page.evaluate(async () => {
      await openEngine("full");
      await add("kept", "a");
      const full = {
        code: await failure(() => add("lost", "x".repeat(250_000))),
        problem: engine.status().storage.problem,
        rows: (await all()).map(([id]) => id),
        pending: engine.status().pending,
      };
      await add("later", "b");
      const rows = (await all()).map(([id]) => id);
      return { full, later: { rows, problem: engine.status().storage.problem } };
    });
    assert.deepEqual(results, {
      full: { code: "quota", problem: "quota", rows: ["kept"], pending: 1 },
      later: { rows: ["kept", "later"], problem: null },
    });
  },
);

inBoth(
  "b10_writes_that_are_gone_are_told_until_the_app_has_read_it",
  LIMITS,
  async (context, worker) => {
    const page = await onePage(context, undefined, worker);
    const lost = await page.evaluate(async () => {
      const told = [];
      const open = async () => {
        await openEngine("gone");
        told.push([engine.status().storage.writesLost, (await all()).length]);
      };
      await open();
      await add("1", "never sent");
      await engine.close();
      await open();
      await engine.close();
      await evict("gone");
      await open();
      await add("2", "never sent either");
      await engine.close();
      await open();
      engine.lossRead();
      await engine.close();
      await open();
      await add("3", "given up");
      await engine.close();
      await bindings.Engine.destroy("gone");
      await open();
      return [told, localStorage.length];
    });
    assert.deepEqual(lost[0], [
      [false, 0],
      [false, 1],
      [true, 0],
      [true, 1],
      [false, 1],
      [false, 0],
    ]);
    assert.equal(lost[1], 0);
  },
);

inBoth("b10_a_loss_that_cannot_be_noted_is_told_again", LIMITS, async (context, worker) => {
  const page = await onePage(context, undefined, worker);
  const told = await page.evaluate(async () => {
    const told = [];
    const open = async () => {
      await openEngine("unnoted");
      told.push([engine.status().storage.writesLost, (await all()).length]);
    };
    await open();
    await add("1", "never sent");
    await engine.close();
    await evict("unnoted");
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = () => {
      throw new DOMException("the site has no room", "QuotaExceededError");
    };
    await open();
    await engine.close();
    Storage.prototype.setItem = setItem;
    await open();
    engine.lossRead();
    await engine.close();
    await open();
    await engine.close();
    localStorage.clear();
    return told;
  });
  assert.deepEqual(told, [
    [false, 0],
    [true, 0],
    [true, 0],
    [false, 0],
  ]);
});

test(
  "b10_what_another_tab_writes_while_this_one_opens_is_not_told_as_lost",
  LIMITS,
  async (context) => {
    const page = await onePage(context);
    const told = await page.evaluate(async () => {
      await openEngine("raced");
      await add("1", "never sent");
      await engine.close();
      const begin = IDBDatabase.prototype.transaction;
      IDBDatabase.prototype.transaction = function (...options) {
        // Another tab's row is stored just behind what this one reads.
        localStorage.setItem("rejoin/raced/promised", "99");
        return begin.apply(this, options);
      };
      await openEngine("raced");
      IDBDatabase.prototype.transaction = begin;
      const told = [
        engine.status().storage.writesLost,
        localStorage.getItem("rejoin/raced/promised"),
      ];
      await engine.close();
      localStorage.clear();
      return told;
    });
    assert.deepEqual(told, [false, "99"]);
  },
);

test("b11_a_store_that_works_again_has_no_problem_any_more", LIMITS, async (context) => {
  const page = await onePage(context);
  const results = await page.evaluate(async () => {
    await openEngine("failing");
    await add("1", "a");
    const begin = IDBDatabase.prototype.transaction;
    IDBDatabase.prototype.transaction = () => {
      throw new DOMException("the store is gone", "UnknownError");
    };
    const code = await failure(() => add("2", "b"));
    const { problem } = engine.status().storage;
    IDBDatabase.prototype.transaction = begin;
    await add("3", "c");
    const ids = (await all()).map(([id]) => id);
    return { code, problem, ids, later: engine.status().storage.problem };
  });
  assert.deepEqual(results, {
    code: "unknown",
    problem: "unreadable",
    ids: ["1", "3"],
    later: null,
  });
});

test("a_panic_poisons_the_instance_and_loses_nothing_durable", LIMITS, async (context) => {
  const page = await onePage(context, TEST_BUILD);
  const results = await page.evaluate(async () => {
    await openEngine("poison");
    const events = globalThis.events;
    await add("1", "a");
    const waiting = failure(() => add("2", "b"));
    await failure(() => bindings.break_down());
    return {
      waiting: await waiting,
      write: await failure(() => add("3", "c")),
      get: await failure(() => engine.get("tasks", "1")),
      open: await failure(() => openEngine("other")),
      told: events.filter(({ type }) => type === "poisoned").length,
    };
  });
  const code = "poisoned";
  assert.deepEqual(results, { waiting: code, write: code, get: code, open: code, told: 1 });
  await load(page, world.origin);
  const [first] = await page.evaluate(async () => {
    await openEngine("poison");
    return all();
  });
  assert.deepEqual([first[0], first[1]], ["1", "a"]);
});

for (const kind of ["stack", "memory", "access"]) {
  test(`a_trap_in_a_task_poisons_the_instance_too (${kind})`, LIMITS, async (context) => {
    const page = await onePage(context, TEST_BUILD);
    const results = await page.evaluate(async (kind) => {
      await openEngine("trapped");
      await until(() => engine.status().leader);
      await add("1", "a");
      const events = globalThis.events;
      bindings.trap_in_task(kind);
      // Without a call: the next task finds what this one left.
      await until(() => events.some(({ type }) => type === "poisoned"));
      return {
        write: await failure(() => add("2", "b")),
        status: await failure(() => engine.status()),
        open: await failure(() => openEngine("other")),
        locks: (await navigator.locks.query()).held.length,
      };
    }, kind);
    const code = "poisoned";
    assert.deepEqual(results, { write: code, status: code, open: code, locks: 0 });
    await load(page, world.origin);
    const ids = await page.evaluate(async () => {
      await openEngine("trapped");
      return (await all()).map(([id]) => id);
    });
    assert.deepEqual(ids, ["1"]);
  });
}

test("indexeddb_keeps_the_contract_of_stores", { timeout: 300_000 }, async (context) => {
  const page = await onePage(context, TEST_BUILD);
  let panic = "";
  page.on("console", (message) => (panic += message.text()));
  await page.evaluate(() => bindings.store_contract());
  assert.equal(panic, "");
});
