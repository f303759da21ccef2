// The adapters around the built engine, with their libraries as a bundler gives them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { Server, serverProgram } from "./server.mjs";
import { launch } from "./world.mjs";

const LIMITS = { timeout: 120_000, skip: serverProgram() === undefined && "no rejoin-server" };

/** What the pages import by name. */
const LIBRARIES = {
  yjs: `export * from "yjs";`,
  react: `
    import React from "react";
    import { createRoot } from "react-dom/client";
    export { createRoot };
    export const { createElement, StrictMode, useState, useSyncExternalStore } = React;`,
};

let world;
const libraries = new Map();

before(
  async () => {
    world = await launch();
    for (const [name, code] of Object.entries(LIBRARIES)) {
      libraries.set(`/libraries/${name}.js`, await bundle(code));
    }
  },
  { timeout: 60_000 },
);
after(() => world.close(), { timeout: 60_000 });

async function bundle(code) {
  const entry = "\0library";
  const build = await rolldown({
    input: entry,
    platform: "browser",
    transform: { define: { "process.env.NODE_ENV": '"development"' } },
    plugins: [
      {
        name: "library",
        resolveId(id, importer) {
          if (id === entry) return entry;
          const here = fileURLToPath(import.meta.url);
          return importer === entry ? this.resolve(id, here, { skipSelf: true }) : undefined;
        },
        load: (id) => (id === entry ? code : undefined),
      },
    ],
  });
  const { output } = await build.generate({ format: "esm" });
  await build.close();
  return output[0].code;
}

/** A page in a browser of its own, or another tab beside `tab`. */
async function newPage(context, tab) {
  const browserContext = tab?.context() ?? (await world.browser.newContext());
  if (tab === undefined) context.after(() => browserContext.close());
  await browserContext.route("**/libraries/*", (route) => {
    const body = libraries.get(new URL(route.request().url()).pathname);
    return route.fulfill({ body, contentType: "text/javascript" });
  });
  const page = await browserContext.newPage();
  await load(page);
  return page;
}

/** Loads the package and the adapters, again too. */
async function load(page) {
  await page.goto(world.origin);
  await page.evaluate(
    async (names) => {
      const map = document.createElement("script");
      map.type = "importmap";
      const paths = names.map((name) => [name, `/libraries/${name}.js`]);
      map.textContent = JSON.stringify({ imports: Object.fromEntries(paths) });
      document.head.append(map);
      const [rejoin, Y, { yjsFields, YjsProvider }] = await Promise.all([
        ...[import("/dist/index.js"), import("yjs"), import("/dist/adapters/yjs.js")],
      ]);
      Object.assign(globalThis, { rejoin, Y });
      const schema = rejoin.defineSchema({
        tasks: { title: rejoin.text(), done: rejoin.bool().default(false) },
        "texts/*": yjsFields,
      });
      globalThis.openDb = async (url) => {
        const sync = url === undefined ? undefined : { url, space: "test" };
        globalThis.db = await rejoin.open({ name: "adapters", schema, sync });
      };
      globalThis.errors = [];
      globalThis.openText = async () => {
        globalThis.doc = new Y.Doc();
        globalThis.text = doc.getText("body");
        const onError = (error) => errors.push(error.code);
        globalThis.provider = new YjsProvider(db, "texts/1", doc, { onError });
        await provider.loaded;
      };
      globalThis.type = async (letters) => {
        for (const letter of letters) {
          text.insert(text.length, letter);
          await provider.saved();
        }
      };
      globalThis.until = async (holds) => {
        while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
      };
    },
    [...Object.keys(LIBRARIES)],
  );
}

const reopen = async (page, url) => {
  await load(page);
  await page.evaluate(async (url) => {
    await openDb(url);
    await openText();
  }, url);
};

