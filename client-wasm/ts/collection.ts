/** Collections and queries, as an app uses them. */

import { Count } from "./count.js";
import { SyncError } from "./errors.js";
import { Live } from "./live.js";
import {
  compileFilter,
  compileOrder,
  describe,
  type Direction,
  type Filter,
  onlyId,
  type OrderKey,
  type Predicate,
} from "./query.js";
import type { RawOp, RawRow } from "./raw.js";
import { type Content, Result } from "./result.js";
import type { AnyRow, Shape } from "./shape.js";
import { readOnce, type Table } from "./table.js";
import type {
  Fields,
  Insert,
  LiveCount,
  LiveQuery,
  Mutation,
  Patch,
  Row,
  Values,
} from "./types.js";
import { invalid, toText } from "./values.js";

/** What a collection needs of its database. */
export interface Host {
  /** Applies the operations that `build` returns, and takes the value from the rows afterwards. */
  write<T>(
    build: () => readonly RawOp[],
    value: (rows: readonly (RawRow | null)[]) => T,
  ): Mutation<T>;
  /** Reads one record. */
  get(collection: string, id: string): Promise<RawRow | undefined>;
  /** Throws `closed` if it is. */
  check(): void;
}

/** What a query reads. */
interface Origin {
  readonly table: Table;
  readonly shape: Shape;
  readonly host: Pick<Host, "check">;
}

interface Plan {
  readonly filters: readonly unknown[];
  readonly order: readonly OrderKey[];
  readonly limit: number;
}

/** Tells queries apart; see {@link Query.identity}. */
export interface QueryIdentity {
  /** Which collection of which database, compared as an object. */
  readonly of: object;
  /** What is asked of it. */
  readonly asks: string;
}

const EVERYTHING: Plan = { filters: [], order: [], limit: Number.POSITIVE_INFINITY };

/**
 * Some rows of a collection in some order. Queries are values: every method makes a new one.
 *
 * @typeParam R - The row.
 */
export class Query<R> {
  readonly #origin: Origin;
  readonly #plan: Plan;

  /** Made by a collection. */
  constructor(origin: Origin, plan: Plan = EVERYTHING) {
    this.#origin = origin;
    this.#plan = plan;
  }

  /**
   * Only rows that meet the filter, in addition to earlier filters.
   *
   * @example
   * db.tasks.where({ done: false, priority: gte(3), tags: contains("home") });
   */
  where(filter: Filter<R>): Query<R> {
    return this.#with({ filters: [...this.#plan.filters, filter] });
  }

  /**
   * Sorted by the field, `null` first; repeated: rows that are equal so far are sorted by the next
   * field. At last, and without an order, rows are sorted by id. Texts compare by code unit.
   *
   * @example
   * db.tasks.orderBy("done").orderBy("createdAt", "desc");
   */
  orderBy(field: keyof R & string, direction: Direction = "asc"): Query<R> {
    return this.#with({ order: [...this.#plan.order, { field, direction }] });
  }

  /**
   * At most the first `count` rows.
   *
   * @example
   * db.tasks.orderBy("createdAt", "desc").limit(50);
   */
  limit(count: number): Query<R> {
    return this.#with({ limit: count });
  }

