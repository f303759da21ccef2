/** Values: their order, which is the engine's, and what may be one. */

import { SyncError } from "./errors.js";
import type { RawValue } from "./raw.js";

/** As deep as the engine nests. */
const DEPTH_MAX = 64;
const I64_MAX: bigint = 2n ** 63n - 1n;
const I64_MIN: bigint = -(2n ** 63n);

/** null < bool < number < string < bytes < array < map; everything else sorts last. */
export function rankOf(value: unknown): number {
  switch (typeof value) {
    case "boolean":
      return 1;
    case "number":
    case "bigint":
      return 2;
    case "string":
      return 3;
    case "object":
      if (value === null) return 0;
      if (value instanceof Uint8Array) return 4;
      return Array.isArray(value) ? 5 : 6;
    default:
      return 7;
  }
}

/**
 * Total order of values, across types as in {@link rankOf}. Strings compare by UTF-16 code unit, NaN is
 * the greatest number, a number and a bigint of the same value are equal.
 */
export function compareValues(left: unknown, right: unknown): number {
  if (left === right) return 0;
  const rank = rankOf(left);
  const other = rankOf(right);
  if (rank !== other) return rank < other ? -1 : 1;
  if (rank === 2) return compareNumbers(left as number, right as number);
  if (rank === 4 || rank === 5) return compareLists(left as unknown[], right as unknown[]);
  if (rank === 6) return compareMaps(left as object, right as object);
  return (left as string) < (right as string) ? -1 : 1;
}

function compareNumbers(left: number | bigint, right: number | bigint): number {
  if (left < right) return -1;
  if (left > right) return 1;
  return Number(Number.isNaN(left)) - Number(Number.isNaN(right));
}

function compareLists(left: ArrayLike<unknown>, right: ArrayLike<unknown>): number {
  const shared = Math.min(left.length, right.length);
  for (let index = 0; index < shared; index += 1) {
    const order = compareValues(left[index], right[index]);
    if (order !== 0) return order;
  }
  return left.length - right.length;
}

function compareMaps(left: object, right: object): number {
  const sorted = (map: object): unknown[] =>
    Object.entries(map)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flat();
  return compareLists(sorted(left), sorted(right));
}

/** Freezes a value with all that is in it; bytes cannot be frozen. */
export function freezeValue<T>(value: T): T {
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    for (const inner of Object.values(value)) freezeValue(inner);
    Object.freeze(value);
  }
  return value;
}

/**
 * A copy of `value` that the engine takes: properties that are `undefined` are left out, integral
 * values keep their type. `where` names the place for the error.
 *
 * Throws `invalid` for what is not a value (functions, dates, maps, cycles), for strings with lone
 * surrogates, which UTF-8 cannot hold, and for integers beyond 64 bits.
 */
export function toValue(value: unknown, where: string, depth = 1): RawValue {
  if (depth > DEPTH_MAX) throw invalid(where, `is nested deeper than ${DEPTH_MAX}`);
  switch (typeof value) {
    case "boolean":
    case "number":
      return value;
    case "bigint":
      if (value > I64_MAX || value < I64_MIN) throw invalid(where, "takes more than 64 bits");
      return value;
    case "string":
      return toText(value, where);
    case "object":
      return value === null ? null : toComposite(value, where, depth);
    default:
      throw invalid(where, `cannot be a ${typeof value}`);
  }
}

function toComposite(value: object, where: string, depth: number): RawValue {
  if (value instanceof Uint8Array) return value.slice();
  if (Array.isArray(value)) {
    return value.map((inner: unknown, index) => toValue(inner, `${where}[${index}]`, depth + 1));
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    throw invalid(where, `cannot be a ${value.constructor.name}`);
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .map(([name, inner]) => [toText(name, where), toValue(inner, `${where}.${name}`, depth + 1)]),
  );
}

/** The text, unless it has lone surrogates. */
export function toText(text: string, where: string): string {
  if (/\p{Surrogate}/u.test(text)) throw invalid(where, "has a lone surrogate");
  return text;
}

/** An `invalid` error that names the place. */
export function invalid(where: string, what: string): SyncError {
  return new SyncError("invalid", `${where} ${what}`);
}
