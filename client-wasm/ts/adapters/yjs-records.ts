/**
 * How a Yjs document lies in records: each holds one update, or a part of one that is too large for a value.
 *
 * The updates of all records together are the document, in whatever order and however often they are
 * applied. Nothing here looks into a record twice or changes one: records are written once.
 */

import * as Y from "yjs";

/** The bytes of a part: with all that a record has besides, well below what a value may take. */
export const PART_BYTES_MAX: number = 192 << 10;

/** An update that is there whole. */
export interface StoredUpdate {
  /** The records that hold it. */
  readonly ids: readonly string[];
  readonly update: Uint8Array;
}

/** One record to be written. */
export interface Part {
  readonly id: string;
  readonly bytes: Uint8Array;
}

/** The records of an update: one named `name`, or parts `name.0.3`, `name.1.3`, `name.2.3`. */
export function split(name: string, update: Uint8Array): readonly Part[] {
  const count = Math.ceil(update.length / PART_BYTES_MAX);
  if (count <= 1) return [{ id: name, bytes: update }];
  return Array.from({ length: count }, (_, index) => ({
    id: `${name}.${index}.${count}`,
    bytes: update.subarray(index * PART_BYTES_MAX, (index + 1) * PART_BYTES_MAX),
  }));
}

/** Where a record belongs: to which update, as which part of how many. */
function placeOf(id: string): { update: string; index: number; count: number } {
  const [, name, index, count] = /^(.+)\.(\d{1,6})\.(\d{1,6})$/u.exec(id) ?? [];
  if (name === undefined || Number(index) >= Number(count))
    return { update: id, index: 0, count: 1 };
  return { update: `${name}.${count}`, index: Number(index), count: Number(count) };
}

/** Which records there are, and which updates are whole. */
export class UpdateRecords {
  /** By update and part. */
  readonly #parts = new Map<string, Map<number, Part>>();
  readonly #whole = new Map<string, StoredUpdate>();

  /** Takes a record in; the update that is whole now. */
  add(part: Part): StoredUpdate | undefined {
    const { update, index, count } = placeOf(part.id);
    const parts = this.#parts.get(update) ?? new Map<number, Part>();
    this.#parts.set(update, parts.set(index, part));
    if (parts.size < count) return undefined;
    const inOrder = [...parts].sort(([left], [right]) => left - right).map(([, each]) => each);
    const whole = { ids: inOrder.map(({ id }) => id), update: join(inOrder) };
    this.#whole.set(update, whole);
    return whole;
  }

  /** A record is gone. */
  delete(id: string): void {
    const { update, index } = placeOf(id);
    const parts = this.#parts.get(update);
    parts?.delete(index);
    if (parts?.size === 0) this.#parts.delete(update);
    this.#whole.delete(update);
  }

  /** The records of an update are no update: they stay, and count as not whole. */
  setAside({ ids: [id] }: StoredUpdate): void {
    if (id !== undefined) this.#whole.delete(placeOf(id).update);
  }

  /** The updates that are whole. */
  whole(): readonly StoredUpdate[] {
    return [...this.#whole.values()];
  }

  /** How many updates are whole. */
  get size(): number {
    return this.#whole.size;
  }

  /** The records of all, parts of what is not whole included. */
  ids(): readonly string[] {
    return [...this.#parts.values()].flatMap((parts) => [...parts.values()].map(({ id }) => id));
  }
}

function join(parts: readonly Part[]): Uint8Array {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only.bytes;
  const joined = new Uint8Array(parts.reduce((total, { bytes }) => total + bytes.length, 0));
  let at = 0;
  for (const { bytes } of parts) {
    joined.set(bytes, at);
    at += bytes.length;
  }
  return joined;
}

/**
 * Applies updates, in whatever order they come, as one change of the document. Those that are no updates are
 * left out and told by `onDamaged`.
 */
export function applyAll(
  doc: Y.Doc,
  updates: readonly StoredUpdate[],
  origin: unknown,
  onDamaged: (damaged: StoredUpdate, error: unknown) => void,
): void {
  const one = (update: Uint8Array): void => Y.applyUpdate(doc, update, origin);
  const each = (): void => {
    for (const stored of updates) {
      try {
        one(stored.update);
      } catch (error) {
        onDamaged(stored, error);
      }
    }
  };
  const all = (): void => {
    try {
      // In order: what waits for something that comes later would be taken up again and again.
      one(Y.mergeUpdates(updates.map(({ update }) => update)));
    } catch {
      each();
    }
    takeUpPending(doc, origin);
  };
  if (updates.length > 0) Y.transact(doc, all, origin, false);
}

/** Yjs may leave something waiting although what it waited for has come, until another update comes. */
function takeUpPending(doc: Y.Doc, origin: unknown): void {
  for (let before = Infinity, left = pendingBytes(doc); left > 0 && left < before;) {
    before = left;
    Y.applyUpdate(doc, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(doc)), origin);
    left = pendingBytes(doc);
  }
}

/** The size of what waits for something that is missing. */
export function pendingBytes({ store }: Y.Doc): number {
  return (store.pendingStructs?.update.length ?? 0) + (store.pendingDs?.length ?? 0);
}

/**
 * Which updates to merge, smallest first: so many that each one left out is more than twice as large as all
 * that are smaller than it. A byte is thus written again about as often as the document doubles, few updates
 * are left out (their sizes at least treble), and of two that are alike, as two replicas that merge at the
 * same time leave, both are in.
 */
export function mergeable(stored: readonly StoredUpdate[]): StoredUpdate[] {
  const sorted = [...stored].sort((left, right) => left.update.length - right.update.length);
  let before = 0;
  let taken = 0;
  sorted.forEach(({ update }, index) => {
    if (update.length <= 2 * before) taken = index + 1;
    before += update.length;
  });
  return sorted.slice(0, taken);
}

/**
 * One update with all that is in `updates`, each of which `doc` has taken in and misses nothing for.
 *
 * It never leaves out what other records hold as well: somebody else may be replacing those at this very
 * moment, relying on the ones that are replaced here.
 */
export function merge(doc: Y.Doc, updates: readonly Uint8Array[]): Uint8Array {
  const merged = Y.mergeUpdates([...updates]);
  // The document writes neighbours as one, and nothing of what was deleted; but it cannot write a range,
  // only all of a client from some place on, and always all that was ever deleted.
  const from = new Map(Y.decodeStateVector(Y.encodeStateVector(doc)));
  for (const [client, clock] of Y.parseUpdateMeta(merged).from) {
    from.set(client, Math.min(clock, from.get(client) ?? 0));
  }
  const written = Y.encodeStateAsUpdate(doc, Y.encodeStateVector(from));
  return written.length < merged.length ? written : merged;
}
