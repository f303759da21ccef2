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

"use client";

import { useSyncExternalStore } from "react";
import type { Collection, Query } from "../collection.js";
import type { Fields, Other, RejectedWrite, Row, Status } from "../types.js";
import {
  byId,
  only,
  othersOf,
  rejectedOf,
  share,
  type Source,
  statusOf,
  type WithPresence,
  type WithRejected,
  type WithStatus,
} from "./sharing.js";

/** What is there before there is anything, and on a server. */
const NOTHING: Source<undefined> = {
  subscribe: () => () => undefined,
  getSnapshot: () => undefined,
};

function useSource<T>(source: Source<T> | undefined): T | undefined {
  const { subscribe, getSnapshot } = source ?? NOTHING;
  return useSyncExternalStore<T | undefined>(subscribe, getSnapshot, NOTHING.getSnapshot);
}

/**
 * The rows of a query, kept current; `undefined` while they are being loaded. The array and the rows in it
 * are the same objects as long as nothing in them changes, so `memo` works.
 *
 * @example
 * const open = useLiveQuery(db.tasks.where({ done: false, list }).orderBy("createdAt"));
 * if (open === undefined) return <Spinner />;
 */
export function useLiveQuery<R>(query: Query<R> | null | undefined): readonly R[] | undefined {
  return useSource(query == null ? undefined : share(query));
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
export function useStatus(db: WithStatus | null | undefined): Status | undefined {
  return useSource(db == null ? undefined : statusOf(db));
}

/**
 * `db.rejected.list`, kept current: the writes that the server refused.
 *
 * @example
 * const refused = useRejected(db) ?? [];
 * return refused.map((write) => <Refused key={write.row} write={write} />);
 */
export function useRejected(
  db: WithRejected | null | undefined,
): readonly RejectedWrite[] | undefined {
  return useSource(db == null ? undefined : rejectedOf(db));
}

/**
 * `db.presence.others`, kept current: who else is here, and what they show.
 *
 * @example
 * const others = usePresence(db) ?? [];
 * return others.map(({ id, value }) => <Cursor key={id} value={value} />);
 */
export function usePresence<T>(
  db: WithPresence<T> | null | undefined,
): readonly Other<T>[] | undefined {
  return useSource(db == null ? undefined : othersOf(db));
}
