/** The types that an app sees. */

import type { Increment, Resolution, SetChange } from "./changes.js";
import type { SyncError } from "./errors.js";

/** Which CRDT a field is; see the builders in `schema`. */
export type Kind = "lww" | "fww" | "max" | "min" | "counter" | "set" | "review";

/** What `json()` fields, set elements and siblings may hold. Integers beyond ±2^53 are `bigint`. */
export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Json[]
  | { readonly [name: string]: Json };

/** Whether a field may be left out when a record is added. */
export type Presence = "required" | "optional" | "defaulted";

/** The phantom part of a field: how it is typed. */
export interface FieldType<K extends Kind = Kind, T = unknown, P extends Presence = Presence> {
  /** The CRDT. */
  readonly kind: K;
  /** Types only; absent at run time. */
  readonly "~type"?: { readonly value: T; readonly presence: P };
}

/** The fields of a collection, by name. */
export type Fields = Readonly<Record<string, FieldType>>;

/** The collections of a schema, by name (`tasks`) or prefix (`tasks/*`); `presence` is what tabs show, and none. */
export type SchemaShape = Readonly<Record<string, Fields>>;

/** One of the values of a `review` field that were written side by side. */
export interface Sibling<T> {
  readonly value: T;
  /** Identifies the write. */
  readonly stamp: string;
  /** Which replica wrote it. */
  readonly replica: string;
  /** When, in milliseconds since 1970 by the writer's clock. */
  readonly at: number;
}

/** What a `review` field shows. More than one sibling: somebody should choose, see `resolve()`. */
export interface Review<T> {
  /** The latest sibling's value, or the default. */
  readonly value: T;
  /** Latest first. */
  readonly siblings: readonly Sibling<T>[];
  /** Whether there are several siblings. */
  readonly conflicted: boolean;
}

type ValueOf<F> = F extends FieldType<Kind, infer T> ? T : never;
type PresenceOf<F> = F extends FieldType<Kind, unknown, infer P> ? P : never;
type KindOf<F> = F extends FieldType<infer K> ? K : never;

/** What a row shows for a field. */
export type Shown<F> =
  KindOf<F> extends "review"
    ? Review<ValueOf<F>>
    : KindOf<F> extends "set"
      ? readonly ValueOf<F>[]
      : ValueOf<F>;

/**
 * A record as the app reads it: frozen, and the same object as long as nothing in it changes.
 *
 * @example
 * type Task = Row<typeof schema.tasks>;
 */
export type Row<F extends Fields> = {
  readonly [N in "id" | keyof F]: N extends keyof F ? Shown<F[N]> : string;
};

type Given<F> =
  KindOf<F> extends "set"
    ? readonly ValueOf<F>[]
    : KindOf<F> extends "counter"
      ? number | bigint
      : ValueOf<F>;
type Required<F extends Fields> = {
  [N in keyof F]: PresenceOf<F[N]> extends "required" ? N : never;
}[keyof F];

/** What `put` takes: required fields, and any of the others. `undefined` is the same as left out. */
export type Values<F extends Fields> = {
  readonly [N in Required<F>]: Given<F[N]>;
} & { readonly [N in Exclude<keyof F, Required<F>>]?: Given<F[N]> | undefined };

/** What `add` takes: as `put`, and the id, which is a new random UUID if it is left out. */
export type Insert<F extends Fields> = Values<F> & { readonly id?: string | undefined };

/** What `update` takes: any of the fields. `undefined` is the same as left out. */
export type Patch<F extends Fields> = {
  readonly [N in keyof F]?: PatchOf<F[N]> | undefined;
};

type PatchOf<F> =
  KindOf<F> extends "counter"
    ? Increment
    : KindOf<F> extends "set"
      ? readonly ValueOf<F>[] | SetChange<ValueOf<F>>
      : KindOf<F> extends "review"
        ? ValueOf<F> | Resolution<ValueOf<F>>
        : ValueOf<F>;

