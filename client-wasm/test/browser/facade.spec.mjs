import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { inBoth, launch } from "./world.mjs";

const TEST_BUILD = "test-build";
const LIMITS = { timeout: 60_000, skip: serverProgram() === undefined && "no rejoin-server" };

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

async function newPage(context, build, worker) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  if (build !== undefined) {
    // The same package around another build.
    await browserContext.route("**/pkg/*", async (route) => {
      const file = new URL(route.request().url()).pathname.split("/").at(-1);
      const url = `${world.origin}/${build}/${file}`;
      await route.fulfill({ response: await route.fetch({ url }) });
    });
  }
  const page = await browserContext.newPage();
  await load(page, worker);
  return page;
}

/** Loads the package, again too. */
async function load(page, worker) {
  await page.goto(world.origin);
  await page.evaluate(async (worker) => {
    globalThis.worker = worker;
    globalThis.rejoin = await import("/dist/index.js");
    const { bool, counter, defineSchema, review, set, text } = rejoin;
    globalThis.schema = defineSchema({
      tasks: {
        title: text(),
        done: bool().default(false),
        votes: counter(),
        tags: set(text()),
        notes: review(text().default("")),
        more: text().optional(),
        most: text().optional(),
      },
      locked: { title: text() },
    });
    globalThis.openDb = async (url, token, name = "facade") => {
      const sync = { url, space: "test", token };
      globalThis.db = await rejoin.open({ name, schema, sync, worker });
    };
    globalThis.untilStatus = async (holds) => {
      while (!holds(db.status)) {
        await new Promise((resolve) => {
          const stop = db.on("status", () => resolve(stop()));
        });
      }
    };
    globalThis.failure = (work) =>
      work.then(
        () => "nothing failed",
        (error) => error.code ?? `${error}`,
      );
  }, worker);
}

const token = (name, locked) => `
[[tokens]]
token = "token of ${name}"
principal = "${name}"
spaces = [
  { space = "test", collections = ["tasks"], write = true },
  { space = "test", collections = ["locked"], write = ${locked} },
]
`;

inBoth("the_package_writes_queries_syncs_and_verifies", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const page = await newPage(context, undefined, worker);
  const result = await page.evaluate(async (url) => {
    const { open, increment } = rejoin;
    const db = await open({ name: "facade", schema, sync: { url, space: "test" }, worker });
    const shown = [];
    const live = db.tasks.where({ done: false }).orderBy("title").live();
    live.subscribe((rows) => shown.push(rows.map(({ title }) => title)));
    const task = await db.tasks.add({ title: "Buy milk", tags: ["shop"], notes: "two litres" });
    await db.tasks.update(task.id, { votes: increment(2) });
    const write = db.tasks.add({ title: "Answer mail" });
    await write;
    await write.synced;
    await db.synced();
    // The data can be there before the last acknowledgement is.
    while (db.status.state !== "live") {
      await new Promise((resolve) => {
        const stop = db.on("status", () => resolve(stop()));
      });
    }
    const { state, pending, verified } = db.status;
    const read = await db.tasks.get(task.id);
    await db.close();
    return { shown: shown.at(-1), votes: read.votes, tags: read.tags, state, pending, verified };
  }, server.url);
  const { verified, ...rest } = result;
  assert.deepEqual(rest, {
    ...{ shown: ["Answer mail", "Buy milk"], votes: 2, tags: ["shop"], state: "live", pending: 0 },
  });
  assert.equal(verified.root.length, 64);
});

inBoth(
  "a_refused_write_is_listed_exported_edited_and_discarded",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin, token("ada", false));
    const page = await newPage(context, undefined, worker);
    const refused = await page.evaluate(async (url) => {
      await openDb(url, "token of ada");
      const told = [];
      db.on("rejected", (writes) => told.push(...writes.map(({ row }) => row)));
      const writes = ["first", "second"].map((title) => db.locked.add({ id: title, title }));
      const codes = await Promise.all(writes.map((write) => failure(write.synced)));
      await db.synced();
      const visible = (await db.locked.all()).length;
      return { codes, told, visible, rows: db.rejected.list.map(({ row }) => row) };
    }, server.url);
    const { rows } = refused;
    const codes = ["rejected", "rejected"];
    assert.deepEqual(refused, { codes, told: rows, visible: 0, rows });
    assert.ok(rows.length === 2 && rows[0] < rows[1], `${rows}`);
    await load(page, worker);
    const work = async ([url, [first, second]]) => {
      await openDb(url, "token of ada");
      const listed = db.rejected.list.map(({ row, code, writes }) => [row, code, writes]);
      const exported = JSON.parse(db.rejected.export()).map(({ row, code, writes }) => [
        ...[row, code, writes],
      ]);
      const edited = db.rejected.edit(first, (batch) => {
        batch.tasks.add({ id: "moved", title: "first" });
      });
      await edited.synced;
      await db.rejected.discard(second);
      await db.synced();
      const { rejected } = db.status;
      const titles = (await db.tasks.all()).map(({ title }) => title);
      const again = await failure(db.rejected.retry(second));
      return { listed, exported, rejected, titles, again, left: db.rejected.length };
    };
    const decided = await page.evaluate(work, [server.url, rows]);
    const write = (title) => ({ op: "add", collection: "locked", id: title, fields: { title } });
    assert.deepEqual(decided.listed, [
      [rows[0], "forbidden", [write("first")]],
      [rows[1], "forbidden", [write("second")]],
    ]);
    assert.deepEqual(decided.exported, decided.listed);
    const { rejected, titles, again, left } = decided;
    assert.deepEqual([rejected, titles, again, left], [0, ["first"], "absent", 0]);
  },
);

