import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addTo, increment, removeFrom, resolve, type SetChange } from "../../ts/changes.js";
import { Opener } from "../../ts/open.js";
import type { RawField, RawOp } from "../../ts/raw.js";
import { defineSchema, int, min, text } from "../../ts/schema.js";
import type { Row } from "../../ts/types.js";
import { memoryEngine } from "./memory.js";
import { Random } from "./random.js";
import { schema, settled, world, type World } from "./world.js";

type Task = Row<typeof schema.tasks>;

/** A write of another replica. */
function elsewhere({ engine }: World, op: RawOp["op"], id: string, ...fields: RawField[]): unknown {
  const write = { op, collection: "tasks", id, erase: false, fields };
  return engine.write([write], { relaxed: false, echo: false });
}

/** What a task shows, the siblings of its notes apart. */
async function shown({ db }: World, id = "1"): Promise<object | undefined> {
  const task: Task | undefined = await db.tasks.get(id);
  return task && { ...task, notes: task.notes.value };
}

describe("undo and redo", () => {
  test("take_back_what_was_written_to_every_kind_of_field_and_do_it_again", async () => {
    const all = await world();
    const { db } = all;
    const scope = db.undoable("editor");
    const first = { id: "1", title: "a", votes: 3, tags: ["x", "y"], notes: "n", due: 5 };
    await db.tasks.add(first);
    const before = await shown(all);
    await scope.batch((batch) => {
      batch.tasks.update("1", { title: "b", done: true, votes: increment(4), due: null });
      batch.tasks.update("1", { tags: addTo("z"), notes: resolve("m") });
      batch.tasks.update("1", { tags: removeFrom("x"), votes: increment(-1) });
    });
    const after = await shown(all);
    assert.notDeepEqual(after, before);
    for (let round = 0; round < 20; round += 1) {
      assert.equal(await scope.undo(), true);
      assert.deepEqual(await shown(all), before);
      assert.equal(await scope.redo(), true);
      assert.deepEqual(await shown(all), after);
    }
    assert.equal(await scope.redo(), false);
  });

  test("remove_what_was_added_and_add_what_was_removed", async () => {
    const all = await world();
    const { db } = all;
    const scope = db.undoable("editor");
    const values = { title: "a", votes: 2, tags: ["x"], notes: "n", priority: 4, due: 1 };
    await scope.batch((batch) => batch.tasks.add({ id: "1", ...values }));
    const added = await shown(all);
    await scope.batch((batch) => batch.tasks.remove("1", { erase: true }));
    assert.equal(await shown(all), undefined);
    await scope.undo();
    assert.deepEqual(await shown(all), added);
    await scope.undo();
    assert.equal(await shown(all), undefined);
    assert.deepEqual([scope.canUndo, scope.canRedo], [false, true]);
    await scope.redo();
    assert.deepEqual(await shown(all), added);
    await scope.redo();
    assert.equal(await shown(all), undefined);
    assert.deepEqual([scope.canUndo, scope.canRedo], [true, false]);
  });

  test("take_back_a_put_field_by_field", async () => {
    const all = await world();
    const { db } = all;
    const scope = db.undoable("editor");
    await db.tasks.add({ id: "1", title: "a", votes: 3, tags: ["x", "y"], notes: "n", due: 5 });
    const before = await shown(all);
    await scope.batch((batch) => batch.tasks.put("1", { title: "b", tags: ["y", "z"], due: 5 }));
    await elsewhere(all, "update", "1", ["done", "lww", "set", true]);
    await scope.undo();
    assert.deepEqual(await shown(all), { ...before, done: true });
    await scope.redo();
    const put = { title: "b", tags: ["y", "z"], due: 5, votes: 0, notes: "", done: true };
    assert.deepEqual(await shown(all), { ...before, ...put });
  });

  test("leave_a_least_value_that_was_absent_before", async () => {
    const own = defineSchema({ t: { title: text(), least: min(int().optional()) } });
    const { Engine } = memoryEngine();
    const db = await new Opener().open({ name: "own", schema: own }, async () => Engine);
    const scope = db.undoable("editor");
    await db.t.add({ id: "1", title: "a" });
    await scope.batch((batch) => batch.t.put("1", { title: "b", least: 5 }));
    await scope.undo();
    assert.deepEqual(await db.t.get("1"), { id: "1", title: "a", least: 5 });
    await db.t.update("1", { least: 3 });
    assert.equal((await db.t.get("1"))?.least, 3);
  });

  test("leave_alone_what_others_have_written_since", async () => {
    const all = await world();
    const { db, engine } = all;
    const scope = db.undoable("editor");
    await db.tasks.add({ id: "1", title: "a", votes: 1, tags: ["x"], notes: "n", due: 1 });
    await scope.batch((batch) =>
      batch.tasks.update("1", {
        ...{ title: "b", done: true, due: 2, notes: "m" },
        ...{ votes: increment(2), tags: ["y"] },
      }),
    );
    await elsewhere(
      all,
      "update",
      "1",
      ["title", "lww", "set", "theirs"],
      ["due", "lww", "set", 2],
    );
    await elsewhere(all, "update", "1", ["votes", "counter", "increment", 10]);
    await elsewhere(all, "update", "1", ["tags", "set", "add", ["theirs"]]);
    engine.concurrent("tasks", "1", "notes", "theirs");
    await scope.undo();
    const task = await db.tasks.get("1");
    const { title, done, due, votes, tags, notes } = task ?? assert.fail("it is gone");
    assert.deepEqual([title, done, due], ["theirs", false, 1]);
    assert.deepEqual([votes, tags], [11, ["theirs", "x"]]);
    assert.deepEqual(
      notes.siblings.map(({ value }) => value),
      ["theirs", "m"],
    );
    await scope.redo();
    assert.deepEqual(await shown(all).then((row) => Object.values(row ?? {}).slice(1)), [
      "theirs",
      true,
      13,
      ["theirs", "y"],
      "theirs",
      0,
      2,
    ]);
  });

  test("bring_back_what_others_had_written_to_a_record_that_was_added_here", async () => {
    const all = await world();
    const scope = all.db.undoable("editor");
    await scope.batch((batch) => batch.tasks.add({ id: "1", title: "a", votes: 1 }));
    await elsewhere(all, "update", "1", ["due", "lww", "set", 7]);
    await scope.undo();
    assert.equal(await shown(all), undefined);
    await scope.redo();
    const task = await all.db.tasks.get("1");
    assert.deepEqual([task?.title, task?.votes, task?.due], ["a", 1, 7]);
  });

  test("leave_a_removed_record_alone_that_is_there_again", async () => {
    const all = await world();
    const scope = all.db.undoable("editor");
    await all.db.tasks.add({ id: "1", title: "a" });
    await scope.batch((batch) => batch.tasks.remove("1"));
    await elsewhere(all, "add", "1", ["title", "lww", "set", "theirs"]);
    assert.equal(await scope.undo(), false);
    assert.equal((await all.db.tasks.get("1"))?.title, "theirs");
    assert.deepEqual([scope.canUndo, scope.canRedo], [false, false]);
  });

  test("pass_over_steps_of_which_nothing_is_left", async () => {
    const all = await world();
    const scope = all.db.undoable("editor");
    await scope.batch((batch) => batch.lists.add({ id: "1", name: "kept" }));
    await scope.batch((batch) => batch.tasks.add({ id: "1", title: "a" }));
    await scope.batch((batch) => batch.tasks.update("1", { title: "b" }));
    await elsewhere(all, "remove", "1");
    assert.equal(await scope.undo(), true);
    assert.equal(await all.db.lists.count(), 0);
    assert.equal(await scope.undo(), false);
  });

  test("do_a_whole_batch_or_nothing", async () => {
    const { db, engine } = await world();
    const scope = db.undoable("editor");
    await scope.batch((batch) => {
      const list = batch.lists.add({ id: "l", name: "l" });
      batch.tasks.add({ id: "1", title: list });
      batch.collection("comments/1").add({ id: "c", body: "b" });
    });
    const counts = async (): Promise<number[]> => [
      await db.lists.count(),
      await db.tasks.count(),
      await db.collection("comments/1").count(),
    ];
    const { row } = await scope.undo().receipt;
    assert.deepEqual([row, await counts()], [2, [0, 0, 0]]);
    const write = engine.write.bind(engine);
    engine.write = () => Promise.reject({ code: "quota", message: "full", retryable: true });
    await assert.rejects(scope.redo(), { code: "quota" });
    engine.write = write;
    assert.deepEqual([scope.canUndo, scope.canRedo, await counts()], [false, true, [0, 0, 0]]);
    await scope.redo();
    assert.deepEqual(await counts(), [1, 1, 1]);
  });

  test("take_a_batch_of_a_thousand_records_back_at_once", async () => {
    const { db } = await world();
    const scope = db.undoable("editor");
    const add = (start: number): Promise<void> =>
      scope.batch(
        (batch) => {
          for (let at = start; at < start + 600; at += 1) {
            batch.tasks.add({ id: String(at), title: "a" });
            batch.tasks.update(String(at), { votes: increment(at) });
          }
        },
        { group: "many" },
      );
    await add(0);
    // More than one write may touch: a step of its own.
    await add(600);
    const start = performance.now();
    await scope.undo();
    assert.equal(await db.tasks.count(), 600);
    await scope.undo();
    assert.equal(await db.tasks.count(), 0);
    await scope.redo();
    assert.ok(performance.now() - start < 2_000);
    assert.equal((await db.tasks.get("599"))?.votes, 599);
  });

  test("make_several_steps_of_one_that_is_too_large_for_a_write", async () => {
    const { db, engine } = await world();
    const scope = db.undoable("editor");
    for (const id of ["1", "2", "3", "4"]) await db.tasks.add({ id, title: id });
    await scope.batch((batch) => ["1", "2", "3", "4"].forEach((id) => batch.tasks.remove(id)));
    const write = engine.write.bind(engine);
    engine.write = (ops, options) => {
      const isTooLarge = ops.filter(({ op }) => op === "add").length > 2;
      const error = { code: "too_large", message: "too large", retryable: false };
      return isTooLarge ? Promise.reject(error) : write(ops, options);
    };
    const counts: unknown[] = [];
    while (await scope.undo()) counts.push(await db.tasks.count());
    while (await scope.redo()) counts.push(await db.tasks.count());
    assert.deepEqual(counts, [2, 4, 2, 0]);
    engine.write = () => Promise.reject({ code: "too_large", message: "", retryable: false });
    await assert.rejects(scope.undo(), { code: "too_large" });
    assert.equal(scope.canUndo, true);
  });

  test("work_it_out_anew_when_a_record_goes_meanwhile", async () => {
    const all = await world();
    const { db, engine } = all;
    const scope = db.undoable("editor");
    await db.tasks.add({ id: "1", title: "a" });
    await db.tasks.add({ id: "2", title: "a" });
    await scope.batch((batch) => {
      for (const id of ["1", "2"]) batch.tasks.update(id, { title: "b" });
    });
    const write = engine.write.bind(engine);
    engine.write = async (ops, options) => {
      engine.write = write;
      await elsewhere(all, "remove", "1");
      return write(ops, options);
    };
    assert.equal(await scope.undo(), true);
    assert.deepEqual(
      (await db.tasks.all()).map(({ id, title }) => [id, title]),
      [["2", "a"]],
    );
  });
});

