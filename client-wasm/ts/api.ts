/** All of the package that needs no engine; every entry has it. */

export { addTo, increment, removeFrom, resolve } from "./changes.js";
export type { Increment, Resolution, SetChange } from "./changes.js";
export type { Batch } from "./batch.js";
export type {
  BatchCollection,
  Collection,
  Query,
  QueryIdentity,
  RemoveOptions,
} from "./collection.js";
export type { Database, DatabaseCore, Network } from "./db.js";
export type { LivePresence } from "./presence.js";
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
  Opening,
  OpenOptions,
  Other,
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
  Showing,
  ShowingOf,
  Sibling,
  Status,
  StorageState,
  SyncOptions,
  Values,
  Verified,
} from "./types.js";
export type { StepOptions, Undoable, UndoOptions } from "./undoable.js";
