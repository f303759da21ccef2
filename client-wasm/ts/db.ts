/** A database: collections, status, events, and the one place that talks to the engine. */

import { type Batch, collect } from "./batch.js";
import { Collection, type Host } from "./collection.js";
import { closedError, isTrap, poisonedError, SyncError, toSyncError } from "./errors.js";
import { Emitter } from "./events.js";
import { LivePresence } from "./presence.js";
import type { RawEngine, RawEvent, RawOp, RawReceipt, RawRow, RawStatus, RawValue } from "./raw.js";
import { emptyReceipt, mutation, Receipts, type Written } from "./receipts.js";
import { Rejected } from "./rejected.js";
import type { Shape } from "./shape.js";
import { showConflict, showRejected, showStatus, showStorage } from "./status.js";
import { Tables } from "./table.js";
import type {
  CollectionName,
  Events,
  ExactName,
  Fields,
  FieldsOf,
  Mutation,
  Receipt,
  SchemaShape,
  ShowingOf,
  Status,
} from "./types.js";
import { type Undoable, Undoables, type UndoOptions } from "./undoable.js";
import { compareValues } from "./values.js";

/** What a database is made of; see `open.ts`. */
export interface DatabaseParts {
  readonly name: string;
  /** What tabs show, if the schema says it. */
  readonly presence: Shape | undefined;
  /** By the names of the schema, prefixes included. */
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly relaxed: boolean;
  /** Whether there is a server. */
  readonly syncs: boolean;
  /** How to get a token, if the app has a function for it. */
  readonly token: (() => string | Promise<string>) | undefined;
  /** Opens the engine. */
  readonly engine: (emit: (event: RawEvent) => void) => Promise<RawEngine>;
  /** Deletes what is stored. */
  readonly destroy: () => Promise<void>;
  /** Called once, when the database begins to close. */
  readonly onClose: () => void;
}

/** A database with its collections as properties: `db.tasks`. */
export type Database<S extends SchemaShape> = DatabaseCore<S> & {
  readonly [N in ExactName<S>]: Collection<S[N]>;
};

/** The kill switch for demonstrations, metered connections and tests. */
export interface Network {
  /** Hangs up and stays offline. */
  pause(): void;
  /** Connects again, at once. */
  resume(): void;
  /** Whether `pause` is in force. */
  readonly paused: boolean;
}

/** What every database has besides its collections. Made by `open`. */
export class DatabaseCore<S extends SchemaShape> {
  /** As given to `open`. */
  readonly name: string;
  /** Cuts and restores the connection from within the app. */
  readonly network: Network;
  /** Who else is here right now, and what they show. */
  readonly presence: LivePresence<ShowingOf<S>>;
  /** Writes that the server refused. */
  readonly rejected: Rejected<S>;
  readonly #parts: DatabaseParts;
  readonly #host: Host;
  readonly #events = new Emitter<Events>();
  readonly #receipts = new Receipts();
  readonly #tables: Tables;
  readonly #collections = new Map<string, Collection<Fields>>();
  readonly #undoables: Undoables<S>;
  /** Operations that were handed to the engine and are not durable yet, in order. */
  readonly #underWay = new Set<readonly RawOp[]>();
  #engine: RawEngine | undefined;
  #raw: RawStatus | undefined;
  #status: Status = NOTHING_YET;
  #lossRead = false;
  /** Why nothing works any more. */
  #dead: SyncError | undefined;
  #closing: Promise<void> | undefined;

