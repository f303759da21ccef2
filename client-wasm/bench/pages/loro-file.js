// Where a Loro document is kept: a snapshot and the updates since, in IndexedDB with its usual durability.

const STORE = "parts";

export class LoroFile {
  /** How many parts there are. */
  updates = 0;
  #db;

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
        this.updates = request.result.length;
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
  }

  /** Adds an update; resolves when it is stored. */
  append(update) {
    this.updates += 1;
    return this.#write((store) => store.add(update));
  }

  /** Puts a snapshot in place of everything; resolves when it is stored. */
  replace(snapshot) {
    this.updates = 1;
    return this.#write((store) => {
      store.clear();
      store.add(snapshot);
    });
  }

  #write(work) {
    return new Promise((resolve, reject) => {
      const transaction = this.#db.transaction(STORE, "readwrite");
      work(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve();
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
}
