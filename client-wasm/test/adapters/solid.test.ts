import assert from "node:assert/strict";
import { test } from "node:test";
import { catchError, createEffect, createRoot, createSignal, type Accessor } from "solid-js";
import { LINGER_MS } from "../../ts/adapters/sharing.js";
import {
  createLiveQuery,
  createPresence,
  createRejected,
  createRow,
  createStatus,
} from "../../ts/adapters/solid.js";
import { increment } from "../../ts/changes.js";
import { Query } from "../../ts/collection.js";
import type { Database } from "../../ts/db.js";
import type { Row, Status } from "../../ts/types.js";
import { type schema, settled, world } from "../unit/world.js";

type Task = Row<typeof schema.tasks>;
type Db = Database<typeof schema>;

const titles = (rows: readonly Task[] | undefined): string =>
  rows === undefined ? "loading" : `[${rows.map(({ title }) => title).join()}]`;

/** Runs `work` in a root of its own; `seen` has what each run of an effect saw. */
function follow<T>(work: () => Accessor<T>): {
  value: Accessor<T>;
  seen: T[];
  dispose: () => void;
} {
  return createRoot((dispose) => {
    const value = work();
    const seen: T[] = [];
    createEffect(() => seen.push(value()));
    return { value, seen, dispose };
  });
}

test("rows_are_undefined_while_they_load_and_follow_changes", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "b" });
  const { seen } = follow(() => {
    const rows = createLiveQuery(() => db.tasks.where({ done: false }).orderBy("title"));
    return () => titles(rows());
  });
  await settled();
  await db.tasks.add({ title: "a" });
  assert.deepEqual(seen, ["loading", "[b]", "[a,b]"]);
});

test("a_row_that_changes_stays_the_same_object_and_tells_only_who_reads_that_field", async () => {
  const { db } = await world();
  await db.tasks.add({ id: "1", title: "a", tags: ["x"], notes: "n" });
  const ran = { list: 0, title: 0, votes: 0, notes: 0 };
  const rows = createRoot(() => {
    const rows = createLiveQuery(() => db.tasks);
    const first = (): Task | undefined => rows()?.[0];
    createEffect(() => (rows(), (ran.list += 1)));
    createEffect(() => (first()?.title, (ran.title += 1)));
    createEffect(() => (first()?.votes, (ran.votes += 1)));
    createEffect(() => (first()?.notes.value, (ran.notes += 1)));
    return rows;
  });
  await settled();
  const before = rows()?.[0];
  const at = { ...ran };
  await db.tasks.update("1", { votes: increment(1) });
  assert.equal(rows()?.[0], before);
  assert.equal(before?.votes, 1);
  assert.deepEqual(ran, { ...at, votes: at.votes + 1 });
  await db.tasks.update("1", { notes: "m", tags: ["x", "y"] });
  assert.deepEqual(ran, { ...at, votes: at.votes + 1, notes: at.notes + 1 });
  assert.deepEqual([...(before?.tags ?? [])], ["x", "y"]);
  await db.tasks.add({ id: "2", title: "b" });
  assert.equal(ran.list, at.list + 1);
  assert.deepEqual([rows()?.[0] === before, rows()?.length], [true, 2]);
  await db.tasks.remove("1");
  assert.deepEqual(
    rows()?.map(({ id }) => id),
    ["2"],
  );
});

test("a_query_follows_what_it_is_made_of_and_never_shows_other_rows", async () => {
  const { db } = await world();
  for (const title of ["a", "b"]) await db.tasks.add({ title });
  const [title, choose] = createSignal("a");
  const { seen } = follow(() => {
    const rows = createLiveQuery(() => db.tasks.where({ title: title() }));
    return () => `${title()} ${titles(rows())}`;
  });
  await settled();
  choose("b");
  assert.deepEqual(seen, ["a loading", "a [a]", "b [b]"]);
});

test("owners_that_ask_the_same_share_a_live_query_until_the_last_is_gone", async (context) => {
  const { db, engine } = await world();
  const live = context.mock.method(Query.prototype, "live");
  const roots = [1, 2].map(() => follow(() => createLiveQuery(() => db.tasks)));
  await settled();
  assert.equal(live.mock.callCount(), 1);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const { dispose } of roots) {
    assert.deepEqual([...engine.watched], ["tasks"]);
    dispose();
  }
  context.mock.timers.tick(LINGER_MS);
  assert.deepEqual([...engine.watched], []);
});

test("one_record_status_and_refused_writes_are_kept_current", async () => {
  const { db, engine } = await world();
  await db.tasks.add({ id: "1", title: "a" });
  const [id, choose] = createSignal<string | undefined>("1");
  const { task, status, refused } = createRoot(() => ({
    task: createRow(() => db.tasks, id),
    status: createStatus(() => db),
    refused: createRejected(() => db),
  }));
  assert.equal(task(), undefined);
  await settled();
  assert.equal(task()?.title, "a");
  choose("2");
  assert.equal(task(), null);
  assert.equal(status()?.pending, 1);
  engine.refuse();
  await settled();
  assert.deepEqual([status()?.pending, refused()?.length], [0, 1]);
  choose(undefined);
  assert.equal(task(), undefined);
});

test("others_who_are_here_are_kept_current", async () => {
  const { db, engine } = await world();
  const ann = { id: "server/1", principal: "ann", value: 1 };
  const others = createRoot(() => createPresence(() => db));
  assert.equal(others()?.length, 0);
  await settled();
  engine.emit({ type: "others", from: "server", anew: true, here: [ann], gone: [] });
  await settled();
  assert.deepEqual(others(), [ann]);
});

test("a_query_that_fails_reaches_the_error_boundary", async () => {
  const { db, engine } = await world();
  engine.failure = { code: "storage", message: "no", retryable: true };
  const caught: { code?: string }[] = [];
  createRoot(() =>
    catchError(
      () => {
        const rows = createLiveQuery(() => db.tasks);
        createEffect(() => rows());
      },
      (error) => caught.push(error as { code?: string }),
    ),
  );
  await settled();
  assert.ok(caught.length > 0 && caught.every(({ code }) => code === "storage"));
});

test("there_is_nothing_before_there_is_a_database", () => {
  const { seen, value } = follow(() => createLiveQuery(() => undefined as Db["tasks"] | undefined));
  assert.deepEqual([value(), ...seen], [undefined, undefined]);
});

/** Never run: what is untrue of the schema does not compile. */
export function types(db: Db): void {
  const rows: readonly Task[] | undefined = createLiveQuery(() => db.tasks.limit(3))();
  const status: Status | undefined = createStatus(() => db)();
  const comment = createRow(
    () => db.collection("comments/1"),
    () => "1",
  )();
  // @ts-expect-error It may still be loading.
  rows.length;
  // @ts-expect-error There is no such field.
  comment?.title;
  // @ts-expect-error There is no such state.
  status?.state === "happy";
}
