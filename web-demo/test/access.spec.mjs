import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import {
  badge,
  DESKTOP,
  launchBrowser,
  openPage,
  PHONE,
  screenshot,
  task,
  World,
} from "./setup.mjs";

const AXE = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

const LOOKS = {
  light: { viewport: DESKTOP, colorScheme: "light" },
  dark: { viewport: DESKTOP, colorScheme: "dark" },
  phone: { viewport: PHONE, isMobile: true, hasTouch: true },
  "phone-dark": { viewport: PHONE, isMobile: true, hasTouch: true, colorScheme: "dark" },
};

const RIGHT_TO_LEFT = "اكتب رسالة إلى جدتي قبل يوم الجمعة";
const ONE_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamten".repeat(4);

describe("the demo is for everybody", { timeout: 240_000 }, () => {
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

  for (const [look, options] of Object.entries(LOOKS)) {
    it(`has nothing that axe objects to and nothing that overflows (${look})`, async () => {
      // Without animation there is no moment at which a colour is half there.
      const context = await browser.newContext({ ...options, reducedMotion: "reduce" });
      const { page, faults } = await openPage(context, `${world.url}?space=${look}`);
      const tasks = page.getByTestId("replica-a");
      const seen = async (state) => {
        await screenshot(page, `look-${look}-${state}`);
        assert.deepEqual(await objections(page), [], state);
        assert.deepEqual(await page.evaluate(beyondTheEdge), [], state);
      };
      await badge(tasks, "verified");
      await seen("empty");

      await page.evaluate(writeAll, [RIGHT_TO_LEFT, ONE_WORD]);
      await badge(tasks, "verified");
      await task(tasks, ONE_WORD).waitFor();
      const { direction } = await task(tasks, RIGHT_TO_LEFT)
        .getByTestId("title")
        .evaluate((title) => ({ direction: getComputedStyle(title).direction }));
      assert.equal(direction, "rtl");
      await seen("tasks");

      await task(tasks, ONE_WORD).getByTestId("more").click();
      await tasks.getByTestId("badge").locator("summary").click();
      await seen("details");
      await page.keyboard.press("Escape");

      await page.getByTestId("show-log").click();
      await page.getByTestId("two-replicas").click();
      await badge(page.getByTestId("replica-b"), "verified");
      await tasks.getByTestId("network").click();
      await badge(tasks, "offline");
      await seen("two-replicas");

      await page.goto(`${world.url}catalog.html?space=${look}`);
      await badge(page, "verified");
      await page.getByText("Import Debian").waitFor();
      await seen("catalog");
      assert.deepEqual(faults(), []);
      await context.close();
    });
  }

  it("is used by keyboard alone, and shows where the focus is", async () => {
    const context = await browser.newContext({ viewport: DESKTOP });
    const { page, faults } = await openPage(context, `${world.url}?space=keys`);
    const tasks = page.getByTestId("replica-a");
    const focused = () => page.evaluate(() => document.activeElement?.dataset.testid);
    await badge(tasks, "verified");
    await page.keyboard.press("n");
    assert.equal(await focused(), "new-task");
    for (const title of ["First", "Second"]) {
      await page.keyboard.type(title);
      await page.keyboard.press("Enter");
      await task(tasks, title).waitFor();
    }
    const title = (name) => task(tasks, name).getByTestId("title");
    await title("Second").focus();
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "First");
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "title-field");
    await page.keyboard.type("Given up");
    await page.keyboard.press("Escape");
    assert.equal(await focused(), "title");
    assert.equal(await title("First").count(), 1);
    await page.keyboard.press("Enter");
    await page.keyboard.type("Renamed");
    await page.keyboard.press("Enter");
    await task(tasks, "Renamed").waitFor();

    // Every stop of the Tab key is seen: a ring on the control, or on the box around its field.
    const stops = new Set();
    for (let stop = 0; stop < 40; stop += 1) {
      await page.keyboard.press("Tab");
      const { name, ringed } = await page.evaluate(focusRing);
      // Between the last stop and the first lies the browser's own.
      if (name === undefined) continue;
      assert.ok(ringed, `${name} has no ring`);
      stops.add(name);
    }
    for (const stop of ["two-replicas", "network", "new-task", "done", "vote-up", "more"]) {
      assert.ok(stops.has(stop), `Tab does not reach ${stop}`);
    }
    assert.deepEqual(faults(), []);
    await context.close();
  });
});

async function objections(page) {
  await page.evaluate(`${AXE};undefined`);
  return page.evaluate(async () => {
    const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const { violations } = await window.axe.run({ runOnly });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  });
}

/** Runs in the page: what reaches beyond the box that cuts it, unless it is scrolled or ends in "…". */
function beyondTheEdge() {
  const found = [];
  for (const element of document.querySelectorAll("#app *")) {
    const { left, right, width, height } = element.getBoundingClientRect();
    if (width <= 1 || height <= 1) continue;
    let box = element.parentElement;
    while (box !== document.body && getComputedStyle(box).overflowX === "visible") {
      box = box.parentElement;
    }
    const { overflowX, textOverflow } = getComputedStyle(box);
    if (/auto|scroll/u.test(overflowX) || textOverflow === "ellipsis") continue;
    const edge =
      box === document.body ? { left: 0, right: innerWidth } : box.getBoundingClientRect();
    // A box of one pixel is text for screen readers.
    if (edge.right - edge.left <= 1) continue;
    if (left >= edge.left - 1 && right <= edge.right + 1) continue;
    found.push(element.outerHTML.slice(0, 120));
  }
  return found;
}

/** Runs in the page. */
async function writeAll([rightToLeft, oneWord]) {
  const { tasks } = window.rejoin.db;
  const add = (title, createdAt, more = {}) => tasks.add({ title, createdAt, ...more });
  await add("Book the night train", 4, { tags: ["travel"], notes: "Lower berth." });
  await add(rightToLeft, 3, { tags: ["عائلة"], notes: "لا تنس الصور." });
  await add(oneWord, 2, { tags: [oneWord.slice(0, 120)], notes: oneWord.repeat(3) });
  await add("日本語のとても長いタイトルはどこで折り返されるべきでしょうか", 1, { done: true });
}

/** Runs in the page: what has the focus, and whether it shows. */
function focusRing() {
  const element = document.activeElement;
  if (element === null || element === document.body) return { ringed: false };
  const ring = (box) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(box);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  };
  const framed = element.closest(".composer, .search");
  const ringed = ring(element) || (framed !== null && framed.matches(":focus-within"));
  return { name: element.dataset.testid ?? element.className ?? element.tagName, ringed };
}
