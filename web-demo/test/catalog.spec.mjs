import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  badge,
  DESKTOP,
  launchBrowser,
  openPage,
  pageIsKept,
  PHONE,
  screenshot,
  World,
} from "./setup.mjs";
import { packages } from "./packages.mjs";

const IMPORT_MS = 300_000;
/** Rows that the list may have in the page, however long it is. */
const ROWS_MAX = 200;

describe("the catalog", { timeout: 900_000 }, () => {
  let browser;
  let world;
  let records;
  let where;
  before(async () => {
    browser = await launchBrowser();
    world = await World.start();
    records = await packages();
    where = ["--server", world.sync, "--space", "demo", "--collection", "packages"];
    const file = join(world.data, "packages.jsonl");
    await writeFile(file, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    await world.run("import", ...where, "--key", "Package", file);
  });
  after(async () => {
    await browser?.close();
    await world?.stop();
  });

  it("shows an imported index with progress, verified, and again with everything down", async () => {
    const context = await browser.newContext({ viewport: DESKTOP });
    await context.addInitScript(watchProgress);
    const { page, faults } = await openPage(context, `${world.url}catalog.html`);
    await page.locator("[data-testid=badge][data-state=syncing]").waitFor();
    await screenshot(page, "catalog-syncing");
    await badge(page, "verified", { timeout: IMPORT_MS });
    await listed(page, records.length);
    const progress = await page.evaluate(() => window.progressSeen);
    assert.ok(progress.length > 1, "progress was shown while records arrived");
    assert.deepEqual(
      progress,
      progress.toSorted((one, other) => one - other),
    );

    const root = await page.getByTestId("full-root").textContent();
    assert.match(root, /^[0-9a-f]{64}$/u);
    assert.ok((await world.run("verify", ...where)).includes(root), "rejoin verify says the same");

    const some = records[Math.floor(records.length / 2)];
    await page.getByTestId("search").fill(some.Package);
    await page.getByTestId("package").first().getByText(some.Package, { exact: true }).click();
    await page.getByTestId("pane").getByRole("heading", { name: some.Package }).waitFor();
    await screenshot(page, "catalog-details");
    await page.getByTestId("search").fill("");
    await listed(page, records.length);
    const { frames, rows, empty } = await page.evaluate(scrollFast);
    const slow = frames.toSorted((a, b) => a - b)[Math.floor(frames.length * 0.95)];
    console.log(
      `scrolling ${records.length} records: 95 % of the frames within ${slow.toFixed(1)} ms`,
    );
    assert.ok(rows <= ROWS_MAX, `${rows} rows are in the page`);
    assert.equal(empty, 0, "frames without a row");

    await pageIsKept(page);
    await Promise.all([world.server.kill(), world.page.kill()]);
    await page.reload();
    await listed(page, records.length);
    await badge(page, "offline");
    assert.equal(await page.getByTestId("full-root").textContent(), root);
    await screenshot(page, "catalog-everything-down");
    await page.setViewportSize(PHONE);
    await screenshot(page, "catalog-phone");
    assert.deepEqual(faults(), []);
    await context.close();
  });
});

const listed = (page, count) =>
  page.locator(`[data-testid=list][data-rows="${count}"]`).waitFor({ timeout: IMPORT_MS });

/** Runs in the page: collects the different numbers that the badge shows. */
function watchProgress() {
  window.progressSeen = [];
  new MutationObserver(() => {
    const shown = document.querySelector("[data-testid=progress]")?.textContent;
    const number = shown && Number(shown.replace(/\D/gu, ""));
    if (shown && number !== window.progressSeen.at(-1)) window.progressSeen.push(number);
  }).observe(document, { subtree: true, childList: true, characterData: true });
}

/**
 * Runs in the page, while the list is scrolled: milliseconds from frame to frame, the most rows that were
 * in the page, and the frames in which there was none.
 */
async function scrollFast() {
  const list = document.querySelector("[data-testid=list]");
  const frames = [];
  let rows = 0;
  let empty = 0;
  let last = await new Promise(requestAnimationFrame);
  while (frames.length < 120) {
    list.scrollTop += 900;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
    const there = list.querySelectorAll("[data-testid=package]").length;
    rows = Math.max(rows, there);
    if (there === 0) empty += 1;
  }
  return { frames, rows, empty };
}
