/**
 * Reactive values for Svelte 5, which are stores, too: read `tasks.current` where runes are used, `$tasks`
 * elsewhere.
 *
 * What they are given may be a value or a function, which runs where `current` is read: what it reads is
 * followed. It may be `undefined` or `null` until there is something to ask: the database before it is open
 * and during server rendering. What a query asks counts, not the object; whoever asks the same shares one
 * live query, until nobody reads it any more.
 *
 * A query that fails before it has shown anything throws where it is read, so a `<svelte:boundary>` shows it.
 * One that has rows keeps them; `liveStatus(db).current?.error` says why nothing changes any more.
 */

import { createSubscriber } from "svelte/reactivity";
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

/** A value that is kept current. */
export interface Live<T> {
  /** The value; followed by effects and templates that read it. */
  readonly current: T;
  /** The contract of stores: calls `run` at once and after each change; returns how to stop. */
  subscribe(run: (value: T) => void): () => void;
}

type Given<T> = T | null | undefined | (() => T | null | undefined);

/**
 * The rows of a query, kept current; `undefined` while they are being loaded. The array and the rows in it
 * are the same objects as long as nothing in them changes.
 *
 * @example
 * let { list } = $props();
 * const open = liveQuery(() => db.tasks.where({ done: false, list }));
 */
export function liveQuery<R>(query: Given<Query<R>>): Live<readonly R[] | undefined> {
  return follow(
    () => map(query, share),
    (rows) => rows,
  );
}

/**
 * One record, kept current; `undefined` while it is being loaded, `null` if there is none.
 *
 * @example
 * let { id } = $props();
 * const task = liveRow(db.tasks, () => id);
 */
export function liveRow<F extends Fields>(
  collection: Given<Collection<F>>,
  id: Given<string>,
): Live<Row<F> | null | undefined> {
  return follow(
    () => map(collection, (from) => map(id, (wanted) => share(byId(from, wanted)))),
    only,
  );
}

/**
 * `db.status`, kept current.
 *
 * @example
 * const status = liveStatus(db);
 */
export function liveStatus(db: Given<WithStatus>): Live<Status | undefined> {
  return follow(
    () => map(db, statusOf),
    (status) => status,
  );
}

/**
 * `db.rejected.list`, kept current: the writes that the server refused.
 *
 * @example
 * const refused = liveRejected(db);
 */
export function liveRejected(db: Given<WithRejected>): Live<readonly RejectedWrite[] | undefined> {
  return follow(
    () => map(db, rejectedOf),
    (list) => list,
  );
}

/**
 * `db.presence.others`, kept current: who else is here, and what they show.
 *
 * @example
 * const others = livePresence(db);
 */
export function livePresence<T>(db: Given<WithPresence<T>>): Live<readonly Other<T>[] | undefined> {
  return follow(
    () => map(db, (opened) => othersOf(opened)),
    (others) => others,
  );
}

function map<T, U>(value: Given<T>, use: (value: T) => U): U | undefined {
  const found = typeof value === "function" ? (value as () => T | null | undefined)() : value;
  return found == null ? undefined : use(found);
}

/** How an effect that reads a source hears of its changes. */
const subscribers = new WeakMap<Source<unknown>, () => void>();

function hear(source: Source<unknown>): void {
  const hears = subscribers.get(source) ?? createSubscriber(source.subscribe);
  subscribers.set(source, hears);
  hears();
}

function follow<T, U>(
  source: () => Source<T> | undefined,
  show: (value: T | undefined) => U,
): Live<U> {
  return {
    get current() {
      const found = source();
      if (found !== undefined) hear(found);
      return show(found?.getSnapshot());
    },
    subscribe(run) {
      const found = source();
      const tell = (): void => run(show(found?.getSnapshot()));
      const stop = found?.subscribe(tell) ?? (() => undefined);
      tell();
      return stop;
    },
  };
}
