/** Opens databases, each only once per page. */

import { type Database, DatabaseCore } from "./db.js";
import { SyncError, toSyncError } from "./errors.js";
import type { RawEngineClass } from "./raw.js";
import { Shape } from "./shape.js";
import type { Opening, OpenOptions, SchemaShape, SyncOptions } from "./types.js";
import { invalid } from "./values.js";

interface Opened {
  readonly name: string;
  readonly schema: SchemaShape;
  readonly where: string;
  readonly worker: boolean;
  readonly load: Load;
  readonly db: Promise<{ close(): Promise<void> }>;
}

/**
 * Gives the engine when it is first needed, and the same one again: that of this page, or the one that runs in
 * workers.
 */
export type Load = (worker: boolean) => Promise<RawEngineClass>;

/** For entries of the package that have no script for workers. */
export function onPage(load: () => Promise<RawEngineClass>): Load {
  return (worker) => {
    if (worker) throw invalid("worker", "is what `rejoin` alone offers, in a browser");
    return load();
  };
}

/** `open` and `destroy`; knows what is open. */
export class Opener {
  readonly #opened = new Set<Opened>();

  /** See `open` in `index.ts`. */
  async open<S extends SchemaShape, C extends keyof S & string>(
    options: OpenOptions<S, C>,
    load: Load,
  ): Promise<Database<Opening<S, C>>> {
    const { name, schema, sync, durability = "strict", worker = false } = options;
    if (typeof name !== "string" || name === "") throw invalid("the name", "must be a text");
    if (durability !== "strict" && durability !== "relaxed") {
      throw invalid("the durability", 'must be "strict" or "relaxed"');
    }
    if (typeof worker !== "boolean") throw invalid("worker", "must be true or false");
    const shapes = compile(schema, options.collections ?? Object.keys(schema));
    const { presence } = schema;
    const url = sync === undefined ? null : socketUrl(sync);
    const token = sync?.token;
    const where = JSON.stringify([url, sync?.space, durability, worker, [...shapes.keys()]]);
    for (const known of this.#opened) {
      if (known.name === name && known.schema === schema && known.where === where) {
        return known.db as Promise<Database<Opening<S, C>>>;
      }
    }
    const db = DatabaseCore.open<Opening<S, C>>({
      name,
      shapes,
      presence: presence === undefined ? undefined : new Shape(presence),
      relaxed: durability === "relaxed",
      syncs: sync !== undefined,
      token: typeof token === "function" ? token : undefined,
      engine: async (emit) => {
        const engine = await load(worker);
        const space = sync?.space ?? "";
        const asks = typeof token === "function";
        const collections = [...shapes].map(([pattern, shape]) => shape.collection(pattern));
        const held = typeof token === "string" ? token : null;
        return engine.open({ name, url, space, token: held, asks, collections }, emit);
      },
      destroy: () => this.#destroy(name, worker, load),
      onClose: () => void this.#opened.delete(entry),
    });
    const entry: Opened = { name, schema, where, worker, load, db };
    this.#opened.add(entry);
    return db;
  }

  /** See `destroy` in `index.ts`. */
  destroy(name: string, load: Load): Promise<void> {
    return this.#destroy(name, false, load);
  }

  /** In a worker if that is how it was open. */
  async #destroy(name: string, worker: boolean, load: Load): Promise<void> {
    const opened = [...this.#opened].filter((entry) => entry.name === name);
    const closed = opened.map(async ({ db }) => (await db).close());
    // One that failed to open or close does not hold the storage.
    await Promise.allSettled(closed);
    const inWorker = opened.find((entry) => entry.worker);
    const engine = await (inWorker?.load(true) ?? load(worker));
    try {
      await engine.destroy(name);
    } catch (error) {
      throw toSyncError(error);
    }
  }
}

/** Of this page. */
export const opener: Opener = new Opener();

function compile(schema: SchemaShape, names: readonly string[]): Map<string, Shape> {
  return new Map(
    names
      .filter((name) => name !== "presence")
      .map((name) => {
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
