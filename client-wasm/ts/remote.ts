/**
 * The page's end of the line: an engine that runs in a worker of its own, with the interface of one that runs here.
 *
 * What can be asked without waiting is kept here as it was last told. A worker that fails to start, breaks or ends
 * fails everything that waits for it.
 */

import { Lender } from "./lender.js";
import type {
  RawChange,
  RawEngine,
  RawEngineClass,
  RawError,
  RawEvent,
  RawOp,
  RawOptions,
  RawPage,
  RawReceipt,
  RawRejected,
  RawRow,
  RawStatus,
  RawValue,
  RawWriteOptions,
} from "./raw.js";
import type { FromWorker, Item, Lent, Method, Port, ToWorker } from "./wire.js";

/** A worker that was started. */
export interface Running {
  readonly port: Port;
  /** Calls `failed` when the script cannot be loaded, or when nobody caught an error in it. */
  onFailure(failed: (message: string) => void): void;
  terminate(): void;
}

/** The engine in workers, one for each database, that `start` starts. */
export function remoteEngine(start: () => Running): RawEngineClass {
  return {
    open: (options, emit) => RemoteEngine.open(start, options, emit),
    async destroy(name) {
      const line = new Line(start, name, { onItem: () => undefined, onBroken: () => undefined });
      try {
        await line.begin((id, lent) => ({ to: "destroy", id, name, lent }));
      } finally {
        line.end(CLOSED);
      }
    },
  };
}

/** Starts `worker.ts`, in the form that bundlers recognise. */
export function startWorker(): Running {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return {
    port: worker,
    onFailure: (failed) =>
      worker.addEventListener("error", ({ message }) => failed(message || "it did not load")),
    terminate: () => worker.terminate(),
  };
}

const CLOSED: RawError = { code: "closed", message: "the database is closed", retryable: false };

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: RawError) => void;
}

/** Who hears what a worker says of its own accord. */
interface Hearer {
  onItem(item: Item): void;
  /** The worker is gone, or cannot be relied on. */
  onBroken(message: string): void;
}

/** Calls to one worker, until it ends. */
class Line {
  readonly #lender: Lender;
  readonly #hearer: Hearer;
  readonly #waiting = new Map<number, Waiting>();
  readonly #life = `rejoin/worker/${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  readonly #waitsForEnd = new AbortController();
  #running: Running | undefined;
  #calls = 0;
  #alive = false;
  #ended: RawError | undefined;

  /** Starts a worker for the database `name`. */
  constructor(start: () => Running, name: string, hearer: Hearer) {
    this.#hearer = hearer;
    this.#lender = new Lender(name, (news) => this.#post({ to: "stage", news }));
    try {
      const running = start();
      this.#running = running;
      running.port.onmessage = ({ data }) => this.#take(data as FromWorker);
      running.port.onmessageerror = () => this.#break("a message of the worker cannot be read");
      running.onFailure((message) => this.#break(message));
    } catch (error) {
      this.#break(error instanceof Error ? error.message : String(error));
    }
  }

  /** The first call. */
  begin<T>(first: (id: number, lent: Lent) => ToWorker): Promise<T> {
    return this.#ask((id) => first(id, this.#lender.begin(this.#life)));
  }

  /** A call of the engine. */
  call<T>(method: Method, ...args: readonly unknown[]): Promise<T> {
    return this.#ask((id) => ({ to: "call", id, method, args }));
  }

  /**
   * A call that nobody waits for: should it fail, the database is closed or broken and says so itself. Throws when
   * there is no worker any more. `heard` is called once the worker has it.
   */
  tell(method: Method, args: readonly unknown[], heard: () => void = () => undefined): void {
    if (this.#ended !== undefined) throw this.#ended;
    this.call(method, ...args).then(heard, heard);
  }

  /** Ends the worker; what waits, and what is called from now on, fails with `error`. */
  end(error: RawError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#waitsForEnd.abort();
    this.#lender.end();
    if (this.#running !== undefined) {
      this.#running.port.onmessage = null;
      this.#running.port.onmessageerror = null;
      this.#running.terminate();
    }
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #ask<T>(message: (id: number) => ToWorker): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      const id = (this.#calls += 1);
      // Throws for what cannot be cloned; nothing is sent then.
      this.#post(message(id));
      this.#waiting.set(id, { resolve, reject });
    });
  }

  #post(message: ToWorker): void {
    this.#running?.port.postMessage(message);
  }

  #take({ notes, items }: FromWorker): void {
    this.#lender.note(notes);
    for (const item of items) {
      if (this.#ended !== undefined) return;
      this.#dispatch(item);
    }
  }

  #dispatch(item: Item): void {
    switch (item.type) {
      case "alive":
        this.#alive = true;
        if (item.locked) this.#watchLife();
        return;
      case "persist":
        return this.#lender.persist();
      case "answer":
        this.#settled(item.id)?.resolve(item.value as never);
        return;
      case "failure":
        this.#settled(item.id)?.reject(item.error);
        return;
      default:
        this.#hearer.onItem(item);
    }
  }

  #settled(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  /** Nothing else tells that a worker was ended from outside: who gets its lock has outlived it. */
  #watchLife(): void {
    const { signal } = this.#waitsForEnd;
    const outlived = async (): Promise<void> => this.#break("the worker was ended");
    navigator.locks.request(this.#life, { signal }, outlived).catch(() => undefined);
  }

  #break(message: string): void {
    if (this.#ended !== undefined) return;
    const code = this.#alive ? "poisoned" : "load";
    const text = this.#alive
      ? `the worker broke: ${message}`
      : `the worker of rejoin could not be started: ${message}`;
    this.end({ code, message: text, retryable: true });
    if (this.#alive) this.#hearer.onBroken(text);
  }
}

