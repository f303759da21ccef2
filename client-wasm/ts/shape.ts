/**
 * A collection's fields, compiled: raw rows to frozen rows, values and patches to raw fields.
 *
 * A shape knows which columns it asked the engine for; it knows nothing of queries or of the engine.
 */

import { Increment, Resolution, SetChange } from "./changes.js";
import type { RawCollection, RawColumn, RawField, RawKind, RawRow, RawValue } from "./raw.js";
import { Field, type FieldDefinition, type Source } from "./schema.js";
import type { Fields, Review, Sibling } from "./types.js";
import { compareValues, freezeValue, invalid } from "./values.js";

/** A row, whatever its collection. */
export type AnyRow = { readonly id: string } & Readonly<Record<string, unknown>>;

type Values = RawRow["values"];
type Cell = Values[number];
type Siblings = Exclude<Cell, RawValue | undefined>;

/** What a row shows for a `review` field. */
export class ShownReview implements Review<unknown> {
  readonly value: unknown;
  readonly siblings: readonly Sibling<unknown>[];
  readonly conflicted: boolean;

  /** Frozen. */
  constructor(value: unknown, siblings: readonly Sibling<unknown>[]) {
    this.value = value;
    this.siblings = Object.freeze(siblings);
    this.conflicted = siblings.length > 1;
    Object.freeze(this);
  }
}

/** Where a cell is among the columns. */
interface Place {
  readonly at: number;
  readonly kind: RawKind;
}

interface ShapeField {
  readonly name: string;
  readonly definition: FieldDefinition;
  readonly show: (values: Values) => unknown;
}

/** Between the app's rows and the engine's. */
export class Shape {
  /** As the schema has them. */
  readonly fields: Fields;
  readonly #columns: RawColumn[] = [];
  readonly #fields = new Map<string, ShapeField>();

