import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { launch } from "./world.mjs";

const LIMITS = { timeout: 60_000, skip: serverProgram() === undefined && "no rejoin-server" };

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

async function newPage(context) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await browserContext.newPage();
  await page.goto(world.origin);
  await page.evaluate(async () => {
    globalThis.rejoin = await import("/dist/index.js");
    const { bool, counter, defineSchema, review, set, text } = rejoin;
    globalThis.schema = defineSchema({
      tasks: {
        title: text(),
        done: bool().default(false),
        votes: counter(),
        tags: set(text()),
        notes: review(text().default("")),
      },
    });
  });
  return page;
}

test("the_package_writes_queries_syncs_and_verifies", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin);
  const page = await newPage(context);
  const result = await page.evaluate(async (url) => {
    const { open, increment } = rejoin;
    const db = await open({ name: "facade", schema, sync: { url, space: "test" } });
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