/** Stored by the browser so that a power cut cannot undo it, merely handed over, or not stored. */
export type Durability = "flushed" | "saved" | "memory";

/** What a write left behind. */
export interface Receipt {
  /** Number of the write in this database's outbox. */
  readonly row: number;
  /** How safe it is on this device. `memory`: the browser offers no storage. */
  readonly durability: Durability;
  /**
   * Resolves when the server holds the write durably; rejects with code `rejected` when the server
   * refused it. Waits as long as it takes, for ever without `sync`.
   */
  readonly synced: Promise<void>;
}

/**
 * The promise of a write: resolves when the write is durable on this device.
 *
 * @example
 * const task = await db.tasks.add({ title: "Buy milk" });
 * await db.tasks.remove(task.id).synced;
 */
export interface Mutation<T> extends Promise<T> {
  /** The receipt; rejects as the write does. */
  readonly receipt: Promise<Receipt>;
  /** Short for `(await receipt).synced`. */
  readonly synced: Promise<void>;
}

/** A tab that shows something of itself: somebody else's, or another one of this browser. */
export interface Other<T = Json> {
  /** Unique as long as it is there; it gets another one with each connection. */
  readonly id: string;
  /** As whom the server knows whoever it is; `null`: not known yet. */
  readonly principal: string | null;
  /** All that it shows. */
  readonly value: T;
}

/**
 * What tabs show: any value, or the fields that a schema declares under `presence`.
 *
 * @typeParam G - As it is given.
 * @typeParam T - As it is shown.
 */
export interface Showing<G = Json, T = Json> {
  readonly given: G;
  readonly shown: T;
}

/** What tabs show under a schema. */
export type ShowingOf<S extends SchemaShape> = S extends {
  readonly presence: infer F extends Fields;
}
  ? Showing<Values<F>, { readonly [N in keyof F]: Shown<F[N]> }>
  : Showing;

/** What the status badge of an app shows. The object is the same as long as nothing changes. */
export interface Status {
  readonly state: "offline" | "connecting" | "syncing" | "live" | "needs-auth" | "closed";
  /** Whether `network.pause()` is in force. */
  readonly paused: boolean;
  /** Writes that the server has not acknowledged. */
  readonly pending: number;
  /** Writes in `db.rejected`. */
  readonly rejected: number;
  /** While records arrive or are compared: what has come by feed, snapshot and heal, and in how many bytes. */
  readonly progress?: {
    readonly records: number;
    readonly total?: number;
    readonly bytes: number;
  };
  /**
   * The last time both sides compared their roots at the same place and found them equal. After a reload
   * only if what is held now still has that root.
   */
  readonly verified?: Verified;
  /**
   * Set while the server welcomes another account (`theirs`) than the one whose data this is (`ours`):
   * nothing is sent until `db.adopt()`, `db.discardPending()`, or a token of `ours`. `state` is
   * `needs-auth` then, and the code of `error` `other_account`.
   */
  readonly account?: Account;
  /** Nothing is pending and everything held stands verified. */
  readonly synced: boolean;
  /** When `synced` was last true, in milliseconds since 1970; kept over reloads. */
  readonly lastSyncedAt?: number;
  /** Whether this tab holds the connection for all tabs. */
  readonly leader: boolean;
  /** The id of this replica. */
  readonly replica: string;
  readonly storage: StorageState;
  /** Why it is not live, if that is known. */
  readonly error?: SyncError;
}

/** Two accounts, by the names that the server has for them. */
export interface Account {
  /** Whose data this is. */
  readonly ours: string;
  /** Whose token it was. */
  readonly theirs: string;
}

