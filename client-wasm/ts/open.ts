/** Opens databases, each only once per page. */

import { type Database, DatabaseCore } from "./db.js";
import { SyncError, toSyncError } from "./errors.js";
import type { RawEngineClass } from "./raw.js";
import { Shape } from "./shape.js";
import type { OpenOptions, SchemaShape, SyncOptions } from "./types.js";
import { invalid } from "./values.js";

interface Opened {
  readonly name: string;
  readonly schema: SchemaShape;
  readonly where: string;
  readonly worker: boolean;
  readonly db: Promise<{ close(): Promise<void> }>;
}

/** `open` and `destroy` for one engine. */
export class Opener {
  readonly #load: (worker: boolean) => Promise<RawEngineClass>;
  readonly #opened = new Set<Opened>();

  /** The engine of this page, or one that runs in workers, is loaded when it is first needed. */
  constructor(load: (worker: boolean) => Promise<RawEngineClass>) {
    this.#load = load;
  }

  /** See `open` in `index.ts`. */
  async open<S extends SchemaShape, C extends keyof S & string>(
    options: OpenOptions<S, C>,
  ): Promise<Database<Pick<S, C>>> {
    const { name, schema, sync, durability = "strict", worker = false } = options;
    if (typeof name !== "string" || name === "") throw invalid("the name", "must be a text");
    if (durability !== "strict" && durability !== "relaxed") {
      throw invalid("the durability", 'must be "strict" or "relaxed"');
    }
    if (typeof worker !== "boolean") throw invalid("worker", "must be true or false");
    const shapes = compile(schema, options.collections ?? Object.keys(schema));
    const url = sync === undefined ? null : socketUrl(sync);
    const token = sync?.token;
    const where = JSON.stringify([url, sync?.space, durability, worker, [...shapes.keys()]]);
    for (const known of this.#opened) {
      if (known.name === name && known.schema === schema && known.where === where) {
        return known.db as Promise<Database<Pick<S, C>>>;
      }
    }
    const db = DatabaseCore.open<Pick<S, C>>({
      name,
      shapes,
      relaxed: durability === "relaxed",
      syncs: sync !== undefined,
      token: typeof token === "function" ? token : undefined,
      engine: async (emit) => {
        const engine = await this.#load(worker);
        const space = sync?.space ?? "";
        const asks = typeof token === "function";
        const collections = [...shapes].map(([pattern, shape]) => shape.collection(pattern));
        const held = typeof token === "string" ? token : null;
        return engine.open({ name, url, space, token: held, asks, collections }, emit);
      },
      destroy: () => this.#destroy(name, worker),
      onClose: () => void this.#opened.delete(entry),
    });
    const entry: Opened = { name, schema, where, worker, db };
    this.#opened.add(entry);
    return db;
  }

  /** See `destroy` in `index.ts`. */
  destroy(name: string): Promise<void> {
    return this.#destroy(name, false);
  }

  /** In a worker if that is how it was open. */
  async #destroy(name: string, worker: boolean): Promise<void> {
    const opened = [...this.#opened].filter((entry) => entry.name === name);
    const closed = opened.map(async ({ db }) => (await db).close());
    // One that failed to open or close does not hold the storage.
    await Promise.allSettled(closed);
    const engine = await this.#load(worker || opened.some((entry) => entry.worker));
    try {
      await engine.destroy(name);
    } catch (error) {
      throw toSyncError(error);
    }
  }
}

function compile(schema: SchemaShape, names: readonly string[]): Map<string, Shape> {
  return new Map(
    names.map((name) => {
      const fields = schema[name];
      if (fields !== undefined) return [name, new Shape(fields)];
      throw new SyncError("unknown_collection", `the schema has no collection ${name}`);
    }),
  );
}

/** With `ws:` or `wss:`, relative to the page if there is one. */
function socketUrl({ url, space }: SyncOptions): string {
  if (typeof space !== "string" || space === "") throw invalid("the space", "must be a text");
  const page: unknown = Reflect.get(globalThis, "location");
  const base = typeof page === "object" && page !== null && "href" in page ? page.href : undefined;
  if (!URL.canParse(url, base as string | undefined)) throw invalid("the url", "is not an address");
  const parsed = new URL(url, base as string | undefined);
  parsed.protocol = parsed.protocol.replace(/^http/u, "ws");
  if (!/^wss?:$/u.test(parsed.protocol)) throw invalid("the url", "must be of ws:, wss: or http:");
  return parsed.href;
}
