/** An engine that keeps everything in memory and has no peers: for tests of the TypeScript layer. */

import type {
  RawChange,
  RawEngine,
  RawEngineClass,
  RawError,
  RawEvent,
  RawField,
  RawKind,
  RawOp,
  RawOptions,
  RawPage,
  RawReceipt,
  RawRejected,
  RawRow,
  RawSibling,
  RawStatus,
  RawValue,
  RawWriteOptions,
} from "../../ts/raw.js";
import { compareValues } from "../../ts/values.js";

type Cell = RawRow["values"][number];
type Cells = Map<string, Cell>;

function fail(code: string, message: string): never {
  const error: RawError = { code, message, retryable: false };
  throw error;
}

function has(list: readonly RawValue[], value: RawValue): boolean {
  return list.some((element) => compareValues(element, value) === 0);
}

function total(cell: Cell): bigint {
  return typeof cell === "number" || typeof cell === "bigint" ? BigInt(cell) : 0n;
}

function shrink(value: bigint): RawValue {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER)
    ? Number(value)
    : value;
}

/** One open database of {@link memoryEngine}; `sync` and others play the server. */
export class MemoryEngine implements RawEngine {
  readonly options: RawOptions;
  readonly watched = new Set<string>();
  readonly tokens: (string | null)[] = [];
  readonly scans: string[] = [];
  readonly presented: (RawValue | undefined)[] = [];
  attends = 0;
  /** Set to hold scans until it resolves. */
  gate: Promise<void> | undefined;
  /** Set to fail the next call. */
  failure: unknown;
  /** Set to have met another account. */
  account: RawStatus["account"] | undefined;
  /** Why it is broken. */
  broken: string | undefined;
  closed = false;
  paused = false;
  #collections = new Map<string, Map<string, Cells>>();
  #rejected: RawRejected[] = [];
  #ops = new Map<number, readonly RawOp[]>();
  #pending: number[] = [];
  #row = 0;
  #stamp = 0;
  readonly #emit: (event: RawEvent) => void;

  constructor(options: RawOptions, emit: (event: RawEvent) => void) {
    this.options = options;
    this.#emit = emit;
  }

  emit(event: RawEvent): void {
    if (!this.closed) this.#emit(event);
  }

