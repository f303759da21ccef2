// Who is compared: the page and the server of each, and what it cannot do.

const NO_SYNC = "stores only: it has no sync";
const STORES_ONLY = { "first-sync": NO_SYNC, reconnect: NO_SYNC, "live-latency": NO_SYNC };

/** By name: its module in `pages/`, what that gets as `durability`, its module in `servers/`. */
export const PEERS = {
  rejoin: { page: "rejoin", durability: "strict", server: "rejoin", cannot: {} },
  "rejoin-relaxed": { page: "rejoin", durability: "relaxed", server: "rejoin", cannot: {} },
  indexeddb: { page: "indexeddb", durability: "strict", cannot: STORES_ONLY },
  "indexeddb-relaxed": { page: "indexeddb", durability: "relaxed", cannot: STORES_ONLY },
  ...Object.fromEntries(
    ["pouchdb", "rxdb", "yjs", "automerge", "tinybase", "loro"].map((name) => [
      name,
      { page: name, server: name, cannot: {} },
    ]),
  ),
};