  /**
   * Queries with the same identity have the same result: what a cache of live queries goes by.
   *
   * @example
   * db.tasks.where({ done: true }).identity.asks === db.tasks.where({ done: true }).identity.asks;
   */
  get identity(): QueryIdentity {
    const { filters, order, limit } = this.#plan;
    return { of: this.#origin.table, asks: describe([filters, order, limit]) };
  }

  /**
   * A result that stays current until it is closed.
   *
   * @example
   * const open = db.tasks.where({ done: false }).orderBy("createdAt").live();
   * const stop = open.subscribe((rows) => render(rows));
   */
  live(): LiveQuery<R> {
    this.#origin.host.check();
    return new Live(this.#origin.table, this.#result()) as unknown as LiveQuery<R>;
  }

  /**
   * How many rows there are, at most the limit, kept current until it is closed.
   *
   * @example
   * const left = db.tasks.where({ done: false }).liveCount();
   * const stop = left.subscribe((count) => (badge.textContent = String(count)));
   */
  liveCount(): LiveCount {
    this.#origin.host.check();
    return new Live(this.#origin.table, this.#counted());
  }

  /**
   * The rows as they are now.
   *
   * @example
   * const done = await db.tasks.where({ done: true }).all();
   */
  async all(): Promise<readonly R[]> {
    const rows = (await this.#first()) ?? (await this.#read(() => this.#result()));
    return rows as unknown as readonly R[];
  }

  /**
   * The first row.
   *
   * @example
   * const latest = await db.tasks.orderBy("createdAt", "desc").first();
   */
  async first(): Promise<R | undefined> {
    return (await this.#with({ limit: Math.min(1, this.#plan.limit) }).all())[0];
  }

  /**
   * How many rows there are; at most the limit.
   *
   * @example
   * const left = await db.tasks.where({ done: false }).count();
   */
  count(): Promise<number> {
    return this.#read(() => this.#counted());
  }

  #with(change: Partial<Plan>): Query<R> {
    return new Query(this.#origin, { ...this.#plan, ...change });
  }

  /** Of a query that has only a limit, without loading the collection; `undefined` if that does not do. */
  async #first(): Promise<readonly AnyRow[] | undefined> {
    const { filters, order, limit } = this.#plan;
    if (filters.length + order.length > 0 || !(limit >= 0)) return undefined;
    this.#origin.host.check();
    return this.#origin.table.first(limit);
  }

  #read<T, D>(content: () => Content<T, D>): Promise<T> {
    return new Promise((resolve) => {
      this.#origin.host.check();
      const read = content();
      resolve(
        readOnce(this.#origin.table, (rows) => {
          read.reset(rows);
          return read.visible();
        }),
      );
    });
  }

  #counted(): Count {
    return new Count(this.#matches(), this.#plan.limit);
  }

  #result(): Result {
    const { filters, order, limit } = this.#plan;
    return new Result(this.#matches(), compileOrder(order), limit, onlyId(filters));
  }

  /** The filters, once the plan is known to be one. */
  #matches(): Predicate {
    const { filters, order, limit } = this.#plan;
    const { shape } = this.#origin;
    const has = (field: string): boolean => shape.has(field);
    const parts = filters.map((filter) => compileFilter(filter, has));
    for (const { field, direction } of order) {
      if (!has(field)) throw invalid(field, "is not a field of the schema");
      if (direction !== "asc" && direction !== "desc") throw invalid(field, "has no such order");
    }
    if (!(limit >= 0)) throw invalid("the limit", "must be 0 or more");
    return (row) => parts.every((part) => part(row));
  }
}

/**
 * One collection of a database: `db.tasks`. It is a query, too: of all its rows.
 *
 * Every write is durable on this device when its promise resolves, unless the receipt says otherwise.
 * Writes reject with a `SyncError`; then nothing was written.
 */
export class Collection<F extends Fields> extends Query<Row<F>> {
  /** Its name in the space. */
  readonly name: string;
  /** Its fields, as the schema has them. */
  readonly fields: F;
  readonly #table: Table;
  readonly #host: Host;
  readonly #writer: OpWriter;

  /** Made by a database. */
  constructor(name: string, shape: Shape, table: Table, host: Host) {
    super({ table, shape, host });
    this.name = name;
    this.fields = shape.fields as F;
    this.#table = table;
    this.#host = host;
    this.#writer = new OpWriter(name, shape);
  }

  /**
   * Adds a record, with a new random UUID as id unless one is given. Rejects with `exists` if that id
   * is taken.
   *
   * @example
   * const task = await db.tasks.add({ title: "Buy milk", createdAt: Date.now() });
   * console.log(task.id);
   */
  add(values: Insert<F>): Mutation<Row<F>> {
    return this.#one(() => this.#writer.add(values));
  }

  /**
   * Writes a whole record: what is not named becomes absent, counters and sets start anew.
   *
   * @example
   * await db.tasks.put("groceries", { title: "Buy milk", createdAt: Date.now() });
   */
  put(id: string, values: Values<F>): Mutation<Row<F>> {
    return this.#one(() => this.#writer.put(id, values));
  }

