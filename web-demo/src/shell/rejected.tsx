import { useEffect, useState } from "preact/hooks";
import type { RejectedRecord, RejectedWrite } from "rejoin";
import { explain, moment, size, some } from "./text.ts";
import { say } from "./toast.tsx";

/** A database that lists what its server refused. */
export interface Refusing {
  readonly rejected: {
    readonly list: readonly RejectedWrite[];
    subscribe(listener: () => void): () => void;
    retry(row: number): Promise<unknown>;
    discard(row: number): Promise<unknown>;
    export(): string;
  };
}

const tell = (action: Promise<unknown>) =>
  action.catch((error: unknown) => say(`That did not work: ${explain(error)}`));

/** What the server refused, until somebody decides about it. Absent when there is nothing. */
export function Rejected({ db, name }: { db: Refusing; name: string }) {
  const [writes, setWrites] = useState(db.rejected.list);
  useEffect(() => {
    setWrites(db.rejected.list);
    return db.rejected.subscribe(() => setWrites(db.rejected.list));
  }, [db]);
  if (writes.length === 0) return null;
  return (
    <section class="notice rejected" aria-label="Refused writes" data-testid="rejected">
      <h2>{some(writes.length, "write was", "writes were")} refused by the server</h2>
      <p>Kept here until you decide: nothing of it is lost, and nobody else sees it.</p>
      <ul>
        {writes.map((write) => (
          <li key={write.row} data-testid="rejected-write" data-code={write.code}>
            <p>
              <b>{capital(write.reason)}</b> <code>{write.code}</code>
            </p>
            <p class="quiet">Written {moment(write.at)}</p>
            <ul class="wanted">
              {write.writes.map(({ op, collection, id, fields }) => (
                <li key={`${collection}/${id}`} dir="auto">
                  {WORDS[op]} {summary(fields) || id}
                </li>
              ))}
            </ul>
            <div class="actions">
              <button
                type="button"
                class="button"
                data-testid="retry"
                onClick={() => tell(db.rejected.retry(write.row))}
              >
                Try again
              </button>
              <button
                type="button"
                class="button danger"
                data-testid="discard"
                onClick={() => tell(db.rejected.discard(write.row))}
              >
                Discard
              </button>
            </div>
          </li>
        ))}
      </ul>
      <div class="actions">
        <button
          type="button"
          class="button"
          data-testid="export"
          onClick={() => save(db.rejected.export(), name)}
        >
          Export all
        </button>
      </div>
    </section>
  );
}

const WORDS: Record<RejectedRecord["op"], string> = {
  add: "New:",
  put: "Replaced:",
  update: "Changed:",
  remove: "Deleted:",
};

/** As much as a line holds; all of it is in the export. */
const SHOWN_LETTERS = 120;

const summary = (fields: RejectedRecord["fields"]): string =>
  Object.entries(fields)
    .map(([field, wanted]) => `${field} ${brief(wanted)}`.trim())
    .join(", ");

function brief(wanted: unknown): string {
  if (typeof wanted === "string") {
    const start = [...wanted.slice(0, 2 * SHOWN_LETTERS)].slice(0, SHOWN_LETTERS).join("");
    return start.length < wanted.length
      ? `“${start}…” (${size(new Blob([wanted]).size)})`
      : `“${wanted}”`;
  }
  if (typeof wanted === "number" || typeof wanted === "boolean") return String(wanted);
  if (wanted instanceof Object && "value" in wanted) return brief(wanted.value);
  return "";
}

const capital = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1);

function save(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `${name}-refused.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