/** Roots were equal. */
export interface Verified {
  /** 64 hexadecimal digits. */
  readonly root: string;
  /** The first 8 of them, for people. */
  readonly short: string;
  /** Place in the server's feed. */
  readonly seq: number;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** How safe stored data is. */
export interface StorageState {
  /** `persistent`: the browser promised to keep it; `memory`: nothing survives this page. */
  readonly mode: "persistent" | "best-effort" | "memory";
  /** Bytes used and available, as the browser estimates them. */
  readonly usage?: number;
  readonly quota?: number;
  /** What is wrong now. `reload_needed`: another tab runs a newer version. */
  readonly problem?: "quota" | "lost" | "evicted" | "unreadable" | "reload_needed";
  /**
   * Writes that had returned here, even if only `saved`, and were not sent were gone when the database was
   * opened: the browser lost them, or its files are from an earlier time. Stays so until the page is left, and
   * is so again at the next `open` unless `db.status` was read.
   */
  readonly writesLost: boolean;
  /**
   * A crash may take along writes that have returned: no new log was begun. Known from the first write on, where
   * the agent's name tells of Chromium.
   */
  readonly atRisk: boolean;
}

/** A write that lost against one that did not know it. */
export interface ConflictEvent {
  readonly collection: string;
  readonly id: string;
  readonly field: string;
  /** Stamps of the two writes. */
  readonly won: string;
  readonly lost: string;
  /** What the loser had written. */
  readonly value: Json;
  /** Whether the loser was written in this database. */
  readonly own: boolean;
}

/**
 * The server had lost a part of its history, as after a restore, and this database brought back what it
 * still holds. Told once for each pattern of the subscription.
 */
export interface RefilledEvent {
  /** Records that the server has again. */
  readonly returned: number;
  /** How many it did not take, by reason; they are not shown any more. */
  readonly refused: Readonly<Partial<Record<RejectCode, number>>>;
}

/** One line of the protocol log. */
export interface LogEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly direction: "in" | "out" | "state";
  readonly channel: number;
  /** Name of the message, or of the new state. */
  readonly message: string;
  /** Size on the wire; 0 for `state`. */
  readonly bytes: number;
  /** One line for people. */
  readonly text: string;
}

/** Why a write was refused; see docs/PROTOCOL.md. */
export type RejectCode =
  | "forbidden"
  | "too_large"
  | "forged"
  | "invalid"
  | "record_gone"
  | "unsure"
  | "upgrade_server"
  | "quota";

/** A write that the server refused. It is kept until the app retries, edits or discards it. */
export interface RejectedWrite {
  /** Number of the write; the argument of `retry`, `edit` and `discard`. */
  readonly row: number;
  readonly code: RejectCode;
  /** For people. */
  readonly reason: string;
  /** When it was written, in milliseconds since 1970. */
  readonly at: number;
  /** What it wrote. */
  readonly writes: readonly RejectedRecord[];
}

/** One record of a rejected write. */
export interface RejectedRecord {
  readonly op: "add" | "put" | "update" | "remove";
  readonly collection: string;
  readonly id: string;
  /** Per field what was asked for, e.g. `{ title: "x" }`, `{ votes: increment(1) }`. */
  readonly fields: Readonly<Record<string, Json | Increment | SetChange<Json> | Resolution<Json>>>;
}

/** The events of a database, by name. */
export interface Events {
  /** `db.status` is a new object. */
  status: Status;
  /** A write lost against another. */
  conflict: ConflictEvent;
  /** The server had lost history, and has some of it again. */
  refilled: RefilledEvent;
  /** These writes were refused. */
  rejected: readonly RejectedWrite[];
  /** A message was sent or received, or the connection's state changed. */
  log: LogEvent;
  /** Something happened to the storage; `text` says what. */
  storage: { readonly storage: StorageState; readonly text: string };
  /** These records changed, here or elsewhere; what became visible together comes together. */
  changed: readonly { readonly collection: string; readonly id: string }[];
}

