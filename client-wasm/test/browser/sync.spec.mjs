import assert from "node:assert/strict";
import { after, before } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { inBoth, launch, load, newPage } from "./world.mjs";

const LIMITS = { timeout: 120_000, skip: serverProgram() === undefined && "no rejoin-server" };
/** Longer than any wait between two attempts to connect (at most 30 s). */
const RECONNECT_MS = 45_000;

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

async function newTab(context, worker, server, name, more = {}) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await newPage(browserContext, world.origin, undefined, worker);
  await open(page, server, name, more);
  return page;
}

const open = (page, server, name, more = {}) =>
  page.evaluate(({ name, more }) => openEngine(name, more), {
    name,
    more: { url: server.url, ...more },
  });

const synced = (page, limit = RECONNECT_MS) =>
  page.evaluate(
    (limit) => until(() => engine.status().synced && engine.status().state === "live", limit),
    limit,
  );
const titles = (page) =>
  page.evaluate(async () => (await all()).map(([, title]) => title).toSorted());
const untilTitles = (page, count) =>
  page.evaluate((count) => until(async () => (await all()).length === count), count);

inBoth("the_classic_check", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const page = await newTab(context, worker, server, "classic");
  await page.evaluate(() => add("1", "Hello World"));
  await synced(page);
  await server.kill();
  await page.evaluate(() => until(() => engine.status().state !== "live"));
  await page.evaluate(() => add("2", "I am offline"));
  await load(page, world.origin, undefined, worker);
  await open(page, server, "classic");
  assert.deepEqual(await titles(page), ["Hello World", "I am offline"]);
  assert.equal(await page.evaluate(() => engine.status().pending), 1);
  await server.run();
  await synced(page);
  assert.deepEqual(await titles(page), ["Hello World", "I am offline"]);
  const { verified, error } = await page.evaluate(() => engine.status());
  assert.match(verified.root, /^[0-9a-f]{64}$/u);
  assert.equal(error, null);
  const other = await newTab(context, worker, server, "other");
  await synced(other);
  assert.deepEqual(await titles(other), ["Hello World", "I am offline"]);
  assert.deepEqual(
    await other.evaluate(() => engine.roots()),
    await page.evaluate(() => engine.roots()),
  );
});

/** Reads what is kept beside the engine's rows, or changes it by `change`, without the engine. */
const kept = (page, name, change) =>
  page.evaluate(
    async ({ name, change }) => {
      const done = (request) =>
        new Promise((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      const database = await done(indexedDB.open(`rejoin/${name}`));
      const meta = database.transaction("meta", "readwrite").objectStore("meta");
      const key = new TextEncoder().encode("browser");
      const found = await done(meta.get(key));
      const text = found && new TextDecoder().decode(found);
      if (change) await done(meta.put(new TextEncoder().encode(text.replace(...change)), key));
      database.close();
      return text;
    },
    { name, change },
  );

inBoth(
  "what_was_verified_is_known_after_a_reload_without_the_server",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin);
    const page = await newTab(context, worker, server, "kept");
    await page.evaluate(() => add("1", "a"));
    await synced(page);
    // The root of what has come since follows the acknowledgement.
    await page.evaluate(() => until(() => engine.status().verified?.seq > 0));
    const before = await page.evaluate(() => engine.status());
    while (!(await kept(page, "kept"))?.includes(before.verified.root)) {
      await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 50)));
    }
    await server.kill();
    await load(page, world.origin, undefined, worker);
    await open(page, server, "kept");
    const { verified, lastSyncedAt, synced: is } = await page.evaluate(() => engine.status());
    assert.deepEqual([verified, lastSyncedAt, is], [before.verified, before.lastSyncedAt, false]);
    // Of another root nothing can be said, but the time stays.
    await page.evaluate(() => engine.close());
    await kept(page, "kept", [before.verified.root, "0".repeat(64)]);
    await load(page, world.origin, undefined, worker);
    await open(page, server, "kept");
    const later = await page.evaluate(() => engine.status());
    assert.deepEqual([later.verified, later.lastSyncedAt], [null, before.lastSyncedAt]);
  },
);

inBoth("two_replicas_write_at_once_and_agree", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const pages = [
    await newTab(context, worker, server, "left"),
    await newTab(context, worker, server, "right"),
  ];
  const write = (page, index) =>
    page.evaluate(async (index) => {
      for (let at = 0; at < 100; at += 1) await add(`${index}-${at}`, `${index}-${at}`);
      await engine.write(
        [
          {
            ...{ op: "put", collection: "tasks", id: "shared", erase: false },
            fields: [["votes", "counter", "increment", 1]],
          },
        ],
        { relaxed: false, echo: false },
      );
    }, index);
  await Promise.all(pages.map(write));
  for (const page of pages) {
    await untilTitles(page, 201);
    await synced(page);
  }
  // One may have compared before the other's last write came; the test's end limits how long they may differ.
  const root = (page) => page.evaluate(() => engine.status().verified?.root);
  const agree = async () => {
    const [left, right] = await Promise.all(pages.map(root));
    return left !== undefined && left === right;
  };
  while (!(await agree())) await pages[0].waitForTimeout(20);
});

inBoth(
  "a_followers_write_is_sent_by_the_leader_and_acknowledged_in_both",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin);
    const leader = await newTab(context, worker, server, "tabs");
    await synced(leader);
    const follower = await newPage(leader.context(), world.origin, undefined, worker);
    await open(follower, server, "tabs");
    await synced(follower);
    const { row } = await follower.evaluate(() => add("1", "from the follower"));
    for (const page of [follower, leader]) {
      const acknowledged = (row) =>
        until(() => events.some(({ type, rows }) => type === "ack" && rows.includes(row)));
      await page.evaluate(acknowledged, row);
      await synced(page);
    }
    assert.equal(await follower.evaluate(() => engine.status().leader), false);
    await leader.close();
    await follower.evaluate(() => until(() => engine.status().leader));
    await synced(follower);
  },
);

inBoth("pause_hangs_up_and_resume_connects_at_once", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const page = await newTab(context, worker, server, "pause");
  await synced(page);
  await page.evaluate(async () => {
    engine.pause(true);
    await until(() => engine.status().state === "offline" && engine.status().paused);
    await add("1", "a");
    engine.pause(false);
  });
  await synced(page, 5_000);
});

inBoth("a_token_is_asked_for_before_the_first_connection", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const page = await newTab(context, worker, server, "token", { asks: true });
  await page.evaluate(async () => {
    await until(() => events.some(({ type, refused }) => type === "token" && !refused));
    engine.token(null);
    await until(() => events.filter(({ type }) => type === "token").length > 1);
    engine.token("any");
  });
  await synced(page);
});
