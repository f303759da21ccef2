// The package in Node.js, with the real server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { Server, serverProgram } from "./server.mjs";

const LIMITS = { timeout: 60_000, skip: serverProgram() === undefined && "no rejoin-server" };

test("a_database_in_node_syncs_over_the_global_websocket", LIMITS, async (context) => {
  // From version 22 on Node.js has one of its own; earlier ones are given this.
  globalThis.WebSocket ??= WebSocket;
  const { defineSchema, open, text } = await import("rejoin");
  const schema = defineSchema({ tasks: { title: text() } });
  const server = await Server.start(context, "http://localhost");
  const sync = { url: server.url, space: "demo" };
  const databases = ["a", "b"].map((name) => open({ name, schema, sync }));
  const [a, b] = await Promise.all(databases);
  context.after(() => Promise.all([a.close(), b.close()]));
  const arrived = new Promise((resolve) => {
    b.tasks.live().subscribe((tasks) => {
      if (tasks.length > 0) resolve(tasks);
    });
  });
  await a.tasks.add({ id: "1", title: "Written in Node.js" });
  assert.deepEqual(await arrived, [{ id: "1", title: "Written in Node.js" }]);
  await a.synced();
  assert.equal(a.status.verified.root.length, 64);
});
