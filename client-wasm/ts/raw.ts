/**
 * What the WebAssembly engine offers to this package, and nothing that an app sees.
 *
 * Values are plain JavaScript: objects for maps (own properties, never `Map`), arrays, `Uint8Array`,
 * `null`, and `bigint` exactly for integers beyond ±2^53. The engine needs no schema: it is told which
 * cells ("columns") of which collections are shown, and answers with their values in that order.
 *
 * Order that the TypeScript layer relies on:
 * - `emit` is called synchronously, at the moment a change becomes visible, and never re-enters the
 *   engine before it returns; whatever is read after an event is at least as new as the event.
 * - The `changed` and `status` events of a write are emitted before the promise of that write resolves.
 * - What becomes visible together (a batch, everything up to a cut) travels in one `changed` event.
 * - A promise rejects with a {@link RawError} (a plain object or an `Error` with these properties).
 * - After `close()` no event is emitted.
 */

import type { RejectCode } from "./types.js";

/** Which CRDT a cell is. */
export type RawKind = "lww" | "fww" | "max" | "min" | "counter" | "set" | "review";

/** A value as it crosses the border. */
export type RawValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly RawValue[]
  | { readonly [name: string]: RawValue };

/** One cell that rows show: field and kind. */
export type RawColumn = readonly [field: string, kind: RawKind];

/** Collections that are held, and what their rows show. */
export interface RawCollection {
  /** `name`, or `name/*` for `name` and every collection below it. */
  readonly pattern: string;
  /** In the order of {@link RawRow.values}. */
  readonly columns: readonly RawColumn[];
}

/** How to open a database. */
export interface RawOptions {
  /** Name of the local database; two replicas in one page have two names. */
  readonly name: string;
  /** `ws:` or `wss:` address; `null`: never connect. */
  readonly url: string | null;
  /** Which space of that server. */
  readonly space: string;
  /** Held from the start; `null`: none. */
  readonly token: string | null;
  /**
   * Whether the app supplies tokens on demand. If so and no good token is held, the engine emits
   * `{ type: "token" }` before it dials, and dials when `token()` has been called.
   */
  readonly asks: boolean;
  /** What is subscribed, stored and shown. The first pattern that covers a name supplies its columns. */
  readonly collections: readonly RawCollection[];
}

/** One cell's change: `value` as {@link RawAction} says. */
export type RawField = readonly [field: string, kind: RawKind, action: RawAction, value: RawValue];

/**
 * - `set`: lww, fww, max, min: the value. set: an array, the whole new content (what was seen and is
 *   not named is deleted).
 * - `increment`: counter: integer to add, may be negative.
 * - `add`, `delete`: set: an array of elements.
 * - `resolve`: review: the value that replaces all siblings that this replica sees (a first value, too).
 */
export type RawAction = "set" | "increment" | "add" | "delete" | "resolve";

/** One record's part of a write. */
export interface RawOp {
  /**
   * - `add`: as `put`, but rejects with `exists` if the record is live.
   * - `put`: the record holds exactly `fields`; all other cells become absent; creates it if needed.
   * - `update`: touches what it names; rejects with `absent` if the record is not live.
   * - `remove`: nothing happens if the record is not live; `fields` is empty.
   */
  readonly op: "add" | "put" | "update" | "remove";
  readonly collection: string;
  readonly id: string;
  /** `remove`: the values are overwritten, too. */
  readonly erase: boolean;
  readonly fields: readonly RawField[];
}

/** How a write is made. */
export interface RawWriteOptions {
  /** Resolve when the browser has taken the transaction, not when it is flushed to the disk. */
  readonly relaxed: boolean;
  /** Fill {@link RawReceipt.rows}. */
  readonly echo: boolean;
}

/** What a durable write returns. */
export interface RawReceipt {
  /** Number of the outbox row in this database: unique, ascending. */
  readonly row: number;
  /** `memory`: there is no storage (private mode). */
  readonly durability: "flushed" | "saved" | "memory";
  /** With `echo`: per operation what is visible right after the commit; `null` if removed. */
  readonly rows?: readonly (RawRow | null)[];
}

/** A live record as it is visible: base joined with the overlay. */
export interface RawRow {
  readonly id: string;
  /**
   * By column; `undefined` if the cell is absent.
   * lww, fww, max, min: the value. counter: the total (`bigint` beyond ±2^53). set: array of elements,
   * ascending. review: array of {@link RawSibling}, latest stamp first.
   */
  readonly values: readonly (RawValue | readonly RawSibling[] | undefined)[];
}

