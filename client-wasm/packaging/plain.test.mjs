// The npm package without a bundler: in Node.js, and in pages of plain files.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { addPage, addScripts, keepsARecord, launchBrowser, newApp, newFolder } from "./world.mjs";
import { pack, policy, remove, run, serve } from "./world.mjs";

/** Where a host of plain files has the package. */
const DIST = "/node_modules/rejoin/dist";
const WASM = "/node_modules/rejoin/pkg/rejoin_bg.wasm";
const COMPILED = `{ wasm: await WebAssembly.compileStreaming(fetch("${WASM}")) }`;
const ADDRESS = `{ wasm: () => "${WASM}" }`;
const OUR_SCRIPTS = "script-src 'self' 'wasm-unsafe-eval'; img-src data:";

const PAGES = [
  {
    name: "an import map",
    from: "rejoin",
    head: `<script type="importmap">{"imports":{"rejoin":"${DIST}/index.js"}}</script>`,
  },
  {
    name: "a policy of its own scripts and connections",
    from: `${DIST}/index.js`,
    head: policy(`${OUR_SCRIPTS}; connect-src 'self'`),
  },
  {
    name: "rejoin/inline, under a policy without connections",
    from: `${DIST}/inline.js`,
    head: policy(OUR_SCRIPTS),
    isFile: false,
  },
  { name: "rejoin/slim and a compiled module", from: `${DIST}/slim.js`, options: COMPILED },
  { name: "rejoin/slim and an address", from: `${DIST}/slim.js`, options: ADDRESS },
];

/** Tells of a database what Node.js makes of it. */
const TELL = `
  async function tell({ defineSchema, open, text, destroy, version }, options = {}) {
    const schema = defineSchema({ tasks: { title: text() } });
    const db = await open({ name: "outside", schema, ...options });
    const write = db.tasks.add({ title: "Written" });
    const { title } = await db.tasks.get((await write).id);
    const { durability } = await write.receipt;
    const { mode } = db.status.storage;
    await db.close();
    await destroy("outside", options);
    console.log(title, durability, mode, typeof (await version(options)));
  }`;

describe("the npm package without a bundler", { timeout: 300_000 }, () => {
  let app;
  before(async () => {
    app = await newFolder();
    const packed = await pack(app);
    await newApp(app, packed.path, {});
    await addScripts(app);
  });
  after(() => remove(app));

  /** What a program prints that has `tell`. */
  const node = (program) => run(app, process.execPath, "--input-type=module", "-e", TELL + program);

  it("offers the same by every entry", async () => {
    const program = `
      const entries = ["rejoin", "rejoin/inline", "rejoin/slim", "${app}${DIST}/index.js"];
      for (const entry of entries) console.log(Object.keys(await import(entry)).join());`;
    const [first, ...others] = (await node(program)).trim().split("\n");
    assert.match(first, /\bopen\b/u);
    assert.deepEqual(others, [first, first, first]);
  });

  it("keeps what is written in Node.js in memory", async () => {
    const entries = [
      'await tell(await import("rejoin"));',
      'await tell(await import("rejoin/inline"));',
      `import { createRequire } from "node:module";
       await tell(createRequire("${app}/")("rejoin"));`,
    ];
    const told = await Promise.all(entries.map(node));
    assert.deepEqual(told, Array(entries.length).fill("Written memory memory string\n"));
  });

  it("takes its WebAssembly from the app in rejoin/slim", async () => {
    const sources = [
      "bytes",
      "new WebAssembly.Module(bytes)",
      "() => bytes",
      "async () => new WebAssembly.Module(bytes)",
      'new Response(bytes, { headers: { "content-type": "application/wasm" } })',
      'new URL("data:application/wasm;base64," + bytes.toString("base64"))',
    ];
    const programs = sources.map(
      (source) => `
        import { readFileSync } from "node:fs";
        const bytes = readFileSync(new URL(import.meta.resolve("rejoin/rejoin_bg.wasm")));
        await tell(await import("rejoin/slim"), { wasm: ${source} });`,
    );
    const told = await Promise.all(programs.map(node));
    assert.deepEqual(told, Array(sources.length).fill("Written memory memory string\n"));
  });

  it("loads its WebAssembly once, and after a failure again", async () => {
    const program = `
      import { readFileSync } from "node:fs";
      import { defineSchema, open, text } from "rejoin/slim";
      const bytes = readFileSync(new URL(import.meta.resolve("rejoin/rejoin_bg.wasm")));
      const schema = defineSchema({ tasks: { title: text() } });
      let asked = 0;
      const wasm = async () => {
        asked += 1;
        return asked === 1 ? new Uint8Array(8) : bytes;
      };
      const failed = await open({ name: "a", schema, wasm }).catch((error) => error);
      const [a, b] = await Promise.all(["a", "b"].map((name) => open({ name, schema, wasm })));
      console.log(failed.code, failed.retryable, asked, a !== b);
      await Promise.all([a.close(), b.close()]);`;
    assert.equal(await node(program), "load true 2 true\n");
  });

  describe("in pages of plain files", () => {
    let browser;
    let site;
    before(async () => {
      browser = await launchBrowser();
      site = await serve(app);
    });
    after(async () => {
      await site?.close();
      await browser?.close();
    });

    for (const [index, { name, from, head, options = "{}", isFile }] of PAGES.entries()) {
      it(`works with ${name}`, async () => {
        const script = `
          import * as rejoin from "${from}";
          import { show } from "./show.js";
          show(rejoin, ${options});`;
        await writeFile(join(app, `page-${index}.js`), script);
        const element = `<script type="module" src="page-${index}.js"></script>`;
        await addPage(app, `page-${index}.html`, element, head);
        await keepsARecord(browser, `${site.origin}/page-${index}.html`, { isFile });
      });
    }
  });
});
