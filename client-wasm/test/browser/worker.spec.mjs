// What is true of the engine in a worker alone: how it fails to start, breaks and ends, and what it has of its page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inWorker, launch } from "./world.mjs";

const LIMITS = { timeout: 60_000 };

let world;
before(async () => (world = await launch()), LIMITS);
after(() => world.close(), LIMITS);

async function newContext(context) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  return browserContext;
}

/** A page with the package around the test build. */
async function newPage(browserContext, path = "/") {
  const page = await browserContext.newPage();
  await load(page, path);
  return page;
}

/** Again, too. */
async function load(page, path = "/") {
  await page.goto(`${world.origin}${path}`);
  await page.evaluate(async () => {
    globalThis.rejoin = await import("/tested/dist/index.js");
    const { bytes, defineSchema, text } = rejoin;
    globalThis.schema = defineSchema({ tasks: { title: text(), blob: bytes().optional() } });
    globalThis.openDb = (name, worker = true) => rejoin.open({ name, schema, worker });
    globalThis.failure = (work) =>
      work.then(
        () => "nothing failed",
        (error) => error.code ?? `${error}`,
      );
    globalThis.until = async (holds) => {
      while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
    };
  });
}

/** What becomes of a database whose worker breaks by `work`, and what is there after a reload. */
async function breaks(context, work, ...args) {
  const page = await newPage(await newContext(context));
  await page.evaluate(async () => {
    // Ahead of the other: the last worker is the one that breaks, and a closed one is listed for a while.
    globalThis.other = await openDb("other");
    globalThis.db = await openDb("broken");
    await db.tasks.add({ id: "1", title: "durable" });
    await until(() => db.status.leader);
    await other.close();
    globalThis.live = db.tasks.live();
    await live.ready;
    live.subscribe(
      () => undefined,
      (error) => (globalThis.told = error.code),
    );
    globalThis.synced = failure(db.tasks.add({ id: "2", title: "unsent" }).synced);
    await db.tasks.get("2");
  });
  // The worker may be gone before it can answer.
  inWorker(page, work, ...args).catch(() => undefined);
  const seen = await page.evaluate(async () => {
    await until(() => db.status.state === "closed");
    const broken = {
      error: db.status.error.code,
      told,
      receipt: await synced,
      write: await failure(db.tasks.add({ title: "later" })),
      read: await failure(db.tasks.get("1")),
      close: await failure(db.close()),
    };
    await until(async () => (await navigator.locks.query()).held.length === 0);
    // Without a reload: each has an engine of its own.
    globalThis.db = await openDb("broken");
    broken.ids = (await db.tasks.all()).map(({ id }) => id);
    return broken;
  });
  const code = "poisoned";
  assert.deepEqual(seen, {
    ...{ error: code, told: code, receipt: code, write: code, read: code },
    ...{ close: "nothing failed", ids: ["1", "2"] },
  });
  await load(page);
  const ids = await page.evaluate(async () => {
    const { tasks } = await openDb("broken");
    return (await tasks.all()).map(({ id }) => id);
  });
  assert.deepEqual(ids, ["1", "2"]);
}

test("a_panic_in_a_worker_fails_everything_and_it_can_be_opened_again", LIMITS, (context) =>
  breaks(context, (bindings) => setTimeout(() => bindings.break_down())),
);

for (const kind of ["stack", "memory", "access"]) {
  test(`a_trap_in_a_worker_fails_everything (${kind})`, LIMITS, (context) =>
    breaks(context, (bindings, kind) => bindings.trap_in_task(kind), kind),
  );
}

test("a_worker_that_is_ended_fails_everything", LIMITS, (context) =>
  breaks(context, () => self.close()),
);

test("other_databases_live_on_when_one_worker_breaks", LIMITS, async (context) => {
  const page = await newPage(await newContext(context));
  await page.evaluate(async () => {
    globalThis.kept = await openDb("kept");
    globalThis.page = await openDb("page", false);
    globalThis.db = await openDb("broken");
  });
  inWorker(page, (bindings) => bindings.trap_in_task("access")).catch(() => undefined);
  const titles = await page.evaluate(async () => {
    await until(() => db.status.state === "closed");
    const written = [kept, page].map((db) => db.tasks.add({ title: db.name }));
    return (await Promise.all(written)).map(({ title }) => title);
  });
  assert.deepEqual(titles, ["kept", "page"]);
});

test("a_script_that_cannot_be_loaded_fails_open_with_load", LIMITS, async (context) => {
  const browserContext = await newContext(context);
  const page = await newPage(browserContext);
  const cases = {
    script: ["**/dist/worker.js", { status: 404 }],
    garbled: ["**/dist/worker.js", { contentType: "text/javascript", body: "this is no script" }],
    webassembly: ["**/rejoin_bg.wasm", { status: 404 }],
  };
  for (const [name, [files, answer]] of Object.entries(cases)) {
    await browserContext.route(files, (route) => route.fulfill(answer));
    const seen = await page.evaluate(
      async (name) => [await failure(openDb(name)), await failure(openDb(name))],
      name,
    );
    assert.deepEqual(seen, ["load", "load"], name);
    await browserContext.unroute(files);
    // A failed attempt is not remembered.
    const later = await page.evaluate(async (name) => {
      const db = await openDb(name);
      return (await db.tasks.add({ title: name })).title;
    }, name);
    assert.equal(later, name);
  }
  const workers = page.workers().length;
  assert.equal(workers, 3);
});