describe("steps", () => {
  test("that_are_of_one_group_or_follow_soon_are_one", async () => {
    const { db } = await world();
    const title = async (): Promise<string | undefined> => (await db.tasks.get("1"))?.title;
    await db.tasks.add({ id: "1", title: "" });
    const typed = db.undoable("typed");
    for (const text of ["a", "ab", "abc"]) {
      await typed.batch((batch) => batch.tasks.update("1", { title: text }), { group: "title" });
    }
    await typed.batch((batch) => batch.tasks.update("1", { title: "d" }), { group: "other" });
    await typed.batch((batch) => batch.tasks.update("1", { title: "e" }));
    await typed.batch((batch) => batch.tasks.update("1", { title: "f" }));
    const seen: unknown[] = [];
    while (await typed.undo()) seen.push(await title());
    assert.deepEqual(seen, ["e", "d", "abc", ""]);
    await typed.redo();
    assert.equal(await title(), "abc");
    const timed = db.undoable("timed", { within: 60_000 });
    await timed.batch((batch) => batch.tasks.update("1", { title: "g" }));
    await timed.batch((batch) => batch.tasks.update("1", { votes: increment(1) }));
    await timed.undo();
    assert.deepEqual([await title(), timed.canUndo], ["abc", false]);
  });

  test("that_were_undone_are_not_added_to", async () => {
    const { db } = await world();
    await db.tasks.add({ id: "1", title: "" });
    const scope = db.undoable("editor");
    const type = (title: string): unknown =>
      scope.batch((batch) => batch.tasks.update("1", { title }), { group: "title" });
    await type("a");
    await scope.undo();
    await scope.redo();
    await type("ab");
    await scope.undo();
    assert.equal((await db.tasks.get("1"))?.title, "a");
  });

  test("that_were_merged_are_taken_back_around_what_others_wrote_between", async () => {
    const all = await world();
    const { db } = all;
    await db.tasks.add({ id: "1", title: "", votes: 0, tags: ["x"] });
    const scope = db.undoable("editor");
    const write = (patch: object): unknown =>
      scope.batch((batch) => batch.tasks.update("1", patch), { group: "one" });
    await write({ title: "a", votes: increment(1), tags: addTo("mine") });
    await elsewhere(all, "update", "1", ["votes", "counter", "increment", 10]);
    await elsewhere(
      all,
      "update",
      "1",
      ["tags", "set", "add", ["theirs"]],
      ["due", "lww", "set", 3],
    );
    await write({ title: "ab", votes: increment(1), tags: addTo("more"), due: 4 });
    await scope.undo();
    const { title, votes, tags, due } = (await db.tasks.get("1")) ?? assert.fail("it is gone");
    assert.deepEqual([title, votes, tags, due], ["", 10, ["theirs", "x"], 3]);
  });

  test("beyond_the_limit_are_forgotten_oldest_first", async () => {
    const { db } = await world();
    const scope = db.undoable("editor", { limit: 2 });
    for (const id of ["1", "2", "3"])
      await scope.batch((batch) => batch.tasks.add({ id, title: id }));
    while (await scope.undo());
    assert.deepEqual(
      (await db.tasks.all()).map(({ id }) => id),
      ["1"],
    );
  });

  test("that_were_undone_go_when_something_else_is_written", async () => {
    const { db, engine } = await world();
    const scope = db.undoable("editor");
    await scope.batch((batch) => batch.tasks.add({ id: "1", title: "a" }));
    await scope.undo();
    await scope.batch((batch) => batch.tasks.add({ id: "2", title: "b" }));
    assert.deepEqual([scope.canRedo, await scope.redo()], [false, false]);
    // Also when both are under way at once.
    const get = engine.get.bind(engine);
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    engine.get = async (collection, id) => {
      const row = await get(collection, id);
      await gate;
      return row;
    };
    const undone = scope.undo();
    await settled();
    const written = scope.batch((batch) => batch.tasks.add({ id: "3", title: "c" }));
    await settled();
    go();
    await Promise.all([undone, written]);
    const ids = async (): Promise<string[]> => (await db.tasks.all()).map(({ id }) => id);
    assert.deepEqual([await ids(), scope.canUndo, scope.canRedo], [["3"], true, false]);
    assert.deepEqual([await scope.undo(), await scope.undo(), await ids()], [true, false, []]);
    assert.deepEqual([await scope.redo(), await scope.redo(), await ids()], [true, false, ["3"]]);
  });

  test("of_batches_under_way_are_undone_by_an_undo_that_was_called_later", async () => {
    const { db } = await world();
    const scope = db.undoable("editor");
    await db.tasks.add({ id: "1", title: "" });
    void db.tasks.update("1", { title: "outside" });
    void scope.batch((batch) => batch.tasks.update("1", { title: "a" }));
    void scope.batch((batch) => batch.tasks.update("1", { title: "b" }));
    const titles: unknown[] = [];
    const undos = [1, 2, 3].map(async () => {
      const isUndone = await scope.undo();
      titles.push([isUndone, (await db.tasks.get("1"))?.title]);
    });
    await Promise.all(undos);
    assert.deepEqual(
      titles.map((pair) => (pair as unknown[])[0]),
      [true, true, false],
    );
    assert.equal((await db.tasks.get("1"))?.title, "outside");
  });

  test("are_told_of_and_cleared_and_belong_to_one_scope", async () => {
    const { db } = await world();
    const scope = db.undoable("editor");
    let told = 0;
    const stop = scope.subscribe(() => (told += 1));
    const value = await scope.batch((batch) => batch.tasks.add({ id: "1", title: "a" }));
    assert.deepEqual([value, told, scope.canUndo], ["1", 1, true]);
    assert.equal(db.undoable("editor"), scope);
    assert.equal(db.undoable("other").canUndo, false);
    assert.throws(() => db.undoable("editor", { limit: 7 }), { code: "invalid" });
    assert.throws(() => db.undoable("new", { limit: 0 }), { code: "invalid" });
    scope.clear();
    assert.deepEqual([told, scope.canUndo, await scope.undo()], [2, false, false]);
    stop();
    await scope.batch(() => undefined);
    await scope.batch((batch) => batch.tasks.update("1", { title: "a" }));
    assert.deepEqual([told, scope.canUndo], [2, false]);
    await scope.batch((batch) => batch.tasks.update("1", { title: "b" }));
    await db.close();
    assert.equal(scope.canUndo, false);
    await assert.rejects(scope.undo(), { code: "closed" });
    assert.throws(() => db.undoable("editor"), { code: "closed" });
  });

  test("of_failed_batches_are_none", async () => {
    const { db } = await world();
    const scope = db.undoable("editor");
    const failed = [
      scope.batch((batch) => batch.tasks.update("absent", { title: "a" })),
      scope.batch(() => {
        throw new RangeError("of the app");
      }),
    ];
    await assert.rejects(failed[0] ?? Promise.resolve(), { code: "absent" });
    await assert.rejects(failed[1] ?? Promise.resolve(), RangeError);
    assert.equal(scope.canUndo, false);
  });
});

