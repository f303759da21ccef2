import { useEffect, useRef, useState } from "preact/hooks";
import type { Events, LiveQuery, Status } from "rejoin";

/** What the shell needs of a database, whatever its schema. */
export interface Connection {
  readonly status: Status;
  readonly network: { pause(): void; resume(): void };
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
}

export function useStatus(db: Connection): Status {
  const [status, setStatus] = useState(db.status);
  useEffect(() => {
    setStatus(db.status);
    return db.on("status", setStatus);
  }, [db]);
  return status;
}

/** The rows of a query, `undefined` until they are loaded. */
export function useLive<R>(query: LiveQuery<R>): readonly R[] | undefined {
  const [rows, setRows] = useState(() => query.getSnapshot());
  useEffect(() => {
    setRows(query.getSnapshot());
    return query.subscribe((now) => setRows(now));
  }, [query]);
  return rows;
}

/** Calls `onKey` for keys pressed while nothing is being typed. */
export function useShortcut(key: string, onKey: () => void): void {
  const latest = useRef(onKey);
  latest.current = onKey;
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
      const typing =
        event.target instanceof HTMLElement && event.target.closest("input, textarea, select");
      if (event.key !== key || !plain || typing) return;
      event.preventDefault();
      latest.current();
    };
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, [key]);
}
