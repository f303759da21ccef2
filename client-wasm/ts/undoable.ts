/** Undo and redo: what was written in a scope, and how it is taken back. */

import type { Batch } from "./batch.js";
import { type Cells, type Effect, effectOf, join, opsTo, perform, without } from "./effect.js";
import { SyncError } from "./errors.js";
import { callSafely } from "./events.js";
import type { RawColumn, RawOp, RawRow } from "./raw.js";
import { mutation, type Written } from "./receipts.js";
import type { Mutation, Receipt, SchemaShape } from "./types.js";
import { invalid } from "./values.js";

/** What a scope needs of its database. */
export interface UndoHost<S extends SchemaShape> {
  /** Runs the function of a batch. */
  fill<T>(fill: (batch: Batch<S>) => T): { readonly ops: readonly RawOp[]; readonly value: T };
  /** What rows of the collection show. */
  columns(collection: string): readonly RawColumn[];
  read(collection: string, id: string): Promise<RawRow | undefined>;
  write(ops: readonly RawOp[]): Promise<Written<void>>;
  /** Operations that were handed over and are not durable yet. */
  underWay(): readonly RawOp[];
  isRefused(row: number): boolean;
}

/** How a scope keeps its steps. */
export interface UndoOptions {
  /** How many steps are kept; 100 if left out. */
  readonly limit?: number | undefined;
  /** Batches that follow within so many milliseconds are one step; 0, none, if left out. */
  readonly within?: number | undefined;
}

/** How one batch is kept. */
export interface StepOptions {
  /** Batches of the same group that follow one another are one step, however long that takes. */
  readonly group?: string | undefined;
}

const LIMIT = 100;
/** As many as a batch may touch: more could not be taken back at once. */
const RECORDS_MAX = 1_000;
/** How often a step is undone and redone before it is forgotten how it began. */
const TURNS_MAX = 8;
/** How often an undo is worked out anew because a record came or went meanwhile. */
const TRIES = 3;

/** Effects on different records. */
type Part = readonly Effect[];

/** One of the states that a step goes through: done, undone, done again. */
interface Turn {
  readonly isDone: boolean;
  /** The writes that brought it about. */
  readonly rows: readonly number[];
  /** What they did, in order. */
  readonly parts: readonly Part[];
}

interface Step {
  /** Never empty; the last one is the present. */
  readonly turns: Turn[];
  readonly group: string | undefined;
  /** When it last grew. */
  at: number;
}

/**
 * A scope whose writes can be undone and redone; made by `db.undoable`. Nothing of it outlives the page.
 *
 * Undo takes back what was written in the scope, by a new write, all of a step or nothing:
 *
 * | written | undo writes |
 * |---|---|
 * | a plain or `review` field | the value before, if the field still shows what was written; else it stays as others have made it |
 * | a `counter` | the opposite increment |
 * | a `set` | elements that came go, elements that went come back |
 * | `max`, `min`, `fww` | the value before, if the kind lets it win; it seldom does |
 * | `add` | `remove`: an edit made elsewhere that has not arrived keeps the record |
 * | `remove`, `erase` too | `add`, with all fields of the schema as they were, unless the record is there again |
 * | `put` | field by field, as above |
 *
 * A `review` field that showed several siblings goes back to the one that it showed first. A step of which nothing is
 * left to be taken back is passed over.
 *
 * @typeParam S - The schema.
 */
export class Undoable<S extends SchemaShape> {
  /** As given to `db.undoable`. */
  readonly name: string;
  /** How many steps are kept. */
  readonly limit: number;
  /** Batches that follow within so many milliseconds are one step. */
  readonly within: number;
  readonly #host: UndoHost<S>;
  readonly #listeners = new Set<{ call(): void }>();
  /** Batches that are not durable yet. */
  readonly #making = new Set<Promise<unknown>>();
  /** Oldest first. */
  #steps: Step[] = [];
  /** How many batches became durable. */
  #made = 0;
  /** Undo and redo go one after the other. */
  #lastTurn: Promise<unknown> = Promise.resolve();

