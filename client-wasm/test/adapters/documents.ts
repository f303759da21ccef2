/** What the tests of Yjs documents stand on: replicas that exchange what they wrote, in any order. */

import * as Y from "yjs";
import { yjsFields, YjsProvider } from "../../ts/adapters/yjs.js";
import { applyAll } from "../../ts/adapters/yjs-records.js";
import type { Database } from "../../ts/db.js";
import type { SyncError } from "../../ts/errors.js";
import { Opener } from "../../ts/open.js";
import type { RawEngineClass, RawOp, RawReceipt, RawWriteOptions } from "../../ts/raw.js";
import { defineSchema, text } from "../../ts/schema.js";
import { MemoryEngine } from "../unit/memory.js";

export const schema = defineSchema({ notes: { title: text() }, "texts/*": yjsFields });
export const TEXT = "texts/1";

/** Removals are kept, as the engine keeps them: what was removed before it came does not come. */
class Replica extends MemoryEngine {
  /** What was written here, a batch each. */
  readonly written: (readonly RawOp[])[] = [];
  readonly #removed = new Set<string>();
  /** Set to fail writes, all but the next {@link accepts}. */
  refusal:
    { readonly code: string; readonly message: string; readonly retryable: boolean } | undefined;

  accepts = 0;

  override async write(ops: readonly RawOp[], options: RawWriteOptions): Promise<RawReceipt> {
    if (this.refusal !== undefined && this.accepts === 0) throw this.refusal;
    if (this.refusal !== undefined) this.accepts -= 1;
    this.written.push(ops);
    return super.write(this.#note(ops), options);
  }

  /** A batch of another replica. */
  async receive(ops: readonly RawOp[]): Promise<void> {
    const known = this.#note(ops).filter(({ op, id }) => op === "remove" || !this.#removed.has(id));
    if (known.length > 0) await super.write(known, { relaxed: false, echo: false });
  }

  #note(ops: readonly RawOp[]): readonly RawOp[] {
    for (const { op, id } of ops) if (op === "remove") this.#removed.add(id);
    return ops;
  }
}

export interface Peer {
  readonly db: Database<typeof schema>;
  readonly engine: Replica;
}

export async function peer(name = "test"): Promise<Peer> {
  const opened: Replica[] = [];
  const load = async (): Promise<RawEngineClass> => ({
    open: async (options, emit) => {
      const engine = new Replica(options, emit);
      opened.push(engine);
      return engine;
    },
    destroy: async () => undefined,
  });
  const db = await new Opener().open({ name, schema }, load);
  const [engine] = opened;
  if (engine === undefined) throw new Error("no engine was opened");
  return { db, engine };
}

export interface Editor {
  readonly doc: Y.Doc;
  readonly text: Y.Text;
  readonly provider: YjsProvider<typeof schema>;
  readonly errors: SyncError[];
}

export function edit({ db }: Peer, doc: Y.Doc = new Y.Doc()): Editor {
  const errors: SyncError[] = [];
  const onError = (error: SyncError): void => void errors.push(error);
  const provider = new YjsProvider(db, TEXT, doc, { onError });
  return { doc, text: doc.getText("body"), provider, errors };
}

/** The ids of all records. */
export async function ids({ db }: Peer): Promise<readonly string[]> {
  return (await db.collection(TEXT).all()).map(({ id }) => id);
}

/** A document of these updates, from which nothing is ever collected. */
export function docOf(updates: Iterable<Uint8Array>): Y.Doc {
  const doc = new Y.Doc({ gc: false });
  const stored = [...updates].map((update, at) => ({ ids: [`${at}`], update }));
  applyAll(doc, stored, undefined, (_, error) => {
    throw error;
  });
  return doc;
}

/** Whether two documents have seen the same edits. */
export function same(one: Y.Doc, other: Y.Doc): boolean {
  return (
    Y.equalSnapshots(Y.snapshot(one), Y.snapshot(other)) &&
    one.getText("body").toString() === other.getText("body").toString()
  );
}
