/** Who else is here right now, and what they show: of this moment, never stored. */

import { SyncError } from "./errors.js";
import { callSafely } from "./events.js";
import type { RawOther, RawOthers, RawValue } from "./raw.js";
import type { Shape } from "./shape.js";
import type { Other, Showing } from "./types.js";
import { compareValues, freezeValue, rankOf, toValue } from "./values.js";

/** Values leave a tab no more often. */
const EVERY_MS = 50;
/** Largest encoding of a value. */
const BYTES_MAX = 4_096;

/** What presence needs of its database. */
export interface PresenceHost {
  /** This tab shows a value, or nothing. */
  readonly present: (value: RawValue | undefined) => void;
  /** Events tell of others from now on, if the database is open. */
  readonly attend: () => void;
}

interface Known {
  readonly raw: RawOther;
  /** As the app sees it. */
  readonly other: Readonly<Other<unknown>>;
}

/** What this tab shows of itself to everybody in its space, and what they show. Made by `open` as `db.presence`. */
export class LivePresence<W extends Showing<unknown, unknown> = Showing> {
  readonly #shape: Shape | undefined;
  readonly #host: PresenceHost;
  readonly #known = { server: new Map<string, Known>(), tabs: new Map<string, Known>() };
  readonly #listeners = new Set<{ call(others: readonly Other<W["shown"]>[]): void }>();
  #others: readonly Other<W["shown"]>[] = Object.freeze([]);
  #attends = false;
  #telling = false;
  /** Runs while nothing may leave; what is to leave then is in `#waiting`. */
  #pause: ReturnType<typeof setTimeout> | undefined;
  #waiting: { readonly value: RawValue | undefined } | undefined;

  /** @internal */
  constructor(shape: Shape | undefined, host: PresenceHost) {
    this.#shape = shape;
    this.#host = host;
  }

  /**
   * Shows a value of this tab, in place of the one before: a name, a cursor, what is selected. It takes at most 4 KiB.
   * The others see it within some 100 ms, the latest alone; it goes with this tab. While offline other tabs of this
   * browser see it, and everybody else once there is a connection. Of more than 16 tabs of a browser, other browsers
   * see 16.
   *
   * @example
   * canvas.onpointermove = ({ x, y }) => db.presence.set({ name, x, y });
   */
  set(value: W["given"]): void {
    const shown = this.#write(value);
    const bytes = bytesOf(shown);
    if (bytes > BYTES_MAX) {
      const text = `the presence takes ${bytes} bytes, at most ${BYTES_MAX} are allowed`;
      throw new SyncError("too_large", text);
    }
    this.#show(shown);
  }

  /**
   * Shows nothing any more.
   *
   * @example
   * window.onblur = () => db.presence.clear();
   */
  clear(): void {
    this.#show(undefined);
  }

  /**
   * Who else shows something: tabs of others and of this browser, this one excluded. The array, and each entry, is the
   * same object as long as nothing in it changes. Empty at first; what the server knows of is there as long as the
   * connection is.
   *
   * @example
   * const names = db.presence.others.map(({ value }) => value);
   */
  get others(): readonly Other<W["shown"]>[] {
    this.#attend();
    return this.#others;
  }

  /**
   * Calls `listener` whenever `others` has changed, until the returned function is called.
   *
   * @example
   * const stop = db.presence.subscribe((others) => drawCursors(others));
   */
  subscribe(listener: (others: readonly Other<W["shown"]>[]) => void): () => void {
    this.#attend();
    const entry = { call: listener };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  /** @internal */
  take({ from, anew, here, gone }: RawOthers): void {
    const known = this.#known[from];
    const left = new Map(anew ? known : []);
    let changed = false;
    for (const raw of here) {
      left.delete(raw.id);
      const before = known.get(raw.id);
      if (before !== undefined && isSame(before.raw, raw)) continue;
      known.set(raw.id, { raw, other: Object.freeze({ ...raw, value: this.#read(raw) }) });
      changed = true;
    }
    for (const id of [...gone, ...left.keys()]) changed = known.delete(id) || changed;
    if (changed) this.#changed();
  }

  /** @internal Nobody is there any more, and nothing leaves. */
  end(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#waiting = undefined;
    this.#known.server.clear();
    this.#known.tabs.clear();
    if (this.#others.length > 0) this.#changed();
  }

  #write(value: W["given"]): RawValue {
    if (this.#shape === undefined) return toValue(value, "the presence");
    const fields = this.#shape.values(value as Readonly<Record<string, unknown>>);
    return Object.fromEntries(fields.map(([name, , , value]) => [name, value]));
  }

  /** What another app shows need not be of this schema. */
  #read({ id, value }: RawOther): unknown {
    if (this.#shape === undefined) return freezeValue(value);
    const held = rankOf(value) === 6 ? (value as Readonly<Record<string, RawValue>>) : {};
    const own = (name: string): RawValue | undefined =>
      Object.hasOwn(held, name) ? held[name] : undefined;
    const values = this.#shape.columns.map(([name]) => own(name));
    const { id: _, ...shown } = this.#shape.decode({ id, values });
    return Object.freeze(shown);
  }

  #attend(): void {
    if (this.#attends) return;
    this.#attends = true;
    // The engine may be in `emit`, where it must not be entered.
    queueMicrotask(() => this.#host.attend());
  }

  #show(value: RawValue | undefined): void {
    if (this.#pause !== undefined) {
      this.#waiting = { value };
      return;
    }
    this.#host.present(value);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) this.#show(waiting.value);
    }, EVERY_MS);
  }

  /** Listeners hear of several changes of one task together, and never in the middle of a call. */
  #changed(): void {
    const { server, tabs } = this.#known;
    const all = [...server.values(), ...tabs.values()].map(({ other }) => other);
    this.#others = Object.freeze(all as Other<W["shown"]>[]);
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      for (const entry of [...this.#listeners]) callSafely(() => entry.call(this.#others));
    });
  }
}

function isSame(known: RawOther, { principal, value }: RawOther): boolean {
  return known.principal === principal && compareValues(known.value, value) === 0;
}

/** Bytes of the encoding (CBOR) that the engine sends: it runs elsewhere, perhaps, and `set` answers at once. */
function bytesOf(value: RawValue): number {
  switch (typeof value) {
    case "boolean":
      return 1;
    case "number":
      return Number.isSafeInteger(value) ? head(value < 0 ? -1 - value : value) : 9;
    case "bigint":
      return head(value < 0n ? -1n - value : value);
    case "string":
      return text(value);
    default:
  }
  if (value === null) return 1;
  if (value instanceof Uint8Array) return head(value.length) + value.length;
  if (Array.isArray(value)) {
    return value.reduce(
      (bytes: number, inner: RawValue) => bytes + bytesOf(inner),
      head(value.length),
    );
  }
  const entries = Object.entries(value as { readonly [name: string]: RawValue });
  return entries.reduce(
    (bytes, [name, inner]) => bytes + text(name) + bytesOf(inner),
    head(entries.length),
  );
}

function text(value: string): number {
  const { length } = new TextEncoder().encode(value);
  return head(length) + length;
}

/** Bytes of a number, or of a length. */
function head(value: number | bigint): number {
  if (value < 24) return 1;
  if (value < 256) return 2;
  if (value < 65_536) return 3;
  return value < 4_294_967_296 ? 5 : 9;
}
