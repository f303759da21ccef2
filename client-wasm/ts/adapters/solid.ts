/**
 * Primitives for Solid 1.
 *
 * What they are given are accessors, which may give `undefined` or `null` until there is something to ask: the
 * database before it is open and during server rendering, the id before something is selected. What a query
 * asks counts, not the object; whoever asks the same shares one live query, until the owner is disposed of.
 *
 * Rows are stores: a row that changes stays the same object, and what reads one of its fields runs again only
 * if that field differs. So `<For>` keeps its elements, and inputs in them their focus.
 *
 * A query that fails before it has shown anything throws where it is read, so an `<ErrorBoundary>` shows it.
 * One that has rows keeps them; `createStatus(() => db)()?.error` says why nothing changes any more.
 */

import {
  type Accessor,
  batch,
  createComputed,
  createMemo,
  createSignal,
  onCleanup,
} from "solid-js";
import { createStore, reconcile, type SetStoreFunction } from "solid-js/store";
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

/**
 * The rows of a query, kept current; `undefined` while they are being loaded.
 *
 * @example
 * const open = createLiveQuery(() => db.tasks.where({ done: false, list: props.list }));
 */
export function createLiveQuery<R extends { readonly id: string }>(
  query: Accessor<Query<R> | null | undefined>,
): Accessor<readonly R[] | undefined> {
  return asStores(
    follow(() => {
      const asked = query();
      return asked == null ? undefined : share(asked);
    }),
  );
}

/**
 * One record, kept current; `undefined` while it is being loaded, `null` if there is none.
 *
 * @example
 * const task = createRow(() => db.tasks, () => props.id);
 */
export function createRow<F extends Fields>(
  collection: Accessor<Collection<F> | null | undefined>,
  id: Accessor<string | null | undefined>,
): Accessor<Row<F> | null | undefined> {
  const rows = createLiveQuery<Row<F> & { readonly id: string }>(() => {
    const [from, wanted] = [collection(), id()];
    if (from == null || wanted == null) return undefined;
    return byId(from, wanted) as Query<Row<F> & { readonly id: string }>;
  });
  return () => only(rows());
}

/**
 * `db.status`, kept current.
 *
 * @example
 * const status = createStatus(() => db);
 */
export function createStatus(
  db: Accessor<WithStatus | null | undefined>,
): Accessor<Status | undefined> {
  return follow(() => {
    const opened = db();
    return opened == null ? undefined : statusOf(opened);
  });
}

/**
 * `db.rejected.list`, kept current: the writes that the server refused.
 *
 * @example
 * const refused = createRejected(() => db);
 */
export function createRejected(
  db: Accessor<WithRejected | null | undefined>,
): Accessor<readonly RejectedWrite[] | undefined> {
  return follow(() => {
    const opened = db();
    return opened == null ? undefined : rejectedOf(opened);
  });
}

/**
 * `db.presence.others`, kept current: who else is here, and what they show.
 *
 * @example
 * const others = createPresence(() => db);
 */
export function createPresence<T>(
  db: Accessor<WithPresence<T> | null | undefined>,
): Accessor<readonly Other<T>[] | undefined> {
  return follow(() => {
    const opened = db();
    return opened == null ? undefined : othersOf(opened);
  });
}

function follow<T>(source: Accessor<Source<T> | undefined>): Accessor<T | undefined> {
  const current = createMemo(source);
  const [changed, change] = createSignal(undefined, { equals: false });
  createComputed(() => {
    const found = current();
    if (found !== undefined) onCleanup(found.subscribe(() => change(undefined)));
  });
  return createMemo(() => {
    changed();
    return current()?.getSnapshot();
  });
}

interface Stored<R> {
  row: R;
  readonly store: R;
  readonly set: SetStoreFunction<R & object>;
}

/** One store for each record, for as long as it is shown. */
function asStores<R extends { readonly id: string }>(
  rows: Accessor<readonly R[] | undefined>,
): Accessor<readonly R[] | undefined> {
  let stored = new Map<string, Stored<R>>();
  const storeOf = (row: R): Stored<R> => {
    const known = stored.get(row.id);
    if (known === undefined) {
      const [store, set] = createStore(thaw(row) as R & object);
      return { row, store, set };
    }
    if (known.row !== row) known.set(reconcile(thaw(row) as R & object));
    known.row = row;
    return known;
  };
  return createMemo((before: readonly R[] | undefined) => {
    const now = rows();
    const next = batch(() => (now ?? []).map(storeOf));
    stored = new Map(next.map((each) => [each.row.id, each]));
    if (now === undefined) return undefined;
    const shown = next.map(({ store }) => store);
    const same =
      before?.length === shown.length && before.every((store, index) => store === shown[index]);
    return same ? before : shown;
  });
}

/** A copy that a store can keep: rows are frozen, and stores mark what they hold. */
function thaw(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(thaw);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, thaw(inner)]));
}
