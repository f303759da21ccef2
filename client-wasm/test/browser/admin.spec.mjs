// The admin page of the server's binary in Chromium: names that want to be more than text, states, looks, access.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Server, serverProgram } from "./server.mjs";
import { launch, newPage } from "./world.mjs";

const AXE = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");
const LIMITS = { timeout: 180_000, skip: serverProgram() === undefined && "no rejoin-server" };
const TOKEN = "an-admin-token-of-some-length-0123456789";
const LOOKS = [
  { width: 1280, colorScheme: "light" },
  { width: 1280, colorScheme: "dark" },
  { width: 390, colorScheme: "light" },
  { width: 390, colorScheme: "dark" },
];

/** Names that are more than text where somebody lets them be. */
const HOSTILE = [
  "<img src=x onerror=hacked()>",
  "<script>hacked()<\\script>",
  '"><svg onload=hacked()>',
  "javascript:hacked()",
  "'-hacked()-'",
  "{{constructor.constructor('hacked()')()}}",
  "${hacked()}",
  "&lt;b&gt;&#0;",
  "__proto__",
  "constructor",
  "\u202egnp.exe\u2066",
  "\u200b\ufeff\u00ad",
  "%3Cimg%20src=x%20onerror=hacked()%3E",
  "a?b&c=d#e",
  "Zalgo\u0335\u0321\u0316\u0353",
  "\u{1f469}\u200d\u{1f680}",
  "x".repeat(120),
];
/** What the page makes of a name. */
const asShown = (name) =>
  name.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu,
    (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );

const principal = (at) => `principal ${HOSTILE[at]}`;
const TOKENS = HOSTILE.map(
  (_, at) =>
    `[[tokens]]\ntoken = "user-${at}"\nprincipal = ${JSON.stringify(principal(at))}\n` +
    `spaces = [{ space = "*", collections = [${at === 0 ? '"tasks"' : '"*"'}], write = true }]\n`,
).join("");

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

/** A page that complains of whatever runs that should not. */
async function newTab(context, server, look = LOOKS[0]) {
  const { width, colorScheme } = look;
  const browser = await world.browser.newContext({
    viewport: { width, height: 800 },
    ...{ colorScheme, reducedMotion: "reduce" },
  });
  context.after(() => browser.close());
  const page = await browser.newPage();
  const wrong = [];
  await page.exposeFunction("hacked", () => wrong.push("hacked"));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => {
    wrong.push(dialog.message());
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy|TrustedHTML/u.test(message.text())) wrong.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    const known = url.protocol === "data:" || url.origin === new URL(server.adminUrl).origin;
    if (!known || url.href.includes(TOKEN)) wrong.push(`asks for ${url.href}`);
  });
  await page.goto(server.adminUrl);
  return { page, wrong };
}

async function enter(page, token = TOKEN) {
  await page.fill("#token", token);
  await page.click("button[type=submit]");
}

async function show(page, view, query = {}) {
  const hash = `/${view}?${new URLSearchParams(query)}`;
  await page.evaluate((hash) => (location.hash = hash), hash);
  await page.waitForFunction(() => !document.querySelector(".bones:not([hidden])"));
}

const text = (page) => page.evaluate(() => document.querySelector("main").innerText);
const untilShown = (page, wanted) =>
  page.waitForFunction(
    (wanted) => document.querySelector("main").innerText.includes(wanted),
    wanted,
    { timeout: 20_000 },
  );

async function put(server, at, space, collection, id, record) {
  const path = [space, "collections", collection, "records", id].map(encodeURIComponent).join("/");
  const answer = await fetch(`http://127.0.0.1:${server.port}/v1/spaces/${path}`, {
    method: "PUT",
    headers: { authorization: `Bearer user-${at}`, "content-type": "application/json" },
    body: JSON.stringify(record),
  });
  return answer.status;
}

/** Two devices that write the same record without knowing each other. */
async function disagree(context, server, space) {
  const pages = [];
  for (const name of ["one", "other"]) {
    const browser = await world.browser.newContext();
    context.after(() => browser.close());
    const page = await newPage(browser, world.origin);
    await page.evaluate(() => openEngine("device"));
    await page.evaluate((name) => add("same", `of ${name}`), name);
    pages.push(page);
  }
  for (const page of pages) {
    const more = { url: server.url, space, token: "user-1" };
    await page.evaluate(async (more) => {
      await engine.close();
      await openEngine("device", more);
      await until(() => engine.status().synced, 40_000);
    }, more);
  }
}

