/**
 * One live query for all parts of a page that ask the same.
 *
 * Components make their queries anew whenever they render, so queries are told apart by what they ask
 * ({@link Query.identity}). A live query begins when it is first asked for, so that rows which are at hand
 * are shown by the first render, and ends a moment after nobody looks at it any more: a component that is
 * unmounted and mounted again, as React's StrictMode does, finds it as it was. Absent: frameworks.
 */

import type { Collection, Query } from "../collection.js";
import { toSyncError, type SyncError } from "../errors.js";
import { callSafely } from "../events.js";
import type { Filter } from "../query.js";
import type { Fields, LiveQuery, Row } from "../types.js";

/** How long a live query that nobody looks at stays open. */
export const LINGER_MS = 1_000;

/** A result that many look at. */
export class SharedQuery<R> {
  readonly #query: Query<R>;
  readonly #onIdle: () => void;
  readonly #listeners = new Set<{ call(): void }>();
  #live: LiveQuery<R> | undefined;
  #error: SyncError | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;

  /** Open at once; `onIdle` is called when nobody has looked at it for {@link LINGER_MS}. */
  constructor(query: Query<R>, onIdle: () => void) {
    this.#query = query;
    this.#onIdle = onIdle;
    this.#open();
    this.#wait();
  }

  /** Calls `listener` after each change, errors included; returns how to stop. */
  readonly subscribe = (listener: () => void): (() => void) => {
    clearTimeout(this.#linger);
    if (this.#live === undefined) this.#open();
    const entry = { call: listener };
    this.#listeners.add(entry);
    return () => {
      if (this.#listeners.delete(entry) && this.#listeners.size === 0) this.#wait();
    };
  };

  /**
   * The rows, the same array as long as nothing changes; `undefined` while they are being loaded. Once the
   * database is closed or the query has failed, the last rows stay. Throws why there are none; that the
   * database is closed is no reason to throw.
   */
  readonly getSnapshot = (): readonly R[] | undefined => {
    const rows = this.#live?.getSnapshot();
    const error = this.error;
    if (rows === undefined && error !== undefined && error.code !== "closed") throw error;
    return rows;
  };

  /** Why it does not stay current any more. */
  get error(): SyncError | undefined {
    return this.#error ?? this.#live?.error;
  }

  /** Whether asking again may help: it has failed, and nobody looks at it. */
  get isStale(): boolean {
    return this.error !== undefined && this.#listeners.size === 0;
  }

  #open(): void {
    this.#error = undefined;
    const tell = (): void => {
      for (const listener of [...this.#listeners]) callSafely(() => listener.call());
    };
    try {
      this.#live = this.#query.live();
      this.#live.subscribe(tell, tell);
    } catch (error) {
      this.#error = toSyncError(error);
    }
  }

  #wait(): void {
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => {
      this.#live?.close();
      this.#live = undefined;
      this.#onIdle();
    }, LINGER_MS);
  }
}

/** By collection and by what is asked of it. */
const shares = new WeakMap<object, Map<string, SharedQuery<never>>>();

/** The shared result of a query. */
export function share<R>(query: Query<R>): SharedQuery<R> {
  const { of, asks } = query.identity;
  const known = shares.get(of) ?? new Map<string, SharedQuery<never>>();
  shares.set(of, known);
  const found = known.get(asks) as SharedQuery<R> | undefined;
  if (found !== undefined && !found.isStale) return found;
  const made: SharedQuery<R> = new SharedQuery(query, () => {
    if (known.get(asks) === (made as SharedQuery<unknown>)) known.delete(asks);
  });
  known.set(asks, made as SharedQuery<never>);
  return made;
}

/** The query for one record. */
export function byId<F extends Fields>(collection: Collection<F>, id: string): Query<Row<F>> {
  return collection.where({ id } as Filter<Row<F>>);
}

/** What a query for one record shows: `undefined` while it is being loaded, `null` if there is none. */
export function only<R>(rows: readonly R[] | undefined): R | null | undefined {
  return rows === undefined ? undefined : (rows[0] ?? null);
}
