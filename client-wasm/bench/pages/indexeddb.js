// IndexedDB as it is: a row per record under its id, no index beside the key.
//
// Many rows in one transaction, requests that nobody waits for one by one, `getAll` for reading: "Using IndexedDB" on
// MDN (page "Using_IndexedDB"), and `durability` as "IDBDatabase: transaction() method" there tells.

const STORE = "tasks";

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const complete = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });

export async function open({ name, durability }) {
  const request = indexedDB.open(name);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  const db = await done(request);
  const writing = () => db.transaction(STORE, "readwrite", { durability });
  const reading = () => db.transaction(STORE).objectStore(STORE);
  return {
    async insert(records) {
      const transaction = writing();
      const store = transaction.objectStore(STORE);
      for (const record of records) store.add(record);
      transaction.commit();
      await complete(transaction);
    },
    async write(id, fields) {
      const transaction = writing();
      const store = transaction.objectStore(STORE);
      const read = store.get(id);
      read.onsuccess = () => {
        store.put({ ...read.result, ...fields });
        transaction.commit();
      };
      await complete(transaction);
    },
    first: (count) => done(reading().getAll(null, count)),
    all: () => done(reading().getAll()),
    count: () => done(reading().count()),
    get: (id) => done(reading().get(id)),
  };
}
