/** Queries: structured filters and order, as data; and what they mean. */

import { SyncError } from "./errors.js";
import { type AnyRow, ShownReview } from "./shape.js";
import type { Review } from "./types.js";
import { compareValues, invalid, rankOf } from "./values.js";

type Operator = "eq" | "ne" | "lt" | "lte" | "gt" | "gte" | "oneOf" | "prefix" | "contains";

/** A condition on one field; made by {@link gte}, {@link prefix} and so on. */
export class Condition<T> {
  declare readonly "~type"?: { accepts(value: T): void };
  /** What is compared how. */
  readonly operator: Operator;
  /** With what. */
  readonly operand: unknown;

  /** Use the functions. */
  constructor(operator: Operator, operand: unknown) {
    this.operator = operator;
    this.operand = operand;
  }
}

/** Filters joined; made by {@link and}, {@link or}, {@link not}. */
export class Combination<R> {
  declare readonly "~row"?: (row: R) => void;
  /** How they are joined. */
  readonly junction: "and" | "or" | "not";
  /** `not` has one. */
  readonly filters: readonly unknown[];

  /** Use the functions. */
  constructor(junction: "and" | "or" | "not", filters: readonly unknown[]) {
    this.junction = junction;
    this.filters = filters;
  }
}

/** What is compared: of a `review` field its value. */
export type Comparable<T> = T extends Review<infer V> ? V : T;

/**
 * Which rows: every named field must equal its value or meet its condition; `undefined` is the same
 * as left out.
 */
export type Filter<R> = Combination<R> | FieldFilter<R>;

/** Conditions by field. */
export type FieldFilter<R> = {
  readonly [N in keyof R]?:
    | Comparable<R[N]>
    | Condition<Comparable<R[N]>>
    | Condition<NonNullable<Comparable<R[N]>>>
    | undefined;
};

/** Ascending or descending. */
export type Direction = "asc" | "desc";

/**
 * Not equal to `value`.
 *
 * @example
 * db.tasks.where({ title: ne("") });
 */
export function ne<T>(value: T): Condition<T> {
  return new Condition("ne", value);
}

/**
 * Less than `value`. Like the other three, it holds for values of the operand's type only: `null` is
 * neither less nor greater.
 *
 * @example
 * db.tasks.where({ due: lt(Date.now()) });
 */
export function lt<T>(value: T): Condition<T> {
  return new Condition("lt", value);
}

/**
 * Less than `value` or equal.
 *
 * @example
 * db.tasks.where({ priority: lte(3) });
 */
export function lte<T>(value: T): Condition<T> {
  return new Condition("lte", value);
}

/**
 * Greater than `value`.
 *
 * @example
 * db.tasks.where({ votes: gt(0) });
 */
export function gt<T>(value: T): Condition<T> {
  return new Condition("gt", value);
}

/**
 * Greater than `value` or equal.
 *
 * @example
 * db.tasks.where({ priority: gte(3) });
 */
export function gte<T>(value: T): Condition<T> {
  return new Condition("gte", value);
}

/**
 * One of these values.
 *
 * @example
 * db.tasks.where({ priority: oneOf(1, 2) });
 */
export function oneOf<T>(...values: readonly T[]): Condition<T> {
  return new Condition("oneOf", values);
}

/**
 * A text that begins with `start`, case counting.
 *
 * @example
 * db.packages.where({ name: prefix("lib") });
 */
export function prefix(start: string): Condition<string> {
  return new Condition("prefix", start);
}

/**
 * A set (or array) that has `element`, or a text that has it as a part, case counting.
 *
 * @example
 * db.tasks.where({ tags: contains("home") });
 */
export function contains(part: string): Condition<string | readonly string[]>;
export function contains<T>(element: T): Condition<readonly T[]>;
export function contains(operand: unknown): Condition<never> {
  return new Condition("contains", operand);
}

/**
 * All of the filters hold; of none: always.
 *
 * @example
 * db.tasks.where(and({ done: false }, or({ priority: gte(3) }, { tags: contains("now") })));
 */
export function and<R>(...filters: readonly Filter<NoInfer<R>>[]): Combination<R> {
  return new Combination("and", filters);
}

/**
 * At least one of the filters holds; of none: never.
 *
 * @example
 * db.tasks.where(or({ done: true }, { priority: 0 }));
 */
export function or<R>(...filters: readonly Filter<NoInfer<R>>[]): Combination<R> {
  return new Combination("or", filters);
}

/**
 * The filter does not hold.
 *
 * @example
 * db.tasks.where(not({ tags: contains("later") }));
 */
