import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { newRoot } from "./dom.js";
import { type Component, flushSync, mount, unmount } from "svelte";
import { compile } from "svelte/compiler";
import { render } from "svelte/server";
import { LINGER_MS } from "../../ts/adapters/sharing.js";
import {
  type Live,
  livePresence,
  liveQuery,
  liveRejected,
  liveRow,
  liveStatus,
} from "../../ts/adapters/svelte.js";
import { Query } from "../../ts/collection.js";
import type { Database } from "../../ts/db.js";
import type { Row, Status } from "../../ts/types.js";
import { type schema, settled, world } from "../unit/world.js";

type Task = Row<typeof schema.tasks>;
type Db = Database<typeof schema>;

const RUNES = `
<script>
  import { liveQuery, liveRow, liveStatus, liveRejected } from "../../../ts/adapters/svelte.js";
  let { db, choice } = $props();
  let title = $state("a");
  choice?.((chosen) => (title = chosen));
  const chosen = liveQuery(() => db?.tasks.where({ title }));
  const all = liveQuery(() => db?.tasks.orderBy("title"));
  const one = liveRow(() => db?.tasks, "1");
  const status = liveStatus(() => db);
  const refused = liveRejected(() => db);
  const titles = (rows) => rows === undefined ? "loading" : "[" + rows.map((row) => row.title) + "]";
</script>
<svelte:boundary>
  <p>{titles(chosen.current)} {titles(all.current)} {one.current?.title ?? one.current} {status.current?.pending} {refused.current?.length}</p>
  {#snippet failed(error)}<p>failed: {error.code}</p>{/snippet}
</svelte:boundary>`;

const STORE = `
<script>
  import { liveQuery } from "../../../ts/adapters/svelte.js";
  export let db;
  const all = liveQuery(db.tasks.orderBy("title"));
</script>
<p>{$all?.map((row) => row.title) ?? "loading"}</p>`;

/** Compiled components, beside the compiled tests. */
async function component(name: string, source: string, generate: "client" | "server") {
  const { js } = compile(source, { generate, dev: false, name });
  const folder = new URL("./svelte/", import.meta.url);
  await mkdir(folder, { recursive: true });
  const file = new URL(`${name}.${generate}.js`, folder);
  await writeFile(file, js.code);
  return ((await import(file.href)) as { default: Parameters<typeof mount>[0] }).default;
}

const text = (element: HTMLElement): string =>
  (element.textContent ?? "").replace(/\s+/gu, " ").trim();

async function drawn(): Promise<void> {
  await settled();
  flushSync();
}

test("runes_follow_rows_records_status_and_what_a_query_is_made_of", async () => {
  const { db, engine } = await world();
  await db.tasks.add({ id: "1", title: "a" });
  await db.tasks.add({ id: "2", title: "b" });
  const target = newRoot();
  let choose = (_: string): void => undefined;
  const choice = (set: (title: string) => void): void => void (choose = set);
  mount(await component("Runes", RUNES, "client"), { target, props: { db, choice } });
  flushSync();
  assert.equal(text(target), "loading loading 2 0");
  await drawn();
  assert.equal(text(target), "[a] [a,b] a 2 0");
  choose("b");
  flushSync();
  assert.equal(text(target), "[b] [a,b] a 2 0");
  await db.tasks.update("1", { title: "c" });
  await drawn();
  assert.equal(text(target), "[b] [b,c] c 3 0");
  await db.tasks.remove("1");
  engine.refuse();
  await drawn();
  assert.equal(text(target), "[b] [b] 0 4");
});

test("others_who_are_here_are_kept_current", async () => {
  const { db, engine } = await world();
  const ann = { id: "server/1", principal: "ann", value: 1 };
  const seen: unknown[] = [];
  const stop = livePresence(db).subscribe((others) => seen.push(others));
  await settled();
  engine.emit({ type: "others", from: "server", anew: true, here: [ann], gone: [] });
  await settled();
  stop();
  assert.deepEqual(seen, [[], [ann]]);
});

test("a_live_query_is_opened_once_and_ends_when_nothing_shows_it", async (context) => {
  const { db, engine } = await world();
  const live = context.mock.method(Query.prototype, "live");
  const Runes = await component("Runes", RUNES, "client");
  const shown = [1, 2].map(() => mount(Runes, { target: newRoot(), props: { db } }));
  await drawn();
  assert.equal(live.mock.callCount(), 3, "two lists and a record, for both");
  await db.tasks.add({ title: "a" });
  await drawn();
  assert.equal(live.mock.callCount(), 3);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const each of shown) await unmount(each);
  await new Promise(setImmediate);
  context.mock.timers.tick(LINGER_MS - 1);
  assert.deepEqual([...engine.watched], ["tasks"]);
  context.mock.timers.tick(1);
  assert.deepEqual([...engine.watched], []);
});

test("the_contract_of_stores_is_kept", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "b" });
  const target = newRoot();
  mount(await component("Store", STORE, "client"), { target, props: { db } });
  flushSync();
  assert.equal(text(target), "loading");
  await drawn();
  assert.equal(text(target), "b");
  await db.tasks.add({ title: "a" });
  await drawn();
  assert.equal(text(target), "a,b");
  const seen: unknown[] = [];
  const stop = liveRow(db.tasks, "none").subscribe((row) => seen.push(row));
  assert.deepEqual(seen, [null]);
  stop();
});

test("a_query_that_fails_reaches_the_boundary", async () => {
  const { db, engine } = await world();
  engine.failure = { code: "storage", message: "no", retryable: true };
  const target = newRoot();
  mount(await component("Runes", RUNES, "client"), { target, props: { db } });
  await drawn();
  await drawn();
  assert.equal(text(target), "failed: storage");
});

test("a_server_renders_what_is_shown_while_loading", async () => {
  const { body } = await render((await component("Runes", RUNES, "server")) as Component, {
    props: {},
  });
  assert.match(body, /<p>loading loading {3}<\/p>/u);
});

/** Never run: what is untrue of the schema does not compile. */
export function types(db: Db): void {
  const tasks: Live<readonly Task[] | undefined> = liveQuery(() => db.tasks.limit(3));
  const status: Status | undefined = liveStatus(db).current;
  const comment = liveRow(() => db.collection("comments/1"), "1").current;
  const refused = liveRejected(db).current;
  // @ts-expect-error It may still be loading.
  tasks.current.length;
  // @ts-expect-error There is no such field.
  comment?.title;
  // @ts-expect-error There is no such state.
  status?.state === "happy";
  // @ts-expect-error There is no such code.
  refused?.[0]?.code === "sad";
}
