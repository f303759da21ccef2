/**
 * Rich text: a Yjs document kept in a collection, one record per update.
 *
 * Records are written once, so replicas never overwrite each other's, and Yjs merges what they say. When
 * there are many, the ones that are at hand are replaced by one that says the same, in one batch: what another
 * replica writes meanwhile has another id and stays. Absent: cursors of others, sub-documents (each takes a
 * provider of its own).
 */

import * as Y from "yjs";
import { newId, type RemoveOptions } from "../collection.js";
import type { DatabaseCore } from "../db.js";
import { SyncError, toSyncError } from "../errors.js";
import { callSafely } from "../events.js";
import { bytes, fww, type ValueField } from "../schema.js";
import type { CollectionName, Diff, FieldsOf, LiveQuery, Row, SchemaShape } from "../types.js";
import {
  applyAll,
  merge,
  mergeable,
  type Part,
  pendingBytes,
  split,
  type StoredUpdate,
  UpdateRecords,
} from "./yjs-records.js";

/** The fields of a collection that holds a document; see {@link yjsFields}. */
export type YjsFields = { readonly update: ValueField<"fww", Uint8Array, "required"> };

/**
 * The fields of a collection that holds a document. With a prefix, a schema has room for any number of them.
 *
 * @example
 * const schema = defineSchema({ notes: { title: text() }, "texts/*": yjsFields });
 */
export const yjsFields: YjsFields = /* @__PURE__ */ fieldsOfUpdates();

function fieldsOfUpdates(): YjsFields {
  return { update: fww(bytes()) };
}

/** The collections of a schema that hold documents. */
export type YjsCollection<S extends SchemaShape> = {
  [N in CollectionName<S>]: FieldsOf<S, N> extends YjsFields ? N : never;
}[CollectionName<S>];

/** How a provider is made. */
export interface YjsProviderOptions {
  /**
   * Hears of a document that cannot be loaded, of edits that cannot be written (those that may later be are
   * tried again), and of records that are no updates. Left out: the page's error handler hears of it.
   */
  readonly onError?: ((error: SyncError) => void) | undefined;
}

/** With more updates than this, some are replaced by one. */
const UPDATES_MAX = 100;
/** What one update may take that replaces others: with them, it must fit into one batch. */
const MERGED_BYTES_MAX = 512 << 10;
/** What may be read to make it: the page waits meanwhile. */
const MERGING_BYTES_MAX = 4 << 20;
/** Records that one batch touches, and parts that fit into it. */
const BATCH_RECORDS_MAX = 1_000;
const BATCH_PARTS_MAX = 3;
/** Pauses between attempts to write double from the first to the last. */
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 30_000;

/** What a provider needs to know of the schema. */
type Documents = { readonly "documents/*": YjsFields };
type UpdateRow = Row<YjsFields>;

/**
 * Keeps a Yjs document in a collection: what is stored comes into the document, every edit is written at
 * once. Several providers, in this page and elsewhere, may hold the same collection.
 *
 * @example
 * const doc = new Y.Doc();
 * const provider = new YjsProvider(db, `texts/${note.id}`, doc);
 * await provider.loaded;
 * bindEditor(doc.getText("body"));
 */
export class YjsProvider<S extends SchemaShape> {
  /** The document. */
  readonly doc: Y.Doc;
  /** Resolves when all that is stored on this device is in the document, which then has its `load` event. */
  readonly loaded: Promise<void>;
  readonly #db: DatabaseCore<Documents>;
  readonly #collection: `documents/${string}`;
  readonly #onError: (error: SyncError) => void;
  readonly #live: LiveQuery<UpdateRow>;
  readonly #records = new UpdateRecords();
  /** Records that were written here: the document has what they say. */
  readonly #mine = new Set<string>();
  /** Updates that are not written yet. */
  #queue: Uint8Array[] = [];
  /** The update that is being written, and how many edits it is: batches, of which each can be repeated. */
  #batches: (readonly Part[])[] = [];
  #batchesEdits = 0;
  /** Whether what the document had at first is still to be compared with what is stored. */
  #uncompared: boolean;
  /** How many edits there were, and how many of them are written. */
  #edits = 0;
  #written = 0;
  #writing: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryMs = RETRY_MS_MIN;
  #mergeAt = UPDATES_MAX;
  #closing: Promise<void> | undefined;

