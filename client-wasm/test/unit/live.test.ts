import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addTo, increment, removeFrom } from "../../ts/changes.js";
import {
  and,
  contains,
  type Filter,
  gt,
  gte,
  lt,
  lte,
  ne,
  not,
  oneOf,
  or,
  prefix,
} from "../../ts/query.js";
import type { Diff, Row } from "../../ts/types.js";
import { Random } from "./random.js";
import { schema, settled, world, type World } from "./world.js";

type Task = Row<typeof schema.tasks>;

/** Queries, each with an independent statement of what it means. */
interface Case {
  readonly name: string;
  readonly filter: Filter<Task>;
  readonly holds: (task: Task) => boolean;
  readonly order: readonly (readonly [keyof Task & string, "asc" | "desc"])[];
  readonly limit: number;
}

const CASES: readonly Case[] = [
  { name: "everything", filter: {}, holds: () => true, order: [], limit: Infinity },
  {
    name: "open by priority",
    filter: { done: false, priority: gte(2) },
    holds: (task) => !task.done && task.priority >= 2,
    order: [["priority", "desc"]],
    limit: Infinity,
  },
  {
    name: "first seven by votes and title",
    filter: {},
    holds: () => true,
    order: [
      ["votes", "desc"],
      ["title", "asc"],
    ],
    limit: 7,
  },
  {
    name: "limit one",
    filter: { title: prefix("b") },
    holds: (task) => task.title.startsWith("b"),
    order: [["votes", "asc"]],
    limit: 1,
  },
  {
    name: "junctions",
    filter: or(and({ done: true }, not({ tags: contains("x") })), { votes: gt(2), due: ne(null) }),
    holds: (task) =>
      (task.done && !task.tags.includes("x")) || (task.votes > 2 && task.due !== null),
    order: [["due", "asc"]],
    limit: 5,
  },
  {
    name: "ranges on an optional field",
    filter: { due: lte(5), title: oneOf("a", "b", "bb"), notes: ne("n") },
    holds: (task) =>
      task.due !== null &&
      task.due <= 5 &&
      ["a", "b", "bb"].includes(task.title) &&
      task.notes.value !== "n",
    order: [["notes", "desc"]],
    limit: Infinity,
  },
  {
    name: "nothing",
    filter: or(),
    holds: () => false,
    order: [["title", "asc"]],
    limit: Infinity,
  },
];

function plainOf(value: unknown): string | number | boolean | null {
  if (typeof value === "object" && value !== null && "value" in value) return plainOf(value.value);
  return value as string | number | boolean | null;
}

function naive(tasks: readonly Task[], { holds, order, limit }: Case): readonly Task[] {
  return tasks
    .filter(holds)
    .sort((left, right) => {
      for (const [field, direction] of [...order, ["id", "asc"] as const]) {
        const [a, b] = [plainOf(left[field]), plainOf(right[field])];
        if (a === b) continue;
        const less = a === null ? true : b === null ? false : a < b;
        return less === (direction === "asc") ? -1 : 1;
      }
      return 0;
    })
    .slice(0, limit);
}

/** What a list view does with a diff. */
function patched(old: readonly Task[], diff: Diff<Task>): Task[] {
  const left = new Set([
    ...diff.removed.map(({ index }) => index),
    ...diff.moved.map((m) => m.from),
  ]);
  for (const { row, index } of diff.removed) assert.equal(old[index]?.id, row.id);
  const rows = old.filter((_, index) => !left.has(index));
  const arriving = [
    ...diff.added.map(({ row, index }) => ({ row, index })),
    ...diff.moved.map(({ row, to }) => ({ row, index: to })),
  ].sort((a, b) => a.index - b.index);
  for (const { row, index } of arriving) rows.splice(index, 0, row);
  for (const { row, before, index } of diff.changed) {
    assert.equal(row.id, before.id);
    assert.ok(rows[index]?.id === row.id);
    rows[index] = row;
  }
  return rows;
}

