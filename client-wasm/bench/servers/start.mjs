// The servers, each in a process of its own with an empty folder, so that none takes time of another.

import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause, within } from "../../test/reliability/time.mjs";
import { startRejoin } from "./rejoin.mjs";

const HOST = fileURLToPath(new URL("host.mjs", import.meta.url));
const START_MS = 60_000;
const HOLDS_MS = 300_000;
const ASK_MS = 100;

/**
 * Starts the server of a peer. `url(port)` is its address behind a proxy on that port, `holds(n)` resolves when it has
 * that many records, `stop` ends it and removes its data.
 */
export async function startServer(name, origin) {
  const folder = mkdtempSync(join(tmpdir(), "rejoin-bench-"));
  const clean = () => rmSync(folder, { recursive: true, force: true });
  try {
    const server = await (name === "rejoin" ? startRejoin(folder, origin) : host(name, folder));
    const stop = async () => {
      await server.stop();
      clean();
    };
    return { ...server, stop };
  } catch (error) {
    clean();
    throw error;
  }
}

/** A server in JavaScript, by its module. */
async function host(name, folder) {
  const shown = process.env.REJOIN_TEST_LOG ? "inherit" : "ignore";
  const child = fork(HOST, [name, folder], { stdio: ["ignore", shown, "inherit", "ipc"] });
  let hear;
  let ended;
  child.on("message", (message) => hear(message));
  child.once("exit", () => ended(new Error(`the server of ${name} ended`)));
  const answer = () => {
    const next = new Promise((resolve, reject) => ([hear, ended] = [resolve, reject]));
    return within(START_MS, `the server of ${name} answers`, next);
  };
  const { port, url } = await answer();
  return {
    port,
    url: (proxied) => url.replace("PORT", proxied),
    async holds(n) {
      const end = Date.now() + HOLDS_MS;
      for (;;) {
        const asked = answer();
        child.send("held");
        const { held } = await asked;
        if (held >= n) return;
        if (Date.now() > end) throw new Error(`the server of ${name} has ${held} of ${n} records`);
        await pause(ASK_MS);
      }
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}
