import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addTo, increment, removeFrom, resolve } from "../../ts/changes.js";
import { SyncError } from "../../ts/errors.js";
import type { Status } from "../../ts/types.js";
import type { RawEvent } from "../../ts/raw.js";
import { schema, settled, world } from "./world.js";

describe("writes", () => {
  test("add_gives_an_id_defaults_and_a_frozen_row", async () => {
    const { db } = await world();
    const task = await db.tasks.add({ title: "Buy milk" });
    assert.match(task.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const { notes, ...rest } = task;
    assert.deepEqual(rest, {
      id: task.id,
      title: "Buy milk",
      done: false,
      votes: 0,
      tags: [],
      priority: 0,
      due: null,
    });
    assert.equal(notes.value, "");
    assert.ok(Object.isFrozen(task) && Object.isFrozen(notes));
    assert.deepEqual(await db.tasks.get(task.id), task);
    assert.equal(await db.tasks.get("other"), undefined);
  });

  test("update_changes_what_it_names_and_put_replaces_all", async () => {
    const { db } = await world();
    const { id } = await db.tasks.add({ title: "a", tags: ["x", "y"], votes: 3, priority: 4 });
    const changes = { votes: increment(-1), tags: removeFrom("x"), priority: 2, due: 7 };
    const updated = await db.tasks.update(id, { ...changes, title: undefined });
    assert.equal(updated.title, "a");
    assert.deepEqual(
      [updated.votes, updated.tags, updated.priority, updated.due],
      [2, ["y"], 4, 7],
    );
    const more = await db.tasks.update(id, { tags: addTo("z", "a"), due: null });
    assert.deepEqual([more.tags, more.due], [["a", "y", "z"], null]);
    assert.deepEqual((await db.tasks.update(id, { tags: ["q"] })).tags, ["q"]);
    const put = await db.tasks.put(id, { title: "b" });
    assert.deepEqual([put.title, put.votes, put.tags, put.priority], ["b", 0, [], 0]);
    await db.tasks.remove(id);
    assert.equal(await db.tasks.get(id), undefined);
  });

  test("a_review_field_shows_siblings_until_one_is_chosen", async () => {
    const { db, engine } = await world();
    const { id } = await db.tasks.add({ title: "a", notes: "mine" });
    engine.concurrent("tasks", id, "notes", "theirs");
    const task = await db.tasks.get(id);
    assert.equal(task?.notes.conflicted, true);
    assert.equal(task.notes.value, "theirs");
    assert.deepEqual(
      task.notes.siblings.map(({ value, replica }) => [value, replica]),
      [
        ["theirs", "r2"],
        ["mine", "r1"],
      ],
    );
    const chosen = await db.tasks.update(id, { notes: resolve("both") });
    assert.deepEqual([chosen.notes.value, chosen.notes.conflicted], ["both", false]);
  });

  test("errors_of_the_engine_become_sync_errors", async () => {
    const { db, engine } = await world();
    await db.tasks.add({ id: "1", title: "a" });
    await assert.rejects(db.tasks.add({ id: "1", title: "b" }), SyncError);
    await assert.rejects(db.tasks.add({ id: "1", title: "b" }), { code: "exists" });
    await assert.rejects(db.tasks.update("2", { title: "b" }), { code: "absent" });
    engine.failure = new Error("unexpected");
    await assert.rejects(db.tasks.add({ title: "b" }), { code: "internal", message: "unexpected" });
  });

  test("values_that_do_not_fit_are_refused_and_nothing_is_written", async () => {
    const { db } = await world();
    const add = (values: object): Promise<unknown> => db.tasks.add({ title: "a", ...values });
    for (const [values, message] of [
      [{ title: 5 }, /title must be a string, not 5/],
      [{ title: "\ud800" }, /title has a lone surrogate/],
      [{ due: 1.5 }, /due must be a safe integer/],
      [{ votes: 0.5 }, /votes must be an integer/],
      [{ votes: 2n ** 63n }, /votes takes more than 64 bits/],
      [{ tags: "x" }, /tags must be an array/],
      [{ tags: [1] }, /tags\[0\] must be a string/],
      [{ colour: "red" }, /colour is not a field/],
      [{ title: undefined }, /title is missing/],
      [{ id: "" }, /the id must be a text/],
    ] as const) {
      await assert.rejects(add(values), (error) => {
        assert.ok(error instanceof SyncError && error.code === "invalid");
        assert.match(error.message, message);
        return true;
      });
    }
    await assert.rejects(db.tasks.update("1", { id: "2" } as object), { code: "invalid" });
    assert.equal(await db.tasks.count(), 0);
  });

  test("a_batch_is_atomic_and_yields_what_its_function_returns", async () => {
    const { db } = await world();
    const id = await db.batch((batch) => {
      const list = batch.lists.add({ name: "l" });
      batch.tasks.add({ title: list });
      batch.collection("comments/1").add({ body: "c" });
      return list;
    });
    assert.equal((await db.lists.get(id))?.name, "l");
    assert.equal(await db.collection("comments/1").count(), 1);
    const torn = db.batch((batch) => {
      batch.tasks.add({ title: "x" });
      batch.tasks.update("absent", { done: true });
    });
    await assert.rejects(torn, { code: "absent" });
    assert.equal(await db.tasks.count(), 1);
    await assert.rejects(
      db.batch((batch) => {
        batch.tasks.add({ title: "x" });
        throw new RangeError("of the app");
      }),
      RangeError,
    );
    await assert.rejects(
      db.batch(async () => undefined),
      { code: "invalid" },
    );
    assert.equal(await db.tasks.count(), 1);
    assert.equal(await db.batch(() => "empty"), "empty");
  });

  test("a_receipt_says_how_safe_a_write_is_and_when_the_server_has_it", async () => {
    const { db, engine } = await world();
    const write = db.tasks.add({ title: "a" });
    assert.equal((await write).title, "a");
    const receipt = await write.receipt;
    assert.deepEqual([receipt.row, receipt.durability], [1, "flushed"]);
    let synced = false;
    const wait = write.synced.then(() => (synced = true));
    await settled();
    assert.equal(synced, false);
    engine.acknowledge();
    await wait;
    await receipt.synced;
    const relaxed = await world({ durability: "relaxed" });
    assert.equal((await relaxed.db.tasks.add({ title: "b" }).receipt).durability, "saved");
  });

  test("a_failed_write_fails_its_receipt_and_is_reported_once", async () => {
    const { db } = await world();
    await assert.rejects(db.tasks.update("absent", {}).synced, { code: "absent" });
    await assert.rejects(db.tasks.update("absent", {}).receipt, { code: "absent" });
    await settled();
  });
});

describe("rejected writes", () => {
  test("a_refused_write_is_listed_and_fails_its_receipt_only_for_who_asks", async () => {
    const { db, engine } = await world();
    const heard: number[] = [];
    db.on("rejected", (list) => heard.push(...list.map(({ row }) => row)));
    const write = db.tasks.add({ id: "1", title: "a", tags: ["x"] });
    await write;
    await db.tasks.update("1", { votes: increment(2) });
    engine.refuse();
    await settled();
    await assert.rejects(write.synced, { code: "rejected", message: /read only/ });
    assert.deepEqual(heard, [1, 2]);
    const [first, second] = db.rejected;
    assert.deepEqual([first?.code, first?.reason, first?.at], ["forbidden", "read only", 5]);
    assert.equal(first?.writes[0]?.fields["title"], "a");
    assert.deepEqual(second?.writes[0]?.fields["votes"], increment(2));
    assert.deepEqual(first.writes[0].fields["tags"], addTo("x"));
    assert.equal(db.status.rejected, 2);
    assert.equal(JSON.parse(db.rejected.export()).length, 2);
  });

  test("rejected_writes_are_retried_edited_and_discarded", async () => {
    const { db, engine } = await world();
    for (const id of ["1", "2", "3"]) await db.lists.add({ id, name: id });
    engine.refuse();
    await settled();
    let told = 0;
    db.rejected.subscribe(() => (told += 1));
    const before = db.rejected.list;
    await db.rejected.discard(1);
    await db.rejected.edit(2, (batch) => batch.lists.put("2", { name: "edited" }));
    await settled();
    assert.deepEqual(
      db.rejected.list.map(({ row }) => row),
      [3],
    );
    assert.notEqual(db.rejected.list, before);
    assert.equal(db.rejected.list, db.rejected.list);
    assert.equal(told, 2);
    assert.equal((await db.lists.get("2"))?.name, "edited");
    await assert.rejects(db.rejected.retry(99), { code: "absent" });
  });
});

describe("life of a database", () => {
  test("status_keeps_its_identity_until_something_changes", async () => {
    const { db, engine } = await world();
    const before = db.status;
    assert.deepEqual(
      [before.state, before.synced, before.verified?.short],
      ["live", true, "abababab"],
    );
    engine.emit({ type: "status", status: engine.status() });
    assert.equal(db.status, before);
    const seen: Status[] = [];
    const stop = db.on("status", (status) => seen.push(status));
    db.network.pause();
    assert.deepEqual([db.network.paused, seen[0]?.state], [true, "offline"]);
    stop();
    db.network.resume();
    assert.deepEqual([db.network.paused, seen.length, "error" in db.status], [false, 1, false]);
  });

  test("synced_waits_until_nothing_is_pending", async () => {
    const { db, engine } = await world();
    await db.synced();
    await db.tasks.add({ title: "a" });
    let synced = false;
    const wait = db.synced().then(() => (synced = true));
    await settled();
    assert.equal(synced, false);
    engine.acknowledge();
    await wait;
    const local = await world({ sync: undefined });
    await assert.rejects(local.db.synced(), { code: "invalid" });
  });

  test("every_call_after_close_is_a_closed_error", async () => {
    const { db, engine } = await world();
    const live = db.tasks.live();
    await live.ready;
    const pending = db.tasks.limit(1).live();
    const write = db.tasks.add({ title: "last" });
    await settled();
    const rows = live.getSnapshot();
    const waiting = assert.rejects(db.synced(), { code: "closed" });
    const closing = db.close();
    assert.equal(db.close(), closing);
    const closed = { name: "SyncError", code: "closed" };
    await assert.rejects(db.tasks.add({ title: "a" }), closed);
    await closing;
    assert.ok(engine.closed);
    assert.equal((await write).title, "last");
    await assert.rejects(write.synced, closed);
    await waiting;
    await assert.rejects(db.synced(), closed);
    await assert.rejects(db.tasks.get("1"), closed);
    await assert.rejects(db.tasks.all(), closed);
    await assert.rejects(
      db.batch(() => undefined),
      closed,
    );
    await assert.rejects(db.roots(), closed);
    await assert.rejects(db.rejected.retry(1), closed);
    assert.throws(() => db.tasks.live(), closed);
    assert.throws(() => db.network.pause(), closed);
    assert.throws(() => db.setToken("t"), closed);
    assert.equal(live.getSnapshot(), rows);
    live.close();
    pending.close();
    assert.equal(db.status.state, "closed");
  });

  test("a_broken_engine_fails_everything_with_poisoned", async () => {
    const { db, engine } = await world();
    const live = db.tasks.live();
    await live.ready;
    const errors: string[] = [];
    live.subscribe(
      () => undefined,
      (error) => errors.push(error.code),
    );
    engine.emit({ type: "poisoned", message: "panicked" });
    await assert.rejects(db.tasks.add({ title: "a" }), { code: "poisoned", retryable: true });
    assert.deepEqual([errors, db.status.error?.code], [["poisoned"], "poisoned"]);
    await db.close();
  });

  test("a_call_that_ends_in_a_trap_breaks_everything", async () => {
    for (const trap of [new WebAssembly.RuntimeError("unreachable"), new RangeError("stack")]) {
      const { db, engine } = await world();
      engine.failure = trap;
      await assert.rejects(db.tasks.add({ title: "a" }), { code: "poisoned", cause: trap });
      assert.equal(engine.broken, trap.message);
      assert.deepEqual([db.status.state, db.status.error?.code], ["closed", "poisoned"]);
      await assert.rejects(db.tasks.add({ title: "b" }), { code: "poisoned" });
    }
  });

  test("another_account_is_shown_until_the_app_adopts_or_discards", async () => {
    const { db, engine } = await world();
    await assert.rejects(db.adopt(), { code: "invalid" });
    for (const decide of [() => db.adopt(), () => db.discardPending()]) {
      const { synced } = await db.tasks.add({ title: "a" }).receipt;
      engine.account = { ours: "ada", theirs: "bob" };
      engine.emit({ type: "status", status: engine.status() });
      assert.deepEqual(db.status.account, { ours: "ada", theirs: "bob" });
      await decide();
      assert.equal(db.status.account, undefined);
      if (db.status.pending === 0) await assert.rejects(synced, { code: "discarded" });
      else engine.acknowledge();
    }
    assert.equal(db.status.pending, 0);
  });

  test("the_same_database_is_opened_once_and_again_after_close", async () => {
    const { db, opener, load } = await world();
    const sync = { url: "ws://localhost:1/", space: "demo" };
    assert.equal(await opener.open({ name: "test", schema, sync }, load), db);
    const other = await opener.open({ name: "other", schema, sync }, load);
    assert.notEqual(other, db);
    await db.close();
    const again = await opener.open({ name: "test", schema, sync }, load);
    assert.notEqual(again, db);
    await opener.destroy("test", load);
    assert.equal(again.status.state, "closed");
    await other.destroy();
  });

  test("only_the_collections_asked_for_are_held", async () => {
    const { opener, load } = await world();
    const db = await opener.open({ name: "part", schema, collections: ["lists"] }, load);
    await db.lists.add({ name: "l" });
    assert.equal("tasks" in db, false);
    assert.throws(() => db.collection("tasks" as "lists"), { code: "unknown_collection" });
  });

  test("options_are_checked_and_addresses_completed", async () => {
    const { engine, opener, load } = await world({
      sync: { url: "https://example.org/sync", space: "s", token: "t" },
    });
    assert.equal(engine.options.url, "wss://example.org/sync");
    assert.deepEqual([engine.options.token, engine.options.asks], ["t", false]);
    const refused = { code: "invalid" };
    await assert.rejects(opener.open({ name: "", schema }, load), refused);
    const nowhere = { url: "ftp://x/", space: "s" };
    await assert.rejects(opener.open({ name: "n", schema, sync: nowhere }, load), refused);
    await assert.rejects(
      opener.open({ name: "n", schema, sync: { url: "/x", space: "" } }, load),
      refused,
    );
  });

  test("tokens_are_supplied_when_they_are_asked_for", async () => {
    const answers = ["one", new Error("offline"), "two"];
    const token = async (): Promise<string> => {
      const answer = answers.shift();
      if (typeof answer === "string") return answer;
      throw answer;
    };
    const sync = { url: "ws://localhost:1/", space: "demo", token };
    const { db, engine } = await world({ sync });
    const logged: string[] = [];
    db.on("log", ({ text }) => logged.push(text));
    for (let nth = 0; nth < 3; nth += 1) {
      engine.emit({ type: "token", refused: nth > 0 });
      await settled();
    }
    db.setToken("three");
    assert.deepEqual(engine.tokens, ["one", null, "two", "three"]);
    assert.deepEqual(logged, ["the app could not supply a token: offline"]);
  });

  test("events_carry_what_the_engine_says", async () => {
    const { db, engine } = await world();
    const heard: unknown[] = [];
    const conflict = { collection: "tasks", id: "1", field: "title", won: "a", lost: "b" };
    db.on("conflict", (event) => heard.push(event));
    db.on("changed", (keys) => heard.push(keys));
    engine.emit({ type: "conflict", ...conflict, value: "x", own: true });
    await db.lists.add({ id: "7", name: "l" });
    assert.deepEqual(heard, [
      { ...conflict, value: "x", own: true },
      [{ collection: "lists", id: "7" }],
    ]);
    const late: RawEvent = { type: "changed", changes: [{ collection: "lists", id: "8" }] };
    engine.emit(late);
    await db.close();
    await settled();
    assert.deepEqual(heard[2], [{ collection: "lists", id: "8" }]);
  });
});