  async write(ops: readonly RawOp[], { relaxed, echo }: RawWriteOptions): Promise<RawReceipt> {
    this.#check();
    this.#precheck(ops);
    for (const op of ops) this.#perform(op);
    this.#row += 1;
    this.#pending.push(this.#row);
    this.#ops.set(this.#row, ops);
    const keys = new Map(ops.map((op) => [JSON.stringify([op.collection, op.id]), op]));
    this.emit({ type: "changed", changes: [...keys.values()].map((op) => this.#change(op)) });
    this.emit({ type: "status", status: this.status() });
    const receipt = { row: this.#row, durability: relaxed ? "saved" : "flushed" } as const;
    await Promise.resolve();
    return echo
      ? { ...receipt, rows: ops.map(({ collection, id }) => this.row(collection, id) ?? null) }
      : receipt;
  }

  async get(collection: string, id: string): Promise<RawRow | undefined> {
    this.#check();
    return this.row(collection, id);
  }

  async scan(collection: string, after: string | null, limit: number): Promise<RawPage> {
    this.#check();
    this.scans.push(collection);
    const start = Number(after ?? 0);
    const ids = [...(this.#collections.get(collection)?.keys() ?? [])].sort();
    const rows = ids.slice(start, start + limit).flatMap((id) => this.row(collection, id) ?? []);
    await this.gate;
    return { rows, next: start + limit < ids.length ? String(start + limit) : null };
  }

  watch(collection: string, on: boolean): void {
    if (on) this.watched.add(collection);
    else this.watched.delete(collection);
  }

  lossRead(): void {}

  status(): RawStatus {
    const synced = this.#pending.length === 0;
    return {
      state: this.paused ? "offline" : "live",
      paused: this.paused,
      pending: this.#pending.length,
      rejected: this.#rejected.length,
      progress: null,
      verified: synced ? { root: "ab".repeat(32), seq: this.#row, at: 1 } : null,
      synced,
      account: this.account ?? null,
      lastSyncedAt: null,
      leader: true,
      replica: "r1",
      storage: {
        ...{ mode: "best-effort", usage: null, quota: null, problem: null },
        ...{ writesLost: false, atRisk: false },
      },
      error: null,
    };
  }

  rejected(): readonly RawRejected[] {
    return this.#rejected;
  }

  async retry(row: number): Promise<RawReceipt> {
    this.#check();
    const ops = this.#ops.get(row) ?? fail("absent", "no such row");
    await this.discard(row);
    return this.write(ops, { relaxed: false, echo: false });
  }

  async edit(row: number, ops: readonly RawOp[]): Promise<RawReceipt> {
    await this.discard(row);
    return this.write(ops, { relaxed: false, echo: false });
  }

  async discard(row: number): Promise<void> {
    this.#check();
    this.#rejected = this.#rejected.filter((entry) => entry.row !== row);
    this.emit({ type: "rejected", rows: [] });
  }

  pause(paused: boolean): void {
    this.paused = paused;
    this.emit({ type: "status", status: this.status() });
  }

  token(token: string | null): void {
    this.tokens.push(token);
  }

  present(value: RawValue | undefined): void {
    this.#check();
    this.presented.push(value);
  }

  attend(): void {
    this.#check();
    this.attends += 1;
  }

  async adopt(): Promise<void> {
    this.#check();
    if (this.account === undefined) fail("invalid", "no other account has been met");
    this.account = undefined;
    this.emit({ type: "status", status: this.status() });
  }

  async discardPending(): Promise<void> {
    this.#pending = [];
    await this.adopt();
  }

  broke(message: string): void {
    this.broken = message;
    this.emit({ type: "poisoned", message });
  }

  async roots(): Promise<Readonly<Record<string, string>>> {
    this.#check();
    return {};
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** The server takes all that is pending. */
  acknowledge(): void {
    const rows = this.#pending;
    this.#pending = [];
    this.emit({ type: "ack", rows });
    this.emit({ type: "status", status: this.status() });
  }

  /** The server refuses all that is pending. */
  refuse(): void {
    const rows = this.#pending;
    this.#pending = [];
    for (const row of rows) {
      const ops = this.#ops.get(row) ?? [];
      this.#rejected.push({ row, code: "forbidden", reason: "read only", at: 5, ops });
    }
    this.emit({ type: "rejected", rows });
    this.emit({ type: "status", status: this.status() });
  }

  /** A write of another replica that knew nothing of the siblings. */
  concurrent(collection: string, id: string, field: string, value: RawValue): void {
    const cells = this.#records(collection).get(id);
    const siblings = (cells?.get(`${field} review`) ?? []) as readonly RawSibling[];
    cells?.set(`${field} review`, [this.#sibling(value, "r2"), ...siblings]);
    this.emit({ type: "changed", changes: [this.#change({ collection, id })] });
  }

  /** How many records a collection has. */
  size(collection: string): number {
    return this.#collections.get(collection)?.size ?? 0;
  }

  row(collection: string, id: string): RawRow | undefined {
    const cells = this.#collections.get(collection)?.get(id);
    if (cells === undefined) return undefined;
    const covering = this.options.collections.find(
      ({ pattern }) => pattern === collection || collection.startsWith(pattern.replace("*", "")),
    );
    const columns = covering?.columns ?? fail("unknown_collection", collection);
    return { id, values: columns.map(([field, kind]) => cells.get(`${field} ${kind}`)) };
  }

  #check(): void {
    if (this.closed) fail("internal", "null pointer passed to rust");
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  #records(collection: string): Map<string, Cells> {
    const known = this.#collections.get(collection) ?? new Map<string, Cells>();
    this.#collections.set(collection, known);
    return known;
  }

  #change({ collection, id }: Pick<RawOp, "collection" | "id">): RawChange {
    return this.watched.has(collection)
      ? { collection, id, row: this.row(collection, id) ?? null }
      : { collection, id };
  }

  /** Each operation finds what those before it leave. */
  #precheck(ops: readonly RawOp[]): void {
    const left = new Map<string, boolean>();
    for (const { op, collection, id } of ops) {
      const key = JSON.stringify([collection, id]);
      const live = left.get(key) ?? this.#records(collection).has(id);
      if (op === "add" && live) fail("exists", `${id} exists`);
      if (op === "update" && !live) fail("absent", `${id} is absent`);
      left.set(key, op !== "remove");
    }
  }

  #perform({ op, collection, id, fields }: RawOp): void {
    const records = this.#records(collection);
    if (op === "remove") {
      records.delete(id);
      return;
    }
    const cells: Cells = op === "update" ? (records.get(id) ?? new Map()) : new Map();
    for (const field of fields) this.#apply(cells, field);
    records.set(id, cells);
  }

  #apply(cells: Cells, [field, kind, action, value]: RawField): void {
    const key = `${field} ${kind}`;
    const old = cells.get(key);
    const list = kind === "set" ? ((old ?? []) as readonly RawValue[]) : [];
    const given = Array.isArray(value) ? (value as readonly RawValue[]) : [];
    if (action === "increment") cells.set(key, shrink(total(old) + total(value)));
    else if (action === "resolve") cells.set(key, [this.#sibling(value, "r1")]);
    else if (action === "delete")
      cells.set(
        key,
        list.filter((element) => !has(given, element)),
      );
    else if (action === "add" || kind === "set") {
      const merged = action === "add" ? [...list] : [];
      for (const element of given) if (!has(merged, element)) merged.push(element);
      cells.set(key, merged.sort(compareValues));
    } else if (this.#wins(kind, value, old)) cells.set(key, value);
  }

  #wins(kind: RawKind, value: RawValue, old: Cell): boolean {
    if (old === undefined || kind === "lww") return true;
    if (kind === "fww") return false;
    return compareValues(value, old) * (kind === "max" ? 1 : -1) > 0;
  }

  #sibling(value: RawValue, replica: string): RawSibling {
    this.#stamp += 1;
    return { value, stamp: `${this.#stamp}@${replica}`, replica, at: this.#stamp };
  }
}

/** A new world: a class `Engine` and the databases that it opened. */
export function memoryEngine(): { Engine: RawEngineClass; opened: MemoryEngine[] } {
  const opened: MemoryEngine[] = [];
  const Engine: RawEngineClass = {
    open: async (options, emit) => {
      const engine = new MemoryEngine(options, emit);
      opened.push(engine);
      return engine;
    },
    destroy: async () => undefined,
  };
  return { Engine, opened };
}