/** One of the values of a review cell that stand side by side. */
export interface RawSibling {
  readonly value: RawValue;
  /** Unique; text form of the stamp. */
  readonly stamp: string;
  /** Text form of the writer's replica id. */
  readonly replica: string;
  /** Milliseconds since 1970 of the stamp. */
  readonly at: number;
}

/** A part of a collection. */
export interface RawPage {
  readonly rows: readonly RawRow[];
  /** Where to go on; `null`: that was all. */
  readonly next: string | null;
}

/** Where syncing stands. */
export interface RawStatus {
  readonly state: "offline" | "connecting" | "syncing" | "live" | "needs-auth" | "closed";
  /** Paused by the app. */
  readonly paused: boolean;
  /** Outbox rows that the server has not acknowledged. */
  readonly pending: number;
  /** Rows in the list of rejected writes. */
  readonly rejected: number;
  /** While records arrive or are compared; `total` is an estimate, `null` if unknown. */
  readonly progress: {
    readonly records: number;
    readonly total: number | null;
    readonly bytes: number;
  } | null;
  /**
   * The last comparison in which both roots were equal. `root` is 64 hexadecimal digits. From before a
   * reload only if it is still the root of the base.
   */
  readonly verified: { readonly root: string; readonly seq: number; readonly at: number } | null;
  /**
   * Whose data is held here (`ours`), and whom the server welcomed instead (`theirs`); nothing is sent
   * until the app calls `adopt()` or `discardPending()`, or supplies a token of `ours`.
   */
  readonly account: { readonly ours: string; readonly theirs: string } | null;
  /** Nothing is pending and everything held stands verified where it is. */
  readonly synced: boolean;
  /** When `synced` was last true, in milliseconds since 1970; kept over reloads. */
  readonly lastSyncedAt: number | null;
  /** Whether this tab holds the connection. */
  readonly leader: boolean;
  /** Text form of this database's replica id. */
  readonly replica: string;
  readonly storage: RawStorage;
  /** Why it is not live, if that is known; goes when it is. */
  readonly error: RawError | null;
}

/** How safe the stored data is. */
export interface RawStorage {
  /** `persistent`: the browser promised to keep it; `memory`: nothing survives this page. */
  readonly mode: "persistent" | "best-effort" | "memory";
  /** Bytes, estimates of the browser. */
  readonly usage: number | null;
  readonly quota: number | null;
  /** What is wrong now. */
  readonly problem: "quota" | "lost" | "evicted" | "unreadable" | "reload_needed" | null;
  /** Whether writes that were durable and not sent are missing from the database that was opened. */
  readonly writesLost: boolean;
  /** Whether the browser has begun no new log. */
  readonly atRisk: boolean;
}

