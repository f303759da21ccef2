// The npm package with the tools that apps are built and tested with, each of the version that
// `package.json` names: built, opened in Chromium, written to, reloaded, read.

import assert from "node:assert/strict";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { addPage, addScripts, bin, keepsARecord, launchBrowser, newFolder } from "../world.mjs";
import { install, pack, remove, run, serve, start } from "../world.mjs";

// Asks nobody.
process.env.NEXT_TELEMETRY_DISABLED = "1";

const MATRIX = fileURLToPath(new URL(".", import.meta.url));
const module = (path) => `<script type="module" src="${path}"></script>`;

const { devDependencies: tools } = JSON.parse(await readFile(join(MATRIX, "package.json"), "utf8"));

describe("the npm package", { timeout: 900_000 }, () => {
  let folder;
  let browser;
  before(async () => {
    browser = await launchBrowser();
    folder = await newFolder();
    const packed = await pack(folder);
    await install(folder, packed.path, tools);
  });
  after(async () => {
    await browser?.close();
    await remove(folder);
  });

  /** The app of this name, below what was installed, with the scripts of the pages in `scripts`. */
  async function app(name, scripts = ".") {
    const app = join(folder, name);
    await cp(join(MATRIX, name), app, { recursive: true });
    await mkdir(join(app, scripts), { recursive: true });
    await addScripts(join(app, scripts));
    return app;
  }

  /** Runs the app's `build.mjs`; each element is a page that keeps a record. */
  async function builds(name, elements) {
    const folder = await app(name);
    await run(folder, process.execPath, "build.mjs");
    const site = await serve(folder);
    try {
      for (const [page, element] of Object.entries(elements)) {
        await addPage(folder, `${page}.html`, element);
        const isFile = page !== "inline";
        await keepsARecord(browser, `${site.origin}/${page}.html`, { isFile });
      }
    } finally {
      await site.close();
    }
  }

  it("works with webpack", async () => {
    const pages = ["main", "inline", "slim"].map((page) => [page, module(`dist/${page}.js`)]);
    await builds("webpack", Object.fromEntries(pages));
  });

  it("works with esbuild", async () => {
    await builds("esbuild", {
      main: module("dist/main.js"),
      inline: '<script defer src="dist/inline.js"></script>',
      slim: module("dist/slim.js"),
    });
  });

  it("works with Rollup", async () => {
    const pages = { main: module("dist/main.js"), inline: module("dist/inline.js") };
    await builds("rollup", pages);
  });

  it("works with Next.js, which renders on the server", async () => {
    const folder = await app("next", "app");
    const next = bin(join(folder, ".."), "next", "dist/bin/next");
    await run(folder, process.execPath, next, "build");
    const html = await readFile(join(folder, ".next/server/app/index.html"), "utf8");
    assert.match(html, /Rendered by the server/u);
    const site = await start(folder, next, "start", "--hostname", "127.0.0.1", "--port", "0");
    try {
      await keepsARecord(browser, site.origin);
    } finally {
      await site.close();
    }
  });

  it("is given a compiled module in a worker of Cloudflare", async () => {
    const folder = await app("workers");
    assert.equal(await run(folder, process.execPath, "run.mjs"), "In a worker\n");
  });

  it("is imported and opened in Vitest", async () => {
    const folder = await app("vitest");
    await run(folder, process.execPath, bin(join(folder, ".."), "vitest", "vitest.mjs"), "run");
  });

  it("is imported and opened in Jest", async () => {
    const folder = await app("jest");
    await writeFile(join(folder, "package.json"), '{ "type": "module" }');
    const jest = bin(join(folder, ".."), "jest", "bin/jest.js");
    // Jest has no other way to ES modules.
    await run(folder, process.execPath, "--experimental-vm-modules", jest);
  });
});
