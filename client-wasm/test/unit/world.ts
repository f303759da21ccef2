/** What most tests start from. */

import { type Database } from "../../ts/db.js";
import { Opener } from "../../ts/open.js";
import {
  bool,
  counter,
  defineSchema,
  int,
  max,
  number,
  review,
  set,
  text,
} from "../../ts/schema.js";
import type { RawEngineClass } from "../../ts/raw.js";
import type { OpenOptions } from "../../ts/types.js";
import { MemoryEngine, memoryEngine } from "./memory.js";

export const schema = defineSchema({
  tasks: {
    title: text(),
    done: bool().default(false),
    votes: counter(),
    tags: set(text()),
    notes: review(text().default("")),
    priority: max(number().default(0)),
    due: int().optional(),
  },
  lists: { name: text() },
  "comments/*": { body: text() },
});

export interface World {
  readonly db: Database<typeof schema>;
  readonly engine: MemoryEngine;
  readonly opener: Opener;
  readonly load: () => Promise<RawEngineClass>;
}

export async function world(options: Partial<OpenOptions<typeof schema>> = {}): Promise<World> {
  const { Engine, opened } = memoryEngine();
  const opener = new Opener();
  const load = async () => Engine;
  const sync = { url: "ws://localhost:1/", space: "demo" };
  const db = await opener.open({ name: "test", schema, sync, ...options }, load);
  const [engine] = opened;
  if (engine === undefined) throw new Error("no engine was opened");
  return { db, engine, opener, load };
}

/** All microtasks that are due, and those that they make due. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