  /**
   * Changes the named fields. Rejects with `absent` if there is no such record.
   *
   * @example
   * await db.tasks.update(task.id, { done: true, votes: increment(1), tags: addTo("home") });
   */
  update(id: string, patch: Patch<F>): Mutation<Row<F>> {
    return this.#one(() => this.#writer.update(id, patch));
  }

  /**
   * Removes a record; an edit that was made elsewhere without knowing of this keeps it. `erase` also
   * overwrites the values, on every device and on the server, also those of a record that was removed before.
   * Nothing happens if there is no such record.
   *
   * @example
   * await db.tasks.remove(task.id, { erase: true });
   */
  remove(id: string, options?: RemoveOptions): Mutation<void> {
    return this.#host.write(
      () => [this.#writer.remove(id, options)],
      () => undefined,
    );
  }

  /**
   * Reads a record; `undefined` if there is none.
   *
   * @example
   * const task = await db.tasks.get(id);
   */
  async get(id: string): Promise<Row<F> | undefined> {
    const raw = await this.#host.get(this.name, id);
    return raw === undefined ? undefined : this.#shown(raw);
  }

  /**
   * The record, if a live query has this collection loaded; does not wait.
   *
   * @example
   * const title = db.tasks.peek(id)?.title;
   */
  peek(id: string): Row<F> | undefined {
    return this.#table.peek(id) as unknown as Row<F> | undefined;
  }

  #one(build: () => RawOp): Mutation<Row<F>> {
    return this.#host.write(
      () => [build()],
      ([row]) => {
        if (row == null) throw new SyncError("internal", "the engine returned no row");
        return this.#shown(row);
      },
    );
  }

  #shown(raw: RawRow): Row<F> {
    return this.#table.decode(raw) as unknown as Row<F>;
  }
}

/** How a record is removed. */
export interface RemoveOptions {
  /** Overwrite the values, too. */
  readonly erase?: boolean | undefined;
}

/** A collection inside of a batch: writes are collected, nothing is read. */
export interface BatchCollection<F extends Fields> {
  /** As on a collection; returns the id. */
  add(values: Insert<F>): string;
  /** As on a collection. */
  put(id: string, values: Values<F>): void;
  /** As on a collection. */
  update(id: string, patch: Patch<F>): void;
  /** As on a collection. */
  remove(id: string, options?: RemoveOptions): void;
}

type Given = Readonly<Record<string, unknown>>;

/** Makes the operations of one collection; throws `invalid` for what does not fit the schema. */
export class OpWriter {
  readonly #collection: string;
  readonly #shape: Shape;

  /** For one collection. */
  constructor(collection: string, shape: Shape) {
    this.#collection = collection;
    this.#shape = shape;
  }

  /** See {@link Collection.add}. */
  add({ id = newId(), ...values }: Given & { readonly id?: unknown }): RawOp {
    return this.#op("add", id, this.#shape.values(values));
  }

  /** See {@link Collection.put}. */
  put(id: unknown, values: Given): RawOp {
    return this.#op("put", id, this.#shape.values(values));
  }

  /** See {@link Collection.update}. */
  update(id: unknown, patch: Given): RawOp {
    return this.#op("update", id, this.#shape.patch(patch));
  }

  /** See {@link Collection.remove}. */
  remove(id: unknown, { erase = false }: RemoveOptions = {}): RawOp {
    return { ...this.#op("remove", id, []), erase };
  }

  #op(op: RawOp["op"], id: unknown, fields: RawOp["fields"]): RawOp {
    if (typeof id !== "string" || id === "") throw invalid("the id", "must be a text");
    return { op, collection: this.#collection, id: toText(id, "the id"), erase: false, fields };
  }
}

/** A random UUID, also where the page is not served securely and `crypto.randomUUID` is missing. */
export function newId(): string {
  if ("randomUUID" in crypto) return crypto.randomUUID();
  const random: Uint8Array = (crypto as Crypto).getRandomValues(new Uint8Array(16));
  const hex = Array.from(random, (byte, at) => {
    const marked = at === 6 ? (byte & 0x0f) | 0x40 : at === 8 ? (byte & 0x3f) | 0x80 : byte;
    return marked.toString(16).padStart(2, "0");
  }).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/u, "$1-$2-$3-$4-");
}