describe("refused writes", () => {
  /** As the server's verdict leaves the record: as it was. */
  async function refuse(all: World, votes: number): Promise<void> {
    all.engine.refuse();
    await elsewhere(all, "update", "1", ["votes", "counter", "increment", votes]);
    await settled();
  }
  const votes = async ({ db }: World): Promise<number | undefined> =>
    (await db.tasks.get("1"))?.votes;

  test("are_no_steps_and_a_refused_undo_is_none", async () => {
    const all = await world();
    const { db, engine } = all;
    const scope = db.undoable("editor");
    await db.tasks.add({ id: "1", title: "a" });
    await scope.batch((batch) => batch.tasks.update("1", { votes: increment(1) }));
    engine.acknowledge();
    await scope.undo();
    await refuse(all, 1);
    assert.deepEqual([scope.canUndo, scope.canRedo, await votes(all)], [true, false, 1]);
    engine.acknowledge();
    await scope.batch((batch) => batch.tasks.update("1", { votes: increment(5) }));
    await refuse(all, -5);
    assert.deepEqual([scope.canUndo, await votes(all)], [true, 1]);
    await scope.undo();
    assert.deepEqual([scope.canUndo, scope.canRedo, await votes(all)], [false, true, 0]);
    engine.acknowledge();
    await scope.redo();
    await refuse(all, -1);
    assert.deepEqual([scope.canUndo, scope.canRedo, await votes(all)], [false, true, 0]);
  });

  test("of_a_step_and_its_undo_leave_nothing", async () => {
    const all = await world();
    const scope = all.db.undoable("editor");
    await all.db.tasks.add({ id: "1", title: "a" });
    all.engine.acknowledge();
    await scope.batch((batch) => batch.tasks.update("1", { votes: increment(1) }));
    await scope.undo();
    await refuse(all, 0);
    assert.deepEqual([scope.canUndo, scope.canRedo], [false, false]);
  });

  test("that_are_given_up_with_an_account_cannot_be_undone", async () => {
    const { db, engine } = await world();
    const scope = db.undoable("editor");
    await scope.batch((batch) => batch.tasks.add({ id: "1", title: "a" }));
    engine.account = { ours: "ada", theirs: "bob" };
    await db.discardPending();
    assert.equal(scope.canUndo, false);
  });
});

