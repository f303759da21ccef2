import { type FormEvent, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { type Database, describe, mood, type Task } from "./database";
import { useRows, useStatus } from "./hooks";

export function show(db: Database, element: HTMLElement) {
  createRoot(element).render(
    <StrictMode>
      <Tasks db={db} live={db.tasks.orderBy("createdAt", "desc").live()} />
    </StrictMode>,
  );
}

function Tasks({ db, live }: { db: Database; live: ReturnType<Database["tasks"]["live"]> }) {
  const tasks = useRows(live);
  const status = useStatus(db);
  if (tasks === undefined) return null;
  const left = tasks.filter(({ done }) => !done).length;
  const clear = () =>
    db.batch((batch) => {
      for (const { id, done } of tasks) if (done) batch.tasks.remove(id);
    });
  return (
    <main>
      <header>
        <h1>Tasks</h1>
        <p className="status" role="status" data-mood={mood(status)}>
          {describe(status)}
        </p>
      </header>
      <NewTask db={db} />
      <ul className="tasks">
        {tasks.map((task) => (
          <Item key={task.id} db={db} task={task} />
        ))}
      </ul>
      {tasks.length === 0 ? (
        <p className="empty">Nothing to do. Add a task, online or not.</p>
      ) : (
        <footer>
          <span>{left === 1 ? "1 task left" : `${left} tasks left`}</span>
          {left < tasks.length && <button onClick={clear}>Clear done</button>}
        </footer>
      )}
    </main>
  );
}

function NewTask({ db }: { db: Database }) {
  const [title, setTitle] = useState("");
  const add = (event: FormEvent) => {
    event.preventDefault();
    const written = title.trim();
    if (written === "") return;
    setTitle("");
    // What could not be kept is there to be tried again.
    db.tasks.add({ title: written, createdAt: Date.now() }).catch(() => setTitle(written));
  };
  return (
    <form className="new" onSubmit={add}>
      <input
        aria-label="New task"
        placeholder="What needs to be done?"
        autoFocus
        value={title}
        onChange={(event) => setTitle(event.target.value)}
      />
      <button>Add</button>
    </form>
  );
}

function Item({ db, task }: { db: Database; task: Task }) {
  const { id, title, done } = task;
  return (
    <li>
      <label>
        <input
          type="checkbox"
          checked={done}
          onChange={() => void db.tasks.update(id, { done: !done })}
        />
        <span>{title}</span>
      </label>
      <button
        className="remove"
        aria-label={`Remove ${title}`}
        onClick={() => void db.tasks.remove(id)}
      />
    </li>
  );
}