  /** Made by a database. */
  constructor(name: string, host: UndoHost<S>, { limit = LIMIT, within = 0 }: UndoOptions = {}) {
    if (!(limit >= 1)) throw invalid("the limit", "must be 1 or more");
    if (!(within >= 0)) throw invalid("within", "must be 0 or more");
    this.name = name;
    this.#host = host;
    this.limit = limit;
    this.within = within;
  }

  /** Whether there is a step to undo. */
  get canUndo(): boolean {
    return this.#steps.some(isDone);
  }

  /** Whether there is a step to redo. */
  get canRedo(): boolean {
    return !this.#steps.every(isDone);
  }

  /**
   * As `db.batch`, and a step of this scope once it is durable. What could be redone no longer can.
   *
   * @example
   * await editor.batch((batch) => batch.tasks.update(id, { title }), { group: `title of ${id}` });
   */
  batch<T>(fill: (batch: Batch<S>) => T, options: StepOptions = {}): Mutation<T> {
    return mutation(this.#make(fill, options));
  }

  /**
   * Takes the last step back that is done; yields whether there was anything to be taken back. When it rejects, the
   * step stays. A step that takes more bytes to be taken back than a batch may have becomes several.
   *
   * @example
   * if (!(await editor.undo())) beep();
   */
  undo(): Mutation<boolean> {
    return this.#inTurn(() => this.#steps.filter(isDone).at(-1));
  }

  /**
   * Does again what was undone last; yields whether there was anything. As with undo, what others have written
   * since stays.
   *
   * @example
   * await editor.redo();
   */
  redo(): Mutation<boolean> {
    return this.#inTurn(() => this.#steps.find((step) => !isDone(step)));
  }

  /**
   * Calls `listener` whenever `canUndo` or `canRedo` may have changed, until the returned function is called.
   *
   * @example
   * const stop = editor.subscribe(() => (button.disabled = !editor.canUndo));
   */
  subscribe(listener: () => void): () => void {
    const entry = { call: listener };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /**
   * Forgets all steps; what they wrote stays.
   *
   * @example
   * editor.clear();
   */
  clear(): void {
    this.#change([]);
  }

  /** @internal The server refused writes, and they are shown no longer. */
  refused(): void {
    let isNew = false;
    const steps = this.#steps.filter(({ turns }) => {
      const at = turns.findIndex(({ rows }) => rows.some((row) => this.#host.isRefused(row)));
      if (at < 0) return true;
      isNew = true;
      // A refused undo has undone nothing, and a step that was refused itself is none.
      turns.length = at;
      return at > 0;
    });
    if (isNew) this.#change(steps);
  }

  async #make<T>(fill: (batch: Batch<S>) => T, { group }: StepOptions): Promise<Written<T>> {
    const { ops, value } = this.#host.fill(fill);
    const making = this.#record(ops, group);
    this.#making.add(making);
    try {
      return { value, receipt: await making };
    } finally {
      this.#making.delete(making);
    }
  }

  /** Asks for what is there and writes in one go, so that nothing comes between. */
  async #record(ops: readonly RawOp[], group: string | undefined): Promise<Receipt> {
    const found = this.#found(ops).catch(() => undefined);
    const { receipt } = await this.#host.write(ops);
    const before = await found;
    // What cannot be read cannot be taken back; it was written all the same.
    const part = before === undefined ? [] : this.#effects(ops, before);
    this.#made += 1;
    if (part.length > 0 && !this.#host.isRefused(receipt.row)) this.#add(receipt.row, part, group);
    return receipt;
  }

  /** What the records of `keys` show once what is under way has been done. */
  async #found(keys: readonly Key[]): Promise<ReadonlyMap<string, Cells | null>> {
    const ahead = byRecord(this.#host.underWay());
    const reads = [...byRecord(keys)].map(async ([key, [record]]) => {
      if (record === undefined) return [];
      const { collection, id } = record;
      const row = await this.#host.read(collection, id);
      const columns = this.#host.columns(collection);
      return [[key, perform(columns, row?.values ?? null, ahead.get(key) ?? [])] as const];
    });
    return new Map((await Promise.all(reads)).flat());
  }

  #effects(ops: readonly RawOp[], before: ReadonlyMap<string, Cells | null>): Part {
    return [...byRecord(ops)].flatMap(([key, own]) => {
      const columns = this.#host.columns(own[0]?.collection ?? "");
      return effectOf(columns, before.get(key) ?? null, own) ?? [];
    });
  }

