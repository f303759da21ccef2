/** The schema: what an app says about its collections. */

import { SyncError } from "./errors.js";
import type { RawKind, RawValue } from "./raw.js";
import type { FieldType, Json, Kind, Presence, SchemaShape } from "./types.js";
import { invalid, rankOf, toText, toValue } from "./values.js";

/** One of the types that a value can have. */
export interface ValueType {
  /** Shown where a value is absent and there is no default. */
  readonly empty: unknown;
  /** What to write, or throws `invalid`. */
  readonly write: (value: unknown, where: string) => RawValue;
  /** What to show, `undefined` if the stored value is of another type. */
  readonly read: (raw: RawValue) => unknown;
}

/** A cell that an earlier version of an app kept a field in. */
export interface Source {
  readonly name: string;
  readonly kind: RawKind;
}

/** All about a field at run time. */
export interface FieldDefinition {
  readonly kind: RawKind;
  readonly type: ValueType;
  readonly presence: Presence;
  /** What is shown where the value is absent. */
  readonly fallback: unknown;
  /** Newest first. */
  readonly sources: readonly Source[];
}

/**
 * A field of a collection.
 *
 * @typeParam K - The CRDT.
 * @typeParam T - What a value is.
 * @typeParam P - Whether it may be left out.
 */
export class Field<K extends Kind, T, P extends Presence> implements FieldType<K, T, P> {
  declare readonly "~type"?: { readonly value: T; readonly presence: P };
  /** The CRDT. */
  readonly kind: K;
  /** Read by the package only. */
  readonly definition: FieldDefinition;

  /** Use the builders: {@link text}, {@link number} and so on. */
  constructor(kind: K, definition: Omit<FieldDefinition, "kind">) {
    this.kind = kind;
    this.definition = { ...definition, kind };
  }

  /**
   * Says how an earlier version of the app named the field; can be repeated, newest first. Nothing is
   * rewritten: the old cell is read where the new one is absent (`counter`: both are added up, `set`:
   * united, `max` and `min`: compared), so tabs with the old and the new schema work side by side.
   *
   * @example
   * defineSchema({ tasks: { title: text().from("name") } });
   */
  from(name: string): Field<K, T, P> {
    return new Field(this.kind, withSource(this.definition, name, this.kind));
  }
}

/** A field that holds one value. */
export class ValueField<K extends Kind, T, P extends Presence> extends Field<K, T, P> {
  /**
   * What is shown where the value is absent. It is not stored: changing it changes what is shown.
   *
   * @example
   * defineSchema({ tasks: { done: bool().default(false) } });
   */
  default(value: NonNullable<T>): ValueField<K, NonNullable<T>, "defaulted"> {
    this.definition.type.write(value, "the default");
    return new ValueField(this.kind, {
      ...this.definition,
      presence: "defaulted",
      fallback: value,
    });
  }

  /**
   * May be absent, and is then shown as `null`. Write `null` to clear it.
   *
   * @example
   * defineSchema({ tasks: { due: number().optional() } });
   */
  optional(): ValueField<K, T | null, "optional"> {
    return new ValueField(this.kind, {
      ...this.definition,
      type: nullable(this.definition.type),
      presence: "optional",
      fallback: null,
    });
  }

  /**
   * As for any field; `kind` if it was of another kind, too.
   *
   * @example
   * defineSchema({ games: { best: max(number()).from("best", "lww") } });
   */
  override from(name: string, kind: Exclude<Kind, "set"> = this.sourceKind): ValueField<K, T, P> {
    return new ValueField(this.kind, withSource(this.definition, name, kind));
  }

  private get sourceKind(): Exclude<Kind, "set"> {
    return this.kind === "set" ? "lww" : (this.kind as Exclude<Kind, "set">);
  }
}

/**
 * Text. A type argument narrows it, unchecked: `text<"low" | "high">()`.
 *
 * @example
 * defineSchema({ tasks: { title: text() } });
 */
export function text<T extends string = string>(): ValueField<"lww", T, "required"> {
  return plain({
    empty: "",
    write: (value, where) =>
      typeof value === "string" ? toText(value, where) : refuse(where, "a string", value),
    read: (raw) => (typeof raw === "string" ? raw : undefined),
  });
}

