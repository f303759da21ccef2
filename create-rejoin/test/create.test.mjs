// `npm create rejoin` as its users have it: packed, run, the app installed, built and opened in Chromium. Needs
// the package `rejoin` built and a Chromium.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, newFolder, npmInstall, pack } from "../../client-wasm/packaging/world.mjs";
import { remove, run, serve, visit } from "../../client-wasm/packaging/world.mjs";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const REJOIN = new URL("../../client-wasm/package.json", import.meta.url);

describe("npm create rejoin", { timeout: 300_000 }, () => {
  let folder;
  let browser;
  let rejoin;
  before(async () => {
    browser = await launchBrowser();
    folder = await newFolder();
    await writeFile(join(folder, "package.json"), '{ "private": true }');
    await npmInstall(folder, (await pack(folder, PACKAGE)).path);
    rejoin = (await pack(folder)).path;
  });
  after(async () => {
    await browser?.close();
    await remove(folder);
  });

  const create = (...args) => run(folder, "node_modules/.bin/create-rejoin", ...args);

  it("asks nothing and says how to go on", async () => {
    const said = await create();
    for (const step of ["cd rejoin-app", "npm install", "npm run dev"]) {
      assert.ok(said.includes(step), step);
    }
    const manifest = JSON.parse(await readFile(join(folder, "rejoin-app/package.json"), "utf8"));
    const { version } = JSON.parse(await readFile(REJOIN, "utf8"));
    assert.equal(manifest.name, "rejoin-app");
    assert.deepEqual(manifest.dependencies, { rejoin: `^${version}` });
    assert.match(await readFile(join(folder, "rejoin-app/.gitignore"), "utf8"), /^node_modules/u);
  });

  it("overwrites nothing", async () => {
    await mkdir(join(folder, "taken/.git"), { recursive: true });
    await writeFile(join(folder, "taken/mine.txt"), "mine");
    await assert.rejects(create("taken"), /taken is not empty/u);
    await mkdir(join(folder, "Just (cloned)/.git"), { recursive: true });
    await create("Just (cloned)");
    const manifest = await readFile(join(folder, "Just (cloned)/package.json"), "utf8");
    assert.equal(JSON.parse(manifest).name, "just-cloned");
  });

  it("knows what it cannot do", async () => {
    await assert.rejects(create("app", "--template", "angular"), /there are: vanilla, react/u);
    await assert.rejects(create("one", "two"), /usage: npm create rejoin/u);
    await assert.rejects(create("--colour"), /--colour/u);
  });

  for (const template of ["vanilla", "react"]) {
    describe(`with the template ${template}`, () => {
      let app;
      before(async () => {
        await create(template, "--template", template);
        app = join(folder, template);
        await npmInstall(app, rejoin);
      });

      it("makes a task list that is there after a reload, without a network, too", async () => {
        await run(app, "npm", "run", "build");
        const site = await serve(join(app, "dist"));
        const { page, complaints, foreign, close } = await visit(browser, site.origin);
        try {
          await page.getByText("Nothing to do").waitFor();
          await page.getByText("Saved in this browser").waitFor();
          for (const title of ["Buy milk", "Water the plants"]) {
            await page.getByLabel("New task").fill(title);
            await page.getByRole("button", { name: "Add" }).click();
          }
          await page.getByText("2 tasks left").waitFor();
          await page.getByRole("checkbox", { name: "Buy milk" }).click();
          await page.getByText("1 task left").waitFor();
          await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
          await site.close();
          await page.reload();
          await page.getByText("1 task left").waitFor();
          assert.ok(await page.getByRole("checkbox", { name: "Buy milk" }).isChecked());
          await page.getByRole("button", { name: "Clear done" }).click();
          await page.getByText("Buy milk").waitFor({ state: "detached" });
          await page.getByRole("listitem").hover();
          await page.getByRole("button", { name: "Remove Water the plants" }).click();
          await page.getByText("Nothing to do").waitFor();
          assert.deepEqual({ complaints, foreign }, { complaints: [], foreign: [] });
        } finally {
          await close();
        }
      });

      it("syncs with the server that its environment names", async () => {
        const server = createServer();
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        const { port } = server.address();
        await writeFile(join(app, ".env"), `VITE_REJOIN_URL=ws://127.0.0.1:${port}/sync\n`);
        await run(app, "npm", "run", "build");
        const site = await serve(join(app, "dist"));
        const asked = once(server, "upgrade");
        const { page, close } = await visit(browser, site.origin);
        try {
          const [request, socket] = await asked;
          assert.equal(request.url, "/sync");
          assert.match(request.headers["sec-websocket-protocol"], /^rejoin\./u);
          socket.destroy();
          await page.getByLabel("New task").fill("Written offline");
          await page.getByRole("button", { name: "Add" }).click();
          await page.getByText("Offline, 1 to send").waitFor();
        } finally {
          await close();
          await site.close();
          server.close();
        }
      });
    });
  }
});
