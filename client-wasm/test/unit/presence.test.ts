import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import type { LivePresence } from "../../ts/presence.js";
import type { RawOther } from "../../ts/raw.js";
import type { Json } from "../../ts/types.js";
import { settled, world } from "./world.js";

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