async function act(random: Random, { db, engine }: World, ids: string[]): Promise<void> {
  const id = ids.length > 0 ? random.pick(ids) : "";
  const action = ids.length < 5 ? 0 : random.below(12);
  if (action < 3) {
    const task = await db.tasks.add({
      id: `${random.below(1e9)}`,
      title: random.pick(["a", "b", "bb", "c"]),
      done: random.below(2) === 0,
      tags: random.pick([[], ["x"], ["x", "y"]]),
      due: random.pick([null, 1, 5, 9]),
    });
    ids.push(task.id);
  } else if (action < 5) {
    await db.tasks.remove(id);
    ids.splice(ids.indexOf(id), 1);
  } else if (action === 5) await db.tasks.update(id, { votes: increment(random.below(5) - 2) });
  else if (action === 6) await db.tasks.update(id, { done: random.below(2) === 0 });
  else if (action === 7) await db.tasks.update(id, { tags: addTo(random.pick(["x", "y"])) });
  else if (action === 8)
    await db.tasks.update(id, { tags: removeFrom("x"), priority: random.below(9) });
  else if (action === 9) engine.concurrent("tasks", id, "notes", random.pick(["m", "n", "o"]));
  else if (action === 10) await db.tasks.put(id, { title: random.pick(["a", "bb"]) });
  else await swapMany(random, db, ids);
}

/** Many records in one step, more than are spliced one by one. */
async function swapMany(random: Random, db: World["db"], ids: readonly string[]): Promise<void> {
  await db.batch((batch) => {
    for (const id of ids) {
      if (random.below(3) > 0) batch.tasks.update(id, { votes: increment(random.below(9) - 4) });
    }
  });
}