test("any_batches_are_taken_back_to_the_last_and_done_again", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const all = await world();
    const { db } = all;
    const scope = db.undoable("editor");
    const random = new Random(seed);
    await db.tasks.add({ id: "1", title: "a" });
    const states: string[] = [];
    // What makes no difference to what is shown may be a step or none.
    const look = async (list: string[]): Promise<void> => {
      const rows = await Promise.all(["1", "2"].map((id) => shown(all, id)));
      const state = JSON.stringify(rows);
      if (state !== list.at(-1)) list.push(state);
    };
    await look(states);
    for (let step = 0; step < 8; step += 1) {
      await scope.batch((batch) => {
        for (const id of ["1", "2"]) {
          const notes = random.pick(["n", "m"]);
          if (random.below(4) > 0) batch.tasks.put(id, { title: random.pick(["p", "q"]), notes });
          else batch.tasks.remove(id);
          if (random.below(2) === 0) continue;
          batch.tasks.put(id, { title: "u", votes: random.below(3), tags: ["x", "y"] });
          batch.tasks.update(id, {
            ...{ title: random.pick(["a", "b"]), votes: increment(random.below(5) - 2) },
            ...{
              tags: random.pick<string[] | SetChange<string>>([addTo("z"), removeFrom("y"), ["w"]]),
            },
            ...{ due: random.pick([null, 1, 2]), notes: random.pick(["n", "k"]) },
          });
        }
      });
      await look(states);
    }
    const back = states.slice(-1);
    while (await scope.undo()) await look(back);
    assert.deepEqual(back, [...states].reverse(), `seed ${seed}`);
    const forth = back.slice(-1);
    while (await scope.redo()) await look(forth);
    assert.deepEqual(forth, states, `seed ${seed}`);
  }
});

