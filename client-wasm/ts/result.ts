/**
 * The sorted result of one query, kept current record by record.
 *
 * A change costs a binary search among the matching rows and a shift of the references behind it, not a
 * look at other rows. Absent: loading, subscribers, time.
 */

import type { Comparator, Predicate } from "./query.js";
import type { AnyRow } from "./shape.js";
import type { Diff } from "./types.js";

/** A record before and after; at least one of them is there. */
export interface RowChange {
  readonly before: AnyRow | undefined;
  readonly after: AnyRow | undefined;
}

/** What is shown of a table, as `T`, and how it changes, as `D`. */
export interface Content<T, D> {
  /** Starts anew from all rows of the collection, by id. */
  reset(rows: ReadonlyMap<string, AnyRow>): void;
  /** Takes changes of different records in; `undefined` if what is shown stays the same. */
  apply(changes: readonly RowChange[]): D | undefined;
  /** A new object each time. */
  visible(): T;
}

/** Up to so many touched rows, the list is spliced; beyond, it is merged in one pass. */
const SPLICE_MAX = 16;

/** A row that left the list of matches, or came to it. */
interface Step {
  readonly row: AnyRow;
  /** Where it is in the old list, or in the new one. */
  readonly index: number;
  /** How many untouched rows stand before it. */
  readonly rank: number;
}

/** Matching rows in order. */
export class Result implements Content<AnyRow[], Diff<AnyRow>> {
  readonly #matches: Predicate;
  readonly #compare: Comparator;
  readonly #limit: number;
  readonly #id: string | undefined;
  #rows: AnyRow[] = [];

  /** Empty at first; `limit` may be infinite. With `id`, no other record can match. */
  constructor(matches: Predicate, compare: Comparator, limit: number, id?: string) {
    this.#matches = matches;
    this.#compare = compare;
    this.#limit = limit;
    this.#id = id;
  }