test("texts_that_are_written_apart_come_together_and_stay", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin);
  const pages = [await newPage(context), await newPage(context)];
  await Promise.all(pages.map((page) => reopen(page, server.url)));
  // More edits than records may be, each a write of its own: both merge what they have.
  const apart = async (page, letter) =>
    page.evaluate(async (letter) => {
      db.network.pause();
      await type(letter.repeat(130));
    }, letter);
  await Promise.all([apart(pages[0], "a"), apart(pages[1], "b")]);
  const together = async (length) => {
    await Promise.all(
      pages.map((page) =>
        page.evaluate(async (length) => {
          db.network.resume();
          await db.synced();
          await until(() => text.length === length);
        }, length),
      ),
    );
    return Promise.all(
      pages.map((page) =>
        page.evaluate(async () => ({
          text: text.toString(),
          ids: (await db.collection("texts/1").all()).map(({ id }) => id),
          errors,
        })),
      ),
    );
  };
  const [one, other] = await together(260);
  assert.deepEqual(one, other);
  assert.equal(one.text.replaceAll("b", ""), "a".repeat(130));
  assert.ok(one.ids.length < 120, `${one.ids.length} records`);
  await reopen(pages[0], server.url);
  const reloaded = await pages[0].evaluate(() => text.toString());
  assert.equal(reloaded, one.text);
  // A third one, that was never there, gets it from the server.
  const late = await newPage(context);
  await reopen(late, server.url);
  assert.equal(
    await late.evaluate(() => until(() => text.length === 260).then(() => `${text}`)),
    one.text,
  );
});

test(
  "a_text_that_two_tabs_write_at_once_is_whole_in_both_and_after_a_reload",
  LIMITS,
  async (context) => {
    const first = await newPage(context);
    const tabs = [first, await newPage(context, first)];
    for (const tab of tabs) await reopen(tab);
    const letters = (tab, letter) => tab.evaluate((text) => type(text), letter.repeat(150));
    await Promise.all([letters(tabs[0], "a"), letters(tabs[1], "b")]);
    const read = async (tab) => {
      await tab.evaluate(() => until(() => text.length === 300));
      return tab.evaluate(async () => ({
        text: text.toString(),
        records: (await db.collection("texts/1").all()).length,
        errors,
      }));
    };
    const [one, other] = [await read(tabs[0]), await read(tabs[1])];
    assert.deepEqual(one, other);
    assert.equal(one.text.replaceAll("b", ""), "a".repeat(150));
    assert.ok(one.records < 220 && one.errors.length === 0, `${one.records} records`);
    await tabs[1].close();
    await reopen(first);
    assert.deepEqual(await read(first), one);
  },
);

test("an_edit_outlives_the_page_and_what_is_pasted_may_be_large", LIMITS, async (context) => {
  const server = await Server.start(context, world.origin);
  const page = await newPage(context);
  await reopen(page, server.url);
  await page.evaluate(async () => {
    text.insert(0, "0123456789".repeat(100_000));
    text.insert(0, "the last letter");
    await provider.saved();
  });
  await reopen(page, server.url);
  assert.equal(await page.evaluate(() => text.length), 1_000_015);
  const other = await newPage(context);
  await reopen(other, server.url);
  const sizes = await other.evaluate(async () => {
    await until(() => text.length === 1_000_015);
    const rows = await db.collection("texts/1").all();
    return { largest: Math.max(...rows.map(({ update }) => update.length)), errors };
  });
  assert.ok(sizes.largest < 256 << 10);
  assert.deepEqual(sizes.errors, []);
});

test("react_shows_live_queries_of_the_built_engine", LIMITS, async (context) => {
  const page = await newPage(context);
  const shown = await page.evaluate(async () => {
    const { createElement: h, createRoot, StrictMode } = await import("react");
    const { useLiveQuery, useRow, useStatus } = await import("/dist/adapters/react.js");
    await openDb();
    await db.tasks.add({ id: "1", title: "first" });
    const seen = [];
    function App() {
      const open = useLiveQuery(db.tasks.where({ done: false }).orderBy("title"));
      const task = useRow(db.tasks, "1");
      const status = useStatus(db);
      const titles = open?.map(({ title }) => title).join() ?? "loading";
      const line = `${titles} ${task?.done} ${status.storage.mode !== undefined}`;
      if (line !== seen.at(-1)) seen.push(line);
      return h("p", null, line);
    }
    document.body.append(document.createElement("main"));
    const root = createRoot(document.querySelector("main"));
    root.render(h(StrictMode, null, h(App)));
    await until(() => document.querySelector("p")?.textContent.startsWith("first"));
    await db.tasks.add({ title: "second" });
    await db.tasks.update("1", { done: true });
    await until(() => document.querySelector("p").textContent.startsWith("second"));
    root.unmount();
    return seen;
  });
  assert.deepEqual(shown, [
    ...["loading undefined true", "first false true", "first,second false true"],
    "second true true",
  ]);
});
