// TinyBase's server with a file for its store, as the guide "Synchronization" of its documentation tells.

import { once } from "node:events";
import { join } from "node:path";
import { createMergeableStore } from "tinybase";
import { createFilePersister } from "tinybase/persisters/persister-file";
import { createWsServer } from "tinybase/synchronizers/synchronizer-ws-server";
import { WebSocketServer } from "ws";

export async function start(folder) {
  const store = createMergeableStore();
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(sockets, "listening");
  createWsServer(sockets, () => createFilePersister(store, join(folder, "bench.json")));
  return {
    port: sockets.address().port,
    url: "ws://127.0.0.1:PORT/bench",
    held: () => store.getRowCount("tasks"),
  };
}