/** An error as it crosses the border. */
export interface RawError {
  /** One of `SyncErrorCode` in `errors.ts`. */
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

/** A write that the server refused; kept until the app decides. */
export interface RawRejected {
  readonly row: number;
  readonly code: RejectCode;
  /** For people. */
  readonly reason: string;
  /** When it was written, in milliseconds since 1970. */
  readonly at: number;
  /** What it did; `set` of a `set` cell is given as the `add` and `delete` that it was. */
  readonly ops: readonly RawOp[];
}

/** One record of a `changed` event. */
export interface RawChange {
  readonly collection: string;
  readonly id: string;
  /** What is visible now, `null` if nothing; left out for collections that are not watched. */
  readonly row?: RawRow | null;
}

/** A tab that shows something: of another browser, or of this one. */
export interface RawOther {
  /** Unique as long as it is there. */
  readonly id: string;
  /** As whom the server knows it; `null`: not known yet. */
  readonly principal: string | null;
  readonly value: RawValue;
}

/** What others show, as far as that is new; told once `attend` was called. */
export interface RawOthers {
  readonly type: "others";
  /** Who told of them; each tells of its own. */
  readonly from: "server" | "tabs";
  /** Those who were told of before are gone, but for `here`. */
  readonly anew: boolean;
  readonly here: readonly RawOther[];
  readonly gone: readonly string[];
}

/** What the engine tells without being asked. */
export type RawEvent =
  | { readonly type: "changed"; readonly changes: readonly RawChange[] }
  /** These will be among the changes of the next `changed` event; none of them is visible yet. */
  | { readonly type: "coming"; readonly changes: readonly RawChange[] }
  | { readonly type: "status"; readonly status: RawStatus }
  /** The server holds these rows durably; emitted in every tab, also for rows of an earlier page. */
  | { readonly type: "ack"; readonly rows: readonly number[] }
  /** These rows were refused, or the list changed otherwise (`rows` empty); read `rejected()`. */
  | { readonly type: "rejected"; readonly rows: readonly number[] }
  | {
      readonly type: "conflict";
      readonly collection: string;
      readonly id: string;
      readonly field: string;
      /** Stamps of the two writes. */
      readonly won: string;
      readonly lost: string;
      /** What the loser had written. */
      readonly value: RawValue;
      /** Whether the losing write came from this database. */
      readonly own: boolean;
    }
  /** The server had lost history: so many records are there again, and others were not taken, by code. */
  | {
      readonly type: "refilled";
      readonly returned: number;
      readonly refused: readonly (readonly [RawRejected["code"], number])[];
    }
  | {
      readonly type: "log";
      readonly at: number;
      readonly direction: "in" | "out" | "state";
      readonly channel: number;
      /** Name of the message, or of the new state. */
      readonly message: string;
      /** Size of the frame; 0 for `state`. */
      readonly bytes: number;
      /** One line for people. */
      readonly text: string;
    }
  | RawOthers
  | { readonly type: "storage"; readonly storage: RawStorage; readonly text: string }
  /** A token is wanted; `refused` if the one held was not good. */
  | { readonly type: "token"; readonly refused: boolean }
  /** The instance is broken (panic, trap, out of memory); no further call will work. */
  | { readonly type: "poisoned"; readonly message: string };

/** One open database. */
export interface RawEngine {
  /** Applies all operations or none; resolves when durable. Several calls may be under way. */
  write(ops: readonly RawOp[], options: RawWriteOptions): Promise<RawReceipt>;
  /** A live record. */
  get(collection: string, id: string): Promise<RawRow | undefined>;
  /**
   * Up to about `limit` live records, ascending by the bytes of their ids in UTF-8; what stands between two
   * pages is never skipped. A record that is live from the first page to the last is returned exactly once.
   */
  scan(collection: string, after: string | null, limit: number): Promise<RawPage>;
  /** Whether `changed` events carry the rows of this collection; at first they do not. */
  watch(collection: string, on: boolean): void;
  status(): RawStatus;
  /** The app has read that writes were lost. */
  lossRead(): void;
  /** In the order in which they were written. */
  rejected(): readonly RawRejected[];
  /** Sends the row again, under a new stamp. */
  retry(row: number): Promise<RawReceipt>;
  /** Writes `ops` and forgets the row, in one commit. */
  edit(row: number, ops: readonly RawOp[]): Promise<RawReceipt>;
  /** Forgets the row. */
  discard(row: number): Promise<void>;
  /** Goes on as `account.theirs`, and sends what is pending in its name. Works in every tab. */
  adopt(): Promise<void>;
  /** Goes on as `account.theirs`, and forgets what is pending. Works in every tab. */
  discardPending(): Promise<void>;
  /** A call threw what is not a {@link RawError} but a trap: the instance is broken. */
  broke(message: string): void;
  /** `true` hangs up and stays offline; `false` dials at once. */
  pause(paused: boolean): void;
  /** A new token; `null`: none could be had now, ask again after the usual delay. */
  token(token: string | null): void;
  /** This tab shows a value from now on; `undefined`: nothing. */
  present(value: RawValue | undefined): void;
  /** `others` events tell who else is there from now on; who is known is told at once. */
  attend(): void;
  /** By collection: 64 hexadecimal digits, of the base. */
  roots(): Promise<Readonly<Record<string, string>>>;
  /** Finishes writes that are under way, hangs up, lets go of locks and storage. Repeatable. */
  close(): Promise<void>;
}

/** The exported class `Engine`. */
export interface RawEngineClass {
  /** Resolves when local data can be read and written; does not wait for the network. */
  open(options: RawOptions, emit: (event: RawEvent) => void): Promise<RawEngine>;
  /** Deletes the local database; other tabs close it. Rejects with `blocked` if one does not. */
  destroy(name: string): Promise<void>;
}
