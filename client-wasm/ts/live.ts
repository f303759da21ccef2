/** Live queries: a result that stays current, and those who watch it. */

import { callSafely } from "./events.js";
import { closedError, type SyncError } from "./errors.js";
import type { Result, RowChange } from "./result.js";
import type { AnyRow } from "./shape.js";
import type { Table, Viewer } from "./table.js";
import type { Diff, LiveQuery } from "./types.js";

interface Subscriber {
  readonly onRows: (rows: readonly AnyRow[], diff: Diff<AnyRow> | undefined) => void;
  readonly onError: ((error: SyncError) => void) | undefined;
  /** Whether it has had its first result. */
  started: boolean;
}

/** See {@link LiveQuery}. */
export class Live implements LiveQuery<AnyRow>, Viewer {
  readonly #result: Result;
  readonly #table: Table;
  readonly #subscribers = new Set<Subscriber>();
  #state: "loading" | "ready" | "failed" | "closed" = "loading";
  #snapshot: readonly AnyRow[] | undefined;
  #diff: Diff<AnyRow> | undefined;
  #error: SyncError | undefined;
  #ready: { promise: Promise<readonly AnyRow[]>; settle: () => void } | undefined;

  /** Starts to look at the table. */
  constructor(table: Table, result: Result) {
    this.#table = table;
    this.#result = result;
    table.attach(this);
  }

  subscribe(onRows: Subscriber["onRows"], onError?: (error: SyncError) => void): () => void {
    const subscriber: Subscriber = { onRows, onError, started: false };
    this.#subscribers.add(subscriber);
    if (this.#state !== "loading") queueMicrotask(() => this.#start(subscriber));
    return () => void this.#subscribers.delete(subscriber);
  }

  getSnapshot(): readonly AnyRow[] | undefined {
    if (this.#state === "ready") this.#snapshot ??= Object.freeze(this.#result.visible());
    return this.#snapshot;
  }

  get ready(): Promise<readonly AnyRow[]> {
    return (this.#ready ??= this.#promise()).promise;
  }

  get error(): SyncError | undefined {
    return this.#error;
  }

  close(): void {
    if (this.#state === "closed") return;
    const failed = this.#state === "failed";
    const snapshot = this.getSnapshot();
    this.#state = "closed";
    this.#subscribers.clear();
    if (failed) return;
    if (snapshot === undefined) this.#error = closedError();
    this.#ready?.settle();
    this.#table.detach(this);
  }

  /** @internal */
  load(rows: ReadonlyMap<string, AnyRow>): void {
    this.#result.reset(rows);
    this.#state = "ready";
    this.#ready?.settle();
  }

  /** @internal */
  update(changes: readonly RowChange[]): void {
    this.#diff = this.#result.apply(changes);
    if (this.#diff !== undefined) this.#snapshot = undefined;
  }

  /** @internal */
  notify(): void {
    const diff = this.#diff;
    this.#diff = undefined;
    for (const subscriber of [...this.#subscribers]) {
      if (!subscriber.started) this.#start(subscriber);
      else if (diff !== undefined) this.#tell(subscriber, diff);
    }
  }

  /** @internal */
  fail(error: SyncError): void {
    if (this.#state === "closed") return;
    this.getSnapshot();
    this.#state = "failed";
    this.#error = error;
    this.#ready?.settle();
    for (const subscriber of [...this.#subscribers]) this.#start(subscriber);
  }

  #start(subscriber: Subscriber): void {
    const error = this.#error;
    if (!this.#subscribers.has(subscriber)) return;
    if (error !== undefined) {
      this.#subscribers.delete(subscriber);
      callSafely(() => subscriber.onError?.(error));
    } else if (!subscriber.started) {
      subscriber.started = true;
      this.#tell(subscriber, undefined);
    }
  }

  #tell(subscriber: Subscriber, diff: Diff<AnyRow> | undefined): void {
    const rows = this.getSnapshot();
    // An earlier subscriber may have closed the query or removed this one.
    if (rows === undefined || !this.#subscribers.has(subscriber)) return;
    callSafely(() => subscriber.onRows(rows, diff));
  }

  #promise(): { promise: Promise<readonly AnyRow[]>; settle: () => void } {
    let settle = (): void => undefined;
    const promise = new Promise<readonly AnyRow[]>((resolve, reject) => {
      settle = () => {
        const rows = this.getSnapshot();
        if (rows !== undefined) resolve(rows);
        else if (this.#error !== undefined) reject(this.#error);
      };
    });
    settle();
    return { promise, settle };
  }
}
