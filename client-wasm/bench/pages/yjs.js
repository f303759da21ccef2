// Yjs with y-indexeddb and y-websocket: a map of maps, so that fields merge one by one as they do elsewhere.
//
// Its documentation: "Y.Doc", one `transact` for many changes; "Y.Map"; "y-indexeddb", `whenSynced` after loading. There
// is no promise for writes: they are taken for stored when a transaction on the same store, opened after that of the
// write, is complete; IndexedDB runs such transactions in the order in which they were opened.

import { IndexeddbPersistence } from "y-indexeddb";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const ROOM = "bench";

export async function open({ name, url }) {
  const doc = new Y.Doc();
  const tasks = doc.getMap("tasks");
  const persistence = new IndexeddbPersistence(name, doc);
  await persistence.whenSynced;
  const provider =
    url === undefined
      ? undefined
      : new WebsocketProvider(url, ROOM, doc, { connect: false, disableBc: true });
  const stored = () =>
    new Promise((resolve, reject) => {
      const transaction = persistence.db.transaction("updates", "readwrite");
      transaction.oncomplete = resolve;
      transaction.onerror = () => reject(transaction.error);
    });
  const plain = (id) => ({ id, ...tasks.get(id)?.toJSON() });
  return {
    async insert(records) {
      doc.transact(() => {
        for (const { id, ...fields } of records) tasks.set(id, new Y.Map(Object.entries(fields)));
      });
      await stored();
    },
    async write(id, fields) {
      doc.transact(() => {
        const task = tasks.get(id);
        for (const [field, value] of Object.entries(fields)) task.set(field, value);
      });
      await stored();
    },
    first(count) {
      const rows = [];
      for (const id of tasks.keys()) {
        if (rows.length === count) break;
        rows.push(plain(id));
      }
      return rows;
    },
    all: () => Array.from(tasks.keys(), plain),
    count: () => tasks.size,
    get: (id) => plain(id),
    onChange: (heard) => tasks.observeDeep(heard),
    connect: () => provider.connect(),
    disconnect: () => provider.disconnect(),
  };
}
