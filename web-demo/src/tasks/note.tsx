import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import { resolve } from "rejoin";
import { ForkIcon } from "../shell/icons.tsx";
import { ago, moment } from "../shell/text.ts";
import { attempt, type Database } from "./database.ts";
import type { Task } from "./schema.ts";

const SAVE_AFTER_MS = 700;

interface Version {
  readonly key: string;
  readonly who: string;
  readonly when: string;
  readonly exactly: string;
  readonly text: string;
}

/** Names of the replicas of this page, by their ids. */
export const Names = createContext<ReadonlyMap<string, string>>(new Map());

function versionsOf(task: Task, own: string, names: ReadonlyMap<string, string>): Version[] {
  return task.notes.siblings.map(({ stamp, replica, at, value }) => ({
    key: stamp,
    who:
      replica === own ? "Written here" : (names.get(replica) ?? `Replica ${replica.slice(0, 6)}`),
    when: ago(at, Date.now()),
    exactly: moment(at),
    text: value,
  }));
}

/**
 * The note of a task. Versions that were written side by side are shown side by side, and so is a draft
 * under which the note has changed: neither replaces the other unseen.
 */
export function Note({ db, task }: { db: Database; task: Task }) {
  const own = db.status.replica;
  const names = useContext(Names);
  const { notes } = task;
  const current = notes.siblings[0];
  const [draft, setDraft] = useState<{ text: string; over: string | undefined }>();
  const field = useRef<HTMLTextAreaElement>(null);
  const chosen = useRef(false);
  const save = (text: string) => {
    setDraft(undefined);
    if (text !== notes.value || notes.conflicted) {
      attempt(db.tasks.update(task.id, { notes: resolve(text) }));
    }
  };
  const overtaken =
    draft !== undefined && current?.stamp !== draft.over && current?.replica !== own;
  const blocked = notes.conflicted || overtaken;
  useEffect(() => {
    if (draft === undefined || blocked) return undefined;
    const timer = setTimeout(() => save(draft.text), SAVE_AFTER_MS);
    return () => clearTimeout(timer);
  });
  // The button that chose is gone: who used the keyboard goes on where the note now is.
  useEffect(() => {
    if (blocked || !chosen.current) return;
    chosen.current = false;
    field.current?.focus();
  }, [blocked]);
  if (blocked) {
    const versions = versionsOf(task, own, names);
    if (draft !== undefined) {
      const here = { key: "draft", who: "Your draft", when: "not saved", exactly: "" };
      versions.unshift({ ...here, text: draft.text });
    }
    const choose = (text: string) => {
      chosen.current = true;
      save(text);
    };
    return <Chooser versions={versions} onChoose={choose} />;
  }
  const name = `note-${db.name}-${task.id}`;
  return (
    <div class="note">
      <label for={name}>Notes</label>
      <textarea
        id={name}
        ref={field}
        class="growing"
        dir="auto"
        rows={2}
        placeholder="Anything worth remembering"
        data-testid="note-field"
        value={draft?.text ?? notes.value}
        onInput={({ currentTarget: { value } }) =>
          setDraft((before) => ({ text: value, over: before?.over ?? current?.stamp }))
        }
        onBlur={() => draft !== undefined && save(draft.text)}
      />
    </div>
  );
}

function Chooser({
  versions,
  onChoose,
}: {
  versions: readonly Version[];
  onChoose: (text: string) => void;
}) {
  const [merging, setMerging] = useState<string>();
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (merging !== undefined) field.current?.focus();
  }, [merging !== undefined]);
  const merged = () =>
    [...new Set(versions.map(({ text }) => text.trim()))]
      .filter((text) => text !== "")
      .join("\n\n");
  return (
    <section class="chooser" aria-label="Versions of the note" data-testid="chooser">
      <h3>
        <ForkIcon /> Written at the same time
      </h3>
      <ul>
        {versions.map((version) => (
          <li key={version.key} data-testid="version">
            <p class="by">
              <b>{version.who}</b> <span title={version.exactly}>{version.when}</span>
            </p>
            <p class="text" dir="auto">
              {version.text === "" ? <i>empty</i> : version.text}
            </p>
            <button
              type="button"
              class="button"
              data-testid="keep"
              onClick={() => onChoose(version.text)}
            >
              Keep this
            </button>
          </li>
        ))}
      </ul>
      {merging === undefined ? (
        <button
          type="button"
          class="button"
          data-testid="merge"
          onClick={() => setMerging(merged())}
        >
          Merge them
        </button>
      ) : (
        <div class="note">
          <textarea
            ref={field}
            class="growing"
            dir="auto"
            rows={3}
            aria-label="Merged note"
            data-testid="merge-field"
            value={merging}
            onInput={(event) => setMerging(event.currentTarget.value)}
          />
          <div class="actions">
            <button
              type="button"
              class="button primary"
              data-testid="merge-save"
              onClick={() => onChoose(merging)}
            >
              Save merged note
            </button>
            <button type="button" class="button" onClick={() => setMerging(undefined)}>
              Cancel
            </button>
          </div>
        </div>
      )}
    </section>
  );
}
