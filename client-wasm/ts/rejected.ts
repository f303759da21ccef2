/** Writes that the server refused, until the app decides. */

import type { Batch } from "./batch.js";
import { callSafely } from "./events.js";
import { exportRejected } from "./status.js";
import type { Mutation, RejectedWrite, SchemaShape } from "./types.js";

/** How decisions are carried out. */
export interface RejectedActions<S extends SchemaShape> {
  retry(row: number): Mutation<void>;
  edit(row: number, fill: (batch: Batch<S>) => void): Mutation<void>;
  discard(row: number): Promise<void>;
}

/**
 * `db.rejected`: the refused writes, oldest first. They are kept over restarts.
 *
 * @example
 * for (const write of db.rejected) {
 *   if (write.code === "record_gone") await db.rejected.discard(write.row);
 *   else await db.rejected.retry(write.row);
 * }
 */
export class Rejected<S extends SchemaShape> implements Iterable<RejectedWrite> {
  readonly #actions: RejectedActions<S>;
  readonly #listeners = new Set<{ call(): void }>();
  #list: readonly RejectedWrite[] = Object.freeze([]);

  /** Made by a database. */
  constructor(actions: RejectedActions<S>) {
    this.#actions = actions;
  }

  /** The writes; the same array as long as nothing changes. */
  get list(): readonly RejectedWrite[] {
    return this.#list;
  }

  /** How many there are. */
  get length(): number {
    return this.#list.length;
  }

  /** Over the writes, oldest first. */
  [Symbol.iterator](): Iterator<RejectedWrite> {
    return this.#list[Symbol.iterator]();
  }

  /** Calls `listener` when the list has changed. */
  subscribe(listener: () => void): () => void {
    const entry = { call: listener };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /** Sends the write again, as a new one. */
  retry(row: number): Mutation<void> {
    return this.#actions.retry(row);
  }

  /**
   * Writes a batch in place of the refused write.
   *
   * @example
   * await db.rejected.edit(write.row, (batch) => batch.tasks.add({ title: "Shorter" }));
   */
  edit(row: number, fill: (batch: Batch<S>) => void): Mutation<void> {
    return this.#actions.edit(row, fill);
  }

  /** Forgets the write; what it wanted is lost. */
  discard(row: number): Promise<void> {
    return this.#actions.discard(row);
  }

  /** All of it as JSON text, to be kept elsewhere. */
  export(): string {
    return exportRejected(this.#list);
  }

  /** @internal */
  replace(list: readonly RejectedWrite[]): void {
    this.#list = Object.freeze(list);
    for (const entry of [...this.#listeners]) callSafely(() => entry.call());
  }
}
