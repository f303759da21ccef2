import assert from "node:assert/strict";
import { test } from "node:test";
import { newRoot } from "./dom.js";
import {
  act,
  Component,
  createElement as h,
  memo,
  type ReactNode,
  StrictMode,
  useState,
} from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import {
  useLiveQuery,
  usePresence,
  useRejected,
  useRow,
  useStatus,
} from "../../ts/adapters/react.js";
import { LINGER_MS } from "../../ts/adapters/sharing.js";
import { Query } from "../../ts/collection.js";
import type { Database } from "../../ts/db.js";
import type { Row, Status } from "../../ts/types.js";
import { type schema, settled, world } from "../unit/world.js";

type Task = Row<typeof schema.tasks>;
type Db = Database<typeof schema>;

const write = <T>(work: () => T | Promise<T>): Promise<T> =>
  act(async () => {
    const value = await work();
    await settled();
    return value;
  });

/** Renders, and lets everything that is due happen. */
async function mount(node: ReactNode): Promise<{ root: Root; element: HTMLElement }> {
  const element = newRoot();
  const root = createRoot(element);
  await write(() => root.render(node));
  return { root, element };
}

const titles = (rows: readonly Task[] | undefined): string =>
  rows === undefined ? "loading" : `[${rows.map(({ title }) => title).join()}]`;

/** Draws the titles; `seen` has what each render saw. */
function Titles({ db, seen }: { db: Db | undefined; seen?: unknown[] }): ReactNode {
  const rows = useLiveQuery(db?.tasks.where({ done: false }).orderBy("title"));
  seen?.push(rows);
  return h("p", null, titles(rows));
}

test("rows_are_undefined_while_they_load_and_never_an_empty_list_by_mistake", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "b" });
  const seen: unknown[] = [];
  const { element } = await mount(h(Titles, { db, seen }));
  assert.equal(seen[0], undefined);
  assert.equal(element.textContent, "[b]");
  await write(() => db.tasks.add({ title: "a" }));
  assert.equal(element.textContent, "[a,b]");
  assert.ok(seen.every((rows) => rows === undefined || (rows as unknown[]).length > 0));
});

test("rows_at_hand_are_there_at_the_first_render", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "a" });
  const live = db.tasks.live();
  await live.ready;
  const seen: unknown[] = [];
  await mount(h(Titles, { db, seen }));
  assert.deepEqual(
    seen.map((rows) => titles(rows as Task[])),
    ["[a]"],
  );
});

test("queries_made_inline_are_opened_once_for_all_components", async (context) => {
  const { db } = await world();
  const live = context.mock.method(Query.prototype, "live");
  let again: (count: number) => void = () => undefined;
  function Page(): ReactNode {
    const [count, setCount] = useState(0);
    again = setCount;
    return h("div", null, count, h(Titles, { db }), h(Titles, { db }));
  }
  const { element } = await mount(h(Page));
  for (let count = 1; count < 5; count += 1) await write(() => again(count));
  assert.equal(element.textContent, "4[][]");
  assert.equal(live.mock.callCount(), 1);
});

test("only_rows_that_changed_are_drawn_again", async () => {
  const { db } = await world();
  const [first] = [await db.tasks.add({ title: "a" }), await db.tasks.add({ title: "b" })];
  const drawn: string[] = [];
  const Line = memo(({ task }: { task: Task }): ReactNode => {
    drawn.push(task.title);
    return h("li", null, task.title);
  });
  function Page(): ReactNode {
    const rows = useLiveQuery(db.tasks.orderBy("title")) ?? [];
    return rows.map((task) => h(Line, { key: task.id, task }));
  }
  const { element } = await mount(h(Page));
  await write(() => db.tasks.update(first.id, { title: "c" }));
  assert.equal(element.textContent, "bc");
  assert.deepEqual(drawn, ["a", "b", "c"]);
});

test("another_query_never_shows_the_rows_of_the_one_before", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "a" });
  await db.tasks.add({ title: "b" });
  let choose: (title: string) => void = () => undefined;
  const seen: string[] = [];
  function Page(): ReactNode {
    const [title, setTitle] = useState("a");
    choose = setTitle;
    const rows = useLiveQuery(db.tasks.where({ title }));
    seen.push(`${title} ${titles(rows)}`);
    return titles(rows);
  }
  const { element } = await mount(h(Page));
  await write(() => choose("b"));
  assert.equal(element.textContent, "[b]");
  assert.deepEqual([...new Set(seen)], ["a loading", "a [a]", "b [b]"]);
});

test("a_live_query_outlasts_strict_mode_and_ends_when_nobody_looks", async (context) => {
  const { db, engine } = await world();
  const live = context.mock.method(Query.prototype, "live");
  const { root, element } = await mount(h(StrictMode, null, h(Titles, { db })));
  assert.equal(element.textContent, "[]");
  assert.equal(live.mock.callCount(), 1);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  await act(async () => root.unmount());
  context.mock.timers.tick(LINGER_MS - 1);
  assert.deepEqual([...engine.watched], ["tasks"]);
  context.mock.timers.tick(1);
  assert.deepEqual([...engine.watched], []);
});

