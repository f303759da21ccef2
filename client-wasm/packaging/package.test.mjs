// The npm package as an app gets it: packed, installed by name outside the workspace, type-checked,
// bundled, served, opened. Needs the package built and a Chromium; offline when npm's cache is warm.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { bin, develop, keepsARecord, launchBrowser, newApp, newFolder } from "./world.mjs";
import { PACKAGE, pack, remove, run, serve } from "./world.mjs";

/** The WebAssembly is in it twice: as a file, and within JavaScript for `rejoin/inline`. */
const PACKED_BYTES_MAX = 1 << 20;

/** The versions that this workspace itself is built with. */
const version = (name) => createRequire(import.meta.url)(`${name}/package.json`).version;
const TYPESCRIPT = version("typescript");
/** What the entries besides the main one are for. */
const ADAPTERS = {
  react: "react",
  vue: "vue",
  svelte: "svelte",
  solid: "solid-js",
  "tanstack-db": "@tanstack/db",
  yjs: "yjs",
};
const VITES = [
  { name: "this version of Vite", range: version("vite") },
  // Up to 7, Vite's optimiser moves the module away from its WebAssembly; the README tells the remedy.
  { name: "Vite 7", range: "^7.0.0", config: { optimizeDeps: { exclude: ["rejoin"] } } },
];

