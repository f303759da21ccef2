import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { Badge, ProgressBar } from "../shell/badge.tsx";
import { useLive, useStatus } from "../shell/hooks.ts";
import { Rejected } from "../shell/rejected.tsx";
import { NetworkSwitch } from "../shell/switch.tsx";
import { some } from "../shell/text.ts";
import { say } from "../shell/toast.tsx";
import { Trouble } from "../shell/trouble.tsx";
import { Composer } from "./composer.tsx";
import { attempt, type Database, type Letter } from "./database.ts";
import { Filters } from "./filters.tsx";
import { TaskRow } from "./row.tsx";
import type { Task } from "./schema.ts";
import { list, type View } from "./view.ts";

const START: View = { show: "all", sort: "newest", tag: undefined };

/** One database: its status, its switch, its tasks. */
export function Replica({ db, letter, alone }: { db: Database; letter: Letter; alone: boolean }) {
  const status = useStatus(db);
  const query = useMemo(() => db.tasks.orderBy("createdAt", "desc").live(), [db]);
  useEffect(() => () => query.close(), [query]);
  const tasks = useLive(query);
  const [view, setView] = useState(START);
  const [opened, setOpened] = useState<string>();
  const listing = useMemo(() => tasks && list(tasks, view), [tasks, view]);
  const onToggle = useCallback(
    (id: string) => setOpened((now) => (now === id ? undefined : id)),
    [],
  );
  const onDelete = useCallback((task: Task) => remove(db, task), [db]);
  useEffect(() => db.on("conflict", (lost) => lost.own && tellConflict(db, lost)), [db]);
  // The tag that was chosen may have gone with its last task.
  const tagGone = view.tag !== undefined && listing && !listing.tags.includes(view.tag);
  useEffect(() => {
    if (tagGone) setView((now) => ({ ...now, tag: undefined }));
  }, [tagGone]);
  const known = `tags-${letter}`;
  return (
    <section
      class="replica"
      aria-label={alone ? "Tasks" : `Replica ${letter}`}
      data-testid={`replica-${letter.toLowerCase()}`}
    >
      <header class="replica-head">
        <div>
          <h1>{alone ? "Tasks" : `Replica ${letter}`}</h1>
          <p class="quiet" data-testid="count">
            {listing ? summary(listing.open, listing.done) : "Opening…"}
          </p>
        </div>
        <div class="sync">
          <Badge status={status} />
          <NetworkSwitch db={db} paused={status.paused} />
        </div>
      </header>
      <ProgressBar status={status} />
      <Rejected db={db} name={`tasks-${letter.toLowerCase()}`} />
      <Trouble status={status} />
      <Composer db={db} shortcut={letter === "A"} />
      {listing && tasks && tasks.length > 0 && (
        <Filters view={view} listing={listing} onView={setView} />
      )}
      <datalist id={known}>
        {listing?.tags.map((tag) => (
          <option key={tag} value={tag} />
        ))}
      </datalist>
      {listing && listing.tasks.length > 0 && (
        <ul class="tasks" data-testid="tasks" onKeyDown={moveBetweenRows}>
          {listing.tasks.map((task) => (
            <TaskRow
              key={task.id}
              db={db}
              task={task}
              open={opened === task.id}
              known={known}
              onToggle={onToggle}
              onDelete={onDelete}
            />
          ))}
        </ul>
      )}
      {listing && listing.tasks.length === 0 && (
        <Empty filtered={tasks !== undefined && tasks.length > 0} />
      )}
    </section>
  );
}

const summary = (open: number, done: number): string =>
  open + done === 0 ? "Nothing here yet" : `${some(open, "open task")}, ${done} done`;

function Empty({ filtered }: { filtered: boolean }) {
  return (
    <div class="empty" data-testid="empty">
      <img src="./icon.svg" alt="" width="44" height="44" />
      <p>{filtered ? "Nothing matches." : "A clear day."}</p>
      {!filtered && (
        <p class="quiet">
          Add a task. Turn the network off and add another. Close the page, open it again: both are
          here, and rejoin by themselves.
        </p>
      )}
    </div>
  );
}

function remove(db: Database, task: Task): void {
  attempt(db.tasks.remove(task.id));
  const { id, title, done, votes, tags, notes, createdAt } = task;
  const run = () =>
    attempt(db.tasks.put(id, { title, done, votes, tags, notes: notes.value, createdAt }));
  say(`Deleted “${title}”`, { label: "Undo", run });
}

interface Lost {
  readonly collection: string;
  readonly id: string;
  readonly field: string;
  readonly value: unknown;
}

/** A later write elsewhere won; one tap lets this one win after all. */
function tellConflict(db: Database, { id, field, value }: Lost): void {
  const again = { label: "Use mine", run: () => attempt(db.tasks.update(id, { [field]: value })) };
  say(`The ${field} of a task was changed elsewhere at the same time.`, again);
}

/** Up and down keys go to the same control of the next row. */
function moveBetweenRows(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const control = event.target as HTMLElement;
  const column = control.dataset["column"];
  if (step === undefined || column === undefined || control instanceof HTMLTextAreaElement) return;
  const row = control.closest("li");
  const next = step === 1 ? row?.nextElementSibling : row?.previousElementSibling;
  const target = next?.querySelector<HTMLElement>(`[data-column="${column}"]`);
  if (!target) return;
  event.preventDefault();
  target.focus();
}
