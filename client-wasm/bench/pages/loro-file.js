// Where a Loro document is kept: a snapshot and the updates since, in IndexedDB with its usual durability.

const STORE = "parts";
/** From this many bytes on an update is worth a snapshot. */
const SNAPSHOT_BYTES = 65_536;
const UPDATES_MAX = 500;

export class LoroFile {
  #db;
  #updates = 0;

  static async open(name) {
    const request = indexedDB.open(name);
    request.onupgradeneeded = () =>
      request.result.createObjectStore(STORE, { autoIncrement: true });
    const file = new LoroFile();
    file.#db = await new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return file;
  }

  /** The snapshot, if there is one, and the updates. */
  read() {
    return new Promise((resolve, reject) => {
      const request = this.#db.transaction(STORE).objectStore(STORE).getAll();
      request.onsuccess = () => {
        this.#updates = request.result.length;
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
  }

  /** Adds an update, or puts a snapshot in place of everything; resolves when that is stored. */
  append(update, snapshot) {
    return new Promise((resolve, reject) => {
      const transaction = this.#db.transaction(STORE, "readwrite");
      const store = transaction.objectStore(STORE);
      this.#updates += 1;
      if (update.length >= SNAPSHOT_BYTES || this.#updates > UPDATES_MAX) {
        store.clear();
        store.add(snapshot());
        this.#updates = 1;
      } else {
        store.add(update);
      }
      transaction.oncomplete = () => resolve();
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
}
