// RxDB's server as "Websocket Replication" of its documentation starts it. Its storage is memory: those for disks in
// Node.js are sold or limited. It writes nothing, which the others do.

import { once } from "node:events";
import { createRxDatabase } from "rxdb/plugins/core";
import { startWebsocketServer } from "rxdb/plugins/replication-websocket";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { SCHEMA } from "../data/rxdb-schema.mjs";

export async function start() {
  const database = await createRxDatabase({ name: "bench", storage: getRxStorageMemory() });
  const { tasks } = await database.addCollections({ tasks: { schema: SCHEMA } });
  const { server } = startWebsocketServer({
    database,
    host: "127.0.0.1",
    port: 0,
    path: "/socket",
  });
  await once(server, "listening");
  return {
    port: server.address().port,
    url: "ws://127.0.0.1:PORT/socket",
    held: () => tasks.count().exec(),
  };
}