/**
 * A JavaScript number, integral or not. Integers beyond ±2^53 that others wrote are shown rounded.
 *
 * @example
 * defineSchema({ tasks: { priority: number().default(0) } });
 */
export function number(): ValueField<"lww", number, "required"> {
  return plain({
    empty: 0,
    write: (value, where) => (typeof value === "number" ? value : refuse(where, "a number", value)),
    read: readNumber,
  });
}

/**
 * An integer within ±2^53 - 1; others are refused.
 *
 * @example
 * defineSchema({ tasks: { estimateMinutes: int() } });
 */
export function int(): ValueField<"lww", number, "required"> {
  return plain({
    empty: 0,
    write: (value, where) =>
      Number.isSafeInteger(value) ? (value as number) : refuse(where, "a safe integer", value),
    read: readNumber,
  });
}

/**
 * An integer of 64 bits, always a `bigint`.
 *
 * @example
 * defineSchema({ accounts: { cents: bigint() } });
 */
export function bigint(): ValueField<"lww", bigint, "required"> {
  return plain({
    empty: 0n,
    write: (value, where) =>
      typeof value === "bigint" ? toValue(value, where) : refuse(where, "a bigint", value),
    read: (raw) => {
      if (typeof raw === "bigint") return raw;
      return Number.isSafeInteger(raw) ? BigInt(raw as number) : undefined;
    },
  });
}

/**
 * True or false.
 *
 * @example
 * defineSchema({ tasks: { done: bool().default(false) } });
 */
export function bool(): ValueField<"lww", boolean, "required"> {
  return plain({
    empty: false,
    write: (value, where) =>
      typeof value === "boolean" ? value : refuse(where, "true or false", value),
    read: (raw) => (typeof raw === "boolean" ? raw : undefined),
  });
}

/**
 * Raw bytes.
 *
 * @example
 * defineSchema({ people: { thumbnail: bytes().optional() } });
 */
export function bytes(): ValueField<"lww", Uint8Array, "required"> {
  return plain({
    empty: new Uint8Array(),
    write: (value, where) =>
      value instanceof Uint8Array ? value.slice() : refuse(where, "a Uint8Array", value),
    read: (raw) => (raw instanceof Uint8Array ? raw : undefined),
  });
}

/**
 * Anything that JSON can say, bytes and bigints, as one value. The type argument is unchecked. Absent
 * is `null` unless there is a default.
 *
 * @example
 * defineSchema({ tasks: { place: json<{ lat: number; lon: number }>() } });
 */
export function json<T = Json>(): ValueField<"lww", T | null, "optional"> {
  return new ValueField("lww", {
    type: { empty: null, write: toValue, read: (raw) => raw },
    presence: "optional",
    fallback: null,
    sources: [],
  });
}

/**
 * First writer wins: set once, later writes lose.
 *
 * @example
 * defineSchema({ orders: { placedAt: fww(number()) } });
 */
export function fww<T, P extends Presence>(
  value: ValueField<"lww", T, P>,
): ValueField<"fww", T, P> {
  return new ValueField("fww", value.definition);
}

/**
 * The greatest value that anyone wrote.
 *
 * @example
 * defineSchema({ games: { highScore: max(number()) } });
 */
export function max<T, P extends Presence>(
  value: ValueField<"lww", T, P>,
): ValueField<"max", T, P> {
  return new ValueField("max", value.definition);
}

/**
 * The least value that anyone wrote.
 *
 * @example
 * defineSchema({ auctions: { reserve: min(number()).optional() } });
 */
export function min<T, P extends Presence>(
  value: ValueField<"lww", T, P>,
): ValueField<"min", T, P> {
  return new ValueField("min", value.definition);
}

/**
 * A number that everyone adds to or subtracts from, with `increment(by)`; nothing is lost. Integers of
 * 64 bits; beyond ±2^53 the total is shown rounded.
 *
 * @example
 * defineSchema({ tasks: { votes: counter() } });
 */
export function counter(): Field<"counter", number, "optional"> {
  const type: ValueType = {
    empty: 0,
    write: (value, where) =>
      typeof value === "bigint" || Number.isSafeInteger(value)
        ? toValue(value, where)
        : refuse(where, "an integer", value),
    read: readNumber,
  };
  return new Field("counter", { type, presence: "optional", fallback: 0, sources: [] });
}