inBoth(
  "a_refused_write_is_accepted_when_retried_with_the_right_to_it",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin, token("ada", false));
    const page = await newPage(context, undefined, worker);
    const still = await page.evaluate(async (url) => {
      await openDb(url, "token of ada");
      await failure(db.locked.add({ title: "once more" }).synced);
      return failure(db.rejected.retry(db.rejected.list[0].row).synced);
    }, server.url);
    assert.equal(still, "rejected");
    await server.kill();
    server.permit(token("ada", true));
    await server.run();
    const titles = await page.evaluate(async () => {
      db.network.pause();
      db.network.resume();
      await untilStatus(({ state }) => state === "live");
      await db.rejected.retry(db.rejected.list[0].row).synced;
      await db.synced();
      return [db.rejected.length, (await db.locked.all()).map(({ title }) => title)];
    });
    assert.deepEqual(titles, [0, ["once more"]]);
  },
);

inBoth(
  "what_makes_a_record_too_large_is_refused_and_can_be_shortened",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin);
    const pages = [
      await newPage(context, undefined, worker),
      await newPage(context, undefined, worker),
    ];
    // Neither is too large by itself; joined they are.
    const write = (page, [one, other]) =>
      page.evaluate(
        async ([url, one, other]) => {
          await openDb(url);
          db.network.pause();
          const values = { [one]: "x".repeat(250_000), [other]: "y".repeat(250_000) };
          globalThis.written = db.tasks.put("big", { title: "", ...values });
          await written;
        },
        [server.url, one, other],
      );
    await write(pages[0], ["more", "most"]);
    await write(pages[1], ["title", "notes"]);
    await pages[0].evaluate(async () => {
      db.network.resume();
      await written.synced;
    });
    const result = await pages[1].evaluate(async () => {
      db.network.resume();
      const code = await failure(written.synced);
      await db.synced();
      const [{ row, code: reason }] = db.rejected.list;
      await db.rejected.edit(row, (batch) => batch.tasks.update("big", { title: "short" })).synced;
      await db.synced();
      const { title, most } = await db.tasks.get("big");
      return { code, reason, title, most: most.length, left: db.rejected.length };
    });
    assert.deepEqual(result, {
      ...{ code: "rejected", reason: "too_large", title: "short", most: 250_000, left: 0 },
    });
  },
);

inBoth(
  "receipts_of_discarded_writes_fail_and_the_status_names_the_accounts",
  LIMITS,
  async (context, worker) => {
    const tokens = token("ada", true) + token("bob", true);
    const server = await Server.start(context, world.origin, tokens);
    const page = await newPage(context, undefined, worker);
    const result = await page.evaluate(async (url) => {
      await openDb(url, "token of ada");
      await db.tasks.add({ title: "synced" }).synced;
      db.network.pause();
      const { synced } = await db.tasks.add({ title: "pending" }).receipt;
      const code = failure(synced);
      db.setToken("token of bob");
      db.network.resume();
      await untilStatus(({ account }) => account !== undefined);
      const { account, state, error } = db.status;
      await db.discardPending();
      const titles = (await db.tasks.all()).map(({ title }) => title);
      await db.synced();
      const after = db.status.account;
      return { account, state, error: error.code, code: await code, titles, after };
    }, server.url);
    assert.deepEqual(result, {
      account: { ours: "ada", theirs: "bob" },
      ...{ state: "needs-auth", error: "other_account", code: "discarded", titles: ["synced"] },
      after: undefined,
    });
  },
);

