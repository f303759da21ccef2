/** What an entry of the package that knows where its WebAssembly is offers beside `api.ts`. */

import type { Database } from "./db.js";
import type { Opening, OpenOptions, SchemaShape } from "./types.js";

/** See `index.ts`. */
export interface Entry {
  open<S extends SchemaShape, C extends keyof S & string = keyof S & string>(
    options: OpenOptions<S, C>,
  ): Promise<Database<Opening<S, C>>>;
  destroy(name: string): Promise<void>;
  version(): Promise<string>;
}
