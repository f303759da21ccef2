/**
 * Local-first data for web apps: write offline, close, reopen, rejoin, verified.
 *
 * Importing this touches neither the network nor the browser: it is safe in server rendering.
 */

import type { Database } from "./db.js";
import { loadEngine } from "./engine.js";
import { Opener } from "./open.js";
import { remoteEngine, startWorker } from "./remote.js";
import type { OpenOptions, SchemaShape } from "./types.js";

const opener: Opener = new Opener(async (worker) =>
  worker ? remoteEngine(startWorker) : loadEngine(),
);

/**
 * Opens a database; creates it if needed. Resolves when local data can be read and written, and does
 * not wait for the network. Opening the same database again gives the same object.
 *
 * @example
 * const db = await open({
 *   name: "todo",
 *   schema,
 *   sync: { url: "wss://example.org/sync", space: "demo" },
 * });
 */
export function open<S extends SchemaShape, C extends keyof S & string = keyof S & string>(
  options: OpenOptions<S, C>,
): Promise<Database<Pick<S, C>>> {
  return opener.open(options);
}

/**
 * Deletes a local database, unsent writes included; closes it first if this page has it open.
 *
 * @example
 * await destroy("todo");
 */
export function destroy(name: string): Promise<void> {
  return opener.destroy(name);
}

export { version } from "./engine.js";
export { addTo, increment, removeFrom, resolve } from "./changes.js";
export type { Increment, Resolution, SetChange } from "./changes.js";
export type { Batch } from "./batch.js";
export type { BatchCollection, Collection, Query, RemoveOptions } from "./collection.js";
export type { Database, DatabaseCore, Network } from "./db.js";
export { SyncError } from "./errors.js";
export type { SyncErrorCode, SyncErrorOptions } from "./errors.js";
export { and, contains, gt, gte, lt, lte, ne, not, oneOf, or, prefix } from "./query.js";
export type { Combination, Condition, Direction, Filter } from "./query.js";
export type { Rejected } from "./rejected.js";
export {
  bigint,
  bool,
  bytes,
  counter,
  defineSchema,
  fww,
  int,
  json,
  max,
  min,
  number,
  review,
  set,
  text,
} from "./schema.js";
export type { Field, ValueField } from "./schema.js";
export type {
  Account,
  ConflictEvent,
  Diff,
  Durability,
  Events,
  Fields,
  Insert,
  Json,
  Kind,
  LiveCount,
  LiveQuery,
  LiveValue,
  LogEvent,
  Mutation,
  OpenOptions,
  Patch,
  Presence,
  Receipt,
  RefilledEvent,
  RejectCode,
  RejectedRecord,
  RejectedWrite,
  Review,
  Row,
  SchemaShape,
  Sibling,
  Status,
  StorageState,
  SyncOptions,
  Values,
  Verified,
} from "./types.js";
export type { StepOptions, Undoable, UndoOptions } from "./undoable.js";
