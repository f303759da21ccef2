/** The one error type of the package. */

const CODES = [
  "closed",
  "exists",
  "absent",
  "invalid",
  "too_large",
  "overflow",
  "unknown_collection",
  "rejected",
  "discarded",
  "quota",
  "storage",
  "unknown",
  "busy",
  "blocked",
  "reload_needed",
  "unauthorized",
  "other_account",
  "other_space",
  "forbidden",
  "network",
  "upgrade_client",
  "upgrade_server",
  "protocol",
  "load",
  "poisoned",
  "internal",
] as const;

/**
 * What went wrong, for programs. The strings are stable; new ones may be added.
 *
 * | code | meaning |
 * |---|---|
 * | `closed` | the database is closed or being closed |
 * | `exists` | `add` with the id of a live record |
 * | `absent` | `update` of a record that is not there |
 * | `invalid` | a value, name, filter or option that does not fit; nothing was written |
 * | `too_large` | a limit on values, records, batches, or collections at `open`; nothing was written |
 * | `overflow` | a counter or clock cannot count further; nothing was written |
 * | `unknown_collection` | not in the schema, or left out of `collections` |
 * | `rejected` | the server refused the write; it is in `db.rejected` |
 * | `discarded` | the app gave the write up with `db.discardPending()` before the server had it |
 * | `quota` | the browser has no space left; nothing was written, reading goes on, sending when there is space |
 * | `storage` | the browser failed to read or write |
 * | `unknown` | the browser failed in the middle: the write may or may not be durable; read again before writing it again |
 * | `busy` | more writes wait for the browser than may; nothing was written, try again when some are done |
 * | `blocked` | another tab holds the database |
 * | `reload_needed` | a newer version of the app has taken over the database |
 * | `unauthorized` | the token is missing or not good |
 * | `other_account` | the token is another account's than the data; see `db.adopt()` |
 * | `other_space` | the database of this name belongs to another space; nothing was read or sent |
 * | `forbidden` | no right to do this |
 * | `network` | the server cannot be reached |
 * | `upgrade_client`, `upgrade_server` | the other side is too new, too old |
 * | `protocol` | the other side broke the protocol |
 * | `load` | the WebAssembly could not be loaded, or its worker not be started |
 * | `poisoned` | the engine broke; reload the page, or open again what runs in a worker: what was durable is safe |
 * | `internal` | a bug |
 */
export type SyncErrorCode = (typeof CODES)[number];

/** How a {@link SyncError} is made. */
export interface SyncErrorOptions {
  /** Whether the same call may succeed later; `false` if left out. */
  readonly retryable?: boolean;
  /** What it comes from. */
  readonly cause?: unknown;
}

/**
 * Every error of this package: thrown, rejected with, or shown in `db.status.error`.
 *
 * @example
 * try {
 *   await db.tasks.add({ id: "1", title: "Buy milk" });
 * } catch (error) {
 *   if (error instanceof SyncError && error.code === "exists") showTask("1");
 *   else throw error;
 * }
 */
export class SyncError extends Error {
  /** What went wrong, for programs. */
  readonly code: SyncErrorCode;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;

  /** Made by the package; public for tests of apps. */
  constructor(code: SyncErrorCode, message: string, options: SyncErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "SyncError";
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** Whatever was thrown, as a {@link SyncError}; what is not known is `internal`, with its cause. */
export function toSyncError(thrown: unknown): SyncError {
  if (thrown instanceof SyncError) return thrown;
  if (typeof thrown === "object" && thrown !== null && "code" in thrown) {
    const { code } = thrown;
    const message = "message" in thrown ? String(thrown.message) : String(code);
    const retryable = "retryable" in thrown && thrown.retryable === true;
    if (isCode(code)) return new SyncError(code, message, { retryable, cause: thrown });
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SyncError("internal", message, { cause: thrown });
}

/**
 * Whether what came out of a call of the engine is a trap: memory or stack exhausted, an access out of
 * bounds. The engine itself throws no such errors, and can do nothing once it met one.
 */
export function isTrap(thrown: unknown): thrown is Error {
  if (thrown instanceof WebAssembly.RuntimeError || thrown instanceof RangeError) return true;
  // How Firefox says that the stack is exhausted.
  return thrown instanceof Error && thrown.name === "InternalError";
}

/** The error of every call after the engine broke. */
export function poisonedError(message: string, cause?: unknown): SyncError {
  return new SyncError("poisoned", message, { retryable: true, cause });
}

/** The error of every call after `close()`. */
export function closedError(): SyncError {
  return new SyncError("closed", "the database is closed");
}

function isCode(code: unknown): code is SyncErrorCode {
  return CODES.some((known) => known === code);
}
