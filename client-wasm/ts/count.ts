/** How many rows a query has, kept current record by record; nothing is sorted or kept for it. */

import type { Predicate } from "./query.js";
import type { Content, RowChange } from "./result.js";
import type { AnyRow } from "./shape.js";

/** The number of matching rows, at most the limit. */
export class Count implements Content<number, number> {
  readonly #matches: Predicate;
  readonly #limit: number;
  #size = 0;

  /** 0 at first; `limit` may be infinite. */
  constructor(matches: Predicate, limit: number) {
    this.#matches = matches;
    this.#limit = limit;
  }

  reset(rows: ReadonlyMap<string, AnyRow>): void {
    this.#size = 0;
    for (const row of rows.values()) if (this.#matches(row)) this.#size += 1;
  }

  /** By how much it changed. */
  apply(changes: readonly RowChange[]): number | undefined {
    const before = this.visible();
    for (const change of changes) {
      if (change.before !== undefined && this.#matches(change.before)) this.#size -= 1;
      if (change.after !== undefined && this.#matches(change.after)) this.#size += 1;
    }
    return this.visible() - before || undefined;
  }

  visible(): number {
    return Math.min(this.#size, this.#limit);
  }
}