  #add(row: number, part: Part, group: string | undefined): void {
    const last = this.#steps.at(-1);
    const at = performance.now();
    if (last !== undefined && this.#follows(last, group, at) && this.#merge(last, row, part)) {
      last.at = at;
      return;
    }
    const turn: Turn = { isDone: true, rows: [row], parts: [part] };
    const steps = [...this.#steps.filter(isDone), { turns: [turn], group, at }];
    this.#change(steps.slice(-this.limit));
  }

  /** Whether a batch is more of the last step, which was never undone. */
  #follows(last: Step, group: string | undefined, at: number): boolean {
    if (last.turns.length > 1 || last.group !== group) return false;
    return group !== undefined || at - last.at < this.within;
  }

  /** Whether the step could take it in. */
  #merge(step: Step, row: number, part: Part): boolean {
    const [turn] = step.turns;
    const last = turn?.parts.at(-1);
    if (turn === undefined || last === undefined) return false;
    if (byRecord([...turn.parts, part].flat()).size > RECORDS_MAX) return false;
    const joined = this.#joined(last, part);
    const parts =
      joined === undefined ? [...turn.parts, part] : [...turn.parts.slice(0, -1), joined];
    step.turns[0] = { isDone: true, rows: [...turn.rows, row], parts };
    return true;
  }

  /** Both as one, so that a text that is typed is not kept once for each letter. */
  #joined(first: Part, second: Part): Part | undefined {
    const joined = new Map(first.map((effect) => [keyOf(effect), effect]));
    for (const effect of second) {
      const known = joined.get(keyOf(effect));
      const columns = this.#host.columns(effect.collection);
      const both = known === undefined ? effect : join(columns, known, effect);
      if (both === undefined) return undefined;
      joined.set(keyOf(effect), both);
    }
    return [...joined.values()];
  }

  #inTurn(next: () => Step | undefined): Mutation<boolean> {
    const turn = this.#lastTurn.then(() => this.#toggle(next));
    this.#lastTurn = turn.catch(() => undefined);
    return mutation(turn);
  }

  /** Takes back what brought the next step where it is. */
  async #toggle(next: () => Step | undefined): Promise<Written<boolean>> {
    // What was called before is undone, too.
    await Promise.allSettled(this.#making);
    let tries = TRIES;
    for (let step = next(); step !== undefined; step = next()) {
      const made = this.#made;
      const { ops, part } = await this.#inverse(step);
      // Cleared, or refused, meanwhile.
      if (!this.#steps.includes(step)) continue;
      if (ops.length === 0) {
        this.#drop(step);
        continue;
      }
      try {
        const { receipt } = await this.#host.write(ops);
        this.#turned(step, { isDone: !isDone(step), rows: [receipt.row], parts: [part] }, made);
        return { value: true, receipt };
      } catch (error) {
        if (isTooLarge(error) && this.#split(step)) continue;
        tries -= 1;
        if (tries === 0 || !isOutdated(error)) throw error;
      }
    }
    return { ...(await this.#host.write([])), value: false };
  }

  async #inverse(step: Step): Promise<{ ops: readonly RawOp[]; part: Part }> {
    const effects = step.turns.at(-1)?.parts.flat() ?? [];
    const now = await this.#found(effects);
    const ops = [...byRecord(effects)].flatMap(([key, own]) => {
      const [record] = own;
      if (record === undefined) return [];
      const columns = this.#host.columns(record.collection);
      const found = now.get(key) ?? null;
      const wanted = own.reduceRight((cells, effect) => without(columns, cells, effect), found);
      return opsTo(columns, record, found, wanted);
    });
    return { ops, part: this.#effects(ops, now) };
  }

  #turned(step: Step, turn: Turn, made: number): void {
    if (!this.#steps.includes(step)) return;
    // What is undone cannot be redone once something else was written.
    if (!turn.isDone && made !== this.#made) return this.#drop(step);
    step.turns.push(turn);
    if (step.turns.length > TURNS_MAX) step.turns.shift();
    this.#change(this.#steps);
    this.refused();
  }

  /** Makes two steps of one that is too large for a write, by records; whether it could. */
  #split(step: Step): boolean {
    const keys = [...byRecord(step.turns.flatMap(({ parts }) => parts.flat())).keys()];
    if (keys.length < 2) return false;
    const late = new Set(keys.slice(keys.length >> 1));
    const half = (isLate: boolean): Step => {
      const isOf = (effect: Effect): boolean => late.has(keyOf(effect)) === isLate;
      const parts = (turn: Turn): Turn => ({
        ...turn,
        parts: turn.parts.map((part) => part.filter(isOf)),
      });
      return { ...step, turns: step.turns.map(parts) };
    };
    const at = this.#steps.indexOf(step);
    const others = [this.#steps.slice(0, at), this.#steps.slice(at + 1)] as const;
    this.#change([...others[0], half(false), half(true), ...others[1]]);
    return true;
  }

  #drop(step: Step): void {
    this.#change(this.#steps.filter((other) => other !== step));
  }

  #change(steps: Step[]): void {
    this.#steps = steps;
    for (const entry of [...this.#listeners]) callSafely(() => entry.call());
  }
}

/** The scopes of one database. */
export class Undoables<S extends SchemaShape> {
  readonly #host: UndoHost<S>;
  readonly #scopes = new Map<string, Undoable<S>>();

  /** None at first. */
  constructor(host: UndoHost<S>) {
    this.#host = host;
  }

  /** See `db.undoable`. */
  scope(name: string, options: UndoOptions = {}): Undoable<S> {
    const known = this.#scopes.get(name);
    const scope = known ?? new Undoable(name, this.#host, options);
    const { limit = scope.limit, within = scope.within } = options;
    if (limit !== scope.limit || within !== scope.within) {
      throw invalid(`the scope ${JSON.stringify(name)}`, "has other options already");
    }
    this.#scopes.set(name, scope);
    return scope;
  }

  /** The server refused writes. */
  refused(): void {
    for (const scope of this.#scopes.values()) scope.refused();
  }

  /** Nothing can be undone any more. */
  clear(): void {
    for (const scope of this.#scopes.values()) scope.clear();
  }
}

function isDone({ turns }: Step): boolean {
  return turns.at(-1)?.isDone === true;
}

/** A few bytes took away what takes many to bring back. */
function isTooLarge(error: unknown): boolean {
  return error instanceof SyncError && error.code === "too_large";
}

/** A record came or went while it was worked out what to write. */
function isOutdated(error: unknown): boolean {
  return error instanceof SyncError && (error.code === "exists" || error.code === "absent");
}

type Key = Pick<RawOp, "collection" | "id">;

function keyOf({ collection, id }: Key): string {
  return JSON.stringify([collection, id]);
}

/** What is about the same record together, in order. */
function byRecord<K extends Key>(list: readonly K[]): Map<string, K[]> {
  const records = new Map<string, K[]>();
  for (const item of list) {
    const key = keyOf(item);
    const known = records.get(key);
    if (known === undefined) records.set(key, [item]);
    else known.push(item);
  }
  return records;
}
