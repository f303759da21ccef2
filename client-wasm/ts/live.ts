/** Live queries and counts: a result that stays current, and those who watch it. */

import { callSafely } from "./events.js";
import { closedError, type SyncError } from "./errors.js";
import type { Content, RowChange } from "./result.js";
import type { AnyRow } from "./shape.js";
import type { Table, Viewer } from "./table.js";
import type { LiveValue } from "./types.js";

interface Subscriber<T, D> {
  readonly onValue: (value: T, diff: D | undefined) => void;
  readonly onError: ((error: SyncError) => void) | undefined;
  /** Whether it has had its first result. */
  started: boolean;
}

/** See {@link LiveValue}. */
export class Live<T, D> implements LiveValue<T, D>, Viewer {
  readonly #content: Content<T, D>;
  readonly #table: Table;
  readonly #subscribers = new Set<Subscriber<T, D>>();
  #state: "loading" | "ready" | "failed" | "closed" = "loading";
  #snapshot: Readonly<T> | undefined;
  #diff: D | undefined;
  #error: SyncError | undefined;
  #ready: { promise: Promise<T>; settle: () => void } | undefined;

  /** Starts to look at the table. */
  constructor(table: Table, content: Content<T, D>) {
    this.#table = table;
    this.#content = content;
    table.attach(this);
  }

  subscribe(
    onValue: (value: T, diff: D | undefined) => void,
    onError?: (error: SyncError) => void,
  ): () => void {
    const subscriber: Subscriber<T, D> = { onValue, onError, started: false };
    this.#subscribers.add(subscriber);
    if (this.#state !== "loading") queueMicrotask(() => this.#start(subscriber));
    return () => void this.#subscribers.delete(subscriber);
  }

  getSnapshot(): Readonly<T> | undefined {
    if (this.#state === "ready") this.#snapshot ??= Object.freeze(this.#content.visible());
    return this.#snapshot;
  }

  get ready(): Promise<T> {
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
    this.#content.reset(rows);
    this.#state = "ready";
    this.#ready?.settle();
  }

  /** @internal */
  update(changes: readonly RowChange[]): void {
    this.#diff = this.#content.apply(changes);
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

  #start(subscriber: Subscriber<T, D>): void {
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

  #tell(subscriber: Subscriber<T, D>, diff: D | undefined): void {
    const value = this.getSnapshot();
    // An earlier subscriber may have closed the query or removed this one.
    if (value === undefined || !this.#subscribers.has(subscriber)) return;
    callSafely(() => subscriber.onValue(value, diff));
  }

  #promise(): { promise: Promise<T>; settle: () => void } {
    let settle = (): void => undefined;
    const promise = new Promise<T>((resolve, reject) => {
      settle = () => {
        const value = this.getSnapshot();
        if (value !== undefined) resolve(value);
        else if (this.#error !== undefined) reject(this.#error);
      };
    });
    settle();
    return { promise, settle };
  }
}
