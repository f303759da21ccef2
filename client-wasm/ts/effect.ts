/**
 * What writes do to records, cell by cell, and what takes that back.
 *
 * Everything here is about raw values by column. A record that is not there is `null`. Absent: the engine, time.
 */

import type { RawColumn, RawField, RawKind, RawOp, RawSibling, RawValue } from "./raw.js";
import { compareValues } from "./values.js";

/** What one cell shows; `undefined` if it is absent. */
export type Cell = RawValue | readonly RawSibling[] | undefined;

/** What a record shows, by column. */
export type Cells = readonly Cell[];

/** What was done to one record. */
export interface Effect {
  readonly collection: string;
  readonly id: string;
  /** `null` on one side: the record was added, or removed. */
  readonly from: Cells | null;
  readonly to: Cells | null;
  /** The columns that were written. What the others held is no part of it. */
  readonly touched: ReadonlySet<number>;
}

/** What `ops`, all of one record, make of it. */
export function perform(
  columns: readonly RawColumn[],
  before: Cells | null,
  ops: readonly RawOp[],
): Cells | null {
  let cells = before;
  for (const { op, fields } of ops) {
    if (op === "remove") {
      cells = null;
      continue;
    }
    const next: Cell[] = op === "update" ? [...(cells ?? [])] : [];
    for (const field of fields) {
      const at = columnOf(columns, field);
      // Of a cell that is not shown nothing can be said.
      if (at >= 0) next[at] = write(field, next[at]);
    }
    cells = next;
  }
  return cells;
}

/** What `ops`, all of one record that showed `before`, do to it; `undefined` if that is nothing. */
export function effectOf(
  columns: readonly RawColumn[],
  before: Cells | null,
  ops: readonly RawOp[],
): Effect | undefined {
  const [first] = ops;
  if (first === undefined) return undefined;
  const after = perform(columns, before, ops);
  const touched = new Set<number>();
  columns.forEach(([, kind], at) => {
    if (before !== null && after !== null && !same(kind, before[at], after[at])) touched.add(at);
  });
  const came = before === null && after !== null;
  const went = before !== null && after === null;
  if (!came && !went && touched.size === 0) return undefined;
  return { collection: first.collection, id: first.id, from: before, to: after, touched };
}

/** Both as one; `undefined` if something else came between them. */
export function join(
  columns: readonly RawColumn[],
  first: Effect,
  second: Effect,
): Effect | undefined {
  const { collection, id, from } = first;
  if (second.from === null || second.to === null || first.to === null) return undefined;
  if (from === null) return { ...first, to: merged(first.to, second) };
  const isNext = [...second.touched].every((at) => {
    const kind = columns[at]?.[1] ?? "lww";
    return !first.touched.has(at) || same(kind, first.to?.[at], second.from?.[at]);
  });
  if (!isNext) return undefined;
  const start = [...from];
  // What only the second wrote begins with what it found.
  for (const at of second.touched) if (!first.touched.has(at)) start[at] = second.from[at];
  const touched = new Set([...first.touched, ...second.touched]);
  return { collection, id, from: start, to: merged(first.to, second), touched };
}

/** What a record that shows `now` shows without the effect: as far as nobody has written over it. */
export function without(
  columns: readonly RawColumn[],
  now: Cells | null,
  { from, to, touched }: Effect,
): Cells | null {
  if (from === null) return null;
  if (to === null) return now ?? from;
  if (now === null) return null;
  const cells = [...now];
  for (const at of touched) {
    const kind = columns[at]?.[1] ?? "lww";
    cells[at] = restored(kind, now[at], from[at], to[at]);
  }
  return cells;
}

/** The operations that make a record that shows `now` show `wanted`. */
export function opsTo(
  columns: readonly RawColumn[],
  { collection, id }: Pick<RawOp, "collection" | "id">,
  now: Cells | null,
  wanted: Cells | null,
): readonly RawOp[] {
  const key = { collection, id, erase: false };
  if (wanted === null) return now === null ? [] : [{ ...key, op: "remove", fields: [] }];
  const fields = columns.flatMap(([field, kind], at) =>
    same(kind, now?.[at], wanted[at]) ? [] : change(field, kind, now?.[at], wanted[at]),
  );
  // Not `put`: should the record have come back meanwhile, it stays as it is.
  if (now === null) return [{ ...key, op: "add", fields }];
  return fields.length === 0 ? [] : [{ ...key, op: "update", fields }];
}

function columnOf(columns: readonly RawColumn[], [field, kind]: RawField): number {
  return columns.findIndex((column) => column[0] === field && column[1] === kind);
}