test("a_server_renders_what_is_shown_while_loading_and_the_page_takes_it_over", async () => {
  const html = renderToString(h(Titles, { db: undefined }));
  assert.equal(html, "<p>loading</p>");
  const { db } = await world();
  await db.tasks.add({ title: "a" });
  const element = newRoot();
  element.innerHTML = html;
  const complaints: unknown[] = [];
  await write(() =>
    hydrateRoot(element, h(Titles, { db }), {
      onRecoverableError: (error) => complaints.push(error),
    }),
  );
  assert.equal(element.textContent, "[a]");
  assert.deepEqual(complaints, []);
});

/** Draws the code of what was thrown below it. */
class Boundary extends Component<{ children?: ReactNode }, { error?: { code: string } }> {
  override state: { error?: { code: string } } = {};
  static getDerivedStateFromError(error: { code: string }): { error: { code: string } } {
    return { error };
  }
  override render(): ReactNode {
    return this.state.error === undefined
      ? this.props.children
      : `failed: ${this.state.error.code}`;
  }
}

test("a_query_that_fails_reaches_the_error_boundary_and_can_be_tried_again", async (context) => {
  context.mock.method(console, "error", () => undefined);
  const { db, engine } = await world();
  await db.tasks.add({ title: "a" });
  engine.failure = { code: "storage", message: "no", retryable: true };
  const { root, element } = await mount(h(Boundary, null, h(Titles, { db })));
  assert.equal(element.textContent, "failed: storage");
  await write(() => root.render(h(Boundary, { key: "again" }, h(Titles, { db }))));
  assert.equal(element.textContent, "[a]");
});

test("a_query_that_does_not_fit_the_schema_reaches_the_error_boundary", async (context) => {
  context.mock.method(console, "error", () => undefined);
  const { db } = await world();
  function Wrong(): ReactNode {
    return titles(useLiveQuery(db.tasks.where({ colour: "red" } as object)));
  }
  const { element } = await mount(h(Boundary, null, h(Wrong)));
  assert.equal(element.textContent, "failed: invalid");
});

test("rows_stay_on_the_page_when_the_database_is_closed", async () => {
  const { db } = await world();
  await db.tasks.add({ title: "a" });
  const { element } = await mount(h(Boundary, null, h(Titles, { db })));
  await write(() => db.close());
  assert.equal(element.textContent, "[a]");
  function Lists(): ReactNode {
    return useLiveQuery(db.lists) === undefined ? "nothing" : "something";
  }
  const later = await mount(h(Boundary, null, h(Lists)));
  assert.equal(later.element.textContent, "nothing");
});

test("one_record_is_undefined_while_it_loads_null_if_absent_and_follows_its_changes", async () => {
  const { db } = await world();
  await db.tasks.add({ id: "1", title: "a" });
  const seen: unknown[] = [];
  function One({ id }: { id: string | undefined }): ReactNode {
    const task = useRow(db.tasks, id);
    seen.push(task?.title ?? task);
    return task?.title;
  }
  const { root } = await mount(h(One, { id: "1" }));
  await write(() => db.tasks.update("1", { title: "b" }));
  await write(() => db.tasks.add({ title: "another" }));
  await write(() => root.render(h(One, { id: "2" })));
  await write(() => db.tasks.add({ id: "2", title: "c" }));
  await write(() => db.tasks.remove("2"));
  await write(() => root.render(h(One, { id: undefined })));
  assert.deepEqual(seen, [undefined, "a", "b", null, "c", null, undefined]);
});

test("status_and_refused_writes_are_kept_current", async () => {
  const { db, engine } = await world();
  function Badge({ db }: { db: Db | undefined }): ReactNode {
    return `${useStatus(db)?.pending} ${useRejected(db)?.length}`;
  }
  assert.equal(renderToString(h(Badge, { db: undefined })), "undefined undefined");
  const { element } = await mount(h(StrictMode, null, h(Badge, { db })));
  assert.equal(element.textContent, "0 0");
  await write(() => db.tasks.add({ title: "a" }));
  assert.equal(element.textContent, "1 0");
  await write(() => engine.refuse());
  assert.equal(element.textContent, "0 1");
});

test("others_who_are_here_are_kept_current", async () => {
  const { db, engine } = await world();
  const ann = { id: "server/1", principal: "ann", value: 1 };
  function Names({ db }: { db: Db | undefined }): ReactNode {
    return (
      usePresence(db)
        ?.map(({ principal }) => principal)
        .join() ?? "nobody yet"
    );
  }
  assert.equal(renderToString(h(Names, { db: undefined })), "nobody yet");
  const { element } = await mount(h(StrictMode, null, h(Names, { db })));
  assert.equal(element.textContent, "");
  await write(() =>
    engine.emit({ type: "others", from: "server", anew: true, here: [ann], gone: [] }),
  );
  assert.equal(element.textContent, "ann");
});

/** Never run: what is untrue of the schema does not compile. */
export function Types({ db }: { db: Db }): void {
  const rows: readonly Task[] | undefined = useLiveQuery(db.tasks.where({ done: true }));
  const comment: { readonly body: string } | null | undefined = useRow(
    db.collection("comments/1"),
    "1",
  );
  const status: Status | undefined = useStatus(db);
  // @ts-expect-error It may still be loading.
  rows.length;
  // @ts-expect-error There is no such field.
  rows?.[0]?.colour;
  // @ts-expect-error There may be no such record.
  comment.body;
  // @ts-expect-error There is no such state.
  status?.state === "happy";
}
