// RxDB with the Dexie storage.
//
// Its documentation: "RxCollection", `bulkInsert`; "RxDatabase", `multiInstance: false` where there is one tab;
// "Websocket Replication" for the server that comes with it. (The client-server product `rxdb-server` is under the SSPL.)

import { createRxDatabase } from "rxdb/plugins/core";
import { getRxStorageDexie } from "rxdb/plugins/storage-dexie";
import { replicateWithWebsocketServer } from "rxdb/plugins/replication-websocket";
import { SCHEMA } from "../data/rxdb-schema.mjs";

const BATCH = 1_000;

export async function open({ name, url }) {
  const storage = getRxStorageDexie();
  const db = await createRxDatabase({ name, storage, multiInstance: false });
  const { tasks } = await db.addCollections({ tasks: { schema: SCHEMA } });
  let replication;
  const plain = (documents) => documents.map((document) => document.toMutableJSON());
  return {
    async insert(records) {
      const { error } = await tasks.bulkInsert(records);
      if (error.length > 0) throw new Error("a document was refused");
    },
    async write(id, fields) {
      const document = await tasks.findOne(id).exec();
      await document.patch(fields);
    },
    first: async (limit) => plain(await tasks.find({ limit }).exec()),
    all: async () => plain(await tasks.find().exec()),
    count: () => tasks.count().exec(),
    get: (id) => tasks.findOne(id).exec(),
    onChange: (heard) => void tasks.eventBulks$.subscribe(heard),
    async connect() {
      replication = await replicateWithWebsocketServer({
        replicationIdentifier: "bench",
        collection: tasks,
        url,
        live: true,
        batchSize: BATCH,
      });
    },
    async disconnect() {
      await replication.cancel();
      // The plugin closes its socket with the collection only.
      tasks.onClose.pop()();
    },
  };
}
