// TinyBase: a mergeable store, its IndexedDB persister, its WebSocket synchronizer.
//
// Its documentation: guide "Transactions", one for many changes; `createIndexedDbPersister`, which since 9.6 takes a
// mergeable store; guide "Synchronization", `createWsSynchronizer`. `save` resolves when it is stored. Nothing is loaded
// again and again (`startAutoLoad` polls each second).

import { createMergeableStore } from "tinybase";
import { createIndexedDbPersister } from "tinybase/persisters/persister-indexed-db";
import { createWsSynchronizer } from "tinybase/synchronizers/synchronizer-ws-client";

const TABLE = "tasks";

export async function open({ name, url }) {
  const store = createMergeableStore();
  const persister = createIndexedDbPersister(store, name);
  await persister.load();
  let synchronizer;
  let running = Promise.resolve();
  let next;
  /** Resolves when a save that began after this call has ended; calls that wait share one. */
  const save = () => {
    next ??= running.then(() => {
      next = undefined;
      running = persister.save();
      return running;
    });
    return next;
  };
  const plain = (id) => ({ id, ...store.getRow(TABLE, id) });
  return {
    async insert(records) {
      store.transaction(() => {
        for (const { id, ...fields } of records) store.setRow(TABLE, id, fields);
      });
      await save();
    },
    async write(id, fields) {
      store.setPartialRow(TABLE, id, fields);
      await save();
    },
    first: (count) => store.getRowIds(TABLE).slice(0, count).map(plain),
    all: () => store.getRowIds(TABLE).map(plain),
    count: () => store.getRowCount(TABLE),
    get: plain,
    onChange: (heard) => void store.addDidFinishTransactionListener(heard),
    async connect() {
      synchronizer = await createWsSynchronizer(store, new WebSocket(url));
      await synchronizer.startSync();
    },
    disconnect: () => synchronizer.destroy(),
  };
}