test("a_policy_without_workers_fails_open_with_load", LIMITS, async (context) => {
  const browserContext = await newContext(context);
  await browserContext.route(`${world.origin}/`, async (route) => {
    const policy = "script-src 'self' 'wasm-unsafe-eval'; worker-src 'none'";
    const response = await route.fetch();
    await route.fulfill({
      response,
      headers: { ...response.headers(), "content-security-policy": policy },
    });
  });
  const page = await newPage(browserContext);
  const seen = await page.evaluate(async () => [
    await failure(openDb("policy")),
    (await (await openDb("policy", false)).tasks.add({ title: "here" })).title,
  ]);
  assert.deepEqual(seen, ["load", "here"]);
});

test("a_worker_and_a_page_are_two_tabs_of_one_database", LIMITS, async (context) => {
  const browserContext = await newContext(context);
  const pages = [await newPage(browserContext), await newPage(browserContext)];
  for (const [nth, page] of pages.entries()) {
    await page.evaluate(async (worker) => {
      globalThis.db = await openDb("shared", worker);
      globalThis.live = db.tasks.orderBy("title").live();
      await live.ready;
    }, nth === 0);
  }
  for (const [nth, page] of pages.entries()) {
    await page.evaluate((nth) => db.tasks.add({ title: `of ${nth}` }), nth);
  }
  for (const page of pages) {
    await page.evaluate(() => until(() => live.getSnapshot().length === 2));
  }
  const leaders = await Promise.all(pages.map((page) => page.evaluate(() => db.status.leader)));
  assert.deepEqual(leaders, [true, false]);
});

test(
  "a_worker_hears_what_its_page_goes_through_and_asks_it_to_persist",
  LIMITS,
  async (context) => {
    const page = await newPage(await newContext(context));
    await page.evaluate(async () => {
      globalThis.asked = 0;
      navigator.storage.persist = async () => (asked += 1) > 0;
      globalThis.db = await openDb("heard");
    });
    await inWorker(page, () => {
      self.heard = [];
      for (const type of ["visibilitychange", "resume"]) {
        rejoinStage.document.addEventListener(type, () => {
          self.heard.push(`${type} ${rejoinStage.document.visibilityState}`);
        });
      }
    });
    const asked = await page.evaluate(async () => {
      window.dispatchEvent(new Event("pageshow"));
      Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      delete document.visibilityState;
      document.dispatchEvent(new Event("visibilitychange"));
      document.dispatchEvent(new Event("resume"));
      // Behind all of that, and the first write asks.
      await db.tasks.add({ title: "a" });
      await db.tasks.add({ title: "b" });
      await until(() => asked > 0);
      return asked;
    });
    assert.equal(asked, 1);
    assert.deepEqual(await inWorker(page, () => self.heard), [
      ...[
        "resume visible",
        "visibilitychange hidden",
        "visibilitychange visible",
        "resume visible",
      ],
    ]);
  },
);

test("bytes_of_every_size_go_to_the_worker_and_back", LIMITS, async (context) => {
  const page = await newPage(await newContext(context));
  const same = await page.evaluate(async () => {
    const { tasks } = await openDb("bytes");
    const live = tasks.live();
    await live.ready;
    const same = [];
    for (const size of [0, 1, 255, 65_536, 260_000]) {
      const blob = Uint8Array.from({ length: size }, (_, at) => at * 7);
      const added = await tasks.add({ title: "bytes", blob });
      const [read, shown] = [await tasks.get(added.id), tasks.peek(added.id)];
      const isSame = (row) => row.blob.length === size && row.blob.every((b, at) => b === blob[at]);
      // What the app holds is still its own.
      same.push([added, read, shown].every(isSame) && blob.length === size);
    }
    return same;
  });
  assert.deepEqual(same, [true, true, true, true, true]);
});

test("destroy_of_a_database_in_a_worker_leaves_nothing", LIMITS, async (context) => {
  const page = await newPage(await newContext(context));
  const left = await page.evaluate(async () => {
    const db = await openDb("gone");
    await db.tasks.add({ title: "unsent" });
    await until(() => localStorage.length > 0);
    await db.destroy();
    await until(async () => (await navigator.locks.query()).held.length === 0);
    const { pending } = await navigator.locks.query();
    const left = [localStorage.length, (await indexedDB.databases()).length];
    const again = await openDb("gone");
    await rejoin.destroy("gone");
    return [...left, pending.length, again.status.state];
  });
  assert.deepEqual(left, [0, 0, 0, "closed"]);
  // The test's end limits how long they may take to be gone.
  while (page.workers().length > 0) await page.evaluate(() => undefined);
});
