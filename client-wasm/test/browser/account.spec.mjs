import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { launch, load, newPage } from "./world.mjs";

const LIMITS = { timeout: 120_000, skip: serverProgram() === undefined && "no rejoin-server" };
const token = (name) => `
[[tokens]]
token = "token of ${name}"
principal = "${name}"
spaces = [{ space = "test", write = true }]
`;
const TOKENS = token("ada") + token("bob");
const SWITCHED = { ours: "ada", theirs: "bob" };

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

const open = (page, server, name, account) =>
  page.evaluate(({ name, more }) => openEngine(name, more), {
    name,
    more: { url: server.url, token: `token of ${account}` },
  });

async function newTab(context, server, name, account) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await newPage(browserContext, world.origin);
  await open(page, server, name, account);
  return page;
}

const synced = (page) =>
  page.evaluate(() =>
    until(() => engine.status().synced && engine.status().state === "live", 45_000),
  );
const titles = (page) =>
  page.evaluate(async () => (await all()).map(([, title]) => title).toSorted());
const switched = (page) => page.evaluate(() => until(() => engine.status().account !== null));

/** A database of Ada's with one record synced and one not, met by Bob's token. */
async function switchedPage(context, server, name) {
  const page = await newTab(context, server, name, "ada");
  await page.evaluate(() => add("1", "synced by Ada"));
  await synced(page);
  await page.evaluate(async () => {
    engine.pause(true);
    await add("2", "written by Ada");
    engine.token("token of bob");
    engine.pause(false);
  });
  await switched(page);
  return page;
}

test("b24_after_a_switch_nothing_is_sent_until_the_app_adopts", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS);
  const page = await switchedPage(context, server, "adopts");
  await page.evaluate(() => add("3", "written meanwhile"));
  const { state, account, error, pending, synced: is } = await page.evaluate(() => engine.status());
  assert.deepEqual([state, account, error.code], ["needs-auth", SWITCHED, "other_account"]);
  assert.deepEqual([pending, is], [2, false]);
  const bob = await newTab(context, server, "bob", "bob");
  await synced(bob);
  assert.deepEqual(await titles(bob), ["synced by Ada"]);
  await page.evaluate(() => engine.adopt());
  await synced(page);
  const after = await page.evaluate(() => engine.status());
  assert.deepEqual([after.account, after.error, after.pending], [null, null, 0]);
  await bob.evaluate(() => until(async () => (await all()).length === 3));
  assert.deepEqual(await titles(bob), await titles(page));
});

test("b24_after_a_switch_the_app_can_discard_what_is_pending", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS);
  const page = await switchedPage(context, server, "discards");
  await page.evaluate(() => engine.discardPending());
  assert.deepEqual(await titles(page), ["synced by Ada"]);
  assert.equal(await page.evaluate(() => engine.status().pending), 0);
  await page.evaluate(() => add("3", "written by Bob"));
  await synced(page);
  const bob = await newTab(context, server, "bob", "bob");
  await synced(bob);
  assert.deepEqual(await titles(bob), ["synced by Ada", "written by Bob"]);
  await load(page, world.origin);
  await open(page, server, "discards", "bob");
  await synced(page);
  assert.deepEqual(await titles(page), ["synced by Ada", "written by Bob"]);
});

test("the_own_account_can_come_back_and_there_is_nothing_to_adopt", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS);
  const page = await switchedPage(context, server, "returns");
  await page.evaluate(() => engine.token("token of ada"));
  await synced(page);
  const { account, pending } = await page.evaluate(() => engine.status());
  assert.deepEqual([account, pending], [null, 0]);
  for (const call of ["adopt", "discardPending"]) {
    const code = await page.evaluate((call) => failure(() => engine[call]()), call);
    assert.equal(code, "invalid");
  }
});

test("a_token_of_another_account_stops_a_live_session", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS);
  const page = await newTab(context, server, "live", "ada");
  await synced(page);
  await page.evaluate(() => engine.token("token of bob"));
  await switched(page);
  assert.deepEqual(await page.evaluate(() => engine.status().account), SWITCHED);
});

test("b24_every_tab_shows_the_other_account_and_can_decide", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS);
  const leader = await switchedPage(context, server, "everywhere");
  const follower = await newPage(leader.context(), world.origin);
  await open(follower, server, "everywhere", "bob");
  await switched(follower);
  assert.deepEqual(await follower.evaluate(() => engine.status().account), SWITCHED);
  assert.equal(await follower.evaluate(() => engine.status().leader), false);
  await follower.evaluate(() => engine.discardPending());
  for (const page of [leader, follower]) {
    await synced(page);
    assert.deepEqual(await titles(page), ["synced by Ada"]);
  }
});
