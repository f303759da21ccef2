// Who else is here: tabs of one browser and of others, on the real server and without it.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { inBoth, launch } from "./world.mjs";

const LIMITS = { timeout: 120_000, skip: serverProgram() === undefined && "no rejoin-server" };
/** Longer than any wait between two attempts to connect (at most 30 s). */
const RECONNECT_MS = 45_000;

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

async function newBrowser(context) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  return browserContext;
}

/** A tab that shows its name and watches the others. */
async function newTab(browser, server, worker, name) {
  const page = await browser.newPage();
  await page.goto(world.origin);
  await page.evaluate(
    async ([url, worker, name]) => {
      const { defineSchema, open, text } = await import("/tested/dist/index.js");
      const schema = defineSchema({ tasks: { title: text() } });
      globalThis.db = await open({ name: "app", schema, worker, sync: { url, space: "demo" } });
      globalThis.told = [];
      db.presence.subscribe((others) => told.push(others));
      globalThis.show = (value) => db.presence.set({ name: value });
      globalThis.seen = () => db.presence.others.map(({ value }) => value.name).toSorted();
      show(name);
    },
    [server.url, worker, name],
  );
  return page;
}

/** Waits until a tab sees just these others. */
async function sees(page, ...names) {
  const wanted = JSON.stringify(names);
  try {
    await page.waitForFunction((wanted) => JSON.stringify(seen()) === wanted, wanted, {
      timeout: RECONNECT_MS,
      polling: 20,
    });
  } catch {
    assert.deepEqual(await page.evaluate(() => seen()), names);
  }
}

inBoth("tabs_and_browsers_see_each_other_until_they_are_gone", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const [here, there] = [await newBrowser(context), await newBrowser(context)];
  const ann = await newTab(here, server, worker, "ann");
  const amy = await newTab(here, server, worker, "amy");
  const bob = await newTab(there, server, worker, "bob");
  await sees(ann, "amy", "bob");
  await sees(amy, "ann", "bob");
  await sees(bob, "amy", "ann");
  const isSame = await bob.evaluate(async () => {
    const before = db.presence.others;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return before === db.presence.others && before === told.at(-1);
  });
  assert.ok(isSame, "the same array as long as nothing changes");
  const kept = await bob.evaluate(() => {
    globalThis.ann = db.presence.others.find(({ value }) => value.name === "ann");
    return ann.id.length > 0 && ann.principal.length > 0;
  });
  assert.ok(kept);
  for (let nth = 0; nth < 30; nth += 1) await amy.evaluate((nth) => show(`amy ${nth}`), nth);
  await sees(bob, "amy 29", "ann");
  await sees(ann, "amy 29", "bob");
  assert.ok(await bob.evaluate(() => db.presence.others.includes(ann)), "entries stay, too");
  // The tab that speaks for both.
  await ann.close();
  await sees(amy, "bob");
  await sees(bob, "amy 29");
  await amy.evaluate(() => db.presence.clear());
  await sees(bob);
  await amy.evaluate(() => show("again"));
  await sees(bob, "again");
  await amy.evaluate(() => db.close());
  await sees(bob);
  assert.deepEqual(await amy.evaluate(() => seen()), []);
});

inBoth(
  "tabs_see_each_other_offline_and_everybody_once_the_server_is_back",
  LIMITS,
  async (context, worker) => {
    const server = await Server.start(context, world.origin);
    const [here, there] = [await newBrowser(context), await newBrowser(context)];
    const ann = await newTab(here, server, worker, "ann");
    const bob = await newTab(there, server, worker, "bob");
    await sees(ann, "bob");
    await server.kill();
    await sees(ann);
    await sees(bob);
    const amy = await newTab(here, server, worker, "amy");
    await sees(ann, "amy");
    await sees(amy, "ann");
    await ann.evaluate(() => show("ann offline"));
    await sees(amy, "ann offline");
    await server.run();
    await sees(bob, "amy", "ann offline");
    await sees(amy, "ann offline", "bob");
  },
);

inBoth("a_tab_that_crashes_is_gone", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const [here, there] = [await newBrowser(context), await newBrowser(context)];
  const ann = await newTab(here, server, worker, "ann");
  const amy = await newTab(here, server, worker, "amy");
  const bob = await newTab(there, server, worker, "bob");
  await sees(bob, "amy", "ann");
  const session = await here.newCDPSession(amy);
  session.send("Page.crash").catch(() => undefined);
  await sees(ann, "bob");
  await sees(bob, "ann");
});

inBoth("what_is_too_large_or_no_value_is_refused_at_once", LIMITS, async (context, worker) => {
  const server = await Server.start(context, world.origin);
  const [here, there] = [await newBrowser(context), await newBrowser(context)];
  const ann = await newTab(here, server, worker, "ann");
  const bob = await newTab(there, server, worker, "bob");
  const codes = await ann.evaluate(() => {
    const failure = (value) => {
      try {
        db.presence.set(value);
        return "nothing failed";
      } catch (error) {
        return error.code;
      }
    };
    // Three bytes tell the length; a map of one entry and its name take six.
    const largest = { name: "x".repeat(4_096 - 6 - 3) };
    const larger = { name: `${largest.name}x` };
    return [failure(() => 1), failure(larger), failure(largest)];
  });
  assert.deepEqual(codes, ["invalid", "too_large", "nothing failed"]);
  await sees(bob, "x".repeat(4_087));
});
