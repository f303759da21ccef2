/** The engine's status, events and rejected writes as the app sees them. */

import { Increment, Resolution, SetChange } from "./changes.js";
import { toSyncError } from "./errors.js";
import type { RawEvent, RawOp, RawRejected, RawStatus, RawStorage } from "./raw.js";
import type {
  ConflictEvent,
  Json,
  RejectedRecord,
  RejectedWrite,
  Status,
  StorageState,
} from "./types.js";

/** Frozen; what is unknown is left out. */
export function showStatus(raw: RawStatus): Status {
  const { state, paused, pending, rejected, synced, leader, replica } = raw;
  const { progress, verified, account, lastSyncedAt, error } = raw;
  return Object.freeze({
    ...{ state, paused, pending, rejected, synced, leader, replica },
    storage: showStorage(raw.storage),
    ...(progress && {
      progress: Object.freeze({
        records: progress.records,
        bytes: progress.bytes,
        ...(progress.total !== null && { total: progress.total }),
      }),
    }),
    ...(verified && { verified: Object.freeze({ ...verified, short: verified.root.slice(0, 8) }) }),
    ...(account && { account: Object.freeze({ ...account }) }),
    ...(lastSyncedAt !== null && { lastSyncedAt }),
    ...(error && { error: toSyncError(error) }),
  });
}

/** Frozen; what is unknown is left out. */
export function showStorage(raw: RawStorage): StorageState {
  const { mode, usage, quota, problem, writesLost, atRisk } = raw;
  return Object.freeze({
    ...{ mode, writesLost, atRisk },
    ...(usage !== null && { usage }),
    ...(quota !== null && { quota }),
    ...(problem !== null && { problem }),
  });
}

/** Without the type. */
export function showConflict({
  collection,
  id,
  field,
  won,
  lost,
  value,
  own,
}: Extract<RawEvent, { type: "conflict" }>): ConflictEvent {
  return Object.freeze({ collection, id, field, won, lost, value, own });
}

/** With what was written in the form in which an app writes it. */
export function showRejected({ row, code, reason, at, ops }: RawRejected): RejectedWrite {
  return Object.freeze({ row, code, reason, at, writes: Object.freeze(ops.map(showRecord)) });
}

function showRecord({ op, collection, id, fields }: RawOp): RejectedRecord {
  const shown: Record<string, Json | Increment | SetChange<Json> | Resolution<Json>> = {};
  for (const [field, , action, value] of fields) {
    const elements: readonly Json[] = Array.isArray(value) ? value : [];
    const before = shown[field];
    const known = before instanceof SetChange ? before : new SetChange<Json>([], []);
    if (action === "set") shown[field] = value;
    else if (action === "increment") shown[field] = new Increment(Number(value));
    else if (action === "resolve") shown[field] = new Resolution(value);
    else if (action === "add") shown[field] = new SetChange(elements, known.remove);
    else shown[field] = new SetChange(known.add, elements);
  }
  return Object.freeze({ op, collection, id, fields: Object.freeze(shown) });
}

/**
 * Text for a person or a program to keep: JSON, in which bytes are `{"$bytes": "<base64>"}` and big
 * integers `{"$bigint": "<digits>"}`.
 */
export function exportRejected(list: readonly RejectedWrite[]): string {
  const plain = (value: unknown): unknown => {
    if (typeof value === "bigint") return { $bigint: String(value) };
    if (value instanceof Uint8Array) {
      return { $bytes: btoa(Array.from(value, (byte) => String.fromCharCode(byte)).join("")) };
    }
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  };
  return JSON.stringify(plain(list), undefined, 2);
}
