import { useEffect, useState } from "preact/hooks";
import type { RejectedWrite } from "rejoin";
import { explain, moment, some } from "./text.ts";
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
      <ul>
        {writes.map((write) => (
          <li key={write.row} data-testid="rejected-write" data-code={write.code}>
            <p>
              <b>{write.reason}</b> <code>{write.code}</code>
            </p>
            <p class="quiet">
              {write.writes.map(({ op, id, fields }) => (
                <span key={id}>
                  {op} {summary(fields) || id} ·{" "}
                </span>
              ))}
              {moment(write.at)}
            </p>
            <div class="actions">
              <button
                type="button"
                class="button"
                onClick={() => tell(db.rejected.retry(write.row))}
              >
                Try again
              </button>
              <button
                type="button"
                class="button danger"
                onClick={() => tell(db.rejected.discard(write.row))}
              >
                Discard
              </button>
            </div>
          </li>
        ))}
      </ul>
      <div class="actions">
        <button type="button" class="button" onClick={() => save(db.rejected.export(), name)}>
          Export all
        </button>
      </div>
    </section>
  );
}

const summary = (fields: Readonly<Record<string, unknown>>): string =>
  Object.entries(fields)
    .map(([field, value]) => (typeof value === "string" ? `${field} “${value}”` : field))
    .join(", ");

function save(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `${name}-refused.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
