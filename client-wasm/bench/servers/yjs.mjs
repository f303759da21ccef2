// y-websocket's server as the README of @y/websocket-server starts it: in memory. With its LevelDB (YPERSISTENCE) it
// drops a document when the last client has gone and takes new ones before it has read it again, so that each sends
// everything.

import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { WebSocketServer } from "ws";

export async function start() {
  // The same module that the server itself loads: as CommonJS.
  const { docs, setupWSConnection } = createRequire(import.meta.url)("@y/websocket-server/utils");
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", setupWSConnection);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    url: "ws://127.0.0.1:PORT",
    held: () => docs.get("bench")?.getMap("tasks").size ?? 0,
  };
}
