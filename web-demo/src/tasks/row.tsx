import { memo } from "preact/compat";
import { increment } from "rejoin";
import {
  CheckIcon,
  ChevronIcon,
  ForkIcon,
  MinusIcon,
  NoteIcon,
  PlusIcon,
  TrashIcon,
} from "../shell/icons.tsx";
import { moment } from "../shell/text.ts";
import { attempt, type Database } from "./database.ts";
import { Note } from "./note.tsx";
import type { Task } from "./schema.ts";
import { Chip, TagEditor } from "./tags.tsx";
import { Title } from "./title.tsx";

interface Props {
  readonly db: Database;
  readonly task: Task;
  readonly open: boolean;
  /** Id of the list of tags to choose from. */
  readonly known: string;
  readonly onToggle: (id: string) => void;
  readonly onDelete: (task: Task) => void;
}

/** Drawn again only when the task is another object, which the engine makes sure of. */
export const TaskRow = memo(function TaskRow({ db, task, open, known, onToggle, onDelete }: Props) {
  const { conflicted, value: note } = task.notes;
  return (
    <li
      class="task"
      data-testid="task"
      data-id={task.id}
      data-done={task.done}
      data-conflict={conflicted}
      data-open={open}
    >
      <div class="line">
        <button
          type="button"
          class="check"
          role="checkbox"
          aria-checked={task.done}
          aria-label={task.title}
          data-testid="done"
          data-column="check"
          onClick={() => attempt(db.tasks.update(task.id, { done: !task.done }))}
        >
          <i>
            <CheckIcon />
          </i>
        </button>
        <div class="body">
          <Title db={db} task={task} />
          {(task.tags.length > 0 || note !== "" || conflicted) && (
            <div class="chips" onClick={() => onToggle(task.id)}>
              {conflicted && (
                <span class="conflict" data-testid="conflict">
                  <ForkIcon /> {task.notes.siblings.length} versions
                </span>
              )}
              {task.tags.map((tag) => (
                <Chip key={tag} tag={tag} />
              ))}
              {note !== "" && !conflicted && !open && (
                <span class="peek">
                  <NoteIcon /> <bdi>{note}</bdi>
                </span>
              )}
            </div>
          )}
        </div>
        <Votes db={db} task={task} />
        <button
          type="button"
          class="icon-button more"
          aria-expanded={open}
          aria-label={`Details of ${task.title}`}
          data-testid="more"
          data-column="more"
          onClick={() => onToggle(task.id)}
        >
          <ChevronIcon />
        </button>
      </div>
      {open && (
        <div class="details" data-testid="details">
          <Note db={db} task={task} />
          <TagEditor db={db} task={task} known={known} />
          <footer>
            <span class="quiet">{task.createdAt > 0 && `Added ${moment(task.createdAt)}`}</span>
            <button
              type="button"
              class="button danger"
              data-testid="delete"
              onClick={() => onDelete(task)}
            >
              <TrashIcon /> Delete
            </button>
          </footer>
        </div>
      )}
    </li>
  );
});

/** Adds to a counter: votes given on both sides of a cut add up. */
function Votes({ db, task }: { db: Database; task: Task }) {
  const vote = (by: number) => attempt(db.tasks.update(task.id, { votes: increment(by) }));
  return (
    <div
      class="votes"
      role="group"
      aria-label={`Votes for ${task.title}`}
      data-some={task.votes !== 0}
    >
      <button
        type="button"
        aria-label="Take a vote back"
        data-testid="vote-down"
        onClick={() => vote(-1)}
      >
        <MinusIcon />
      </button>
      <output data-testid="votes">{task.votes}</output>
      <button
        type="button"
        aria-label="Vote"
        data-testid="vote-up"
        data-column="vote"
        onClick={() => vote(1)}
      >
        <PlusIcon />
      </button>
    </div>
  );
}
