import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addTo, increment, removeFrom, resolve } from "../../ts/changes.js";
import type { Collection } from "../../ts/collection.js";
import type { Database } from "../../ts/db.js";
import { and, contains, gte, not, oneOf, or, prefix } from "../../ts/query.js";
import {
  bigint,
  bool,
  bytes,
  counter,
  defineSchema,
  fww,
  json,
  max,
  min,
  number,
  set,
  text,
} from "../../ts/schema.js";
import { Shape } from "../../ts/shape.js";
import type { Insert, Patch, Review, Row, SchemaShape } from "../../ts/types.js";
import { compareValues } from "../../ts/values.js";
import { schema } from "./world.js";

type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only if the types are the same. */
function same<A, B>(..._: Same<A, B> extends true ? [] : [never]): void {}

describe("types", () => {
  test("rows_inserts_and_patches_are_inferred", () => {
    same<
      Row<typeof schema.tasks>,
      {
        readonly id: string;
        readonly title: string;
        readonly done: boolean;
        readonly votes: number;
        readonly tags: readonly string[];
        readonly notes: Review<string>;
        readonly priority: number;
        readonly due: number | null;
      }
    >();
    const minimal: Insert<typeof schema.tasks> = { title: "a" };
    const whole: Insert<typeof schema.tasks> = { ...minimal, id: "1", votes: 3n, tags: ["x"] };
    // @ts-expect-error the title is required
    const untitled: Insert<typeof schema.tasks> = { done: true };
    // @ts-expect-error a counter is changed by increment() only
    const counted: Patch<typeof schema.tasks> = { votes: 3 };
    // @ts-expect-error elements are texts
    const tagged: Patch<typeof schema.tasks> = { tags: addTo(5) };
    // @ts-expect-error there is no such field
    const coloured: Patch<typeof schema.tasks> = { colour: "red" };
    const good: Patch<typeof schema.tasks> = {
      votes: increment(1),
      tags: removeFrom("x"),
      notes: resolve("n"),
      due: null,
    };
    assert.ok([minimal, whole, untitled, counted, tagged, coloured, good].every(Boolean));
  });

  test("builders_give_their_value_types", () => {
    const all = defineSchema({
      things: {
        level: text<"low" | "high">().default("low"),
        cents: bigint(),
        place: json<{ lat: number }>(),
        settings: json<{ dark: boolean }>().default({ dark: false }),
        picture: bytes().optional(),
        first: fww(number()).optional(),
        least: min(number()).optional(),
        members: set(bigint()),
      },
    });
    same<
      Row<typeof all.things>,
      {
        readonly id: string;
        readonly level: "low" | "high";
        readonly cents: bigint;
        readonly place: { lat: number } | null;
        readonly settings: { dark: boolean };
        readonly picture: Uint8Array | null;
        readonly first: number | null;
        readonly least: number | null;
        readonly members: readonly bigint[];
      }
    >();
  });

  test("filters_and_names_are_checked", () => {
    const check = (db: Database<typeof schema>, tasks: Collection<typeof schema.tasks>): void => {
      tasks.where({ done: false, priority: gte(3), title: prefix("a"), tags: contains("x") });
      tasks.where({ title: contains("x"), notes: prefix("n"), due: oneOf(1, 2, null) });
      tasks.where(or({ done: true }, and({ title: "a" }, not({ due: gte(3) }))));
      // @ts-expect-error done is a boolean
      tasks.where({ done: "yes" });
      // @ts-expect-error there is no such field, also inside of a junction
      tasks.where(or({ colour: "red" }));
      // @ts-expect-error a number has no prefix
      tasks.where({ priority: prefix("a") });
      // @ts-expect-error there is no such field
      tasks.orderBy("colour");
      same<typeof db.tasks, Collection<typeof schema.tasks>>();
      void db.collection("comments/7").add({ body: "b" });
      // @ts-expect-error there is no such collection
      db.collection("comment/7");
      // @ts-expect-error collections below a prefix have no property
      void db["comments/*"];
      // @ts-expect-error a member of a database
      defineSchema({ status: { a: text() } });
    };
    assert.throws(() => check({} as Database<typeof schema>, {} as never));
  });
});