describe("the npm package", { timeout: 600_000 }, () => {
  const folders = [];
  let browser;
  let packed;
  before(async () => {
    browser = await launchBrowser();
    const folder = await newFolder();
    folders.push(folder);
    packed = await pack(folder);
    execFileSync("tar", ["-xzf", packed.path, "-C", folder]);
    packed.files_at = join(folder, "package");
  });
  after(async () => {
    await browser?.close();
    await Promise.all(folders.map(remove));
  });

  it("holds what an app needs and nothing else", async () => {
    const files = packed.files.map(({ path }) => path);
    const expected =
      /^(LICENSE|README\.md|package\.json|dist\/(adapters\/)?[\w-]+\.(js|d\.ts)|pkg\/rejoin\w*\.(js|d\.ts|wasm|wasm\.d\.ts))$/u;
    assert.deepEqual(
      files.filter((path) => !expected.test(path)),
      [],
    );
    for (const path of [
      "dist/index.js",
      "dist/slim.js",
      "pkg/rejoin_bg.wasm",
      "LICENSE",
      "README.md",
    ]) {
      assert.ok(files.includes(path), path);
    }
    for (const path of files.filter((path) => /^dist\/.*\.js$/u.test(path))) {
      assert.ok(files.includes(path.replace(/\.js$/u, ".d.ts")), `types of ${path}`);
    }
    assert.ok(packed.size < PACKED_BYTES_MAX, `${packed.size} bytes packed`);
  });

  it("has nothing of the build for tests", async () => {
    const wasm = await readFile(join(packed.files_at, "pkg/rejoin_bg.wasm"), "latin1");
    for (const word of ["rejoinBug", "break_behind"]) assert.ok(!wasm.includes(word), word);
  });

  it("says nothing about the machine that built it", async () => {
    const private_ = [
      homedir(),
      process.env.CARGO_HOME,
      "/registry/src",
      join(PACKAGE, "..").replace(/\/$/u, ""),
    ];
    for (const { path } of packed.files) {
      const text = await readFile(join(packed.files_at, path), "latin1");
      for (const folder of private_.filter((folder) => folder?.length > 1)) {
        assert.ok(!text.includes(`${folder}/`), `${path} names ${folder}`);
      }
    }
  });

  it("is described as its files are", async () => {
    const { publint } = await import("publint");
    const { messages } = await publint({ pkgDir: packed.files_at, pack: false, strict: true });
    assert.deepEqual(messages, []);
    const { exports } = JSON.parse(await readFile(join(packed.files_at, "package.json"), "utf8"));
    const [first] = Object.keys(exports["."]);
    assert.equal(first, "types", "a condition after one that matches is never read");
  });

  describe("in an app without a bundler", () => {
    let app;
    before(async () => {
      app = await newFolder();
      folders.push(app);
      await newApp(app, packed.path, { typescript: TYPESCRIPT });
    });

    it("type-checks, its declarations too", async () => {
      const tsc = bin(app, "typescript", "bin/tsc");
      await run(app, process.execPath, tsc, "-p", ".");
      const node = ["--module", "NodeNext", "--moduleResolution", "NodeNext"];
      await run(app, process.execPath, tsc, "-p", ".", ...node);
    });

    it("is imported in Node without a browser in sight", async () => {
      const forbidden = ["window", "document", "indexedDB", "WebSocket", "location", "fetch"];
      const script = `
        for (const name of ${JSON.stringify(forbidden)}) {
          const get = () => { throw new Error(name + " was touched"); };
          Object.defineProperty(globalThis, name, { configurable: true, get });
        }
        const { defineSchema, open, SyncError, text } = await import("rejoin");
        const schema = defineSchema({ tasks: { title: text() } });
        if (typeof open !== "function" || typeof schema !== "object") throw new Error("empty");
        if (!(new SyncError("load", "x") instanceof Error)) throw new Error("no error");
        console.log(import.meta.resolve("rejoin/rejoin_bg.wasm"));`;
      const wasm = await run(app, process.execPath, "--input-type=module", "-e", script);
      assert.match(wasm, /pkg\/rejoin_bg\.wasm/u);
    });
  });

  describe("in an app with frameworks", () => {
    let app;
    before(async () => {
      app = await newFolder();
      folders.push(app);
      const names = ["typescript", "@types/react", ...Object.values(ADAPTERS)];
      const tools = Object.fromEntries(names.map((name) => [name, version(name)]));
      await newApp(app, packed.path, tools);
    });

    it("has an adapter for each, which type-checks and imports what it is for", async () => {
      const names = Object.keys(ADAPTERS);
      const imports = names.map((name, at) => `export * as a${at} from "rejoin/${name}";\n`);
      await writeFile(join(app, "src/adapters.ts"), imports.join(""));
      // Not every library's own declarations are free of errors under all that the app is strict about.
      const tsc = bin(app, "typescript", "bin/tsc");
      const complaints = await run(app, process.execPath, tsc, "-p", ".").catch(String);
      assert.doesNotMatch(complaints, /^(src|node_modules\/rejoin)\//mu);
      const script = `
        for (const name of ${JSON.stringify(names)}) {
          if (Object.keys(await import("rejoin/" + name)).length === 0) throw new Error(name);
        }`;
      await run(app, process.execPath, "--input-type=module", "-e", script);
    });
  });

  for (const { name, range, config } of VITES) {
    describe(`in an app with ${name}`, () => {
      let app;
      before(async () => {
        app = await newFolder();
        folders.push(app);
        await newApp(app, packed.path, { vite: range });
        if (config !== undefined) {
          const text = `export default ${JSON.stringify(config)};\n`;
          await writeFile(join(app, "vite.config.js"), text);
        }
      });

      it("works when built and served as plain files", async () => {
        // The page waits at its top level, which the oldest browsers of Vite's default lack.
        const vite = bin(app, "vite", "bin/vite.js");
        await run(app, process.execPath, vite, "build", "--target", "es2022");
        const site = await serve(join(app, "dist"));
        try {
          await keepsARecord(browser, site.origin, { shown: "Written outside 2 outside" });
          await keepsARecord(browser, `${site.origin}/?worker`, {
            workers: 1,
            shown: "Written outside 2 outside",
          });
        } finally {
          await site.close();
        }
      });

      it("works under the development server", async () => {
        const site = await develop(app);
        try {
          await keepsARecord(browser, site.origin, { shown: "Written outside 2 outside" });
          await keepsARecord(browser, `${site.origin}/?worker`, {
            workers: 1,
            shown: "Written outside 2 outside",
          });
        } finally {
          await site.close();
        }
      });
    });
  }
});