test("what_others_wrote_is_what_is_left_when_everything_is_taken_back", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const [both, others] = [await world(), await world()];
    for (const { db } of [both, others]) {
      await db.tasks.add({ id: "1", title: "a", votes: 5, tags: ["x", "y"], notes: "n", due: 1 });
    }
    const scope = both.db.undoable("editor");
    const random = new Random(seed);
    for (let step = 0; step < 12; step += 1) {
      if (random.below(2) === 0) {
        const by = random.below(9) - 4;
        const tag = random.pick(["p", "q"]);
        const fields: RawField[] = [
          ["votes", "counter", "increment", by],
          ["tags", "set", random.pick(["add", "delete"]), [tag]],
          ["due", "lww", "set", step],
        ];
        for (const all of [both, others]) await elsewhere(all, "update", "1", ...fields);
        continue;
      }
      const group = random.pick(["one", "two", ""]) || undefined;
      const patch = {
        ...{ title: random.pick(["b", "c"]), votes: increment(random.below(9) - 4) },
        ...{ tags: random.pick([addTo("x", "z"), removeFrom("x", "y")]) },
        ...{ notes: random.pick(["m", "k"]), done: random.below(2) === 0 },
      };
      await scope.batch((batch) => batch.tasks.update("1", patch), { group });
    }
    while (await scope.undo());
    assert.deepEqual(await shown(both), await shown(others), `seed ${seed}`);
  }
});