type Changed = Extract<RawEvent, { type: "changed" }>;

/** The engine of one database, as its page sees it. */
class RemoteEngine implements RawEngine {
  readonly #line: Line;
  readonly #emit: (event: RawEvent) => void;
  /** Collections that the worker does not know to be watched yet, by the number of the wish. */
  readonly #wanted = new Map<string, number>();
  #wishes = 0;
  #status: RawStatus | undefined;
  #rejected: readonly RawRejected[] = [];
  /** Of the `changed` event that comes next. */
  #coming: RawChange[] = [];
  /** What the app wants, while the worker has not answered. */
  #paused: boolean | undefined;
  #pausing = 0;
  #closing: Promise<void> | undefined;

  private constructor(line: (hearer: Hearer) => Line, emit: (event: RawEvent) => void) {
    this.#emit = emit;
    this.#line = line({
      onItem: (item) => this.#take(item),
      onBroken: (message) => this.#emit({ type: "poisoned", message }),
    });
  }

  static async open(
    start: () => Running,
    options: RawOptions,
    emit: (event: RawEvent) => void,
  ): Promise<RawEngine> {
    const engine = new RemoteEngine((hearer) => new Line(start, options.name, hearer), emit);
    const line = engine.#line;
    try {
      // How it stands is told before the answer.
      await line.begin((id, lent) => ({ to: "open", id, options, lent }));
      return engine;
    } catch (error) {
      line.end(CLOSED);
      throw error;
    }
  }

  write(ops: readonly RawOp[], options: RawWriteOptions): Promise<RawReceipt> {
    return this.#line.call("write", ops, options);
  }

  get(collection: string, id: string): Promise<RawRow | undefined> {
    return this.#line.call("get", collection, id);
  }

  scan(collection: string, after: string | null, limit: number): Promise<RawPage> {
    return this.#line.call("scan", collection, after, limit);
  }

  watch(collection: string, on: boolean): void {
    const wish = (this.#wishes += 1);
    // A name that is none fails the scan, too.
    this.#line.tell("watch", [collection, on], () => {
      if (this.#wanted.get(collection) === wish) this.#wanted.delete(collection);
    });
    if (on) this.#wanted.set(collection, wish);
  }

  status(): RawStatus {
    if (this.#status === undefined) throw CLOSED;
    const paused = this.#paused ?? this.#status.paused;
    return { ...this.#status, paused };
  }

  lossRead(): void {
    this.#line.tell("lossRead", []);
  }

  rejected(): readonly RawRejected[] {
    return this.#rejected;
  }

  retry(row: number): Promise<RawReceipt> {
    return this.#line.call("retry", row);
  }

  edit(row: number, ops: readonly RawOp[]): Promise<RawReceipt> {
    return this.#line.call("edit", row, ops);
  }

  discard(row: number): Promise<void> {
    return this.#line.call("discard", row);
  }

  adopt(): Promise<void> {
    return this.#line.call("adopt");
  }

  discardPending(): Promise<void> {
    return this.#line.call("discardPending");
  }

  broke(message: string): void {
    this.#line.tell("broke", [message]);
  }

  pause(paused: boolean): void {
    const wish = (this.#wishes += 1);
    this.#line.tell("pause", [paused], () => {
      if (this.#pausing === wish) this.#paused = undefined;
    });
    this.#pausing = wish;
    this.#paused = paused;
    this.#emit({ type: "status", status: this.status() });
  }

  token(token: string | null): void {
    this.#line.tell("token", [token]);
  }

  present(value: RawValue | undefined): void {
    this.#line.tell("present", [value]);
  }

  attend(): void {
    this.#line.tell("attend", []);
  }

  roots(): Promise<Readonly<Record<string, string>>> {
    return this.#line.call("roots");
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#line.call<void>("close").finally(() => this.#line.end(CLOSED)));
  }

  #take(item: Item): void {
    if (item.type === "rejected") this.#rejected = item.rejected;
    if (item.type === "part") {
      for (const change of item.changes) this.#coming.push(change);
      return this.#emit({ type: "coming", changes: item.changes });
    }
    if (item.type !== "event") return;
    const { event } = item;
    switch (event.type) {
      case "status":
        this.#status = event.status;
        return this.#emit({ type: "status", status: this.status() });
      case "changed":
        return this.#emit(this.#whole(event));
      case "poisoned":
        this.#line.end({ code: "poisoned", message: event.message, retryable: true });
        return this.#emit(event);
      default:
        this.#emit(event);
    }
  }

  /**
   * All of it, with what came ahead. A row that was on its way when its collection began to be watched is older than
   * what is read from then on, and left out.
   */
  #whole({ changes }: Changed): Changed {
    const all = this.#coming.length === 0 ? changes : [...this.#coming, ...changes];
    this.#coming = [];
    if (this.#wanted.size === 0) return { type: "changed", changes: all };
    const fresh = (change: RawChange): RawChange => {
      const { collection, id } = change;
      return this.#wanted.has(collection) ? { collection, id } : change;
    };
    return { type: "changed", changes: all.map(fresh) };
  }
}
