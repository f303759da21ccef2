import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Task } from "./schema.ts";
import { attempt, type Database } from "./database.ts";

/** The title, a text field while it is edited. */
export function Title({ db, task }: { db: Database; task: Task }) {
  const [editing, setEditing] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const returnFocus = useRef(false);
  useLayoutEffect(() => {
    if (!editing && returnFocus.current) button.current?.focus();
    returnFocus.current = false;
  }, [editing]);
  if (!editing) {
    return (
      <button
        ref={button}
        type="button"
        class="title"
        dir="auto"
        data-testid="title"
        data-column="title"
        title="Edit"
        onClick={() => setEditing(true)}
      >
        {task.title}
      </button>
    );
  }
  const finish = (title: string | undefined, byKey: boolean) => {
    const changed = title?.trim();
    if (changed && changed !== task.title) attempt(db.tasks.update(task.id, { title: changed }));
    returnFocus.current = byKey;
    setEditing(false);
  };
  return <TitleField start={task.title} onFinish={finish} />;
}

function TitleField({
  start,
  onFinish,
}: {
  start: string;
  onFinish: (title: string | undefined, byKey: boolean) => void;
}) {
  const field = useRef<HTMLTextAreaElement>(null);
  // Removing a focused field fires `blur`: what Escape abandoned must not be saved by it.
  const finished = useRef(false);
  const finish = (title: string | undefined, byKey: boolean) => {
    if (finished.current) return;
    finished.current = true;
    onFinish(title, byKey);
  };
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  return (
    <textarea
      ref={field}
      class="title growing"
      dir="auto"
      rows={1}
      aria-label="Title"
      data-testid="title-field"
      defaultValue={start}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key === "Escape") finish(undefined, true);
        else if (event.key === "Enter") finish(event.currentTarget.value, true);
        else return;
        event.preventDefault();
        event.stopPropagation();
      }}
      onBlur={(event) => finish(event.currentTarget.value, false)}
    />
  );
}
