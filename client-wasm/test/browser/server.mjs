// The real server, on a port of its own, that can be killed and started again on its data, and with other
// tokens.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const START_MS = 30_000;

/** The most recently built one, or nothing. */
export function serverProgram() {
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  const built = ["release", "debug"]
    .map((profile) => join(target, profile, "rejoin-server"))
    .filter((path) => existsSync(path));
  return built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** One server for one test. */
export class Server {
  #process;
  #auth = [];
  #more = [];

  /**
   * With `tokens` (TOML) only their bearers are let in, otherwise everyone. With `adminToken` there is an admin page, at
   * `adminUrl`.
   */
  static async start(context, origin, tokens, adminToken) {
    const server = new Server();
    server.port = await freePort();
    server.data = mkdtempSync(join(tmpdir(), "rejoin-wasm-test-"));
    server.origin = origin;
    server.url = `ws://127.0.0.1:${server.port}/sync`;
    if (tokens !== undefined) server.permit(tokens);
    if (adminToken !== undefined) await server.#administer(adminToken);
    await server.run();
    context.after(async () => {
      await server.kill();
      rmSync(server.data, { recursive: true, force: true });
    });
    return server;
  }

  /** Which tokens the next run knows. */
  permit(tokens) {
    const file = join(this.data, "tokens.toml");
    writeFileSync(file, tokens, { mode: 0o600 });
    this.#auth = ["--auth", "tokens", "--tokens", file];
  }

  async #administer(token) {
    const [file, port] = [join(this.data, "admin.token"), await freePort()];
    writeFileSync(file, token, { mode: 0o600 });
    this.adminUrl = `http://127.0.0.1:${port}/admin/`;
    this.#more = ["--admin-token-file", file, "--admin-listen", `127.0.0.1:${port}`];
  }

  async run() {
    const listen = `127.0.0.1:${this.port}`;
    const args = ["--listen", listen, "--data", this.data, "--origin", this.origin];
    args.push(...this.#auth, ...this.#more);
    const shown = process.env.REJOIN_TEST_LOG ? "inherit" : "ignore";
    this.#process = spawn(serverProgram(), args, { stdio: ["ignore", shown, shown] });
    const end = Date.now() + START_MS;
    for (;;) {
      const answer = await fetch(`http://${listen}/healthz`).catch(() => undefined);
      if (answer?.ok) return;
      if (Date.now() > end) throw new Error("the server does not answer");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }
}
