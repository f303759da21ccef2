import { bool, counter, defineSchema, increment, open, review, set, SyncError, text } from "rejoin";
import type { Database, Row, Undoable } from "rejoin";

const schema = defineSchema({
  tasks: {
    title: text(),
    done: bool().default(false),
    votes: counter(),
    tags: set(text()),
    notes: review(text().default("")),
  },
});

type Task = Row<typeof schema.tasks>;

declare global {
  interface Window {
    app: { write(title: string): Promise<void> };
  }
}

const worker: boolean = location.search === "?worker";
const name: string = worker ? "outside in a worker" : "outside";
const db: Database<typeof schema> = await open({ name, schema, worker });

const line = ({ title, votes, tags }: Task): string => `${title} ${votes} ${tags.join()}`;

db.tasks.live().subscribe((tasks) => {
  const items = tasks.map((task) => {
    const item = document.createElement("li");
    item.textContent = line(task);
    return item;
  });
  document.querySelector("ul")?.replaceChildren(...items);
  document.body.dataset["rows"] = String(tasks.length);
});

window.app = {
  async write(title) {
    const task = await db.tasks.add({ title, tags: ["outside"] });
    await db.tasks.update(task.id, { votes: increment(2) });
  },
};

/** Never run: a program that says something untrue about the schema does not compile. */
export async function wrong(): Promise<void> {
  // @ts-expect-error A title is text.
  await db.tasks.add({ title: 1 });
  // @ts-expect-error There is no such field.
  await db.tasks.add({ title: "x", colour: "red" });
  // @ts-expect-error Rows are frozen.
  (await db.tasks.first())!.title = "x";
  // @ts-expect-error There is no such collection.
  await db.notes.all();
  const left: number | undefined = db.tasks.where({ done: false }).liveCount().getSnapshot();
  // @ts-expect-error A count is no list.
  db.tasks.liveCount().subscribe((rows) => rows.length);
  // @ts-expect-error While it is being loaded there is no count.
  const shown: number = left;
  // @ts-expect-error The engine runs in a worker or it does not.
  await open({ name: "x", schema, worker: "yes" });
  const editor: Undoable<typeof schema> = db.undoable("editor", { limit: 10, within: 500 });
  const id: string = await editor.batch((batch) => batch.tasks.add({ title: "x" }));
  const undone: boolean = await editor.undo();
  // @ts-expect-error A title is text in a scope, too.
  await editor.batch((batch) => batch.tasks.update(id, { title: undone }), { group: `${shown}` });
  // @ts-expect-error It is the name of a method.
  defineSchema({ undoable: { title: text() } });
  const error = new SyncError("quota", "full");
  // @ts-expect-error There is no such code.
  if (error.code === "full") throw error;
}
