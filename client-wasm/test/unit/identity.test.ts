import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { and, contains, gt, gte, not, oneOf, or } from "../../ts/query.js";
import { world } from "./world.js";

describe("the identity of a query", () => {
  test("is_the_same_for_queries_that_ask_the_same", async () => {
    const { db } = await world();
    const pairs = [
      [db.tasks.where({ title: "a", done: true }), db.tasks.where({ done: true, title: "a" })],
      [db.tasks.where({ title: "a", done: undefined }), db.tasks.where({ title: "a" })],
      [db.tasks.where(or({ votes: gt(1) })), db.tasks.where(or({ votes: gt(1) }))],
      [db.tasks.orderBy("title").limit(3), db.tasks.orderBy("title").limit(3)],
    ] as const;
    for (const [one, other] of pairs) {
      assert.deepEqual(one.identity, other.identity);
      assert.equal(one.identity.of, other.identity.of);
    }
  });

  test("differs_for_queries_that_ask_something_else", async () => {
    const { db } = await world();
    const { tasks } = db;
    const queries: readonly { readonly identity: { readonly asks: string } }[] = [
      ...[tasks, tasks.where({ title: "1" }), tasks.where({ title: "a,b" })],
      ...[tasks.where({ votes: 1 }), tasks.where({ votes: gt(1) }), tasks.where({ votes: gte(1) })],
      ...[tasks.where({ due: null }), tasks.where({ due: Number.NaN }), tasks.where({ due: 0 })],
      ...[tasks.where({ title: oneOf("a", "b") }), tasks.where({ title: oneOf("a,b") })],
      ...[tasks.where({ tags: contains("a") }), tasks.where(not({ tags: contains("a") }))],
      ...[tasks.where(and({ title: "a" }, { title: "b" }))],
      ...[tasks.where(or({ title: "a" }, { title: "b" })), tasks.where({ title: "}]" })],
      ...[tasks.orderBy("title"), tasks.orderBy("title", "desc"), tasks.orderBy("votes")],
      ...[tasks.orderBy("title").orderBy("votes"), tasks.limit(1), tasks.limit(2)],
    ];
    const asked = queries.map(({ identity }) => identity.asks);
    assert.equal(new Set(asked).size, asked.length);
    assert.notEqual(tasks.identity.of, db.lists.identity.of);
    assert.notEqual(tasks.identity.of, (await world()).db.tasks.identity.of);
  });
});

test("a_query_that_names_an_id_looks_at_no_other_record", async () => {
  const { db } = await world();
  for (const id of ["1", "2", "3"]) await db.tasks.add({ id, title: id });
  const live = db.tasks.where({ id: "2" }).where({ done: false }).live();
  assert.deepEqual(
    (await live.ready).map(({ id }) => id),
    ["2"],
  );
  await db.tasks.remove("2");
  assert.deepEqual(live.getSnapshot(), []);
  await db.tasks.add({ id: "2", title: "again" });
  assert.equal(live.getSnapshot()?.[0]?.title, "again");
  assert.deepEqual(await db.tasks.where({ id: "4" }).all(), []);
  assert.deepEqual(await db.tasks.where({ id: "1" }).where({ id: "2" }).all(), []);
});
