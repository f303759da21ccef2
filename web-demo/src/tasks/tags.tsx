import { addTo, removeFrom } from "rejoin";
import { SmallCloseIcon } from "../shell/icons.tsx";
import { attempt, type Database } from "./database.ts";
import type { Task } from "./schema.ts";
import { hue } from "./view.ts";

export const Chip = ({ tag }: { tag: string }) => (
  <span class="chip" data-testid="tag" style={{ "--hue": String(hue(tag)) }}>
    <bdi>{tag}</bdi>
  </span>
);

/** Adds and removes elements of a set: what others add at the same time stays. */
export function TagEditor({ db, task, known }: { db: Database; task: Task; known: string }) {
  const field = `tag-${known}-${task.id}`;
  const add = (input: HTMLInputElement) => {
    const tags = input.value.split(/[,\s]+/u).filter((tag) => tag !== "");
    input.value = "";
    const fresh = tags.filter((tag) => !task.tags.includes(tag));
    if (fresh.length > 0) attempt(db.tasks.update(task.id, { tags: addTo(...fresh) }));
  };
  return (
    <div class="tag-editor">
      <label for={field}>Tags</label>
      <div class="chips">
        {task.tags.map((tag) => (
          <span key={tag} class="chip" style={{ "--hue": String(hue(tag)) }}>
            <bdi>{tag}</bdi>
            <button
              type="button"
              aria-label={`Remove tag ${tag}`}
              onClick={() => attempt(db.tasks.update(task.id, { tags: removeFrom(tag) }))}
            >
              <SmallCloseIcon />
            </button>
          </span>
        ))}
        <input
          id={field}
          class="tag-field"
          dir="auto"
          list={known}
          placeholder="Add a tag"
          autocapitalize="none"
          autocomplete="off"
          enterkeyhint="done"
          data-testid="tag-field"
          onKeyDown={(event) => {
            if (event.isComposing || (event.key !== "Enter" && event.key !== ",")) return;
            event.preventDefault();
            add(event.currentTarget);
          }}
          onBlur={(event) => add(event.currentTarget)}
        />
      </div>
    </div>
  );
}