function merged(cells: Cells, { to, touched }: Effect): Cells {
  const next = [...cells];
  for (const at of touched) next[at] = to?.[at];
  return next;
}

/** The cell after one field of an operation. */
function write([, kind, action, value]: RawField, cell: Cell): Cell {
  switch (action) {
    case "set":
      return kind === "set" || wins(kind, value, cell) ? value : cell;
    case "increment":
      return shrunk(total(cell) + total(value));
    case "add":
      return united(listOf(cell), listOf(value));
    case "delete":
      return lessened(listOf(cell), listOf(value));
    case "resolve":
      return [{ value, stamp: "", replica: "", at: 0 }];
  }
}

/** Whether a value that is written to a cell of one value shows afterwards. */
function wins(kind: RawKind, value: Cell, cell: Cell): boolean {
  if (cell === undefined || kind === "lww") return true;
  if (kind === "fww") return false;
  return compareValues(value, cell) * (kind === "max" ? 1 : -1) > 0;
}

/** What a cell that shows `now` shows without the step from `from` to `to`. */
function restored(kind: RawKind, now: Cell, from: Cell, to: Cell): Cell {
  switch (kind) {
    case "counter":
      return shrunk(total(now) - (total(to) - total(from)));
    case "set": {
      const [had, has] = [listOf(from), listOf(to)];
      return united(lessened(listOf(now), lessened(has, had)), lessened(had, has));
    }
    case "review":
    case "lww":
      return same(kind, now, to) ? (from ?? null) : now;
    default:
      return from !== undefined && same(kind, now, to) && wins(kind, from, now) ? from : now;
  }
}

/** What is written so that a cell that shows `now` shows `wanted`. */
function change(field: string, kind: RawKind, now: Cell, wanted: Cell): readonly RawField[] {
  switch (kind) {
    case "counter":
      return [[field, kind, "increment", shrunk(total(wanted) - total(now))]];
    case "set": {
      const [gone, come] = [
        lessened(listOf(now), listOf(wanted)),
        lessened(listOf(wanted), listOf(now)),
      ];
      const fields: RawField[] = [];
      if (gone.length > 0) fields.push([field, kind, "delete", gone]);
      if (come.length > 0) fields.push([field, kind, "add", come]);
      return fields;
    }
    case "review":
      return [[field, kind, "resolve", shownOf(wanted)]];
    default:
      return [[field, kind, "set", (wanted ?? null) as RawValue]];
  }
}

/**
 * Whether two cells show the same, whoever wrote them. `null` and absent do: a write can make a cell `null` again, but
 * not absent.
 */
function same(kind: RawKind, left: Cell, right: Cell): boolean {
  if (left === right) return true;
  switch (kind) {
    case "counter":
      return total(left) === total(right);
    case "set":
      return (
        lessened(listOf(left), listOf(right)).length +
          lessened(listOf(right), listOf(left)).length ===
        0
      );
    case "review":
      return compareValues(valuesOf(left).filter(isThere), valuesOf(right).filter(isThere)) === 0;
    default:
      return compareValues(left ?? null, right ?? null) === 0;
  }
}

function isThere(value: RawValue): boolean {
  return value !== null;
}

function total(cell: Cell): bigint {
  return typeof cell === "number" || typeof cell === "bigint" ? BigInt(cell) : 0n;
}

function shrunk(value: bigint): RawValue {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function listOf(cell: Cell): readonly RawValue[] {
  return Array.isArray(cell) ? (cell as readonly RawValue[]) : [];
}

/** Siblings of a `review` cell, latest first. */
function valuesOf(cell: Cell): readonly RawValue[] {
  return Array.isArray(cell) ? (cell as readonly RawSibling[]).map(({ value }) => value) : [];
}

function shownOf(cell: Cell): RawValue {
  return valuesOf(cell)[0] ?? null;
}

function united(list: readonly RawValue[], more: readonly RawValue[]): readonly RawValue[] {
  return [...list, ...lessened(more, list)];
}

/** `list` without what is in `less`; both may be long. */
function lessened(list: readonly RawValue[], less: readonly RawValue[]): readonly RawValue[] {
  const plain = new Set(less.filter(isPlain));
  const others = less.filter((value) => !isPlain(value));
  const has = (value: RawValue): boolean =>
    isPlain(value) ? plain.has(value) : others.some((other) => compareValues(value, other) === 0);
  return list.filter((value) => !has(value));
}

/** Whether only the very same value is equal to it. */
function isPlain(value: RawValue): boolean {
  return typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value);
}
