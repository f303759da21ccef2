// Loro: one document with a map of maps, stored in IndexedDB by the page, synced by loro-websocket.
//
// Its documentation: "Best Practices for Persisting Loro Documents": updates are appended as they come, a snapshot
// replaces them where they are many; `importBatch` for reading them; README of loro-websocket for syncing.

import { LoroDoc, LoroMap } from "loro-crdt";
import { LoroAdaptor } from "loro-adaptors/loro";
import { LoroWebsocketClient } from "loro-websocket";
import { LoroFile } from "./loro-file.js";

const ROOM = "bench";
/** From this many bytes on an update is worth a snapshot. */
const SNAPSHOT_BYTES = 65_536;
const UPDATES_MAX = 500;
/** What comes from elsewhere is stored when nothing more has come for this long. */
const DEBOUNCE_MS = 100;

export async function open({ name, url }) {
  const file = await LoroFile.open(name);
  const doc = new LoroDoc();
  const stored = await file.read();
  if (stored.length > 0) doc.importBatch(stored);
  const tasks = doc.getMap("tasks");
  let kept = doc.version();
  let client;
  const keepAll = () => {
    kept = doc.version();
    return file.replace(doc.export({ mode: "snapshot" }));
  };
  /** Stores what came since the last time. */
  const keep = () => {
    const update = doc.export({ mode: "update", from: kept });
    if (update.length >= SNAPSHOT_BYTES || file.updates >= UPDATES_MAX) return keepAll();
    kept = doc.version();
    return file.append(update);
  };
  let waiting;
  doc.subscribe(({ by }) => {
    if (by !== "import") return;
    clearTimeout(waiting);
    waiting = setTimeout(keep, DEBOUNCE_MS);
  });
  const plain = (id) => ({ id, ...tasks.get(id)?.toJSON() });
  const set = (task, fields) => {
    for (const [field, value] of Object.entries(fields)) task.set(field, value);
  };
  return {
    async insert(records) {
      for (const { id, ...fields } of records) set(tasks.setContainer(id, new LoroMap()), fields);
      doc.commit();
      await keepAll();
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
