// Loro: one document with a map of maps, stored in IndexedDB by the page, synced by loro-websocket.
//
// Its documentation: "Best Practices for Persisting Loro Documents": updates are appended as they come, a snapshot
// replaces them where they are many; `importBatch` for reading them; README of loro-websocket for syncing.

import { LoroDoc, LoroMap } from "loro-crdt";
import { LoroAdaptor } from "loro-adaptors/loro";
import { LoroWebsocketClient } from "loro-websocket";
import { LoroFile } from "./loro-file.js";

const ROOM = "bench";

export async function open({ name, url }) {
  const file = await LoroFile.open(name);
  const doc = new LoroDoc();
  const stored = await file.read();
  if (stored.length > 0) doc.importBatch(stored);
  const tasks = doc.getMap("tasks");
  let kept = doc.version();
  let client;
  /** Stores what came since the last time. */
  const keep = async () => {
    const update = doc.export({ mode: "update", from: kept });
    kept = doc.version();
    await file.append(update, () => doc.export({ mode: "snapshot" }));
  };
  doc.subscribe(({ by }) => {
    if (by === "import") void keep();
  });
  const plain = (id) => ({ id, ...tasks.get(id)?.toJSON() });
  const set = (task, fields) => {
    for (const [field, value] of Object.entries(fields)) task.set(field, value);
  };
  return {
    async insert(records) {
      for (const { id, ...fields } of records) set(tasks.setContainer(id, new LoroMap()), fields);
      doc.commit();
      await keep();
    },
    async write(id, fields) {
      set(tasks.get(id), fields);
      doc.commit();
      await keep();
    },
    first: (count) => tasks.keys().slice(0, count).map(plain),
    all: () => Object.entries(tasks.toJSON()).map(([id, fields]) => ({ id, ...fields })),
    count: () => tasks.size,
    get: plain,
    onChange: (heard) => void doc.subscribe(heard),
    async connect() {
      if (client !== undefined) return client.connect();
      client = new LoroWebsocketClient({ url });
      await client.waitConnected();
      await client.join({ roomId: ROOM, crdtAdaptor: new LoroAdaptor(doc) });
    },
    disconnect: () => client.close(),
  };
}
