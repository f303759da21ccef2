/**
 * What a page and the worker of one of its databases say to each other, by structured clone.
 *
 * Messages of one direction arrive in the order in which they were posted, and each from the worker holds, in
 * order, what came out of the engine in one go, unless that is very much. So the order that `raw.ts` promises holds on
 * the page, too.
 */

import type { RawChange, RawEngine, RawError, RawEvent, RawOptions, RawRejected } from "./raw.js";

/** What both ends speak through: a worker, its global scope, or a port of a channel. */
export interface Port {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
}

/** What the worker is asked to do with an open database; the page itself knows the rest. */
export type Method = Exclude<keyof RawEngine, "status" | "rejected">;

/** What of the page the engine needs before it begins. */
export interface Lent {
  readonly visible: boolean;
  /** What `localStorage` holds of this database; `null`: this page has none. */
  readonly kept: Readonly<Record<string, string>> | null;
  /** Name of the lock that the worker holds as long as it lives. */
  readonly life: string;
}

/** From the page. The first one is `open` or `destroy`, and the only one of these. */
export type ToWorker =
  | { readonly to: "open"; readonly id: number; readonly options: RawOptions; readonly lent: Lent }
  | { readonly to: "destroy"; readonly id: number; readonly name: string; readonly lent: Lent }
  | {
      readonly to: "call";
      readonly id: number;
      readonly method: Method;
      readonly args: readonly unknown[];
    }
  | { readonly to: "stage"; readonly news: News };

/** What happens to the page. */
export type News =
  | { readonly type: "visibilitychange"; readonly visible: boolean }
  /** It goes on after it was frozen, or kept for the way back. */
  | { readonly type: "resume" }
  /** What `localStorage` holds now. */
  | { readonly type: "kept"; readonly key: string; readonly value: string | null }
  /** The browser was asked to keep the data. */
  | { readonly type: "persist"; readonly granted: boolean };

/** An entry of `localStorage` is to change; `null`: absent. */
export interface Note {
  readonly key: string;
  /** What the worker knew to be there. */
  readonly from: string | null;
  readonly to: string | null;
}

/** From the worker: notes first, so that they are made before anybody hears of what they are about. */
export interface FromWorker {
  readonly notes: readonly Note[];
  readonly items: readonly Item[];
}

/** One thing that came out of the worker. */
export type Item =
  /** The script runs, and holds its lock where there are locks. */
  | { readonly type: "alive"; readonly locked: boolean }
  | { readonly type: "event"; readonly event: RawEvent }
  /** Changes of the `changed` event that follows, which would take the page too long in one message. */
  | { readonly type: "part"; readonly changes: readonly RawChange[] }
  /** The list goes before the event that tells of it. */
  | { readonly type: "rejected"; readonly rejected: readonly RawRejected[] }
  | { readonly type: "answer"; readonly id: number; readonly value: unknown }
  | { readonly type: "failure"; readonly id: number; readonly error: RawError }
  /** The browser is to be asked to keep the data. */
  | { readonly type: "persist" };
