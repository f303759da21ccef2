// What every page offers the bench: measurements of a peer through the one interface that all peers have.
//
// `open({ name, url, durability })` gives a peer that is offline, with these methods, synchronous or not:
//   insert(records)            resolves when they are durable, or when the peer's documentation takes them for stored
//   write(id, fields)          changes a record; resolves likewise
//   first(count), all()        any `count` records, all records, as plain objects
//   count(), get(id)           how many there are; the record, or nothing
//   onChange(heard)            calls `heard` after records came from elsewhere
//   connect(), disconnect()    only where there is a `url`; `disconnect` resolves when nothing is sent any more
//   uploaded()                 optional: resolves when the server is known to have everything

import { checksum } from "../data/checksum.mjs";
import { edits, records } from "../data/records.mjs";
import { calibrate, wall } from "./clock.js";

const VIEW = 50;

/** Puts the measurements where the bench calls them. */
export function offer(open) {
  let db;
  let changes = 0;
  let wake = () => undefined;
  let awaited;

  const heard = () => {
    changes += 1;
    wake();
  };

  /** The time at which `holds` is first true, asked after every change. */
  async function when(holds) {
    for (;;) {
      const before = changes;
      if (await holds()) return wall();
      if (changes === before) await new Promise((resolve) => (wake = resolve));
    }
  }

  const hasAll = (count) => when(async () => (await db.count()) >= count);

  /** When all of these changes are there. */
  function hasEdits(expected) {
    const missing = new Map(expected.map(({ id, fields }) => [id, fields.title]));
    return when(async () => {
      for (const [id, title] of missing) {
        const found = await db.get(id);
        if (found?.title !== title) return false;
        missing.delete(id);
      }
      return true;
    });
  }

  /** From going online until `done`. */
  async function online(done) {
    const start = wall();
    const end = done();
    await db.connect();
    return { start, end: await end };
  }

  globalThis.bench = {
    async open(options) {
      db = await open(options);
      db.onChange?.(heard);
      calibrate();
    },

    async insert(count) {
      const made = records(count);
      const start = performance.now();
      await db.insert(made);
      return performance.now() - start;
    },

    /** One after the other; the milliseconds of each. */
    async writes(n, count, lane, lanes, word) {
      const took = [];
      for (const { id, fields } of edits(n, count, lane, lanes, word)) {
        const start = performance.now();
        await db.write(id, fields);
        took.push(performance.now() - start);
      }
      return took;
    },

    /** The same changes, none waiting for the one before. */
    async change(n, count, lane, lanes, word) {
      const made = edits(n, count, lane, lanes, word);
      await Promise.all(made.map(({ id, fields }) => db.write(id, fields)));
    },

    /** Milliseconds since the navigation began. */
    async coldOpen(options) {
      db = await open(options);
      const seen = (await db.first(VIEW)).length;
      const first = performance.now();
      const rows = await db.all();
      const all = performance.now();
      if (seen !== VIEW) throw new Error(`a query of ${VIEW} rows gave ${seen}`);
      return { first, all, sum: checksum(rows) };
    },

    async openAndRead(options) {
      db = await open(options);
      return (await db.first(VIEW)).length;
    },

    sum: async () => checksum(await db.all()),
    connect: () => db.connect(),
    disconnect: () => db.disconnect(),
    uploaded: () => db.uploaded?.(),
    firstSync: (count) => online(() => hasAll(count)),
    reconnect: (expected) => online(() => hasEdits(expected)),

    /** From now on a change is awaited; {@link sight} tells when it was there. */
    expect(id, title) {
      awaited = hasEdits([{ id, fields: { title } }]);
    },
    sight: () => awaited,
    /** When a write began. */
    async send(id, fields) {
      const start = wall();
      await db.write(id, fields);
      return start;
    },
  };
}
