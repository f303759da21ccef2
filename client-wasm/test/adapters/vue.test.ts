import assert from "node:assert/strict";
import { test } from "node:test";
import { newRoot } from "./dom.js";
import {
  createApp,
  createSSRApp,
  effectScope,
  h,
  nextTick,
  onErrorCaptured,
  ref,
  type Ref,
} from "vue";
import { renderToString } from "vue/server-renderer";
import { LINGER_MS } from "../../ts/adapters/sharing.js";
import {
  useLiveQuery,
  usePresence,
  useRejected,
  useRow,
  useStatus,
} from "../../ts/adapters/vue.js";
import { Query } from "../../ts/collection.js";
import type { Database } from "../../ts/db.js";
import type { Row, Status } from "../../ts/types.js";
import { type schema, settled, world } from "../unit/world.js";

type Task = Row<typeof schema.tasks>;
type Db = Database<typeof schema>;

const titles = (rows: readonly Task[] | undefined): string =>
  rows === undefined ? "loading" : `[${rows.map(({ title }) => title).join()}]`;

/** Draws the titles. */
const list = (db: Db | undefined) => ({
  setup() {
    const rows = useLiveQuery(() => db?.tasks.where({ done: false }).orderBy("title"));
    return () => h("p", titles(rows.value));
  },
});

async function drawn(): Promise<void> {
  await settled();
  await nextTick();
}

test("rows_are_undefined_while_they_load_and_follow_changes", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "b" });
  const element = newRoot();
  createApp(list(db)).mount(element);
  assert.equal(element.textContent, "loading");
  await drawn();
  assert.equal(element.textContent, "[b]");
  await db.tasks.add({ title: "a" });
  await drawn();
  assert.equal(element.textContent, "[a,b]");
});

test("a_query_follows_what_it_is_made_of_and_never_shows_other_rows", async () => {
  const { db } = await world();
  for (const title of ["a", "b"]) await db.tasks.add({ title });
  const title = ref("a");
  const scope = effectScope();
  const rows = scope.run(() => useLiveQuery(() => db.tasks.where({ title: title.value })));
  await settled();
  assert.equal(titles(rows?.value), "[a]");
  title.value = "b";
  assert.equal(titles(rows?.value), "[b]");
  scope.stop();
});

test("scopes_that_ask_the_same_share_a_live_query_until_the_last_is_gone", async (context) => {
  const { db, engine } = await world();
  const live = context.mock.method(Query.prototype, "live");
  const scopes = [effectScope(), effectScope()];
  for (const scope of scopes)
    scope.run(() => useLiveQuery(ref(db.tasks) as unknown as Ref<Db["tasks"]>));
  await settled();
  assert.equal(live.mock.callCount(), 1);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const scope of scopes) {
    assert.deepEqual([...engine.watched], ["tasks"]);
    scope.stop();
  }
  context.mock.timers.tick(LINGER_MS);
  assert.deepEqual([...engine.watched], []);
});

test("unchanged_rows_stay_the_same_objects", async () => {
  const { db } = await world();
  const task = await db.tasks.add({ title: "a" });
  const rows = effectScope().run(() => useLiveQuery(db.tasks));
  await settled();
  const before = rows?.value;
  await db.lists.add({ name: "elsewhere" });
  assert.equal(rows?.value, before);
  await db.tasks.add({ title: "b" });
  assert.ok(rows?.value?.some((row) => row === before?.[0]));
  assert.equal(before?.[0]?.id, task.id);
});

test("one_record_status_and_refused_writes_are_kept_current", async () => {
  const { db, engine } = await world();
  await db.tasks.add({ id: "1", title: "a" });
  const id = ref<string | undefined>("1");
  const found = effectScope().run(() => ({
    task: useRow(db.tasks, id),
    status: useStatus(db),
    refused: useRejected(() => db),
  }));
  assert.ok(found !== undefined);
  const { task, status, refused } = found;
  const shown = (): unknown => task.value?.title ?? task.value;
  assert.equal(shown(), undefined);
  await settled();
  assert.equal(shown(), "a");
  id.value = "2";
  assert.equal(shown(), null);
  assert.equal(status.value?.pending, 1);
  engine.refuse();
  await settled();
  assert.deepEqual([status.value?.pending, refused.value?.length], [0, 1]);
  id.value = undefined;
  assert.equal(shown(), undefined);
});

test("others_who_are_here_are_kept_current", async () => {
  const { db, engine } = await world();
  const ann = { id: "server/1", principal: "ann", value: 1 };
  const others = effectScope().run(() => usePresence(db));
  assert.equal(others?.value?.length, 0);
  await settled();
  engine.emit({ type: "others", from: "server", anew: true, here: [ann], gone: [] });
  await settled();
  assert.deepEqual(others.value, [ann]);
});

test("a_query_that_fails_is_captured_where_it_is_drawn", async () => {
  const { db, engine } = await world();
  engine.failure = { code: "storage", message: "no", retryable: true };
  const element = newRoot();
  createApp({
    setup() {
      const failed = ref("");
      onErrorCaptured((error) => {
        failed.value = (error as { code?: string }).code ?? "";
        return false;
      });
      return () => (failed.value === "" ? h(list(db)) : `failed: ${failed.value}`);
    },
  }).mount(element);
  await drawn();
  await drawn();
  assert.equal(element.textContent, "failed: storage");
});

test("a_server_renders_what_is_shown_while_loading", async () => {
  assert.equal(await renderToString(createSSRApp(list(undefined))), "<p>loading</p>");
});

/** Never run: what is untrue of the schema does not compile. */
export function types(db: Db): void {
  const rows: readonly Task[] | undefined = useLiveQuery(db.tasks).value;
  const status: Status | undefined = useStatus(db).value;
  const comment = useRow(() => db.collection("comments/1"), "1").value;
  // @ts-expect-error It may still be loading.
  rows.length;
  // @ts-expect-error There is no such field.
  comment?.title;
  // @ts-expect-error There is no such state.
  status?.state === "happy";
}
