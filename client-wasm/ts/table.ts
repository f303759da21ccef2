/**
 * The rows of one collection that live queries share, and the microtask in which they change.
 *
 * Rows are loaded while somebody looks and forgotten afterwards. A row object stays the same until
 * something in it changes. Changes of one task, of whatever collections, become visible together.
 */

import { callSafely } from "./events.js";
import { closedError, type SyncError, toSyncError } from "./errors.js";
import type { RawChange, RawEngine, RawPage, RawRow } from "./raw.js";
import type { RowChange } from "./result.js";
import type { AnyRow, Shape } from "./shape.js";
import { compareValues } from "./values.js";

/** Rows asked for at once. */
const PAGE_ROWS = 500;
/** The page is not blocked for longer while a collection is loaded. */
const SLICE_MS = 8;

/** Code units that UTF-16 and UTF-8 put in another order. */
const SURROGATES_AND_BEYOND = /[\ud800-\uffff]/;

/** Somebody who looks at a table; `update` prepares, `notify` tells, after all others have prepared. */
export interface Viewer {
  load(rows: ReadonlyMap<string, AnyRow>): void;
  update(changes: readonly RowChange[]): void;
  notify(): void;
  fail(error: SyncError): void;
}

/** The part of the engine that a table uses. */
export type Source = Pick<RawEngine, "scan" | "watch">;

/** Rows of one collection. */
export class Table {
  readonly #name: string;
  readonly #shape: Shape;
  readonly #source: Source;
  readonly #rows = new Map<string, AnyRow>();
  readonly #viewers = new Set<Viewer>();
  readonly #pending = new Map<string, RawChange>();
  /** Rows that were decoded before they are visible. */
  readonly #prepared = new WeakMap<RawRow, AnyRow>();
  /** Ids that changed since the page that is under way was asked for: it may be older. */
  readonly #newer = new Set<string>();
  #state: "idle" | "loading" | "ready" = "idle";
  /** Which load is under way; another number means that it was given up. */
  #load = 0;

  /** Idle until somebody looks. */
  constructor(name: string, shape: Shape, source: Source) {
    this.#name = name;
    this.#shape = shape;
    this.#source = source;
  }

