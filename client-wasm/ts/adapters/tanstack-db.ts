/**
 * Collections of TanStack DB that hold what a live query holds: joins, aggregates and optimistic writes come
 * from that library, storage and sync from here.
 *
 * A write of TanStack DB is shown at once and becomes a batch; it is handed over when the batch is durable on
 * this device and the live query has it, in one step, so nothing flickers. One that fails is taken back.
 * Defaults are filled in for what is shown and, like everywhere, not stored.
 */

import type { BaseCollectionConfig, CollectionConfig, MutationFn } from "@tanstack/db";
import type { Batch } from "../batch.js";
import { Increment, Resolution, SetChange } from "../changes.js";
import { type BatchCollection, type Collection, newId, type Query } from "../collection.js";
import type { DatabaseCore } from "../db.js";
import { SyncError } from "../errors.js";
import { Field } from "../schema.js";
import type {
  CollectionName,
  Fields,
  FieldsOf,
  FieldType,
  Insert,
  Kind,
  LiveQuery,
  Review,
  Row,
  SchemaShape,
} from "../types.js";
import { compareValues } from "../values.js";

/**
 * What `insert` takes and `update` drafts: as for `add` in this package; a `review` field may be given as the
 * value or as it is shown.
 */
export type RowInput<F extends Fields> = {
  [N in keyof Insert<F>]: N extends keyof F
    ? F[N] extends FieldType<"review", infer T>
      ? T | Review<T> | Extract<Insert<F>[N], undefined>
      : F[N] extends FieldType<"counter">
        ? number | Extract<Insert<F>[N], undefined>
        : Insert<F>[N]
    : Insert<F>[N];
};

/** Completes rows; see standardschema.dev. It checks nothing: what does not fit is refused when written. */
export interface RowSchema<F extends Fields> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: "rejoin";
    readonly validate: (value: unknown) => { readonly value: Row<F> };
    readonly types?: { readonly input: RowInput<F>; readonly output: Row<F> };
  };
}

/** Where a collection of TanStack DB writes to. */
export interface RejoinUtils {
  readonly rejoin: Target;
}

type AnyDatabase = DatabaseCore<SchemaShape>;

/** See {@link RejoinUtils}. */
interface Target {
  readonly db: AnyDatabase;
  readonly collection: string;
  readonly fields: Fields;
  /** Resolves when what is written is shown; at once unless it is still being loaded. */
  readonly shown: () => Promise<unknown>;
}

/** What a collection holds, and any options of TanStack DB that the adapter does not set itself. */
export interface RejoinCollectionConfig<
  S extends SchemaShape,
  N extends CollectionName<S>,
> extends Omit<
  BaseCollectionConfig<Row<FieldsOf<S, N>>, string>,
  "getKey" | "schema" | "syncMode" | "utils" | "onInsert" | "onUpdate" | "onDelete"
> {
  readonly db: DatabaseCore<S>;
  /** Its name. */
  readonly collection: N;
  /** Which of its records; all, if left out. Order means nothing here. */
  readonly query?: (collection: Collection<FieldsOf<S, N>>) => Query<Row<FieldsOf<S, N>>>;
}

/** What `createCollection` takes. */
export type RejoinCollectionOptions<F extends Fields> = CollectionConfig<
  Row<F>,
  string,
  RowSchema<F>,
  RejoinUtils
> & { schema: RowSchema<F>; utils: RejoinUtils };

/**
 * Options for `createCollection`.
 *
 * @example
 * const tasks = createCollection(rejoinCollectionOptions({ db, collection: "tasks" }));
 * tasks.insert({ title: "Buy milk" });
 * tasks.update(id, (draft) => void (draft.votes += 1)); // an increment: nobody's vote is lost
 */
export function rejoinCollectionOptions<S extends SchemaShape, N extends CollectionName<S>>(
  config: RejoinCollectionConfig<S, N>,
): RejoinCollectionOptions<FieldsOf<S, N>> {
  type F = FieldsOf<S, N>;
  const { db, collection: name, query = (all) => all, ...rest } = config;
  const collection = db.collection(name);
  let live: LiveQuery<Row<F>> | undefined;
  const rejoin: Target = {
    db: db as unknown as AnyDatabase,
    collection: name,
    fields: collection.fields,
    shown: async () => live?.ready.catch(() => undefined),
  };
  const persist = ({ transaction }: { transaction: { mutations: readonly unknown[] } }) =>
    writeAll(rejoin.db, transaction.mutations as readonly Mutation[]);
  return {
    ...rest,
    getKey: ({ id }) => id as string,
    schema: completing(collection.fields),
    utils: { rejoin },
    onInsert: persist,
    onUpdate: persist,
    onDelete: persist,
    sync: {
      rowUpdateMode: "full",
      sync: ({ begin, write, commit, markReady, markError }) => {
        const opened = query(collection).live();
        live = opened;
        let ready = false;
        opened.subscribe(
          (rows, diff) => {
            begin();
            for (const { row } of diff?.removed ?? [])
              write({ type: "delete", key: row.id as string });
            const added = diff === undefined ? rows : diff.added.map(({ row }) => row);
            for (const value of added) write({ type: "insert", value });
            for (const { row } of diff?.changed ?? []) write({ type: "update", value: row });
            try {
              commit();
            } finally {
              // Whatever a subscriber throws, the rows are there.
              if (!ready) markReady();
              ready = true;
            }
          },
          (error) => {
            // Later on, the last rows are better than none; `db.status` says what is wrong.
            if (!ready) markError(error);
          },
        );
        return () => opened.close();
      },
    },
  } as RejoinCollectionOptions<F>;
}

