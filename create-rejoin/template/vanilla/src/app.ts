import { type Database, describe, mood, type Task } from "./database";

const PAGE = `
  <main>
    <header>
      <h1>Tasks</h1>
      <p class="status" role="status"></p>
    </header>
    <form class="new">
      <input name="title" aria-label="New task" placeholder="What needs to be done?" autofocus />
      <button>Add</button>
    </form>
    <ul class="tasks"></ul>
    <p class="empty" hidden>Nothing to do. Add a task, online or not.</p>
    <footer hidden>
      <span></span>
      <button>Clear done</button>
    </footer>
  </main>`;

export function show(db: Database, element: HTMLElement) {
  element.innerHTML = PAGE;
  const find = <E extends HTMLElement>(selector: string) => element.querySelector<E>(selector)!;

  const form = find<HTMLFormElement>(".new");
  const title = find<HTMLInputElement>(".new input");
  title.focus();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const written = title.value.trim();
    if (written === "") return;
    form.reset();
    // What could not be kept is there to be tried again.
    db.tasks.add({ title: written, createdAt: Date.now() }).catch(() => (title.value = written));
  });

  const status = find(".status");
  const showStatus = () => {
    status.textContent = describe(db.status);
    status.dataset.mood = mood(db.status);
  };
  db.on("status", showStatus);
  showStatus();

  let tasks: readonly Task[] = [];
  const clear = find("footer button");
  clear.addEventListener("click", () => {
    void db.batch((batch) => {
      for (const { id, done } of tasks) if (done) batch.tasks.remove(id);
    });
  });

  const items = new Map<string, Item>();
  db.tasks
    .orderBy("createdAt", "desc")
    .live()
    .subscribe((rows) => {
      tasks = rows;
      const left = rows.filter(({ done }) => !done).length;
      find("footer span").textContent = left === 1 ? "1 task left" : `${left} tasks left`;
      find("footer").hidden = rows.length === 0;
      find(".empty").hidden = rows.length > 0;
      clear.hidden = left === rows.length;
      showItems(db, find(".tasks"), items, rows);
    });
}

/** Touches only what changed, so that nothing loses the focus. */
function showItems(
  db: Database,
  list: HTMLElement,
  items: Map<string, Item>,
  rows: readonly Task[],
) {
  const ids = new Set(rows.map(({ id }) => id));
  for (const [id, { element }] of items) {
    if (ids.has(id)) continue;
    element.remove();
    items.delete(id);
  }
  rows.forEach((row, index) => {
    const item = items.get(row.id) ?? newItem(db, row.id);
    items.set(row.id, item);
    item.show(row);
    const there = list.children[index] ?? null;
    if (there !== item.element) list.insertBefore(item.element, there);
  });
}

interface Item {
  readonly element: HTMLElement;
  show(task: Task): void;
}

function newItem(db: Database, id: string): Item {
  const element = document.createElement("li");
  element.innerHTML = `<label><input type="checkbox" /><span></span></label><button class="remove"></button>`;
  const [box, text, remove] = [
    element.querySelector("input")!,
    element.querySelector("span")!,
    element.querySelector("button")!,
  ];
  box.addEventListener("change", () => void db.tasks.update(id, { done: box.checked }));
  remove.addEventListener("click", () => void db.tasks.remove(id));
  return {
    element,
    show({ title, done }) {
      box.checked = done;
      text.textContent = title;
      remove.ariaLabel = `Remove ${title}`;
    },
  };
}