/**
 * A set of values; an element that someone adds while someone else removes it stays.
 *
 * @example
 * defineSchema({ tasks: { tags: set(text()) } });
 */
export function set<T, P extends Presence>(
  element: ValueField<"lww", T, P>,
): Field<"set", T, "optional"> {
  const { type } = element.definition;
  return new Field("set", { type, presence: "optional", fallback: [], sources: [] });
}

/**
 * A value for which concurrent writes stay side by side until somebody chooses, see `resolve()`.
 *
 * @example
 * defineSchema({ tasks: { notes: review(text().default("")) } });
 */
export function review<T, P extends Presence>(
  value: ValueField<"lww", T, P>,
): ValueField<"review", T, P> {
  return new ValueField("review", value.definition);
}

/** Names that are taken on a database. */
const RESERVED = [
  "adopt",
  "batch",
  "close",
  "collection",
  "constructor",
  "destroy",
  "name",
  "network",
  "on",
  "presence",
  "rejected",
  "roots",
  "setToken",
  "status",
  "synced",
  "then",
  "undoable",
] as const;

/** Collection names that a schema cannot have at the top: they are members of a database. */
export type ReservedName = Exclude<(typeof RESERVED)[number], "constructor" | "presence">;

/**
 * Names the collections and their fields. A name that ends in `/*` stands for all collections below it
 * (`tasks/*`: `tasks/42`), reached with `db.collection("tasks/42")`. `presence` is no collection: its fields are
 * what tabs show of themselves with `db.presence`, and hold one plain value each.
 *
 * The schema is the app's view: what is stored depends on what is written only, so apps with different
 * schemas share a space.
 *
 * @example
 * const schema = defineSchema({
 *   tasks: {
 *     title: text(),
 *     done: bool().default(false),
 *     votes: counter(),
 *     tags: set(text()),
 *     notes: review(text().default("")),
 *     priority: max(number().default(0)),
 *     createdAt: number(),
 *   },
 * });
 */
export function defineSchema<const S extends SchemaShape>(
  schema: S & { readonly [N in ReservedName]?: never },
): S {
  for (const [collection, fields] of Object.entries(schema as SchemaShape)) {
    const where = `the collection name ${JSON.stringify(collection)}`;
    const isPresence = collection === "presence";
    if (RESERVED.some((name) => name === collection) && !isPresence) {
      throw invalid(where, "is reserved");
    }
    if (!/^[^/*]+(\/[^/*]+)*(\/\*)?$/u.test(toText(collection, where))) {
      throw invalid(where, "is not of the form a/b or a/*");
    }
    for (const [name, field] of Object.entries(fields)) {
      const place = `the field ${JSON.stringify(name)} of ${JSON.stringify(collection)}`;
      if (name === "id" || name === "" || name === "__proto__") throw invalid(place, "is reserved");
      if (!(field instanceof Field)) throw invalid(place, "is not made by a field builder");
      if (isPresence && field.kind !== "lww") throw invalid(place, "must hold one plain value");
    }
  }
  return schema;
}

function plain<T>(type: ValueType): ValueField<"lww", T, "required"> {
  return new ValueField("lww", { type, presence: "required", fallback: type.empty, sources: [] });
}

function nullable(type: ValueType): ValueType {
  return {
    empty: null,
    write: (value, where) => (value === null ? null : type.write(value, where)),
    read: (raw) => (raw === null ? null : type.read(raw)),
  };
}

function withSource(
  definition: FieldDefinition,
  name: string,
  kind: RawKind,
): Omit<FieldDefinition, "kind"> {
  if (name === "") throw new SyncError("invalid", "the earlier name of a field is empty");
  return { ...definition, sources: [...definition.sources, { name, kind }] };
}

function readNumber(raw: RawValue): number | undefined {
  return rankOf(raw) === 2 ? Number(raw) : undefined;
}

function refuse(where: string, wanted: string, given: unknown): never {
  const shown = typeof given === "object" && given !== null ? given.constructor?.name : given;
  throw invalid(where, `must be ${wanted}, not ${String(shown)}`);
}