/**
 * A `mutationFn` for transactions of TanStack DB over several collections: they become one batch.
 *
 * @example
 * const move = createTransaction({ mutationFn: writeTo(db) });
 * move.mutate(() => {
 *   lists.insert({ id: "groceries", name: "Groceries" });
 *   tasks.update(task.id, (draft) => void (draft.list = "groceries"));
 * });
 */
export function writeTo<S extends SchemaShape>(db: DatabaseCore<S>): MutationFn {
  return ({ transaction }) =>
    writeAll(db as unknown as AnyDatabase, transaction.mutations as unknown as readonly Mutation[]);
}

/** What is used of a mutation of TanStack DB. */
interface Mutation {
  readonly type: "insert" | "update" | "delete";
  readonly key: string;
  readonly original: Readonly<Record<string, unknown>>;
  readonly changes: Readonly<Record<string, unknown>>;
  readonly collection: { readonly utils: Partial<RejoinUtils> };
}

async function writeAll(db: AnyDatabase, mutations: readonly Mutation[]): Promise<void> {
  const targets = new Set<Target>();
  await db.batch((batch) => {
    for (const mutation of mutations) {
      const { rejoin } = mutation.collection.utils;
      if (rejoin?.db !== db) {
        throw new SyncError("invalid", "a collection of the transaction is not of this database");
      }
      targets.add(rejoin);
      writeOne(batch, rejoin, mutation);
    }
  });
  await Promise.all([...targets].map(({ shown }) => shown()));
}

function writeOne(
  batch: Batch<SchemaShape>,
  { collection, fields }: Target,
  { type, key, original, changes }: Mutation,
): void {
  const records = batch.collection(collection) as BatchCollection<Fields>;
  const named = Object.entries(changes).filter(([name]) => name !== "id");
  if (type === "delete") records.remove(key);
  else if (type === "insert") {
    const values = named.map(([name, value]) => [name, initial(fields[name]?.kind, value)]);
    records.add({ ...Object.fromEntries(values), id: key });
  } else {
    const patch = named.map(([name, value]) => [
      name,
      change(fields[name]?.kind, original[name], value),
    ]);
    records.update(key, Object.fromEntries(patch));
  }
}

/** A value as `add` takes it. */
function initial(kind: Kind | undefined, value: unknown): unknown {
  return kind === "review" ? valueOf(value) : value;
}

/** What makes `before` into `after`, so that what others do meanwhile stays. */
function change(kind: Kind | undefined, before: unknown, after: unknown): unknown {
  switch (kind) {
    case "counter":
      return new Increment(Number(after) - Number(before));
    case "set":
      return new SetChange(without(after, before), without(before, after));
    case "review":
      return new Resolution(valueOf(after));
    default:
      return after;
  }
}

function without(elements: unknown, others: unknown): readonly unknown[] {
  const known = others as readonly unknown[];
  return (elements as readonly unknown[]).filter(
    (element) => !known.some((other) => compareValues(element, other) === 0),
  );
}

/** The schema that fills in what is left out, as rows show it. */
function completing<F extends Fields>(fields: F): RowSchema<F> {
  const validate = (given: unknown): { value: Row<F> } => {
    const values = given as Readonly<Record<string, unknown>>;
    const row: Record<string, unknown> = { ...values, id: values["id"] ?? newId() };
    for (const [name, field] of Object.entries(fields)) {
      const fallback = field instanceof Field ? field.definition.fallback : null;
      row[name] = shown(field.kind, values[name] === undefined ? fallback : values[name]);
    }
    return { value: row as Row<F> };
  };
  return { "~standard": { version: 1, vendor: "rejoin", validate } };
}

function shown(kind: Kind, value: unknown): unknown {
  if (kind !== "review" || isReview(value)) return value;
  return { value, siblings: [], conflicted: false };
}

function valueOf(value: unknown): unknown {
  return isReview(value) ? value.value : value;
}

function isReview(value: unknown): value is Review<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    ["value", "siblings", "conflicted"].every((name) => name in value)
  );
}
