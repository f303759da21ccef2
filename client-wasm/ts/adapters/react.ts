/**
 * Hooks for React 18 and 19, on `useSyncExternalStore`.
 *
 * Everything may be `undefined` or `null` until there is something to ask: the database before it is open
 * and during server rendering, the id before something is selected. Queries can be made inline: what they
 * ask counts, not the object, and components that ask the same share one live query.
 *
 * A query that fails before it has shown anything throws where it is used, so the nearest error boundary
 * shows it. One that has rows keeps them; `useStatus(db)?.error` says why nothing changes any more.
 */

import { useCallback, useSyncExternalStore } from "react";
import type { Collection, Query } from "../collection.js";
import type { DatabaseCore } from "../db.js";
import type { RejectedWrite, Fields, Row, SchemaShape, Status } from "../types.js";
import { byId, only, share } from "./sharing.js";

/** What is there before there is anything, and on a server. */
const NOTHING = {
  subscribe: () => () => undefined,
  getSnapshot: () => undefined,
} as const;

/**
 * The rows of a query, kept current; `undefined` while they are being loaded. The array and the rows in it
 * are the same objects as long as nothing in them changes, so `memo` works.
 *
 * @example
 * const open = useLiveQuery(db.tasks.where({ done: false, list }).orderBy("createdAt"));
 * if (open === undefined) return <Spinner />;
 */
export function useLiveQuery<R>(query: Query<R> | null | undefined): readonly R[] | undefined {
  const { subscribe, getSnapshot } = query == null ? NOTHING : share(query);
  return useSyncExternalStore<readonly R[] | undefined>(
    subscribe,
    getSnapshot,
    NOTHING.getSnapshot,
  );
}

/**
 * One record, kept current; `undefined` while it is being loaded, `null` if there is none.
 *
 * @example
 * const task = useRow(db.tasks, id);
 */
export function useRow<F extends Fields>(
  collection: Collection<F> | null | undefined,
  id: string | null | undefined,
): Row<F> | null | undefined {
  return only(useLiveQuery(collection == null || id == null ? undefined : byId(collection, id)));
}

/**
 * `db.status`, kept current.
 *
 * @example
 * const status = useStatus(db);
 * return <Badge>{status?.synced ? `verified ${status.verified?.short}` : status?.state}</Badge>;
 */
export function useStatus(
  db: Pick<DatabaseCore<SchemaShape>, "on" | "status"> | null | undefined,
): Status | undefined {
  const subscribe = useCallback(
    (listener: () => void) => (db == null ? NOTHING.subscribe() : db.on("status", listener)),
    [db],
  );
  return useSyncExternalStore(subscribe, () => db?.status, NOTHING.getSnapshot);
}

/**
 * `db.rejected.list`, kept current: the writes that the server refused.
 *
 * @example
 * const refused = useRejected(db) ?? [];
 * return refused.map((write) => <Refused key={write.row} write={write} />);
 */
export function useRejected<S extends SchemaShape>(
  db: Pick<DatabaseCore<S>, "rejected"> | null | undefined,
): readonly RejectedWrite[] | undefined {
  const rejected = db?.rejected;
  const subscribe = useCallback(
    (listener: () => void) => rejected?.subscribe(listener) ?? NOTHING.subscribe(),
    [rejected],
  );
  return useSyncExternalStore(subscribe, () => rejected?.list, NOTHING.getSnapshot);
}