describe("schema", () => {
  test("names_that_are_taken_or_malformed_are_refused", () => {
    const fields = { a: text() };
    for (const name of ["status", "close", "then", "", "a//b", "*", "a*", "/a", "a/*/b"]) {
      assert.throws(
        () => defineSchema({ [name]: fields } as SchemaShape),
        { code: "invalid" },
        name,
      );
    }
    const id: SchemaShape = { things: { id: text() } };
    assert.throws(() => defineSchema(id), { code: "invalid" });
    assert.throws(() => number().default("5" as unknown as number), { code: "invalid" });
  });

  test("absent_and_mistyped_values_show_the_default_or_the_empty_value", () => {
    const shape = new Shape({
      title: text(),
      done: bool().default(true),
      due: number().optional(),
      cents: bigint(),
      votes: counter(),
      tags: set(text()),
    });
    const empty = { title: "", done: true, due: null, cents: 0n, votes: 0, tags: [] };
    const none = [undefined, undefined, undefined, undefined, undefined, undefined];
    assert.deepEqual(shape.decode({ id: "1", values: none }), { id: "1", ...empty });
    const mistyped = [5, "yes", "soon", 1.5, undefined, [5, "kept"]];
    const shown = { id: "1", ...empty, tags: ["kept"] };
    assert.deepEqual(shape.decode({ id: "1", values: mistyped }), shown);
    const large = shape.decode({
      id: "1",
      values: ["", true, 2n ** 60n, 2n ** 60n, 2n ** 60n, []],
    });
    assert.deepEqual([large["due"], large["cents"], large["votes"]], [2 ** 60, 2n ** 60n, 2 ** 60]);
  });

  test("renamed_and_changed_fields_read_both_cells", () => {
    const shape = new Shape({
      title: text().from("name").from("label"),
      votes: counter().from("likes"),
      tags: set(text()).from("labels"),
      best: max(number()).from("best", "lww"),
    });
    assert.deepEqual(shape.collection("c").columns, [
      ["title", "lww"],
      ["name", "lww"],
      ["label", "lww"],
      ["votes", "counter"],
      ["likes", "counter"],
      ["tags", "set"],
      ["labels", "set"],
      ["best", "max"],
      ["best", "lww"],
    ]);
    const old = [undefined, undefined, "old", 1, 2, ["b"], ["a", "b"], undefined, 7];
    const { id: _, ...row } = shape.decode({ id: "1", values: old });
    assert.deepEqual(row, { title: "old", votes: 3, tags: ["a", "b"], best: 7 });
    assert.deepEqual(shape.patch({ tags: removeFrom("a") }), [
      ["tags", "set", "delete", ["a"]],
      ["labels", "set", "delete", ["a"]],
    ]);
    assert.deepEqual(shape.patch({ title: "new" }), [["title", "lww", "set", "new"]]);
  });

  test("json_values_are_copied_and_what_is_no_value_is_refused", () => {
    const shape = new Shape({ data: json() });
    const given = { a: [1, { b: undefined, c: 2n }], bytes: new Uint8Array([1]) };
    const [field] = shape.values({ data: given });
    assert.deepEqual(field?.[3], { a: [1, { c: 2n }], bytes: new Uint8Array([1]) });
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    for (const value of [cycle, new Date(), new Map(), () => 1, ["\udc00"], { "\udc00": 1 }]) {
      assert.throws(() => shape.values({ data: value }), { code: "invalid" });
    }
  });

  test("values_are_ordered_as_in_the_engine", () => {
    const ascending = [
      null,
      false,
      true,
      -1,
      0.5,
      2n ** 60n,
      Number.POSITIVE_INFINITY,
      Number.NaN,
      "",
      "a",
      "aa",
      "b",
      new Uint8Array([1]),
      new Uint8Array([1, 0]),
      [1],
      [1, 2],
      { a: 1 },
      { a: 1, b: 0 },
      { a: 2 },
    ];
    ascending.forEach((left, a) => {
      ascending.forEach((right, b) => {
        assert.equal(Math.sign(compareValues(left, right)), Math.sign(a - b), `${a} ${b}`);
      });
    });
    assert.equal(compareValues(5, 5n), 0);
  });
});