  /** Starts anew from all rows of the collection, by id. */
  reset(rows: ReadonlyMap<string, AnyRow>): void {
    this.#rows = [];
    for (const row of this.#candidates(rows)) if (this.#matches(row)) this.#rows.push(row);
    this.#rows.sort(this.#compare);
  }

  #candidates(rows: ReadonlyMap<string, AnyRow>): Iterable<AnyRow> {
    if (this.#id === undefined) return rows.values();
    const row = rows.get(this.#id);
    return row === undefined ? [] : [row];
  }

  /** What the query shows; a new array each time. */
  visible(): AnyRow[] {
    return this.#rows.slice(0, this.#limit);
  }

  /** Takes changes of different records in; `undefined` if what is shown stays the same. */
  apply(changes: readonly RowChange[]): Diff<AnyRow> | undefined {
    const leaving: AnyRow[] = [];
    const coming: AnyRow[] = [];
    for (const { before, after } of changes) {
      if (before !== undefined && this.#matches(before)) leaving.push(before);
      if (after !== undefined && this.#matches(after)) coming.push(after);
    }
    if (leaving.length + coming.length === 0) return undefined;
    const gone = leaving
      .map((row) => ({ row, index: this.#search(row) }))
      .sort((left, right) => left.index - right.index)
      .map(({ row, index }, nth): Step => ({ row, index, rank: index - nth }));
    coming.sort(this.#compare);
    const shown = this.#untouchedShown(gone);
    const pushable = this.#lastUntouched(gone, coming.length);
    const come =
      gone.length + coming.length <= SPLICE_MAX
        ? this.#splice(gone, coming)
        : this.#merge(gone, coming);
    const entered = this.#untouchedShown(come) - shown;
    const diff = this.#touched(gone, come);
    const added = [...diff.added, ...this.#lastUntouched(come, entered)].sort(byIndex);
    const removed = [...diff.removed, ...pushable.slice(0, Math.max(0, -entered))].sort(byIndex);
    const { moved, changed } = diff;
    const isEmpty = added.length + removed.length + moved.length + changed.length === 0;
    return isEmpty ? undefined : { added, removed, moved, changed };
  }

  /** Where `row` is, or would be inserted. */
  #search(row: AnyRow): number {
    const rows = this.#rows;
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = rows[middle];
      if (other !== undefined && this.#compare(other, row) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #splice(gone: readonly Step[], coming: readonly AnyRow[]): Step[] {
    const rows = this.#rows;
    for (const { rank } of gone) rows.splice(rank, 1);
    const come = coming.map((row, nth): Step => {
      const rank = this.#search(row);
      return { row, rank, index: rank + nth };
    });
    for (const { row, index } of come) rows.splice(index, 0, row);
    return come;
  }

  #merge(gone: readonly Step[], coming: readonly AnyRow[]): Step[] {
    const left = new Set(gone.map(({ index }) => index));
    const rows: AnyRow[] = [];
    const come: Step[] = [];
    let rank = 0;
    const take = (row: AnyRow): void => {
      come.push({ row, rank, index: rows.length });
      rows.push(row);
    };
    this.#rows.forEach((row, index) => {
      if (left.has(index)) return;
      for (let next = coming[come.length]; next !== undefined; next = coming[come.length]) {
        if (this.#compare(next, row) > 0) break;
        take(next);
      }
      rows.push(row);
      rank += 1;
    });
    for (const row of coming.slice(come.length)) take(row);
    this.#rows = rows;
    return come;
  }

  /**
   * Rows that are in neither `gone` nor `come` keep their order, so a touched row has moved only if
   * another number of untouched rows stands before it, or if its key changed and it shares its gap
   * between untouched rows with other touched ones.
   */
  #touched(gone: readonly Step[], come: readonly Step[]): Draft {
    const limit = this.#limit;
    const previous = new Map(gone.map((step) => [step.row.id, step]));
    const crowdedOld = crowded(gone);
    const crowdedNew = crowded(come);
    const diff: Draft = { added: [], removed: [], moved: [], changed: [] };
    for (const step of come) {
      const from = previous.get(step.row.id);
      const { row, index } = step;
      if (index >= limit) continue;
      if (from === undefined || from.index >= limit) {
        diff.added.push({ row, index });
        continue;
      }
      previous.delete(row.id);
      diff.changed.push({ row, before: from.row, index });
      const shares = crowdedOld.has(from.rank) || crowdedNew.has(step.rank);
      if (from.rank !== step.rank || (shares && this.#compare(from.row, row) !== 0)) {
        diff.moved.push({ row, from: from.index, to: index });
      }
    }
    for (const { row, index } of previous.values()) {
      if (index < limit) diff.removed.push({ row, index });
    }
    return diff;
  }

  /** How many rows are shown that are not among `touched`. */
  #untouchedShown(touched: readonly Step[]): number {
    const limit = this.#limit;
    const shown = touched.filter(({ index }) => index < limit).length;
    return Math.min(limit, this.#rows.length) - shown;
  }

  /** The last `count` shown rows that are not among `touched`: those next to the limit. */
  #lastUntouched(touched: readonly Step[], count: number): Place[] {
    const found: Place[] = [];
    const indexes = new Set(touched.map(({ index }) => index));
    const shown = Math.min(this.#limit, this.#rows.length);
    for (let index = shown - 1; found.length < count; index -= 1) {
      const row = this.#rows[index];
      if (row === undefined) break;
      if (!indexes.has(index)) found.push({ row, index });
    }
    return found;
  }
}

type Place = { readonly row: AnyRow; readonly index: number };
type Draft = { [Part in keyof Diff<AnyRow>]: Diff<AnyRow>[Part][number][] };

function byIndex(left: Place, right: Place): number {
  return left.index - right.index;
}

/** The ranks that several steps share. */
function crowded(steps: readonly Step[]): ReadonlySet<number> {
  const shared = new Set<number>();
  steps.forEach(({ rank }, nth) => {
    if (steps[nth - 1]?.rank === rank) shared.add(rank);
  });
  return shared;
}