test("x23_names_are_text_whatever_is_in_them", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS, TOKEN);
  for (const [at, name] of HOSTILE.entries()) {
    const fields = { [name.slice(0, 60)]: "a secret value" };
    assert.equal(await put(server, at, name, "tasks", name, fields), 201, name);
    const elsewhere = await put(server, at, "home", name, name, fields);
    assert.equal(elsewhere, at === 0 ? 404 : 201, name);
  }
  const { page, wrong } = await newTab(context, server);
  await enter(page);
  await show(page, "overview");
  await show(page, "spaces");
  for (const name of HOSTILE) await untilShown(page, asShown(name));
  for (const [at, name] of HOSTILE.entries()) {
    await show(page, "space", { space: name });
    await untilShown(page, asShown(principal(at)));
    await show(page, "record", { space: name, collection: "tasks" });
    await untilShown(page, asShown(name));
    await show(page, "record", { space: name, collection: "tasks", id: name });
    await untilShown(page, asShown(principal(at)));
    assert.match(await text(page), /lww/u);
  }
  await show(page, "space", { space: "home" });
  for (const name of HOSTILE.slice(1)) await untilShown(page, asShown(name));
  await show(page, "clients");
  await show(page, "events");
  for (const name of HOSTILE) await untilShown(page, asShown(name));
  const whole = await page.content();
  assert.ok(!whole.includes("a secret value"), "a value is shown");
  const made = await page.evaluate(
    () => document.querySelectorAll("main :is(img, script, iframe)").length,
  );
  assert.equal(made, 0);
  assert.deepEqual(wrong, []);
});

test("what_happens_is_shown_as_it_happens_conflicts_with_who_won", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS, TOKEN);
  const { page, wrong } = await newTab(context, server);
  await enter(page);
  await show(page, "events");
  await disagree(context, server, "home");
  await untilShown(page, "won over");
  await untilShown(page, "wrote 1 row");
  await page.click("text=Conflicts");
  await page.click("main .events a:has-text('same')");
  await untilShown(page, "2 replicas seen");
  assert.equal(
    await page.locator(".lanes circle").count(),
    3,
    "two that are seen, one that has won",
  );
  await show(page, "clients");
  await untilShown(page, "up to date");
  await show(page, "overview");
  await untilShown(page, "won over");
  assert.deepEqual(wrong, []);
});

test("states_are_said_locked_wrong_lost_and_back", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS, TOKEN);
  const { page, wrong } = await newTab(context, server);
  await enter(page, "a-wrong-token-of-some-length");
  await untilShown(page, "This is not the token.");
  await enter(page, "töken");
  await untilShown(page, "That is no token.");
  await enter(page);
  await untilShown(page, "Overview");
  assert.equal(await page.evaluate(() => location.href.includes("token")), false);
  await page.reload();
  await untilShown(page, "Nothing is wrong");
  await show(page, "record", { space: "none", collection: "tasks", id: "1" });
  await untilShown(page, "There is no such record");
  await show(page, "spaces");
  await untilShown(page, "No client has written");

  await server.kill();
  await page.waitForSelector("#line[data-state=lost]");
  await untilShown(page, "cannot be reached");
  await server.run();
  await page.waitForSelector("#line[data-state=live]", { timeout: 30_000 });
  await untilShown(page, "No client has written");

  await page.click("#lock");
  await page.waitForSelector("#token");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  assert.deepEqual(wrong, []);
});

test("every_view_fits_and_is_accessible_in_each_look", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin, TOKENS, TOKEN);
  for (let at = 1; at < 9; at += 1)
    await put(server, at, "home", "tasks", `r${at}`, { title: "x" });
  assert.equal(await put(server, 0, "home", "notes", "refused", { title: "x" }), 404);
  await put(server, 2, "x".repeat(120), "tasks", "y".repeat(120), { title: "x" });
  await disagree(context, server, "home");
  for (const look of LOOKS) {
    const { page, wrong } = await newTab(context, server, look);
    const check = async (view) => {
      const name = `${view} ${look.width} ${look.colorScheme}`;
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} px too wide`);
      await page.evaluate(AXE);
      const found = await page.evaluate(async () => {
        const { violations } = await window.axe.run();
        return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`);
      });
      assert.deepEqual(found, [], name);
      if (process.env.REJOIN_SHOTS) {
        const path = `${process.env.REJOIN_SHOTS}/${look.width}-${look.colorScheme}-${view}.png`;
        await page.screenshot({ path, fullPage: true });
      }
    };
    await check("gate");
    await enter(page);
    const one = { space: "home", collection: "tasks" };
    for (const [view, query] of [
      ["overview", {}],
      ["spaces", {}],
      ["space", { space: "home" }],
      ["clients", {}],
      ["events", {}],
      ["record", one],
      ["record", { ...one, id: "same" }],
    ]) {
      await show(page, view, query);
      await page.waitForSelector("#line[data-state=live]");
      await check(view);
    }
    // The keyboard gets everywhere, and sees where it is.
    await show(page, "overview");
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(
      () => getComputedStyle(document.activeElement).outlineStyle,
    );
    assert.notEqual(outline, "none");
    assert.deepEqual(wrong, []);
  }
});
