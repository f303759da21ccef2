import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import {
  addTask,
  badge,
  DESKTOP,
  launchBrowser,
  openPage,
  pageIsKept,
  PHONE,
  RECONNECT_MS,
  screenshot,
  task,
  World,
} from "./setup.mjs";

describe("the classic check", { timeout: 240_000 }, () => {
  let browser;
  let world;
  before(async () => (browser = await launchBrowser()));
  after(() => browser?.close());
  beforeEach(async () => (world = await World.start()));
  afterEach(() => world?.stop());

  for (const [name, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    it(`writes offline, survives a reload and rejoins by itself (${name})`, async () => {
      const context = await browser.newContext({ viewport });
      const { page, faults } = await openPage(context, world.url);
      const tasks = page.getByTestId("replica-a");
      const shot = (step) => screenshot(page, `classic-${name}-${step}`);

      await badge(tasks, "verified");
      await shot("1-online");

      await addTask(tasks, "Hello World");
      await badge(tasks, "verified");
      await shot("2-hello-world");

      await world.server.kill();
      await badge(tasks, "offline");
      await shot("3-server-killed");

      await addTask(tasks, "I am offline");
      await badge(tasks, "offline", { pending: 1 });
      await shot("4-i-am-offline");

      await page.reload();
      await task(tasks, "Hello World").waitFor();
      await task(tasks, "I am offline").waitFor();
      await badge(tasks, "offline", { pending: 1 });
      await shot("5-reloaded");

      await world.startServer();
      await badge(tasks, "verified");
      await task(tasks, "Hello World").waitFor();
      await task(tasks, "I am offline").waitFor();
      await shot("6-online-by-itself");

      const synced = await world.server.line(
        /space=demo\b.*\bpushed=1\b.*\bsynced\b/u,
        RECONNECT_MS,
      );
      const root = await tasks.getByTestId("badge").getAttribute("data-root");
      assert.match(root, /^[0-9a-f]{64}$/u);
      assert.ok(synced);
      await holdsBoth(browser, world, root);
      assert.deepEqual(faults(), []);
      await context.close();
    });
  }

  it("opens with everything down, and rejoins when everything is back", async () => {
    const context = await browser.newContext({ viewport: DESKTOP });
    const { page, faults } = await openPage(context, world.url);
    const tasks = page.getByTestId("replica-a");
    await badge(tasks, "verified");
    await addTask(tasks, "Kept");
    await badge(tasks, "verified");
    await pageIsKept(page);

    await Promise.all([world.server.kill(), world.page.kill()]);
    await page.reload();
    await task(tasks, "Kept").waitFor();
    await addTask(tasks, "Written with everything down");
    await badge(tasks, "offline", { pending: 1 });
    await screenshot(page, "everything-down");

    await Promise.all([world.startServer(), world.startPage()]);
    await badge(tasks, "verified");
    assert.deepEqual(faults(), []);
    await context.close();
  });
});

/** A browser that was never here before gets both tasks from the server alone. */
async function holdsBoth(browser, world, root) {
  const stranger = await browser.newContext();
  const { page } = await openPage(stranger, world.url);
  await task(page.locator("main"), "Hello World").waitFor({ timeout: RECONNECT_MS });
  await task(page.locator("main"), "I am offline").waitFor();
  await badge(page.locator("main"), "verified");
  assert.equal(await page.getByTestId("badge").getAttribute("data-root"), root);
  await stranger.close();
}