  private constructor(parts: DatabaseParts) {
    this.name = parts.name;
    this.#parts = parts;
    this.#tables = new Tables((keys) => this.#events.emit("changed", keys));
    this.#host = {
      write: (build, value) => mutation(this.#write(build, value)),
      get: (collection, id) => this.#call((engine) => engine.get(collection, id)),
      check: () => void this.#live(),
    };
    this.rejected = new Rejected<S>({
      retry: (row) => mutation(this.#retry(row)),
      edit: (row, fill) => mutation(this.#edit(row, fill)),
      discard: (row) => this.#call((engine) => engine.discard(row)),
    });
    this.#undoables = new Undoables<S>({
      fill: (fill) => this.#fill(fill),
      columns: (collection) => this.#shape(collection).columns,
      read: this.#host.get,
      write: (ops) =>
        this.#write(
          () => ops,
          () => undefined,
        ),
      underWay: () => [...this.#underWay].flat(),
      isRefused: (row) => this.rejected.list.some((write) => write.row === row),
    });
    this.presence = new LivePresence<ShowingOf<S>>(parts.presence, {
      present: (value) => this.#present(value),
      attend: () => {
        if (this.#dead === undefined) this.#enter((engine) => engine.attend());
      },
    });
    const paused = (): boolean => this.#status.paused;
    this.network = {
      pause: () => this.#enter((engine) => engine.pause(true)),
      resume: () => this.#enter((engine) => engine.pause(false)),
      get paused() {
        return paused();
      },
    };
  }

  /** @internal */
  static async open<S extends SchemaShape>(parts: DatabaseParts): Promise<Database<S>> {
    const db = new DatabaseCore<S>(parts);
    try {
      const engine = await parts.engine((event) => db.#take(event));
      db.#engine = engine;
      db.#takeStatus(db.#enter((engine) => engine.status()));
      db.#readRejected();
      if (db.#wantsToken !== undefined) void db.#supplyToken();
    } catch (error) {
      parts.onClose();
      throw isTrap(error) ? poisonedError(error.message, error) : toSyncError(error);
    }
    for (const name of parts.shapes.keys()) {
      if (name.endsWith("*")) continue;
      Object.defineProperty(db, name, { value: db.#collection(name), enumerable: true });
    }
    return db as Database<S>;
  }

  /**
   * Where storing and syncing stand; the same object as long as nothing changes.
   *
   * @example
   * badge.textContent = db.status.synced ? `verified ${db.status.verified?.short}` : db.status.state;
   */
  get status(): Status {
    if (this.#status.storage.writesLost && !this.#lossRead) {
      this.#lossRead = true;
      // The engine may be in `emit`, where it must not be entered.
      queueMicrotask(() => {
        if (this.#dead === undefined) this.#engine?.lossRead();
      });
    }
    return this.#status;
  }

  /**
   * A collection by its name, for those below a prefix of the schema.
   *
   * @example
   * const comments = db.collection(`comments/${task.id}`);
   */
  collection<N extends CollectionName<S>>(name: N): Collection<FieldsOf<S, N>> {
    return this.#collection(name) as unknown as Collection<FieldsOf<S, N>>;
  }

  /**
   * Writes several records so that all become durable and visible together, here and elsewhere, or
   * none. The function must not be async; what it returns is what the promise yields. At most 1,000
   * records.
   *
   * @example
   * await db.batch((batch) => {
   *   const id = batch.lists.add({ name: "Groceries" });
   *   batch.tasks.add({ title: "Milk", list: id });
   * });
   */
  batch<T>(fill: (batch: Batch<S>) => T): Mutation<T> {
    let value: T;
    return this.#host.write(
      () => {
        const collected = this.#fill(fill);
        value = collected.value;
        return collected.ops;
      },
      () => value,
    );
  }

  /**
   * A scope whose writes can be undone and redone: the same object for the same name. The first call for a name says
   * how it keeps its steps.
   *
   * @example
   * const editor = db.undoable("editor", { within: 500 });
   * await editor.batch((batch) => batch.tasks.update(id, { title: "Buy oat milk" }));
   * await editor.undo();
   */
  undoable(name: string, options?: UndoOptions): Undoable<S> {
    this.#live();
    return this.#undoables.scope(name, options);
  }

  /**
   * Calls `listener` on every event of a type, until the returned function is called.
   *
   * @example
   * const stop = db.on("conflict", ({ field, value }) => toast(`${field} was overwritten`, value));
   */
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => void): () => void {
    return this.#events.on(type, listener);
  }

  /**
   * Supplies a token, e.g. after a login; the connection goes on with it.
   *
   * @example
   * db.setToken(await login());
   */
  setToken(token: string): void {
    this.#enter((engine) => engine.token(token));
  }

  /**
   * After another account was met (`db.status.account`): takes the database over for it. What is pending
   * is sent in its name. Rejects with `invalid` when no other account was met.
   *
   * @example
   * if (db.status.account !== undefined) await db.adopt();
   */
  adopt(): Promise<void> {
    return this.#call((engine) => engine.adopt());
  }

  /**
   * After another account was met (`db.status.account`): takes the database over for it and forgets what
   * is pending, for good. What the server had sent, and refused writes, stay; to keep nothing of the
   * former account, call `db.destroy()` and open again. Nothing can be undone afterwards. Rejects with `invalid`
   * when no other account was met.
   *
   * @example
   * if (db.status.account !== undefined) await db.discardPending();
   */
  async discardPending(): Promise<void> {
    await this.#call((engine) => engine.discardPending());
    this.#undoables.clear();
    this.#receipts.discard();
    this.#tables.flush();
  }

  /**
   * Resolves when nothing is pending and everything held is verified against the server; waits as long
   * as it takes. Rejects with `closed` if the database is closed before, and with `invalid` if it was
   * opened without `sync`.
   *
   * @example
   * await db.synced();
   */
  synced(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#live();
      if (!this.#parts.syncs)
        throw new SyncError("invalid", "the database was opened without sync");
      if (this.#status.synced) {
        resolve();
        return;
      }
      const stop = this.on("status", (status) => {
        if (status.synced) resolve();
        else if (status.state === "closed") reject(this.#dead ?? closedError());
        else return;
        stop();
      });
    });
  }

  /**
   * The root of every collection, as agreed with the server: equal roots, equal data.
   *
   * @example
   * console.table(await db.roots());
   */
  roots(): Promise<Readonly<Record<string, string>>> {
    return this.#call((engine) => engine.roots());
  }

  /**
   * Finishes writes that are under way and lets go of everything. What is not sent is sent after the
   * next `open`. Can be repeated.
   *
   * @example
   * await db.close();
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  /**
   * Closes and deletes the local database, unsent writes included.
   *
   * @example
   * await db.destroy();
   */
  async destroy(): Promise<void> {
    await this.close();
    await this.#parts.destroy();
  }

  async #close(): Promise<void> {
    this.#parts.onClose();
    const engine = this.#engine;
    const poisoned = this.#dead?.code === "poisoned";
    this.#tables.flush();
    this.#end(this.#dead ?? closedError());
    try {
      if (!poisoned) await engine?.close();
    } catch (error) {
      throw toSyncError(error);
    } finally {
      this.#receipts.close();
    }
  }

  /** No call is taken any more; receipts are still settled until the engine is silent. */
  #end(error: SyncError): void {
    this.#dead = error;
    this.#undoables.clear();
    this.#tables.close(error);
    this.presence.end();
    const status: Status = { ...this.#status, state: "closed", synced: false };
    this.#status = Object.freeze(error.code === "closed" ? status : { ...status, error });
    this.#events.emit("status", this.#status);
    this.#events.clear();
  }

  /** The engine, or throws why there is none. */
  #live(): RawEngine {
    if (this.#dead !== undefined) throw this.#dead;
    if (this.#engine === undefined) throw closedError();
    return this.#engine;
  }

  async #call<T>(work: (engine: RawEngine) => Promise<T>): Promise<T> {
    try {
      return await this.#enter(work);
    } catch (error) {
      throw this.#dead ?? this.#broken(error) ?? toSyncError(error);
    }
  }

  /** Every call of the engine: one that ends in a trap breaks everything. */
  #enter<T>(work: (engine: RawEngine) => T): T {
    const engine = this.#live();
    try {
      return work(engine);
    } catch (error) {
      throw this.#broken(error) ?? error;
    }
  }

  /** After a trap: breaks everything, and returns the error that says so. */
  #broken(error: unknown): SyncError | undefined {
    if (!isTrap(error)) return undefined;
    this.#poison(error.message, error);
    try {
      // Tells every other database of this page.
      this.#engine?.broke(error.message);
    } catch {
      // It is as broken as that.
    }
    return this.#dead;
  }

  async #write<T>(
    build: () => readonly RawOp[],
    value: (rows: readonly (RawRow | null)[]) => T,
  ): Promise<Written<T>> {
    this.#live();
    const ops = build();
    const { relaxed } = this.#parts;
    if (ops.length === 0) {
      return { value: value([]), receipt: emptyReceipt(relaxed ? "saved" : "flushed") };
    }
    const echo = ops.length === 1;
    const write = (engine: RawEngine): Promise<RawReceipt> => engine.write(ops, { relaxed, echo });
    const { raw, receipt } = await this.#issue(ops, write);
    return { value: value(raw.rows ?? []), receipt };
  }

