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
import type { DatabaseCore } from "../db.js";
import type { Filter } from "../query.js";
import type {
  Fields,
  LiveQuery,
  Other,
  RejectedWrite,
  Row,
  SchemaShape,
  Status,
} from "../types.js";

/** How long a live query that nobody looks at stays open. */
export const LINGER_MS = 1_000;

/** What can be watched. */
export interface Source<T> {
  /** Calls `listener` after each change; returns how to stop. */
  readonly subscribe: (listener: () => void) => () => void;
  /** What is there now; the same object as long as nothing changes. */
  readonly getSnapshot: () => T;
}

/** A result that many look at. */
class SharedQuery<R> implements Source<readonly R[] | undefined> {
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

/** The shared result of a query: the same source as long as somebody looks at it. */
export function share<R>(query: Query<R>): Source<readonly R[] | undefined> {
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

/** The part of a database that says where it stands. */
export type WithStatus = Pick<DatabaseCore<SchemaShape>, "on" | "status">;

/** The part of a database that lists refused writes. */
export type WithRejected = {
  readonly rejected: {
    readonly list: readonly RejectedWrite[];
    subscribe(listener: () => void): () => void;
  };
};

/** The part of a database that knows who else is here. */
export type WithPresence<T> = {
  readonly presence: {
    readonly others: readonly Other<T>[];
    subscribe(listener: () => void): () => void;
  };
};

const statuses = new WeakMap<WithStatus, Source<Status>>();
const refusals = new WeakMap<WithRejected, Source<readonly RejectedWrite[]>>();
const crowds = new WeakMap<object, Source<readonly Other<unknown>[]>>();

/** `db.status`. */
export function statusOf(db: WithStatus): Source<Status> {
  return remember(statuses, db, {
    subscribe: (listener) => db.on("status", listener),
    getSnapshot: () => db.status,
  });
}

/** `db.rejected.list`. */
export function rejectedOf(db: WithRejected): Source<readonly RejectedWrite[]> {
  return remember(refusals, db, {
    subscribe: (listener) => db.rejected.subscribe(listener),
    getSnapshot: () => db.rejected.list,
  });
}

/** `db.presence.others`. */
export function othersOf<T>(db: WithPresence<T>): Source<readonly Other<T>[]> {
  return remember(crowds as WeakMap<WithPresence<T>, Source<readonly Other<T>[]>>, db, {
    subscribe: (listener) => db.presence.subscribe(listener),
    getSnapshot: () => db.presence.others,
  });
}

function remember<K extends object, T>(known: WeakMap<K, T>, key: K, made: T): T {
  const found = known.get(key) ?? made;
  known.set(key, found);
  return found;
}