/** Where to sync. */
export interface SyncOptions {
  /** `ws:` or `wss:` (or `http:`, `https:`) address of the server. */
  readonly url: string;
  /** Which space of that server. */
  readonly space: string;
  /** Proof of who the user is, or how to get it; called whenever a new one is needed. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
}

/** What `open` takes. */
export interface OpenOptions<S extends SchemaShape, C extends keyof S & string = keyof S & string> {
  /**
   * Name of the local database. It belongs to the space that it is first opened with: for another one it
   * takes another name, `open` fails with `other_space` else.
   */
  readonly name: string;
  /** Made by `defineSchema`. */
  readonly schema: S;
  /** Left out: everything stays on this device. */
  readonly sync?: SyncOptions | undefined;
  /** `strict` (default): a write resolves when a power cut cannot undo it. */
  readonly durability?: "strict" | "relaxed" | undefined;
  /** Hold only these collections of the schema; at most 64, a prefix (`tasks/*`) counts as one. */
  readonly collections?: readonly C[] | undefined;
  /**
   * Run the engine in a worker of its own: storing, syncing and merging take no time of the page. Everything else
   * is as without. `open` rejects with `load` where the worker cannot be started.
   */
  readonly worker?: boolean | undefined;
}

/** What of a schema is open. */
export type Opening<S extends SchemaShape, C extends keyof S & string> = Pick<
  S,
  C | (keyof S & "presence")
>;

/** What changed between two results of a live query, in terms of what the query shows. */
export interface Diff<R> {
  /** Rows that appeared; `index` in the new result, ascending. */
  readonly added: readonly { readonly row: R; readonly index: number }[];
  /** Rows that went; `index` in the old result, ascending. */
  readonly removed: readonly { readonly row: R; readonly index: number }[];
  /** Rows whose place among the others changed; ascending by `to`, the place in the new result. */
  readonly moved: readonly { readonly row: R; readonly from: number; readonly to: number }[];
  /** Rows that were and are shown and are new objects; ascending by `index` in the new result. */
  readonly changed: readonly { readonly row: R; readonly before: R; readonly index: number }[];
}

/**
 * A result that stays current until it is closed. `subscribe` and `getSnapshot` fit React's `useSyncExternalStore`.
 *
 * @typeParam T - What is shown.
 * @typeParam D - How it changes.
 */
export interface LiveValue<T, D> {
  /**
   * Calls `onValue` once there is a result (`diff` is `undefined`: show everything) and after every change; several
   * changes of one task come together. Returns how to stop.
   */
  subscribe(
    onValue: (value: T, diff: D | undefined) => void,
    onError?: (error: SyncError) => void,
  ): () => void;
  /** The result: the same object as long as nothing changes; `undefined` while it is being loaded. */
  getSnapshot(): T | undefined;
  /** Resolves with the first result. */
  readonly ready: Promise<T>;
  /** Why there is no result. */
  readonly error: SyncError | undefined;
  /** Stops; the last result stays readable. */
  close(): void;
}

/** The rows of a query, made by `live()`. */
export interface LiveQuery<R> extends LiveValue<readonly R[], Diff<R>> {}

/** How many rows a query has, made by `liveCount()`; the second argument of listeners says by how much it changed. */
export interface LiveCount extends LiveValue<number, number> {}

/** The collections of a schema that are reached as `db.<name>`. */
export type ExactName<S extends SchemaShape> = {
  [N in keyof S & string]: N extends `${string}*` | "presence" ? never : N;
}[keyof S & string];

type Covers<N extends string> = N extends `${infer P}/*` ? P | `${P}/${string}` : N;

/** The names that a schema gives collections. */
export type CollectionName<S extends SchemaShape> = {
  [N in keyof S & string]: N extends "presence" ? never : Covers<N>;
}[keyof S & string];

/** The fields of a collection by its name. */
export type FieldsOf<S extends SchemaShape, N extends string> = N extends keyof S
  ? S[N]
  : {
      [P in keyof S & string]: N extends Covers<P> ? S[P] : never;
    }[keyof S & string];