  async #issue(
    ops: readonly RawOp[],
    work: (engine: RawEngine) => Promise<RawReceipt>,
  ): Promise<{ raw: RawReceipt; receipt: Receipt }> {
    this.#underWay.add(ops);
    try {
      const issued = await this.#receipts.issue(() => this.#call(work));
      this.#tables.flush();
      return issued;
    } finally {
      this.#underWay.delete(ops);
    }
  }

  async #retry(row: number): Promise<Written<void>> {
    const { receipt } = await this.#issue([], (engine) => engine.retry(row));
    return { value: undefined, receipt };
  }

  async #edit(row: number, fill: (batch: Batch<S>) => void): Promise<Written<void>> {
    this.#live();
    const { ops } = this.#fill(fill);
    const { receipt } = await this.#issue(ops, (engine) => engine.edit(row, ops));
    return { value: undefined, receipt };
  }

  #present(value: RawValue | undefined): void {
    try {
      this.#enter((engine) => engine.present(value));
    } catch (error) {
      throw this.#dead ?? toSyncError(error);
    }
  }

  #fill<T>(fill: (batch: Batch<S>) => T): { ops: readonly RawOp[]; value: T } {
    const names = [...this.#parts.shapes.keys()].filter((name) => !name.endsWith("*"));
    return collect(names, (collection) => this.#shape(collection), fill);
  }

  #collection(name: string): Collection<Fields> {
    const known = this.#collections.get(name);
    if (known !== undefined) return known;
    const shape = this.#shape(name);
    const source = {
      scan: (collection: string, after: string | null, limit: number) =>
        this.#call((engine) => engine.scan(collection, after, limit)),
      watch: (collection: string, on: boolean) =>
        this.#enter((engine) => engine.watch(collection, on)),
    };
    const table = this.#tables.table(name, shape, source);
    const collection = new Collection<Fields>(name, shape, table, this.#host);
    this.#collections.set(name, collection);
    return collection;
  }

  /** That of the name itself, else that of the longest prefix. */
  #shape(name: string): Shape {
    const exact = name.endsWith("*") ? undefined : this.#parts.shapes.get(name);
    if (exact !== undefined) return exact;
    for (let prefix = name; prefix !== ""; prefix = prefix.slice(0, prefix.lastIndexOf("/"))) {
      const shape = this.#parts.shapes.get(`${prefix}/*`);
      if (shape !== undefined) return shape;
      if (!prefix.includes("/")) break;
    }
    throw new SyncError("unknown_collection", `the schema has no collection ${name}`);
  }

  #take(event: RawEvent): void {
    switch (event.type) {
      case "changed":
        if (this.#dead === undefined) this.#tables.push(event.changes);
        return;
      case "coming":
        if (this.#dead === undefined) this.#tables.prepare(event.changes);
        return;
      case "status":
        return this.#takeStatus(event.status);
      case "ack":
        return this.#receipts.acknowledge(event.rows);
      case "rejected":
        return this.#takeRejected(event.rows);
      case "conflict":
        return this.#events.emit("conflict", showConflict(event));
      case "refilled": {
        const { returned, refused } = event;
        return this.#events.emit("refilled", { returned, refused: Object.fromEntries(refused) });
      }
      case "log": {
        if (!this.#events.hears("log")) return;
        const { at, direction, channel, message, bytes, text } = event;
        return this.#events.emit("log", { at, direction, channel, message, bytes, text });
      }
      case "storage": {
        const { text } = event;
        return this.#events.emit("storage", { storage: showStorage(event.storage), text });
      }
      case "others":
        if (this.#dead === undefined) this.presence.take(event);
        return;
      case "token":
        this.#wantsToken = event;
        if (this.#engine !== undefined) void this.#supplyToken();
        return;
      case "poisoned":
        return this.#poison(event.message);
    }
  }

  #takeStatus(raw: RawStatus): void {
    if (this.#dead !== undefined || compareValues(raw, this.#raw) === 0) return;
    this.#raw = raw;
    this.#status = showStatus(raw);
    this.#events.emit("status", this.#status);
  }

  #takeRejected(rows: readonly number[]): void {
    // The engine may still be in `emit`, where it must not be entered.
    queueMicrotask(() => {
      if (this.#engine === undefined || this.#dead !== undefined) return;
      this.#readRejected();
      const fresh = this.rejected.list.filter(({ row }) => rows.includes(row));
      if (fresh.length > 0) this.#events.emit("rejected", fresh);
    });
  }

  #readRejected(): void {
    const list = this.#enter((engine) => engine.rejected());
    this.#receipts.reject(list);
    if (list.length + this.rejected.length > 0) this.rejected.replace(list.map(showRejected));
    this.#undoables.refused();
  }

  /** Set while the engine waits for a token. */
  #wantsToken: { readonly refused: boolean } | undefined;

  async #supplyToken(): Promise<void> {
    this.#wantsToken = undefined;
    let token: string | null = null;
    try {
      token = (await this.#parts.token?.()) ?? null;
    } catch (error) {
      const text = `the app could not supply a token: ${toSyncError(error).message}`;
      const log = { direction: "state", channel: 0, message: "token", bytes: 0, text } as const;
      this.#events.emit("log", { at: Date.now(), ...log });
    }
    if (this.#dead !== undefined) return;
    try {
      this.#enter((engine) => engine.token(token));
    } catch (error) {
      // Nobody waits for this call; a broken or closed database says so itself.
      if (this.#dead === undefined) throw error;
    }
  }

  #poison(message: string, cause?: unknown): void {
    if (this.#dead !== undefined) return;
    this.#parts.onClose();
    const error = poisonedError(message, cause);
    this.#end(error);
    this.#receipts.close(error);
  }
}

const NOTHING_YET: Status = Object.freeze({
  state: "offline",
  paused: false,
  pending: 0,
  rejected: 0,
  synced: false,
  leader: false,
  replica: "",
  storage: Object.freeze({ mode: "best-effort", writesLost: false, atRisk: false }),
});