describe("live queries", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    test(`live_results_and_diffs_equal_a_naive_query_over_random_histories_seed_${seed}`, async () => {
      const random = new Random(seed);
      const here = await world();
      const ids: string[] = [];
      for (let step = 0; step < 20; step += 1) await act(random, here, ids);
      const queries = CASES.map((one) => {
        let query = here.db.tasks.where(one.filter).limit(one.limit);
        for (const [field, direction] of one.order) query = query.orderBy(field, direction);
        const live = query.live();
        const seen: { rows: readonly Task[] } = { rows: [] };
        live.subscribe((rows, diff) => {
          if (diff !== undefined) assert.deepEqual(patched(seen.rows, diff), rows, one.name);
          seen.rows = rows;
        });
        const count = query.liveCount();
        const counted = { total: 0 };
        count.subscribe((total, by) => {
          if (by !== undefined) assert.equal(counted.total + by, total);
          counted.total = total;
        });
        return { one, live, seen, query, count, counted };
      });
      await settled();
      for (let step = 0; step < 400; step += 1) {
        const before = queries.map(({ live }) => live.getSnapshot());
        const several = 1 + random.below(3);
        for (let nth = 0; nth < several; nth += 1) await act(random, here, ids);
        await settled();
        const tasks = await Promise.all(ids.map((id) => here.db.tasks.get(id)));
        const all = tasks.filter((task) => task !== undefined);
        queries.forEach(({ one, live, seen, count, counted }, nth) => {
          const rows = live.getSnapshot();
          assert.deepEqual(rows, naive(all, one), one.name);
          assert.deepEqual([count.getSnapshot(), counted.total], [rows?.length, rows?.length]);
          assert.equal(seen.rows, rows, "subscribers have the snapshot");
          const known = new Map(before[nth]?.map((task) => [task.id, task]));
          if (several > 1) return;
          for (const task of rows ?? []) {
            const old = known.get(task.id);
            if (old !== undefined && old !== task) assert.notDeepEqual(old, task);
          }
        });
      }
      for (const { one, query, live } of queries) {
        assert.deepEqual(await query.all(), live.getSnapshot(), one.name);
        assert.equal(await query.count(), live.getSnapshot()?.length);
        assert.equal((await query.first())?.id, live.getSnapshot()?.[0]?.id);
      }
    });
  }

  test("snapshot_is_undefined_while_loading_and_stays_the_same_array_until_something_changes", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    const live = db.tasks.where({ title: "a" }).live();
    assert.equal(live.getSnapshot(), undefined);
    const rows = await live.ready;
    assert.equal(live.getSnapshot(), rows);
    await db.tasks.add({ id: "2", title: "not a match" });
    await db.tasks.update("1", { title: "a" });
    assert.equal(live.getSnapshot(), rows);
    assert.ok(Object.isFrozen(rows) && Object.isFrozen(rows[0]) && Object.isFrozen(rows[0]?.tags));
  });

  test("a_live_count_tells_only_when_the_number_is_another_one", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    const count = db.tasks.where({ done: false }).limit(3).liveCount();
    const told: unknown[] = [];
    count.subscribe((number, by) => told.push([number, by]));
    assert.equal(count.getSnapshot(), undefined);
    assert.equal(await count.ready, 1);
    for (const id of ["2", "3", "4", "5"]) await db.tasks.add({ id, title: id });
    await db.tasks.update("1", { title: "b" });
    await db.batch((batch) => {
      batch.tasks.remove("1");
      batch.tasks.add({ id: "6", title: "b" });
    });
    await db.tasks.update("2", { done: true });
    for (const id of ["3", "4", "5"]) await db.tasks.remove(id);
    await settled();
    assert.deepEqual(told, [
      [1, undefined],
      [2, 1],
      [3, 1],
      [2, -1],
      [1, -1],
    ]);
    assert.throws(() => db.tasks.limit(-1).liveCount(), { code: "invalid" });
    count.close();
    await db.tasks.add({ title: "unseen" });
    assert.equal(count.getSnapshot(), 1);
  });

  test("unchanged_rows_keep_their_identity", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    await db.tasks.add({ id: "2", title: "b", tags: ["x"] });
    const live = db.tasks.live();
    const before = await live.ready;
    await db.tasks.update("1", { done: true });
    const after = live.getSnapshot();
    assert.notEqual(after?.[0], before[0]);
    assert.equal(after?.[1], before[1]);
    assert.equal(await db.tasks.get("2"), before[1]);
    assert.equal(db.tasks.peek("2"), before[1]);
  });

  test("a_write_is_in_the_snapshot_when_its_promise_resolves", async () => {
    const { db } = await world();
    const live = db.tasks.live();
    await live.ready;
    const { id } = await db.tasks.add({ title: "a" });
    assert.deepEqual(
      live.getSnapshot()?.map((task) => task.id),
      [id],
    );
  });

  test("a_batch_is_one_notification_across_collections", async () => {
    const { db } = await world();
    const tasks = db.tasks.live();
    const lists = db.lists.live();
    const calls: string[] = [];
    await Promise.all([tasks.ready, lists.ready]);
    tasks.subscribe((rows) => calls.push(`tasks ${rows.length} ${lists.getSnapshot()?.length}`));
    lists.subscribe((rows) => calls.push(`lists ${rows.length} ${tasks.getSnapshot()?.length}`));
    await settled();
    calls.length = 0;
    await db.batch((batch) => {
      for (let nth = 0; nth < 30; nth += 1) batch.tasks.add({ title: String(nth) });
      batch.lists.add({ name: "l" });
    });
    assert.deepEqual(calls.sort(), ["lists 1 30", "tasks 30 1"]);
  });

  test("changes_during_a_slow_load_are_not_overwritten_by_the_older_page", async () => {
    const { db, engine } = await world();
    for (let nth = 0; nth < 1200; nth += 1) await db.tasks.add({ id: `${nth}`, title: "old" });
    let open = (): void => undefined;
    engine.gate = new Promise((resolve) => (open = resolve));
    const live = db.tasks.live();
    await settled();
    await db.tasks.update("1", { title: "new" });
    await db.tasks.remove("10");
    await db.tasks.add({ id: "0000", title: "added" });
    assert.equal(live.getSnapshot(), undefined);
    open();
    await live.ready;
    assert.equal(db.tasks.peek("1")?.title, "new");
    assert.equal(db.tasks.peek("10"), undefined);
    assert.equal(db.tasks.peek("0000")?.title, "added");
    assert.equal(live.getSnapshot()?.length, 1200);
  });

  test("a_limit_alone_reads_no_more_than_it_shows_and_in_the_order_of_every_query", async () => {
    const { db, engine } = await world();
    const ids = Array.from({ length: 700 }, (_, at) => String(at).padStart(4, "0"));
    await db.batch((batch) => {
      for (const id of ids) batch.tasks.add({ id, title: id });
    });
    const few = await db.tasks.limit(3).all();
    assert.deepEqual(
      few.map(({ id }) => id),
      ["0000", "0001", "0002"],
    );
    assert.equal((await db.tasks.first())?.id, "0000");
    assert.equal(engine.scans.length, 2);
    assert.deepEqual(await db.tasks.limit(0).all(), []);
    assert.equal(await db.tasks.limit(0).first(), undefined);
    assert.equal((await db.tasks.limit(600).all()).length, 600);
    await assert.rejects(db.tasks.limit(-1).all(), { code: "invalid" });
    // UTF-8 and UTF-16 disagree on these two.
    await db.lists.put("\u{ffee}", { name: "after" });
    await db.lists.put("\u{1f600}", { name: "before" });
    const [one] = await db.lists.limit(1).all();
    const [first] = await db.lists.all();
    assert.deepEqual(one, first);
  });

  test("closing_the_last_query_lets_go_of_the_rows", async () => {
    const { db, engine } = await world();
    const first = db.tasks.live();
    const second = db.tasks.live();
    await Promise.all([first.ready, second.ready]);
    assert.deepEqual(engine.scans, ["tasks"]);
    first.close();
    assert.ok(engine.watched.has("tasks"));
    second.close();
    assert.ok(!engine.watched.has("tasks"));
    const last = second.getSnapshot();
    await db.tasks.add({ title: "unseen" });
    assert.equal(second.getSnapshot(), last);
  });

  test("one_throwing_subscriber_does_not_harm_the_others", async (context) => {
    const { db } = await world();
    const live = db.tasks.live();
    const uncaught: unknown[] = [];
    const queue = context.mock.method(globalThis, "queueMicrotask", (work: () => void) => {
      void Promise.resolve()
        .then(work)
        .catch((error: unknown) => uncaught.push(error));
    });
    let calls = 0;
    live.subscribe(() => {
      throw new Error("of the app");
    });
    live.subscribe(() => (calls += 1));
    await live.ready;
    await db.tasks.add({ title: "a" });
    await settled();
    queue.mock.restore();
    assert.equal(calls, 2);
    assert.deepEqual(uncaught.map(String), ["Error: of the app", "Error: of the app"]);
  });

  test("a_failed_load_is_told_to_subscribers_and_ready", async () => {
    const { db, engine } = await world();
    engine.failure = { code: "storage", message: "lost", retryable: true };
    const live = db.tasks.live();
    const codes: string[] = [];
    live.subscribe(
      () => codes.push("rows"),
      (error) => codes.push(error.code),
    );
    await assert.rejects(live.ready, { name: "SyncError", code: "storage", retryable: true });
    assert.deepEqual(codes, ["storage"]);
    assert.equal(live.error?.code, "storage");
    assert.deepEqual(await db.tasks.live().ready, []);
  });

  test("a_filter_or_order_on_an_unknown_field_is_refused", async () => {
    const { db } = await world();
    const wrong = { colour: "red" } as unknown as Filter<Task>;
    assert.throws(() => db.tasks.where(wrong).live(), { code: "invalid" });
    await assert.rejects(db.tasks.where(wrong).all(), { code: "invalid" });
    await assert.rejects(db.tasks.orderBy("colour" as "title").all(), { code: "invalid" });
    await assert.rejects(db.tasks.limit(-1).all(), { code: "invalid" });
  });

  test("null_is_neither_less_nor_greater", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "none" });
    await db.tasks.add({ id: "2", title: "five", due: 5 });
    const ids = async (filter: Filter<Task>): Promise<string[]> =>
      (await db.tasks.where(filter).all()).map(({ id }) => id);
    assert.deepEqual(await ids({ due: lt(9) }), ["2"]);
    assert.deepEqual(await ids({ due: null }), ["1"]);
    assert.deepEqual(await ids({ due: ne(null) }), ["2"]);
  });
});
