import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  addTask,
  badge,
  DESKTOP,
  launchBrowser,
  openPage,
  PHONE,
  screenshot,
  task,
  World,
} from "./setup.mjs";

describe("two replicas in one page", { timeout: 240_000 }, () => {
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

  it("merges what both wrote while cut off, and asks where it must", async () => {
    const context = await browser.newContext({ viewport: DESKTOP });
    const { page, faults } = await openPage(context, `${world.url}?replicas=2&log=1`);
    const [a, b] = [page.getByTestId("replica-a"), page.getByTestId("replica-b")];
    const title = "Plan the trip";
    await Promise.all([badge(a, "verified"), badge(b, "verified")]);
    await addTask(a, title);
    await task(b, title).waitFor();

    for (const side of [a, b]) {
      await side.getByTestId("network").click();
      await badge(side, "offline");
    }
    await write(a, title, { votes: 2, tag: "train", note: "Leave on Friday." });
    await write(b, title, { votes: 3, tag: "alps", note: "Leave on Saturday." });
    await addTask(b, "Only at B");
    assert.equal(await task(a, "Only at B").count(), 0);
    await screenshot(page, "two-replicas-cut-off");

    for (const side of [a, b]) await side.getByTestId("network").click();
    await Promise.all([badge(a, "verified"), badge(b, "verified")]);
    await task(a, "Only at B").waitFor();
    for (const side of [a, b]) {
      const row = task(side, title);
      await row.getByTestId("conflict").waitFor();
      assert.equal(await row.getByTestId("votes").textContent(), "5");
      assert.deepEqual((await row.locator(".body").getByTestId("tag").allTextContents()).sort(), [
        "alps",
        "train",
      ]);
      assert.equal(await row.getByTestId("version").count(), 2);
    }
    assert.equal(await rootOf(a), await rootOf(b));
    await screenshot(page, "two-replicas-conflict");

    await task(a, title).getByTestId("merge").click();
    await task(a, title).getByTestId("merge-field").fill("Leave on Friday or Saturday.");
    await task(a, title).getByTestId("merge-save").click();
    for (const side of [a, b]) {
      await task(side, title).getByTestId("conflict").waitFor({ state: "detached" });
      const note = task(side, title).getByTestId("note-field");
      assert.equal(await note.inputValue(), "Leave on Friday or Saturday.");
    }
    for (const message of ["Hello", "Push", "Ack", "Changes"]) {
      const line = page.locator(`[data-testid=log] li[data-message="${message}" i]`).first();
      await line.waitFor({ state: "attached" });
    }
    await page.setViewportSize(PHONE);
    await screenshot(page, "two-replicas-phone");
    assert.deepEqual(faults(), []);
    await context.close();
  });
});

const rootOf = (side) => side.getByTestId("badge").getAttribute("data-root");

async function write(side, title, { votes, tag, note }) {
  const row = task(side, title);
  for (let vote = 0; vote < votes; vote += 1) await row.getByTestId("vote-up").click();
  await row.getByTestId("more").click();
  await row.getByTestId("note-field").fill(note);
  await row.getByTestId("tag-field").fill(tag);
  await row.getByTestId("tag-field").press("Enter");
  await row.locator(".body").getByTestId("tag").getByText(tag, { exact: true }).waitFor();
  await side.page().waitForFunction(
    async ([letter, text]) => {
      const rows = await window.rejoin.replicas[letter].tasks.all();
      return rows.some(({ notes }) => notes.value === text);
    },
    [(await side.getAttribute("data-testid")).at(-1).toUpperCase(), note],
  );
}