  /** Begins to load; what the document already has is written unless it is stored. */
  constructor(
    db: DatabaseCore<S>,
    collection: YjsCollection<S>,
    doc: Y.Doc,
    options: YjsProviderOptions = {},
  ) {
    this.doc = doc;
    this.#db = db as unknown as DatabaseCore<Documents>;
    this.#collection = collection as string as `documents/${string}`;
    this.#onError = options.onError ?? raise;
    this.#live = this.#db.collection(this.#collection).live();
    doc.on("update", this.#edited);
    doc.on("destroy", this.#destroyed);
    this.#uncompared = doc.store.clients.size > 0;
    this.loaded = this.#load();
    // Whoever does not wait for it hears of a failure by `onError`.
    this.loaded.catch(() => undefined);
  }

  /** Whether there are edits that are not durable on this device yet. */
  get unsaved(): boolean {
    return this.#uncompared || this.#written < this.#edits;
  }

  /**
   * Resolves when every edit so far is durable on this device; rejects with the `SyncError` of an attempt
   * that fails. The edits are kept, and written by a later attempt.
   *
   * @example
   * await provider.saved();
   */
  async saved(): Promise<void> {
    if (this.#uncompared) await this.loaded.catch(() => undefined);
    const edits = this.#edits;
    while (this.#written < edits) await this.#write();
  }

  /**
   * Writes what is not written yet and lets go of the document and the collection. Done by itself when the
   * document is destroyed.
   *
   * @example
   * await provider.close();
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  /**
   * Closes, and removes what is stored of the document as far as it is known here: an edit that somebody
   * makes elsewhere at the same time stays. `erase` as for `remove`.
   *
   * @example
   * await provider.clear({ erase: true });
   */
  async clear(options: RemoveOptions = {}): Promise<void> {
    await this.loaded;
    // What could not be written needs not be.
    await this.close().catch(() => undefined);
    const ids = this.#records.ids();
    for (let at = 0; at < ids.length; at += BATCH_RECORDS_MAX) {
      await this.#db.batch((batch) => {
        const records = batch.collection(this.#collection);
        for (const id of ids.slice(at, at + BATCH_RECORDS_MAX)) records.remove(id, options);
      });
    }
  }

  readonly #edited = (update: Uint8Array, origin: unknown): void => {
    if (origin === this) return;
    this.#enqueue(update);
  };

  readonly #destroyed = (): void => {
    this.close().catch((error: unknown) => this.#fail(toSyncError(error)));
  };

  async #load(): Promise<void> {
    try {
      await this.#listen();
    } finally {
      if (this.#uncompared) this.#keepContent();
    }
    this.doc.emit("load", [this.doc]);
  }

  /** Resolves when the first records have been taken in. */
  #listen(): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#live.subscribe(
        (rows, diff) => {
          try {
            this.#show(rows, diff);
          } finally {
            // Whatever a listener of the document throws, the document has it all.
            resolve();
          }
        },
        (error) => {
          reject(error);
          if (error.code !== "closed") this.#fail(error);
        },
      );
    });
  }

  /** What the document had at first is an edit like any other, unless it came from these records. */
  #keepContent(): void {
    this.#uncompared = false;
    // Nothing is collected: only so can it be compared with any other.
    const stored = new Y.Doc({ gc: false });
    applyAll(stored, this.#records.whole(), this, () => undefined);
    if (!Y.equalSnapshots(Y.snapshot(stored), Y.snapshot(this.doc))) {
      this.#enqueue(Y.encodeStateAsUpdate(this.doc, Y.encodeStateVector(stored)));
    }
    stored.destroy();
  }

  /** Takes records in; the document changes once for all of them. */
  #show(rows: readonly UpdateRow[], diff: Diff<UpdateRow> | undefined): void {
    for (const { row } of diff?.removed ?? []) {
      this.#records.delete(row.id);
      this.#mine.delete(row.id);
    }
    const fresh =
      diff === undefined ? rows : [...diff.added, ...diff.changed].map(({ row }) => row);
    const updates = fresh.flatMap(({ id, update }) => {
      const whole = this.#records.add({ id, bytes: update });
      return whole === undefined || whole.ids.every((each) => this.#mine.has(each)) ? [] : [whole];
    });
    applyAll(this.doc, updates, this, (damaged, error) => {
      // It stays where it is: it is nothing that the document has.
      this.#records.setAside(damaged);
      const message = `the record ${String(damaged.ids[0])} of ${this.#collection} is no update`;
      this.#fail(new SyncError("invalid", message, { cause: error }));
    });
  }

  #enqueue(update: Uint8Array): void {
    this.#queue.push(update);
    this.#edits += 1;
    this.#write().catch(() => undefined);
  }

  /** Writes all that waits, one record after another; rejects when an attempt fails. */
  #write(): Promise<void> {
    if (this.#batches.length + this.#queue.length === 0) return Promise.resolve();
    return (this.#writing ??= this.#drain());
  }

  async #drain(): Promise<void> {
    clearTimeout(this.#retry);
    try {
      while (this.#batches.length + this.#queue.length > 0) {
        if (this.#batches.length === 0) this.#take();
        await this.#batch(this.#batches[0] ?? [], []);
        this.#retryMs = RETRY_MS_MIN;
        this.#batches.shift();
        if (this.#batches.length > 0) continue;
        this.#written += this.#batchesEdits;
        await this.#merge();
      }
    } catch (thrown) {
      const error = toSyncError(thrown);
      this.#fail(error);
      if (error.retryable || error.code === "unknown") this.#tryLater();
      throw error;
    } finally {
      // At once: an edit right behind this must find that nobody is writing.
      this.#writing = undefined;
    }
  }

  /** All that came while a write was under way makes one update. */
  #take(): void {
    const [only] = this.#queue;
    this.#batchesEdits = this.#queue.length;
    const update = this.#queue.length === 1 && only ? only : Y.mergeUpdates(this.#queue);
    this.#queue = [];
    this.#batches = inBatches(split(newId(), update));
  }

  #tryLater(): void {
    this.#retry = setTimeout(() => void this.#write().catch(() => undefined), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
  }

  /** Keeps the number of records small. A failure changes nothing and is no loss. */
  async #merge(): Promise<void> {
    if (this.#records.size <= this.#mergeAt || pendingBytes(this.doc) > 0) return;
    this.#mergeAt = this.#records.size + UPDATES_MAX;
    try {
      await this.#replace(mergeable(this.#records.whole()));
      this.#mergeAt = this.#records.size + UPDATES_MAX;
    } catch (error) {
      this.#fail(toSyncError(error));
    }
  }

  /**
   * Replaces updates, smallest first, by one that says the same: as many as fit into a batch with it. The
   * document has taken in all of them, and misses nothing.
   */
  async #replace(updates: StoredUpdate[]): Promise<void> {
    for (let bytesMax = MERGING_BYTES_MAX; ; bytesMax = sizeOf(updates) / 2) {
      dropLargest(updates, bytesMax);
      if (updates.length < 2) return;
      const merged = merge(
        this.doc,
        updates.map(({ update }) => update),
      );
      const parts = split(newId(), merged);
      const gone = updates.flatMap(({ ids }) => ids);
      if (merged.length <= MERGED_BYTES_MAX && parts.length + gone.length <= BATCH_RECORDS_MAX) {
        return this.#batch(parts, gone);
      }
    }
  }

  /** What is replaced is also overwritten, or it would take its room for as long as removals are kept. */
  async #batch(parts: readonly Part[], gone: readonly string[]): Promise<void> {
    for (const { id } of parts) this.#mine.add(id);
    await this.#db.batch((batch) => {
      const records = batch.collection(this.#collection);
      for (const { id, bytes } of parts) records.put(id, { update: bytes });
      for (const id of gone) records.remove(id, { erase: true });
    });
  }

  async #close(): Promise<void> {
    this.doc.off("update", this.#edited);
    this.doc.off("destroy", this.#destroyed);
    try {
      await this.loaded.catch(() => undefined);
      await this.saved();
    } finally {
      clearTimeout(this.#retry);
      this.#live.close();
    }
  }

  #fail(error: SyncError): void {
    callSafely(() => this.#onError(error));
  }
}

function sizeOf(updates: readonly StoredUpdate[]): number {
  return updates.reduce((total, { update }) => total + update.length, 0);
}

/** Leaves out the last, which are the largest, until the others take no more than `bytesMax`. */
function dropLargest(updates: StoredUpdate[], bytesMax: number): void {
  for (let size = sizeOf(updates); size > bytesMax;) size -= updates.pop()?.update.length ?? size;
}

/** An update that is larger than a batch is there with the last of several. */
function inBatches(parts: readonly Part[]): (readonly Part[])[] {
  const count = Math.ceil(parts.length / BATCH_PARTS_MAX);
  return Array.from({ length: count }, (_, at) =>
    parts.slice(at * BATCH_PARTS_MAX, (at + 1) * BATCH_PARTS_MAX),
  );
}

function raise(error: SyncError): never {
  throw error;
}
