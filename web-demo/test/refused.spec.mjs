import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { addTask, badge, DESKTOP, launchBrowser, openPage, PHONE } from "./setup.mjs";
import { screenshot, task, World } from "./setup.mjs";

/** Four of them exceed what a record may take (768 KiB); each alone is a value that may be written. */
const LONG = 220 << 10;
const TITLE = "Minutes of the meeting";

describe("a write that the server refuses", { timeout: 240_000 }, () => {
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

  it("is kept, exported, sent again or discarded", async () => {
    const contexts = await Promise.all([1, 2].map(() => browser.newContext({ viewport: DESKTOP })));
    const opened = await Promise.all(
      contexts.map((context) => openPage(context, `${world.url}?replicas=2`)),
    );
    const sides = opened.flatMap(({ page }) =>
      ["replica-a", "replica-b"].map((letter) => page.getByTestId(letter)),
    );
    await writeApart(sides);
    const [first, , , late] = sides;
    const { page } = opened[1];
    const refused = late.locator("[data-testid=rejected-write][data-code=too_large]");
    await refused.waitFor();
    await badge(late, "verified");
    await refused.scrollIntoViewIfNeeded();
    await screenshot(page, "refused-desktop");
    assert.ok((await refused.textContent()).length < 1_000, "what was written is shortened");

    await page.reload();
    await refused.waitFor();
    assert.ok((await exported(page, late)).includes(longNote(3)), "the export has all of it");

    // Still too large: it comes back, as another write.
    const row = await page.evaluate(() => window.rejoin.replicas.B.rejected.list[0].row);
    await refused.getByTestId("retry").click();
    await page.waitForFunction((before) => {
      const [write] = window.rejoin.replicas.B.rejected.list;
      return write !== undefined && write.row !== before;
    }, row);

    await task(first, TITLE).getByTestId("keep").first().click();
    await badge(first, "verified");
    await task(late, TITLE).getByTestId("conflict").waitFor({ state: "detached" });
    await refused.getByTestId("retry").click();
    await refused.waitFor({ state: "detached" });
    await badge(late, "verified");
    const values = await page.evaluate(async () => {
      const [{ notes }] = await window.rejoin.replicas.B.tasks.all();
      return notes.siblings.map(({ value }) => value.slice(0, 9));
    });
    assert.ok(values.includes("Version 3"), `sent after all: ${values}`);

    for (const { faults } of opened) assert.deepEqual(faults(), []);
    await Promise.all(contexts.map((context) => context.close()));
  });

  it("goes for good when it is discarded", async () => {
    const context = await browser.newContext({ viewport: PHONE });
    const other = await browser.newContext();
    const space = "?replicas=2&space=discarded";
    const { page, faults } = await openPage(context, world.url + space);
    const { page: otherPage } = await openPage(other, world.url + space);
    const sides = [page, otherPage].flatMap((one) =>
      ["replica-a", "replica-b"].map((letter) => one.getByTestId(letter)),
    );
    await writeApart(sides.toReversed());
    const [late] = sides;
    await late.getByTestId("rejected").scrollIntoViewIfNeeded();
    await screenshot(page, "refused-phone");
    await late.getByTestId("discard").click();
    await late.getByTestId("rejected").waitFor({ state: "detached" });
    await page.reload();
    await badge(late, "verified");
    assert.equal(await late.getByTestId("rejected").count(), 0);
    const values = await page.evaluate(async () => {
      const [{ notes }] = await window.rejoin.replicas.A.tasks.all();
      return notes.siblings.map(({ value }) => value.slice(0, 9));
    });
    assert.deepEqual(values.sort(), ["Version 0", "Version 1", "Version 2"]);
    assert.deepEqual(faults(), []);
    await Promise.all([context.close(), other.close()]);
  });
});

/** Every side gives the same task another long note while it is cut off; the last comes too late. */
async function writeApart(sides) {
  await Promise.all(sides.map((side) => badge(side, "verified")));
  await addTask(sides[0], TITLE);
  await Promise.all(sides.map((side) => task(side, TITLE).waitFor()));
  for (const [number, side] of sides.entries()) {
    await side.getByTestId("network").click();
    await badge(side, "offline");
    await task(side, TITLE).getByTestId("more").click();
    await task(side, TITLE).getByTestId("note-field").fill(longNote(number));
    await task(side, TITLE).getByTestId("note-field").blur();
    await badge(side, "offline", { pending: 1 });
  }
  for (const side of sides) {
    await side.getByTestId("network").click();
    await badge(side, "verified");
  }
}

const longNote = (number) => `Version ${number}. `.padEnd(LONG, "Everybody said something. ");

async function exported(page, side) {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    side.getByTestId("export").click(),
  ]);
  assert.equal(download.suggestedFilename(), "tasks-b-refused.json");
  return readFile(await download.path(), "utf8");
}