export function not<R>(filter: Filter<NoInfer<R>>): Combination<R> {
  return new Combination("not", [filter]);
}

/**
 * A text that is the same for values, filters and lists of them that mean the same; for telling queries
 * apart. Properties that are `undefined` count as left out, the order of properties does not count.
 */
export function describe(value: unknown): string {
  if (value instanceof Condition) return `${value.operator}(${describe(value.operand)})`;
  if (value instanceof Combination) return `${value.junction}(${describe(value.filters)})`;
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") return String(value);
  if (value instanceof Uint8Array) return `<${value.join()}>`;
  if (Array.isArray(value)) return `[${value.map(describe).join()}]`;
  if (typeof value !== "object" || value === null) return `${typeof value}:${String(value)}`;
  const properties = Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .map(([name, inner]) => `${JSON.stringify(name)}:${describe(inner)}`);
  return `{${properties.sort().join()}}`;
}

/** The only id that rows which meet all filters can have; `undefined` if none of them names one. */
export function onlyId(filters: readonly unknown[]): string | undefined {
  for (const filter of filters) {
    if (typeof filter !== "object" || filter === null || filter instanceof Combination) continue;
    const id: unknown = Object.hasOwn(filter, "id") ? Reflect.get(filter, "id") : undefined;
    if (typeof id === "string") return id;
  }
  return undefined;
}

/** Whether a row belongs to a result. */
export type Predicate = (row: AnyRow) => boolean;

/** Compiles a filter; `has` tells the fields that there are. Throws `invalid` for others. */
export function compileFilter(filter: unknown, has: (field: string) => boolean): Predicate {
  if (filter instanceof Combination) {
    const parts = filter.filters.map((part) => compileFilter(part, has));
    if (filter.junction === "and") return (row) => parts.every((part) => part(row));
    if (filter.junction === "or") return (row) => parts.some((part) => part(row));
    return (row) => !parts.some((part) => part(row));
  }
  if (typeof filter !== "object" || filter === null) {
    throw new SyncError("invalid", "a filter must be an object, and(), or() or not()");
  }
  const parts = Object.entries(filter)
    .filter(([, wanted]) => wanted !== undefined)
    .map(([field, wanted]): Predicate => {
      if (!has(field)) throw invalid(field, "is not a field of the schema");
      const holds = compileCondition(wanted);
      return (row) => holds(comparable(row[field]));
    });
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  return (row) => parts.every((part) => part(row));
}

function compileCondition(wanted: unknown): (value: unknown) => boolean {
  if (!(wanted instanceof Condition)) return (value) => compareValues(value, wanted) === 0;
  const { operator, operand }: Condition<unknown> = wanted;
  const rank = rankOf(operand);
  const ranged =
    (holds: (order: number) => boolean) =>
    (value: unknown): boolean =>
      rankOf(value) === rank && holds(compareValues(value, operand));
  switch (operator) {
    case "eq":
      return (value) => compareValues(value, operand) === 0;
    case "ne":
      return (value) => compareValues(value, operand) !== 0;
    case "lt":
      return ranged((order) => order < 0);
    case "lte":
      return ranged((order) => order <= 0);
    case "gt":
      return ranged((order) => order > 0);
    case "gte":
      return ranged((order) => order >= 0);
    case "oneOf":
      return (value) => holdsElement(operand, value);
    case "prefix":
      return (value) => typeof value === "string" && value.startsWith(String(operand));
    case "contains":
      return (value) =>
        typeof value === "string"
          ? typeof operand === "string" && value.includes(operand)
          : holdsElement(value, operand);
  }
}

function holdsElement(list: unknown, element: unknown): boolean {
  return Array.isArray(list) && list.some((item) => compareValues(item, element) === 0);
}

/** One key of an order. */
export interface OrderKey {
  readonly field: string;
  readonly direction: Direction;
}

/** Total order of rows: by the keys, then by id. */
export type Comparator = (left: AnyRow, right: AnyRow) => number;

/** Compiles an order. */
export function compileOrder(keys: readonly OrderKey[]): Comparator {
  const signed = keys.map(({ field, direction }) => ({
    field,
    sign: direction === "asc" ? 1 : -1,
  }));
  return (left, right) => {
    for (const { field, sign } of signed) {
      const order = compareValues(comparable(left[field]), comparable(right[field]));
      if (order !== 0) return order * sign;
    }
    return compareValues(left.id, right.id);
  };
}

/** Of a `review` field its value, which is what filters and orders see. */
function comparable(value: unknown): unknown {
  return value instanceof ShownReview ? value.value : value;
}
