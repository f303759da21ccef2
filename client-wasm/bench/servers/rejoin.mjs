// Rejoin's server: the release build, or the program that REJOIN_BENCH_SERVER names.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause } from "../../test/reliability/time.mjs";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const START_MS = 30_000;
const NAMED = process.env.REJOIN_BENCH_SERVER;
const PROGRAM =
  NAMED ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "release", "rejoin-server");

/** Has `cargo` build it, before anything is measured. */
export function buildRejoin() {
  if (NAMED !== undefined) return;
  const build = ["build", "--locked", "--release", "-p", "rejoin-server"];
  execFileSync("cargo", build, { cwd: ROOT, stdio: ["ignore", 2, 2] });
}

export async function startRejoin(folder, origin) {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const listen = `127.0.0.1:${port}`;
  const shown = process.env.REJOIN_TEST_LOG ? "inherit" : "ignore";
  const child = spawn(PROGRAM, ["--listen", listen, "--data", folder, "--origin", origin], {
    stdio: ["ignore", shown, shown],
  });
  const end = Date.now() + START_MS;
  while (!(await fetch(`http://${listen}/healthz`).catch(() => undefined))?.ok) {
    if (Date.now() > end) throw new Error("Rejoin's server does not answer");
    await pause(50);
  }
  return {
    port,
    url: (proxied) => `ws://127.0.0.1:${proxied}/sync`,
    // The client knows: `db.synced()`.
    holds: async () => undefined,
    async stop() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}
