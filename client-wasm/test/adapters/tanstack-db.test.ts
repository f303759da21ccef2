import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  count,
  createCollection,
  createLiveQueryCollection,
  createTransaction,
  eq,
} from "@tanstack/db";
import { rejoinCollectionOptions, writeTo } from "../../ts/adapters/tanstack-db.js";
import { addTo, increment } from "../../ts/changes.js";
import type { Database } from "../../ts/db.js";
import type { Review } from "../../ts/types.js";
import { type schema, settled, world } from "../unit/world.js";

type Db = Database<typeof schema>;

const tasksOf = (db: Db) => createCollection(rejoinCollectionOptions({ db, collection: "tasks" }));

/** What a collection shows at each change, as `id:title`. */
function watch(tasks: ReturnType<typeof tasksOf>): string[] {
  const seen: string[] = [];
  tasks.subscribeChanges(() => {
    const rows = [...tasks.values()].sort((left, right) => (left.id < right.id ? -1 : 1));
    seen.push(rows.map(({ id, title }) => `${id}:${title}`).join());
  });
  return seen;
}

describe("a collection of TanStack DB", () => {
  test("holds_the_rows_and_follows_their_changes", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    const tasks = tasksOf(db);
    await tasks.preload();
    assert.deepEqual([...tasks.keys()], ["1"]);
    await db.tasks.add({ id: "2", title: "b" });
    await db.tasks.update("1", { title: "c" });
    await db.tasks.remove("2");
    assert.deepEqual(
      [...tasks.values()].map(({ id, title, done }) => [id, title, done]),
      [["1", "c", false]],
    );
  });

  test("holds_only_what_its_query_asks_for", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    await db.tasks.add({ id: "2", title: "b", done: true });
    const open = createCollection(
      rejoinCollectionOptions({
        db,
        collection: "tasks",
        query: (tasks) => tasks.where({ done: false }),
      }),
    );
    await open.preload();
    assert.deepEqual([...open.keys()], ["1"]);
    await db.tasks.update("1", { done: true });
    await db.tasks.update("2", { done: false });
    assert.deepEqual([...open.keys()], ["2"]);
  });

  test("joins_and_counts", async () => {
    const { db } = await world();
    for (const title of ["x", "x", "y"]) await db.tasks.add({ title });
    await db.lists.add({ id: "x", name: "First" });
    const tasks = tasksOf(db);
    const lists = createCollection(rejoinCollectionOptions({ db, collection: "lists" }));
    const counted = createLiveQueryCollection((query) =>
      query
        .from({ task: tasks })
        .innerJoin({ list: lists }, ({ task, list }) => eq(task.title, list.id))
        .groupBy(({ list }) => list.name)
        .select(({ list, task }) => ({ name: list.name, tasks: count(task.id) })),
    );
    await counted.preload();
    const shown = (): unknown => [...counted.values()].map(({ name, tasks }) => [name, tasks]);
    assert.deepEqual(shown(), [["First", 2]]);
    await db.tasks.add({ title: "x" });
    await settled();
    assert.deepEqual(shown(), [["First", 3]]);
  });

  test("shows_a_write_at_once_and_hands_it_over_without_flicker", async () => {
    const { db } = await world();
    const tasks = tasksOf(db);
    await tasks.preload();
    const seen = watch(tasks);
    const insert = tasks.insert({ id: "1", title: "a" });
    assert.deepEqual(seen, ["1:a"]);
    await insert.when("settled");
    assert.equal((await db.tasks.get("1"))?.title, "a");
    const update = tasks.update("1", (draft) => {
      draft.title = "b";
    });
    await update.when("settled");
    await tasks.delete("1").when("settled");
    assert.equal(await db.tasks.get("1"), undefined);
    await settled();
    assert.deepEqual([...new Set(seen)], ["1:a", "1:b", ""]);
    assert.equal(seen.at(-1), "");
  });

  test("hands_over_a_write_that_is_made_before_the_rows_are_loaded", async () => {
    const { db, engine } = await world();
    let open = (): void => undefined;
    engine.gate = new Promise((resolve) => (open = resolve));
    const tasks = tasksOf(db);
    const seen = watch(tasks);
    const insert = tasks.insert({ id: "1", title: "a" });
    await settled();
    open();
    await insert.when("settled");
    await settled();
    assert.deepEqual([...tasks.keys()], ["1"]);
    assert.ok(
      seen.every((rows) => rows === "1:a"),
      seen.join("|"),
    );
  });

  test("takes_a_write_back_that_fails", async () => {
    const { db, engine } = await world();
    const tasks = tasksOf(db);
    await tasks.preload();
    engine.failure = { code: "quota", message: "full", retryable: true };
    const insert = tasks.insert({ id: "1", title: "a" });
    assert.equal(tasks.size, 1);
    await assert.rejects(insert.when("settled"), { code: "quota" });
    assert.equal(tasks.size, 0);
    await assert.rejects(tasks.insert({ id: "2", title: 5 as never }).when("settled"), {
      code: "invalid",
    });
  });

  test("several_writes_of_one_call_are_one_batch", async () => {
    const { db } = await world();
    const tasks = tasksOf(db);
    await tasks.preload();
    const inserted = tasks.insert(["a", "b", "c"].map((title) => ({ title })));
    await inserted.when("settled");
    assert.equal(db.status.pending, 1);
    assert.equal((await db.tasks.all()).length, 3);
  });

  test("a_transaction_over_several_collections_is_one_batch", async () => {
    const { db } = await world();
    const tasks = tasksOf(db);
    const lists = createCollection(rejoinCollectionOptions({ db, collection: "lists" }));
    await Promise.all([tasks.preload(), lists.preload()]);
    const both = createTransaction({ mutationFn: writeTo(db) });
    both.mutate(() => {
      lists.insert({ id: "l", name: "List" });
      tasks.insert({ id: "t", title: "Task" });
      tasks.update("t", (draft) => {
        draft.done = true;
      });
    });
    await both.when("settled");
    assert.equal(db.status.pending, 1);
    assert.equal((await db.tasks.get("t"))?.done, true);
    assert.equal((await db.lists.get("l"))?.name, "List");
    const other = await world();
    const wrong = createTransaction({ mutationFn: writeTo(other.db) });
    wrong.mutate(() => lists.insert({ id: "m", name: "Lost?" }));
    await assert.rejects(wrong.when("settled"), { code: "invalid" });
  });

  test("defaults_are_shown_and_not_stored", async () => {
    const { db, engine } = await world();
    const tasks = tasksOf(db);
    await tasks.preload();
    const insert = tasks.insert({ title: "a", notes: "n" });
    const [row] = tasks.values();
    assert.deepEqual([row?.done, row?.votes, row?.tags, row?.due], [false, 0, [], null]);
    assert.equal(row?.notes.value, "n");
    await insert.when("settled");
    const stored = engine.row("tasks", row?.id ?? "");
    assert.equal(stored?.values.filter((value) => value !== undefined).length, 2);
  });

  test("changes_of_counters_and_sets_keep_what_others_do", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "a", votes: 1, tags: ["old", "both"], notes: "n" });
    const tasks = tasksOf(db);
    await tasks.preload();
    const first = tasks.update("1", (draft) => {
      draft.title = "b";
    });
    // The collection shows it when its own write is settled; it makes another one before.
    const others = db.tasks.update("1", { votes: increment(10), tags: addTo("other") });
    const update = tasks.update("1", (draft) => {
      draft.votes = (draft.votes ?? 0) + 2;
      draft.tags = ["both", "new"];
      draft.notes = "m";
    });
    assert.equal(tasks.get("1")?.votes, 3);
    await Promise.all([first.when("settled"), others, update.when("settled")]);
    const row = await db.tasks.get("1");
    assert.deepEqual(
      [row?.votes, row?.tags, row?.notes.value],
      [13, ["both", "new", "other"], "m"],
    );
    assert.equal(tasks.get("1")?.votes, 13);
    const nested = tasks.update("1", (draft) => {
      draft.tags?.push("pushed");
      (draft.notes as { value: string }).value = "o";
    });
    await nested.when("settled");
    const after = await db.tasks.get("1");
    assert.deepEqual([after?.tags, after?.notes.value], [["both", "new", "other", "pushed"], "o"]);
    assert.equal(after?.votes, 13);
  });

  test("says_why_the_rows_cannot_be_loaded_and_lets_go_when_cleaned_up", async () => {
    const { db, engine } = await world();
    engine.failure = { code: "storage", message: "unreadable", retryable: false };
    const failing = tasksOf(db);
    await assert.rejects(failing.preload(), { code: "storage" });
    const tasks = tasksOf(db);
    await tasks.preload();
    assert.deepEqual([...engine.watched], ["tasks"]);
    await tasks.cleanup();
    assert.deepEqual([...engine.watched], []);
    await db.tasks.add({ title: "meanwhile" });
    await tasks.preload();
    assert.equal(tasks.size, 1);
  });
});

/** Never run: what is untrue of the schema does not compile. */
export function types(db: Db): void {
  const tasks = tasksOf(db);
  const notes: Review<string> | undefined = tasks.get("1")?.notes;
  const comments = createCollection(rejoinCollectionOptions({ db, collection: "comments/1" }));
  comments.insert({ body: "hello" });
  // @ts-expect-error A title is required.
  tasks.insert({ done: true });
  // @ts-expect-error A title is text.
  tasks.insert({ title: 1 });
  // @ts-expect-error There is no such field.
  notes?.colour;
  // @ts-expect-error There is no such collection.
  rejoinCollectionOptions({ db, collection: "words" });
  tasks.update("1", (draft) => {
    // @ts-expect-error There is no such field.
    draft.colour = "red";
  });
}
