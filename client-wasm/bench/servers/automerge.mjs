// Automerge's sync server: a repo that stores in files and announces nothing by itself, as automerge-repo-sync-server.

import { once } from "node:events";
import { Repo } from "@automerge/automerge-repo";
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket";
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs";
import { WebSocketServer } from "ws";
import { DOCUMENT } from "../data/automerge-document.mjs";

export async function start(folder) {
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(sockets, "listening");
  const repo = new Repo({
    network: [new WebSocketServerAdapter(sockets)],
    storage: new NodeFSStorageAdapter(folder),
    peerId: "bench-server",
    sharePolicy: async () => false,
  });
  return {
    port: sockets.address().port,
    url: "ws://127.0.0.1:PORT",
    held: () => {
      const handle = repo.handles[DOCUMENT];
      return handle?.isReady() ? Object.keys(handle.doc().tasks ?? {}).length : 0;
    },
  };
}
