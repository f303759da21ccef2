// PouchDB with its default adapter for browsers.
//
// "Bulk document API" of its guide (guides/bulk-operations): `bulkDocs` and `allDocs` instead of single reads and writes;
// "API Reference", "Replicate a database": a greater `batch_size`; "Sync a database": `live` with `retry`.

import PouchDB from "pouchdb-browser";

const BATCH = 1_000;

function record({ _id, _rev, ...fields }) {
  return { id: _id, ...fields };
}

export async function open({ name, url }) {
  const db = new PouchDB(name);
  await db.info();
  let heard = () => undefined;
  let sync;
  const rows = async (options) => {
    const found = await db.allDocs({ include_docs: true, ...options });
    return found.rows.map(({ doc }) => record(doc));
  };
  return {
    async insert(records) {
      const results = await db.bulkDocs(
        records.map(({ id, ...fields }) => ({ _id: id, ...fields })),
      );
      if (results.some(({ error }) => error)) throw new Error("a document was refused");
    },
    async write(id, fields) {
      await db.put({ ...(await db.get(id)), ...fields });
    },
    first: (limit) => rows({ limit }),
    all: () => rows({}),
    count: async () => (await db.info()).doc_count,
    get: (id) => db.get(id).then(record, () => undefined),
    onChange(call) {
      heard = call;
    },
    connect() {
      sync = db.sync(url, { live: true, retry: true, batch_size: BATCH });
      sync.on("change", () => heard());
    },
    async disconnect() {
      const ended = new Promise((resolve) => sync.on("complete", resolve));
      sync.cancel();
      await ended;
    },
  };
}
