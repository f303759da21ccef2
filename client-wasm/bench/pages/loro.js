// Loro: one document with a map of maps, stored in IndexedDB by the page, synced over a WebSocket.
//
// Its documentation: "Best Practices for Persisting Loro Documents": updates are appended as they come, a snapshot
// replaces them where they are many; `importBatch` for reading them; "Synchronization" for syncing.

import { LoroDoc, LoroMap, VersionVector } from "loro-crdt";
import { takeMessage, updateMessage, versionMessage } from "../data/loro-messages.mjs";
import { LoroFile } from "./loro-file.js";

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
  let socket;
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
  doc.subscribeLocalUpdates((update) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(updateMessage(update));
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
    connect() {
      socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      const lacking = (whole) => socket.send(whole);
      socket.onmessage = ({ data }) =>
        takeMessage({ VersionVector }, doc, new Uint8Array(data), { lacking });
      socket.onopen = () => socket.send(versionMessage(doc));
    },
    disconnect: () => socket.close(),
  };
}
