// TinyBase's server with a store of its own, as the guide "Synchronization" of its documentation tells. The store is kept
// in memory: with the guide's file it writes and reads everything again after each change.

import { once } from "node:events";
import { createMergeableStore } from "tinybase";
import { createCustomPersister, Persists } from "tinybase/persisters";
import { createWsServer } from "tinybase/synchronizers/synchronizer-ws-server";
import { WebSocketServer } from "ws";

const nothing = async () => undefined;

export async function start() {
  const store = createMergeableStore();
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(sockets, "listening");
  const inMemory = () =>
    createCustomPersister(
      ...[store, nothing, nothing, nothing, nothing, undefined, Persists.MergeableStoreOnly],
    );
  createWsServer(sockets, inMemory);
  return {
    port: sockets.address().port,
    url: "ws://127.0.0.1:PORT/bench",
    held: () => store.getRowCount("tasks"),
  };
}
