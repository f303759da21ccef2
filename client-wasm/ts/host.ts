/** The worker's end of the line: runs one engine for its page. The other end is `remote.ts`. */

import { closedError, isTrap, toSyncError } from "./errors.js";
import type { RawEngine, RawEngineClass, RawError, RawEvent } from "./raw.js";
import { Stage } from "./stage.js";
import type { FromWorker, Item, Lent, Note, Port, ToWorker } from "./wire.js";

/** Where the engine runs. */
export interface Scope {
  /** Loads the engine. */
  readonly load: () => Promise<RawEngineClass>;
  /** Makes what the page lends known to the engine. */
  readonly lend: (stage: Stage) => void;
  /** Holds a lock from now on until the worker ends; whether there are locks. */
  readonly live: (lock: string) => Promise<boolean>;
}

/** One database in a worker. */
export class Host {
  readonly #port: Port;
  readonly #scope: Scope;
  #stage: Stage | undefined;
  #engine: RawEngine | undefined;
  #notes: Note[] = [];
  #items: Item[] = [];
  #posting = false;

  /** Listens to the port from now on. */
  constructor(port: Port, scope: Scope) {
    this.#port = port;
    this.#scope = scope;
    port.onmessage = ({ data }) => this.#take(data as ToWorker);
    port.onmessageerror = () => {
      // The page hears of errors that nobody caught: whoever waits for an answer must not wait for ever.
      throw new Error("a message of the page cannot be read");
    };
  }

  #take(message: ToWorker): void {
    switch (message.to) {
      case "open": {
        const { id, options, lent } = message;
        return this.#begin(id, lent, (engine) =>
          this.#open(engine.open(options, (event) => this.#heard(event))),
        );
      }
      case "destroy": {
        const { id, name, lent } = message;
        return this.#begin(id, lent, (engine) => engine.destroy(name));
      }
      case "call": {
        const { id, method, args } = message;
        return this.#answer(id, () => {
          const engine = this.#engine;
          if (engine === undefined) throw closedError();
          return Reflect.apply(engine[method], engine, args);
        });
      }
      case "stage":
        this.#stage?.hear(message.news);
    }
  }

  #begin(id: number, lent: Lent, work: (engine: RawEngineClass) => Promise<unknown>): void {
    const stage = new Stage(lent, {
      note: (note) => {
        this.#notes.push(note);
        this.#post();
      },
      persist: () => this.#say({ type: "persist" }),
    });
    this.#stage = stage;
    this.#scope.lend(stage);
    this.#answer(id, async () => {
      const locked = await this.#scope.live(lent.life);
      this.#say({ type: "alive", locked });
      return work(await this.#scope.load());
    });
  }

  /** Tells how the database stands before the page hears that it is open. */
  async #open(opening: Promise<RawEngine>): Promise<void> {
    const engine = await opening;
    this.#engine = engine;
    this.#say({ type: "rejected", rejected: engine.rejected() });
    this.#heard({ type: "status", status: engine.status() });
  }

  /** Says what becomes of `work`. */
  #answer(id: number, work: () => unknown): void {
    new Promise((resolve) => resolve(work())).then(
      (value) => this.#say({ type: "answer", id, value }),
      (error: unknown) => this.#say({ type: "failure", id, error: this.#failure(error) }),
    );
  }

  #failure(error: unknown): RawError {
    if (isTrap(error)) {
      this.#engine?.broke(error.message);
      return { code: "poisoned", message: error.message, retryable: true };
    }
    const { code, message, retryable } = toSyncError(error);
    return { code, message, retryable };
  }

  #heard(event: RawEvent): void {
    this.#say({ type: "event", event });
  }

  #say(item: Item): void {
    this.#items.push(item);
    this.#post();
  }

  /** In one message what comes in one go; behind the engine's back, which must not be entered in `emit`. */
  #post(): void {
    if (this.#posting) return;
    this.#posting = true;
    queueMicrotask(() => {
      this.#posting = false;
      const items = this.#items.splice(0).flatMap((item) => [...this.#withList(item)]);
      let message: Item[] = [];
      for (const item of items.flatMap(inParts)) {
        message.push(item);
        if (item.type !== "part") continue;
        this.#send(message);
        message = [];
      }
      this.#send(message);
    });
  }

  #send(items: readonly Item[]): void {
    const message: FromWorker = { notes: this.#notes.splice(0), items };
    this.#port.postMessage(message);
  }

  /** Where the list of refused writes is told to have changed, the list itself goes ahead. */
  #withList(item: Item): readonly Item[] {
    const engine = this.#engine;
    if (item.type !== "event" || item.event.type !== "rejected" || engine === undefined) {
      return [item];
    }
    try {
      return [{ type: "rejected", rejected: engine.rejected() }, item];
    } catch {
      // Closed or broken: the page hears of that by itself.
      return [item];
    }
  }
}

/** As many changes as the page reads within some milliseconds. */
const PART_CHANGES = 500;

/** Many changes in parts, of which the last one is the event. */
function inParts(item: Item): readonly Item[] {
  if (item.type !== "event" || item.event.type !== "changed") return [item];
  const { changes } = item.event;
  const parts: Item[] = [];
  let at = 0;
  for (; at + PART_CHANGES < changes.length; at += PART_CHANGES) {
    parts.push({ type: "part", changes: changes.slice(at, at + PART_CHANGES) });
  }
  const last = at === 0 ? changes : changes.slice(at);
  return [...parts, { type: "event", event: { type: "changed", changes: last } }];
}