inBoth(
  "undo_takes_back_what_was_written_here_and_leaves_what_others_wrote",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin);
    const here = await newPage(context, undefined, worker);
    const there = await newPage(context);
    for (const page of [here, there]) {
      await page.evaluate(async (url) => {
        await openDb(url);
        globalThis.show = async (id) => {
          await db.synced();
          const row = await db.tasks.get(id);
          if (row === undefined) return undefined;
          const { title, done, votes, tags, notes, more } = row;
          return [title, done, votes, tags, notes.siblings.map(({ value }) => value), more];
        };
      }, server.url);
    }
    const sees = async (row, id = "1") => {
      for (const page of [here, there]) {
        await page.evaluate(
          async ([id, row]) => {
            while (JSON.stringify(await show(id)) !== row) {
              await new Promise((resolve) => setTimeout(resolve, 20));
            }
          },
          [id, JSON.stringify(row)],
        );
      }
    };
    const write = (page, id, patch) =>
      page.evaluate(
        ([id, { votes, tags, ...patch }]) =>
          db.tasks.update(id, {
            ...patch,
            ...(votes && { votes: rejoin.increment(votes) }),
            ...(tags && { tags: rejoin.addTo(...tags) }),
          }).synced,
        [id, patch],
      );
    const first = ["a", false, 3, ["x", "y"], ["n"], null];
    await here.evaluate(async () => {
      const { addTo, increment, removeFrom } = rejoin;
      globalThis.scope = db.undoable("editor");
      await db.tasks.add({ id: "1", title: "a", votes: 3, tags: ["x", "y"], notes: "n" });
      await scope.batch((batch) => {
        batch.tasks.update("1", { title: "b", done: true, votes: increment(4), notes: "m" });
        batch.tasks.update("1", { tags: removeFrom("x"), more: "of it" });
        batch.tasks.update("1", { tags: addTo("z") });
      });
    });
    const second = ["b", true, 7, ["y", "z"], ["m"], "of it"];
    await sees(second);
    const turn = (what) => here.evaluate((what) => scope[what]().then((done) => done), what);
    assert.equal(await turn("undo"), true);
    await sees(first);
    assert.equal(await turn("redo"), true);
    await sees(second);
    await write(there, "1", { title: "theirs", votes: 10, tags: ["r"] });
    await sees(["theirs", true, 17, ["r", "y", "z"], ["m"], "of it"]);
    await turn("undo");
    await sees(["theirs", false, 13, ["r", "x", "y"], ["n"], null]);
    // Removed, and there again with all it had; an edit that has not arrived keeps what is added.
    await here.evaluate(() => scope.batch((batch) => batch.tasks.remove("1")));
    await sees(undefined);
    await turn("undo");
    await sees(["theirs", false, 13, ["r", "x", "y"], ["n"], null]);
    await here.evaluate(() => scope.batch((batch) => batch.tasks.add({ id: "2", title: "new" })));
    await sees(["new", false, 0, [], [], null], "2");
    const late = there.evaluate(async () => {
      db.network.pause();
      const write = db.tasks.update("2", { done: true });
      await write;
      return db.status.pending;
    });
    assert.equal(await late, 1);
    await turn("undo");
    assert.equal(await here.evaluate(() => show("2")), undefined);
    await there.evaluate(() => db.network.resume());
    await sees(["new", true, 0, [], [], null], "2");
  },
);

for (const kind of ["stack", "memory", "access"]) {
  test(
    `a_trap_in_a_call_poisons_every_database (${kind})`,
    { timeout: 60_000 },
    async (context) => {
      const page = await newPage(context, TEST_BUILD);
      const results = await page.evaluate(async (kind) => {
        const bindings = await import("/pkg/rejoin.js");
        const { open } = rejoin;
        const [db, other] = [
          await open({ name: "trapped", schema }),
          await open({ name: "other", schema }),
        ];
        await db.tasks.add({ id: "1", title: "durable" });
        const waiting = failure(db.tasks.add({ id: "2", title: "waiting" }));
        bindings.Engine.prototype.get = () => bindings.trap(kind);
        const trapped = await failure(db.tasks.get("1"));
        return {
          trapped,
          waiting: await waiting,
          state: [db.status.state, db.status.error.code],
          write: await failure(db.tasks.add({ title: "later" })),
          others: await failure(other.tasks.add({ title: "elsewhere" })),
          open: await failure(open({ name: "third", schema })),
        };
      }, kind);
      const code = "poisoned";
      assert.deepEqual(results, {
        ...{ trapped: code, waiting: code, state: ["closed", code] },
        ...{ write: code, others: code, open: code },
      });
      await load(page);
      const ids = await page.evaluate(async () => {
        const db = await rejoin.open({ name: "trapped", schema });
        return (await db.tasks.all()).map(({ id }) => id);
      });
      assert.equal(ids[0], "1");
    },
  );
}