  /** Starts to look; `load` is called at once if the rows are there. */
  attach(viewer: Viewer): void {
    this.#viewers.add(viewer);
    if (this.#state === "ready") {
      viewer.load(this.#rows);
      viewer.notify();
    } else if (this.#state === "idle") {
      this.#state = "loading";
      void this.#fill((this.#load += 1));
    }
  }

  /** Stops looking. */
  detach(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size === 0 && this.#state !== "idle") this.#forget();
  }

  /** Fails all who look. */
  fail(error: SyncError): void {
    const viewers = [...this.#viewers];
    this.#viewers.clear();
    for (const viewer of viewers) viewer.fail(error);
    this.#state = "idle";
    this.#load += 1;
    this.#rows.clear();
    this.#pending.clear();
  }

  /** The row, if it is at hand. */
  peek(id: string): AnyRow | undefined {
    return this.#state === "ready" ? this.#rows.get(id) : undefined;
  }

  /** The first `count` rows by id, if nobody looks and the engine has them in one page. */
  async first(count: number): Promise<readonly AnyRow[] | undefined> {
    if (this.#state !== "idle" || count > PAGE_ROWS) return undefined;
    const { rows, next } = await this.#source.scan(this.#name, null, count);
    // Only ids without these are in the same order here and there, whatever follows.
    if (rows.length < count && next !== null) return undefined;
    if (rows.some(({ id }) => SURROGATES_AND_BEYOND.test(id))) return undefined;
    return rows.map((row) => this.decode(row)).slice(0, count);
  }

  /** Decodes; the known object if nothing in it differs. */
  decode(raw: RawRow): AnyRow {
    const fresh = this.#prepared.get(raw) ?? this.#shape.decode(raw);
    const known = this.#rows.get(raw.id);
    return known !== undefined && isSame(known, fresh) ? known : fresh;
  }

  /** Does what takes time for a change that comes later. */
  prepare({ row }: RawChange): void {
    if (this.#state !== "idle" && row != null) this.#prepared.set(row, this.#shape.decode(row));
  }

  /** Takes a change in; visible after {@link apply}. */
  push(change: RawChange): void {
    if (this.#state === "idle" || change.row === undefined) return;
    this.#pending.set(change.id, change);
    if (this.#state === "loading") this.#newer.add(change.id);
  }

  /** Makes what was pushed visible; whom to notify. */
  apply(): readonly Viewer[] {
    if (this.#pending.size === 0) return [];
    const changes: RowChange[] = [];
    for (const { id, row } of this.#pending.values()) {
      const before = this.#rows.get(id);
      const after = row == null ? undefined : this.decode(row);
      if (before === after) continue;
      if (after === undefined) this.#rows.delete(id);
      else this.#rows.set(id, after);
      changes.push({ before, after });
    }
    this.#pending.clear();
    if (this.#state !== "ready" || changes.length === 0) return [];
    for (const viewer of this.#viewers) viewer.update(changes);
    return [...this.#viewers];
  }

  async #fill(load: number): Promise<void> {
    try {
      this.#source.watch(this.#name, true);
      let since = now();
      let after: string | null = null;
      do {
        this.#newer.clear();
        const page: RawPage = await this.#source.scan(this.#name, after, PAGE_ROWS);
        if (load !== this.#load) return;
        for (const row of page.rows) {
          if (!this.#newer.has(row.id)) this.#rows.set(row.id, this.decode(row));
        }
        after = page.next;
        if (after !== null && now() - since > SLICE_MS) {
          await pause();
          since = now();
        }
        if (load !== this.#load) return;
      } while (after !== null);
      this.apply();
      this.#newer.clear();
      this.#state = "ready";
      const viewers = [...this.#viewers];
      for (const viewer of viewers) viewer.load(this.#rows);
      for (const viewer of viewers) viewer.notify();
    } catch (error) {
      if (load === this.#load) this.fail(toSyncError(error));
    }
  }

  #forget(): void {
    this.#state = "idle";
    this.#load += 1;
    this.#rows.clear();
    this.#pending.clear();
    callSafely(() => this.#source.watch(this.#name, false));
  }
}

/** The rows of a table, once. */
export function readOnce<T>(
  table: Table,
  read: (rows: ReadonlyMap<string, AnyRow>) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const viewer: Viewer = {
      load: (rows) => {
        try {
          resolve(read(rows));
        } catch (error) {
          reject(error);
        }
      },
      update: () => undefined,
      notify: () => table.detach(viewer),
      fail: reject,
    };
    table.attach(viewer);
  });
}

/** All tables of a database. */
export class Tables {
  readonly #tables = new Map<string, Table>();
  readonly #touched = new Set<Table>();
  readonly #onChanged: (keys: readonly ChangedKey[]) => void;
  #keys: ChangedKey[] = [];
  #scheduled = false;
  #closed: SyncError | undefined;

  /** `onChanged` hears which records changed, after all queries know. */
  constructor(onChanged: (keys: readonly ChangedKey[]) => void) {
    this.#onChanged = onChanged;
  }

  /** The table of a collection. */
  table(name: string, shape: Shape, source: Source): Table {
    const known = this.#tables.get(name);
    if (known !== undefined) return known;
    const table = new Table(name, shape, source);
    this.#tables.set(name, table);
    return table;
  }

  /** These changes come next. */
  prepare(changes: readonly RawChange[]): void {
    for (const change of changes) this.#tables.get(change.collection)?.prepare(change);
  }

  /** Takes changes in; they become visible together in the next microtask. */
  push(changes: readonly RawChange[]): void {
    for (const change of changes) {
      const table = this.#tables.get(change.collection);
      if (table !== undefined) {
        table.push(change);
        this.#touched.add(table);
      }
      this.#keys.push({ collection: change.collection, id: change.id });
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.flush());
  }

  /** Makes everything visible now. */
  flush(): void {
    this.#scheduled = false;
    if (this.#closed !== undefined || this.#keys.length === 0) return;
    const keys = this.#keys;
    const touched = [...this.#touched];
    this.#keys = [];
    this.#touched.clear();
    for (const viewer of touched.flatMap((table) => table.apply())) viewer.notify();
    this.#onChanged(keys);
  }

  /** Fails all who look, and all who will. */
  close(error: SyncError = closedError()): void {
    this.#closed = error;
    this.#keys = [];
    this.#touched.clear();
    for (const table of this.#tables.values()) table.fail(error);
  }
}

/** Which record changed. */
export interface ChangedKey {
  readonly collection: string;
  readonly id: string;
}

function isSame(left: AnyRow, right: AnyRow): boolean {
  return Object.keys(right).every((name) => compareValues(left[name], right[name]) === 0);
}

function now(): number {
  return performance.now();
}

/** Lets the browser paint and handle input. */
function pause(): Promise<void> {
  const scheduler: unknown = Reflect.get(globalThis, "scheduler");
  if (typeof scheduler === "object" && scheduler !== null && "yield" in scheduler) {
    return (scheduler as { yield(): Promise<void> }).yield();
  }
  return new Promise((resolve) => setTimeout(resolve));
}
