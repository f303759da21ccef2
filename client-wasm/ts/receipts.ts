/** Promises of writes, and what becomes of the writes afterwards. */

import { closedError, SyncError } from "./errors.js";
import type { RawReceipt, RawRejected } from "./raw.js";
import type { Durability, Mutation, Receipt } from "./types.js";

/** What a write yields once it is durable. */
export interface Written<T> {
  readonly value: T;
  readonly receipt: Receipt;
}

class Write<T> extends Promise<T> implements Mutation<T> {
  readonly #written: Promise<Written<T>>;

  // `then` makes plain promises: they have no receipt.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  constructor(written: Promise<Written<T>>) {
    super((resolve, reject) => {
      written.then(({ value }) => resolve(value), reject);
    });
    this.#written = written;
  }

  get receipt(): Promise<Receipt> {
    this.#own();
    return this.#written.then(({ receipt }) => receipt);
  }

  get synced(): Promise<void> {
    this.#own();
    return this.#written.then(({ receipt }) => receipt.synced);
  }

  /** Who takes the receipt hears of a failure there: the write itself needs no handler then. */
  #own(): void {
    this.catch(() => undefined);
  }
}

/** The public promise of a write. */
export function mutation<T>(written: Promise<Written<T>>): Mutation<T> {
  return new Write(written);
}

/** A receipt whose `synced` is made when it is asked for, so that nobody must handle its failure. */
class WriteReceipt implements Receipt {
  readonly row: number;
  readonly durability: Durability;
  readonly #settled: Promise<SyncError | undefined>;
  /** Ends the wait: without an error when the server has the write. */
  readonly settle: (error?: SyncError) => void;

  constructor({ row, durability }: RawReceipt) {
    this.row = row;
    this.durability = durability;
    let settle: (error?: SyncError) => void = () => undefined;
    this.#settled = new Promise((resolve) => (settle = resolve));
    this.settle = settle;
  }

  get synced(): Promise<void> {
    return this.#settled.then((error) => {
      if (error !== undefined) throw error;
    });
  }
}

/** The receipts of this page that wait for the server. */
export class Receipts {
  readonly #waiting = new Map<number, WriteReceipt>();
  /** Verdicts on rows whose write has not resolved yet; kept while writes are under way. */
  readonly #early = new Map<number, SyncError | undefined>();
  #underWay = 0;
  #closed: SyncError | undefined;

  /** The receipt of a write that is under way. */
  async issue(write: () => Promise<RawReceipt>): Promise<{ raw: RawReceipt; receipt: Receipt }> {
    this.#underWay += 1;
    try {
      const raw = await write();
      const receipt = new WriteReceipt(raw);
      if (this.#closed !== undefined) receipt.settle(this.#closed);
      else if (this.#early.has(raw.row)) receipt.settle(this.#early.get(raw.row));
      else this.#waiting.set(raw.row, receipt);
      return { raw, receipt };
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#early.clear();
    }
  }

  /** The server has these rows. */
  acknowledge(rows: readonly number[]): void {
    for (const row of rows) this.#settle(row, undefined);
  }

  /** The server refused these rows. */
  reject(rejected: readonly RawRejected[]): void {
    for (const { row, code, reason } of rejected) {
      const message = `the server refused the write (${code}): ${reason}`;
      this.#settle(row, new SyncError("rejected", message));
    }
  }

  /** What waits will never be sent. */
  discard(): void {
    const error = new SyncError("discarded", "the write was given up before the server had it");
    for (const row of [...this.#waiting.keys()]) this.#settle(row, error);
  }

  /** Nothing will be heard any more. */
  close(error: SyncError = closedError()): void {
    this.#closed = error;
    for (const receipt of this.#waiting.values()) receipt.settle(error);
    this.#waiting.clear();
  }

  #settle(row: number, error: SyncError | undefined): void {
    const receipt = this.#waiting.get(row);
    if (receipt !== undefined) receipt.settle(error);
    else if (this.#underWay > 0) this.#early.set(row, error);
    this.#waiting.delete(row);
  }
}

/** The receipt of a batch without operations. */
export function emptyReceipt(durability: Durability): Receipt {
  return { row: 0, durability, synced: Promise.resolve() };
}
