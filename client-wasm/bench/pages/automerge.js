// Automerge-repo: one document with a map of all records, stored in IndexedDB.
//
// Its documentation: "Modeling Data", one `change` for many changes and immutable strings where texts are replaced as a
// whole; "Repositories", `flush` for waiting until it is stored; "Library Initialization", the WebAssembly as a file.

import * as A from "@automerge/automerge/slim";
import { initializeWasm, Repo } from "@automerge/automerge-repo/slim";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";
import { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb";
import { DOCUMENT } from "../data/automerge-document.mjs";

const ADDRESS = `automerge:${DOCUMENT}`;
const kept = (value) => (typeof value === "string" ? new A.ImmutableString(value) : value);
const shown = (value) => (A.isImmutableString(value) ? value.val : value);
const mapped = (fields, change) =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, change(value)]));

export async function open({ name, url }) {
  await initializeWasm("automerge.wasm");
  // A document that was sought in vain stays unavailable: it is sought where something is stored.
  const stored = (await indexedDB.databases()).some((database) => database.name === name);
  const repo = new Repo({ storage: new IndexedDBStorageAdapter(name), network: [] });
  let heard = () => undefined;
  let adapter;
  let handle;
  const take = (found) => {
    handle = found;
    handle?.on("change", () => heard());
    heard();
  };
  if (stored) take(await repo.find(ADDRESS));
  const tasks = () => handle?.doc().tasks ?? {};
  const plain = ([id, fields]) => ({ id, ...mapped(fields, shown) });
  const flush = () => repo.flush([handle.documentId]);
  return {
    async insert(records) {
      take(repo.import(A.save(A.from({ tasks: {} })), { docId: DOCUMENT }));
      handle.change(({ tasks }) => {
        for (const { id, ...fields } of records) tasks[id] = mapped(fields, kept);
      });
      await flush();
    },
    async write(id, fields) {
      handle.change(({ tasks }) => void Object.assign(tasks[id], mapped(fields, kept)));
      await flush();
    },
    first: (count) => Object.entries(tasks()).slice(0, count).map(plain),
    all: () => Object.entries(tasks()).map(plain),
    count: () => Object.keys(tasks()).length,
    get: (id) => (tasks()[id] === undefined ? undefined : plain([id, tasks()[id]])),
    onChange(call) {
      heard = call;
    },
    async connect() {
      adapter = new WebSocketClientAdapter(url);
      repo.networkSubsystem.addNetworkAdapter(adapter);
      await adapter.whenReady();
      if (handle === undefined) take(await repo.find(ADDRESS));
    },
    disconnect: () => repo.networkSubsystem.removeNetworkAdapter(adapter),
  };
}
