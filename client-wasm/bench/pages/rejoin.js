// Rejoin as its README tells: batches of as many records as a batch takes, given without waiting for the one before.

import { defineSchema, bool, int, number, open as openDatabase, text } from "rejoin";

const BATCH = 1_000;
const schema = defineSchema({
  tasks: { title: text(), done: bool(), createdAt: number(), notes: text(), priority: int() },
});

export async function open({ name, url, durability }) {
  const sync = url === undefined ? undefined : { url, space: "bench" };
  const db = await openDatabase({ name, schema, durability, sync });
  if (sync !== undefined) db.network.pause();
  const known = new Set();
  return {
    async insert(records) {
      const batches = [];
      for (let at = 0; at < records.length; at += BATCH) {
        const part = records.slice(at, at + BATCH);
        batches.push(db.batch((batch) => part.forEach((record) => void batch.tasks.add(record))));
      }
      await Promise.all(batches);
    },
    write: (id, fields) => db.tasks.update(id, fields),
    first: (count) => db.tasks.limit(count).all(),
    all: () => db.tasks.all(),
    // `changed` names each record that became visible: counting them costs no query.
    count: () => known.size,
    get: (id) => db.tasks.get(id),
    onChange(heard) {
      db.on("changed", (keys) => {
        for (const { id } of keys) known.add(id);
        heard();
      });
    },
    connect: () => db.network.resume(),
    disconnect: () => db.network.pause(),
    uploaded: () => db.synced(),
  };
}
