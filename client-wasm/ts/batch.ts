/** Batches: writes of several records, in several collections, that stand or fall together. */

import { type BatchCollection, OpWriter } from "./collection.js";
import { SyncError } from "./errors.js";
import type { RawOp } from "./raw.js";
import type { Shape } from "./shape.js";
import type { CollectionName, ExactName, Fields, FieldsOf, SchemaShape } from "./types.js";

/**
 * What the function given to `db.batch` gets: the collections, for writing.
 *
 * @typeParam S - The schema.
 */
export type Batch<S extends SchemaShape> = {
  readonly [N in ExactName<S>]: BatchCollection<S[N]>;
} & {
  /** A collection by its name, for those below a prefix. */
  collection<N extends CollectionName<S>>(name: N): BatchCollection<FieldsOf<S, N>>;
};

/** Runs `fill`; its operations in order, and what it returned. */
export function collect<S extends SchemaShape, T>(
  names: readonly string[],
  shapeOf: (collection: string) => Shape,
  fill: (batch: Batch<S>) => T,
): { ops: readonly RawOp[]; value: T } {
  const ops: RawOp[] = [];
  let open = true;
  const push = (op: RawOp): RawOp => {
    if (!open) throw new SyncError("invalid", "the batch is over: its function must not be async");
    ops.push(op);
    return op;
  };
  const collection = (name: string): BatchCollection<Fields> => {
    const writer = new OpWriter(name, shapeOf(name));
    return {
      add: (values) => push(writer.add(values)).id,
      put: (id, values) => void push(writer.put(id, values)),
      update: (id, patch) => void push(writer.update(id, patch)),
      remove: (id, options) => void push(writer.remove(id, options)),
    };
  };
  const batch = {
    collection,
    ...Object.fromEntries(names.map((name) => [name, collection(name)])),
  };
  try {
    const value = fill(batch as unknown as Batch<S>);
    if (value instanceof Promise) {
      value.catch(() => undefined);
      throw new SyncError("invalid", "the function of a batch must not be async");
    }
    return { ops, value };
  } finally {
    open = false;
  }
}
