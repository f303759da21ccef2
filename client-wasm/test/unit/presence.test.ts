import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import type { LivePresence } from "../../ts/presence.js";
import { Opener } from "../../ts/open.js";
import type { RawOther, RawValue } from "../../ts/raw.js";
import { bool, counter, defineSchema, number, text } from "../../ts/schema.js";
import type { Json, ShowingOf } from "../../ts/types.js";
import { memoryEngine } from "./memory.js";
import { settled, world } from "./world.js";

const typed = defineSchema({
  tasks: { title: text() },
  presence: { name: text(), idle: bool().default(false), at: number().optional() },
});
const bob: RawOther = { id: "server/1", principal: "bob", value: { x: 1 } };
const tab: RawOther = { id: "tab/1", principal: null, value: "tab" };
const told = (here: readonly RawOther[], more = {}) =>
  ({ type: "others", from: "server", anew: false, here, gone: [], ...more }) as const;

describe("presence", () => {
  test("others_and_each_of_them_stay_the_same_objects_while_nothing_changes", async () => {
    const { db, engine } = await world();
    const heard: unknown[] = [];
    assert.equal(db.presence.others.length, 0);
    db.presence.subscribe((others) => heard.push(others));
    await settled();
    assert.equal(engine.attends, 1, "asked once");
    engine.emit(told([bob]));
    engine.emit(told([tab], { from: "tabs" }));
    await settled();
    const { others } = db.presence;
    assert.deepEqual(others, [bob, tab]);
    assert.deepEqual(heard, [others], "told together");
    engine.emit(told([{ ...bob, value: { x: 1 } }], { anew: true }));
    await settled();
    assert.equal(db.presence.others, others);
    const ann = { ...bob, id: "server/2", principal: "ann" };
    engine.emit(told([ann]));
    assert.equal(db.presence.others[0], others[0]);
    engine.emit(told([ann], { anew: true }));
    assert.deepEqual(db.presence.others, [ann, tab], "each tells of its own");
    engine.emit(told([], { gone: ["server/2", "server/9"] }));
    assert.deepEqual(db.presence.others, [tab]);
    assert.throws(() => Object.assign(others[0]?.value as object, { x: 2 }), TypeError);
  });

  test("at_most_twenty_values_leave_in_a_second_and_the_last_one_always", async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const { db, engine } = await world();
      for (let at = 0; at < 1_000; at += 1) {
        db.presence.set(at);
        mock.timers.tick(1);
      }
      mock.timers.tick(50);
      assert.ok(engine.presented.length <= 21, `${engine.presented.length}`);
      assert.equal(engine.presented[0], 0);
      assert.equal(engine.presented.at(-1), 999);
      db.presence.set(1);
      db.presence.clear();
      mock.timers.tick(50);
      assert.equal(engine.presented.at(-1), undefined);
    } finally {
      mock.timers.reset();
    }
  });

  test("values_end_at_four_kilobytes_of_their_encoding", async () => {
    const { db, engine } = await world();
    const sizes: readonly (readonly [Json, number])[] = [
      [null, 1],
      [true, 1],
      [23, 1],
      [-24, 1],
      [24, 2],
      [-257, 3],
      [65_536, 5],
      [2 ** 40, 9],
      [0.5, 9],
      [2n ** 62n, 9],
      ["ä", 3],
      [new Uint8Array(300), 303],
      [[1, [2]], 4],
      [{ ab: 1 }, 5],
    ];
    for (const [value, size] of sizes) {
      // An array of two, and a text whose length takes three bytes.
      const rest = 4_096 - 1 - 3 - size;
      db.presence.set([value, "x".repeat(rest - 1)]);
      db.presence.set([value, "x".repeat(rest)]);
      const beyond = (): void => db.presence.set([value, "x".repeat(rest + 1)]);
      assert.throws(beyond, { code: "too_large" }, String(value));
    }
    assert.throws(() => db.presence.set((() => 1) as unknown as Json), { code: "invalid" });
    assert.ok(engine.presented.length > 0);
  });

  test("fields_that_the_schema_declares_are_checked_and_shown_with_their_defaults", async () => {
    const { Engine, opened } = memoryEngine();
    const options = { name: "typed", schema: typed, collections: ["tasks"] } as const;
    const db = await new Opener().open(options, async () => Engine);
    const [engine] = opened;
    assert.ok(engine !== undefined);
    assert.deepEqual(
      engine.options.collections.map(({ pattern }) => pattern),
      ["tasks"],
    );
    db.presence.set({ name: "ann", at: undefined });
    assert.deepEqual(engine.presented, [{ name: "ann" }]);
    const wrong = [{}, { name: 1 }, { name: "ann", hue: 1 }, { name: "ann", at: new Date() }];
    for (const value of wrong) {
      const shows = (): void => db.presence.set(value as { name: string });
      assert.throws(shows, { code: "invalid" }, JSON.stringify(value));
    }
    const others = (...values: RawValue[]) => {
      const here = values.map((value, at) => ({ ...bob, id: `server/${at}`, value }));
      engine.emit(told(here, { anew: true }));
      return db.presence.others.map(({ value }) => value);
    };
    assert.deepEqual(others({ name: "bob", at: 2, hue: 1 }, { name: 5 }, "text"), [
      { name: "bob", idle: false, at: 2 },
      { name: "", idle: false, at: null },
      { name: "", idle: false, at: null },
    ]);
    assert.throws(
      () => defineSchema({ presence: { votes: counter() } }),
      /must hold one plain value/u,
    );
  });

  test("closing_ends_it", async () => {
    const { db, engine } = await world();
    const heard: (readonly unknown[])[] = [];
    db.presence.subscribe((others) => heard.push(others));
    engine.emit(told([bob]));
    await settled();
    db.presence.set(1);
    db.presence.set(2);
    await db.close();
    assert.deepEqual(heard.at(-1), []);
    assert.deepEqual(engine.presented, [1], "what waited is dropped");
    assert.throws(() => db.presence.clear(), { code: "closed" });
  });
});

/** Never run: what is no value does not compile. */
export function types(presence: LivePresence): void {
  const name: string | null | undefined = presence.others[0]?.principal;
  presence.set({ name: name ?? null, at: [1, 2n, new Uint8Array()] });
  // @ts-expect-error a date is no value
  presence.set({ at: new Date() });
  // @ts-expect-error what others show may be anything
  presence.others[0]?.value.name;
  // @ts-expect-error others are told of, not changed
  presence.others.push();
}

/** Never run: what the schema does not declare does not compile. */
export function declared(presence: LivePresence<ShowingOf<typeof typed>>): void {
  presence.set({ name: "ann" });
  const at: number | null | undefined = presence.others[0]?.value.at;
  presence.set({ name: "ann", at: at ?? null, idle: true });
  // @ts-expect-error the name is required
  presence.set({ at: 1 });
  // @ts-expect-error there is no such field
  presence.set({ name: "ann", hue: 1 });
  // @ts-expect-error there is no such field
  presence.others[0]?.value.hue;
}