  /** Compiles the fields, in their order. */
  constructor(fields: Fields) {
    this.fields = fields;
    for (const [name, field] of Object.entries(fields)) {
      if (!(field instanceof Field)) throw invalid(name, "is not made by a field builder");
      const definition: FieldDefinition = field.definition;
      const cells: Source[] = [{ name, kind: definition.kind }, ...definition.sources];
      const places = cells.map((cell) => ({ at: this.#columnOf(cell), kind: cell.kind }));
      this.#fields.set(name, { name, definition, show: reader(definition, places) });
    }
  }

  /** What raw rows show, in their order. */
  get columns(): readonly RawColumn[] {
    return this.#columns;
  }

  /** What to ask the engine for. */
  collection(pattern: string): RawCollection {
    return { pattern, columns: this.#columns };
  }

  /** Whether there is such a field. */
  has(name: string): boolean {
    return name === "id" || this.#fields.has(name);
  }

  /** The row to show; frozen. */
  decode(raw: RawRow): AnyRow {
    const row: Record<string, unknown> & { id: string } = { id: raw.id };
    for (const field of this.#fields.values()) row[field.name] = field.show(raw.values);
    return Object.freeze(row);
  }

  /** The fields of an `add` or `put`. */
  values(given: Readonly<Record<string, unknown>>): RawField[] {
    this.#refuseOthers(given);
    const fields: RawField[] = [];
    for (const { name, definition } of this.#fields.values()) {
      const value = given[name];
      if (value !== undefined) fields.push(initial(name, definition, value));
      else if (definition.presence === "required") throw invalid(name, "is missing");
    }
    return fields;
  }

  /** The fields of an `update`. */
  patch(given: Readonly<Record<string, unknown>>): RawField[] {
    this.#refuseOthers(given);
    return Object.entries(given).flatMap(([name, value]) => {
      const field = this.#fields.get(name);
      return field === undefined || value === undefined
        ? []
        : change(name, field.definition, value);
    });
  }

  #columnOf(cell: Source): number {
    const is = ([name, kind]: RawColumn): boolean => name === cell.name && kind === cell.kind;
    const known = this.#columns.findIndex(is);
    return known >= 0 ? known : this.#columns.push([cell.name, cell.kind]) - 1;
  }

  #refuseOthers(given: Readonly<Record<string, unknown>>): void {
    for (const name of Object.keys(given)) {
      if (name === "id" || !this.has(name)) throw invalid(name, "is not a field of the schema");
    }
  }
}

/** How a field is read from the cells where it is, or was in earlier versions. */
function reader(
  definition: FieldDefinition,
  places: readonly Place[],
): (values: Values) => unknown {
  switch (definition.kind) {
    case "counter":
      return (values) => places.reduce((total, { at }) => total + numberOf(values[at]), 0);
    case "set":
      return (values) => showSet(definition, places, values);
    case "review":
      return (values) => showReview(definition, places, values);
    case "max":
      return (values) => extreme(definition, places, values, 1);
    case "min":
      return (values) => extreme(definition, places, values, -1);
    case "lww":
    case "fww":
      return (values) => {
        for (const place of places) {
          const value = readOne(definition, place, values);
          if (value !== undefined && value !== null) return value;
        }
        return definition.fallback;
      };
  }
}

/** The value of one cell; `undefined` if it is absent or of another type than the field. */
function readOne(definition: FieldDefinition, { at, kind }: Place, values: Values): unknown {
  const cell = values[at];
  if (cell === undefined) return undefined;
  const value = kind === "review" ? (cell as Siblings)[0]?.value : (cell as RawValue);
  return value === undefined ? undefined : freezeValue(definition.type.read(value));
}

function numberOf(cell: Cell): number {
  return typeof cell === "number" || typeof cell === "bigint" ? Number(cell) : 0;
}

function extreme(
  definition: FieldDefinition,
  places: readonly Place[],
  values: Values,
  sign: 1 | -1,
): unknown {
  let best: unknown;
  for (const place of places) {
    const value = readOne(definition, place, values);
    if (value === undefined) continue;
    if (best === undefined || sign * compareValues(value, best) > 0) best = value;
  }
  return best ?? definition.fallback;
}

function showSet(
  definition: FieldDefinition,
  places: readonly Place[],
  values: Values,
): readonly unknown[] {
  const elements = places
    .flatMap(({ at }) => (values[at] ?? []) as readonly RawValue[])
    .map((element) => freezeValue(definition.type.read(element)))
    .filter((element) => element !== undefined);
  if (places.length === 1) return Object.freeze(elements);
  elements.sort(compareValues);
  return Object.freeze(
    elements.filter((element, at) => at === 0 || compareValues(elements[at - 1], element) !== 0),
  );
}

function showReview(
  definition: FieldDefinition,
  places: readonly Place[],
  values: Values,
): Review<unknown> {
  const [own, ...earlier] = places;
  const raw = own === undefined ? [] : ((values[own.at] ?? []) as Siblings);
  const siblings: Sibling<unknown>[] = [];
  for (const { value, stamp, replica, at } of raw) {
    const shown = freezeValue(definition.type.read(value));
    if (shown !== undefined) siblings.push(Object.freeze({ value: shown, stamp, replica, at }));
  }
  const older = (): unknown =>
    earlier.map((place) => readOne(definition, place, values)).find((value) => value !== undefined);
  const value = siblings.length > 0 ? siblings[0]?.value : older();
  return new ShownReview(value ?? definition.fallback, siblings);
}

/** A field's part of an `add` or `put`. */
function initial(name: string, { kind, type }: FieldDefinition, value: unknown): RawField {
  switch (kind) {
    case "counter":
      return [name, kind, "increment", type.write(value, name)];
    case "set":
      return [name, kind, "add", elements(name, type, value)];
    case "review":
      return [name, kind, "resolve", type.write(value, name)];
    default:
      return [name, kind, "set", type.write(value, name)];
  }
}

/** A field's part of an `update`. */
function change(name: string, definition: FieldDefinition, value: unknown): RawField[] {
  const { kind, type } = definition;
  switch (kind) {
    case "counter":
      if (!(value instanceof Increment)) throw invalid(name, "changes by increment() only");
      return [[name, kind, "increment", type.write(value.by, name)]];
    case "set":
      return changeSet(name, definition, value);
    case "review": {
      const chosen: unknown = value instanceof Resolution ? value.value : value;
      return [[name, kind, "resolve", type.write(chosen, name)]];
    }
    default:
      return [[name, kind, "set", type.write(value, name)]];
  }
}

/** What is removed must go from the cells of earlier versions, too, or it would still be shown. */
function changeSet(name: string, { type, sources }: FieldDefinition, value: unknown): RawField[] {
  const names = [...new Set([name, ...sources.map((source) => source.name)])];
  if (!(value instanceof SetChange)) {
    const content = elements(name, type, value);
    return names.map((cell) => [cell, "set", "set", cell === name ? content : []]);
  }
  const fields: RawField[] = [];
  if (value.remove.length > 0) {
    const removed = elements(name, type, value.remove);
    for (const cell of names) fields.push([cell, "set", "delete", removed]);
  }
  if (value.add.length > 0) fields.push([name, "set", "add", elements(name, type, value.add)]);
  return fields;
}

function elements(name: string, type: FieldDefinition["type"], value: unknown): RawValue[] {
  if (!Array.isArray(value)) throw invalid(name, "must be an array, addTo() or removeFrom()");
  return value.map((element: unknown, at) => type.write(element, `${name}[${at}]`));
}
