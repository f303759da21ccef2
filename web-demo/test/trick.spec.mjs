import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  addTask,
  badge,
  DESKTOP,
  launchBrowser,
  openPage,
  RECONNECT_MS,
  task,
  World,
} from "./setup.mjs";

describe("the trick of the README", { timeout: 240_000 }, () => {
  let browser;
  let world;
  before(async () => {
    browser = await launchBrowser();
    world = await World.start();
  });
  after(async () => {
    await browser?.close();
    await world?.stop();
  });

  it("rejoins without any reload, and what others wrote meanwhile appears", async () => {
    const context = await browser.newContext({ viewport: DESKTOP });
    const { page, faults } = await openPage(context, world.url);
    const tasks = page.getByTestId("replica-a");
    await badge(tasks, "verified");
    let loads = 0;
    page.on("load", () => (loads += 1));
    await addTask(tasks, "Hello World");
    await badge(tasks, "verified");
    await world.server.kill();
    await badge(tasks, "offline");
    await addTask(tasks, "I am offline");
    await badge(tasks, "offline", { pending: 1 });

    await world.startServer();
    await badge(tasks, "verified");
    assert.ok(await world.server.line(/space=demo\b.*\bpushed=1\b.*\bsynced\b/u, RECONNECT_MS));
    const elsewhere = await browser.newContext({ viewport: DESKTOP });
    const other = await openPage(elsewhere, world.url);
    const others = other.page.getByTestId("replica-a");
    await task(others, "I am offline").waitFor({ timeout: RECONNECT_MS });
    await badge(others, "verified");
    await addTask(others, "Seen at once");
    await task(tasks, "Seen at once").waitFor();
    await badge(tasks, "verified");
    for (const text of ["Hello World", "I am offline"]) await task(tasks, text).waitFor();
    assert.equal(loads, 0, "the page was never loaded again");
    assert.deepEqual([...faults(), ...other.faults()], []);
    await elsewhere.close();
    await context.close();
  });
});
