import { nameOf, type Package } from "./schema.ts";

/** The page draws and answers between slices. */
const SLICE_MS = 6;
/** Rows between two looks at the clock. */
const STRIDE = 256;

/**
 * Finds packages by name and description. A row object stands for one content, so what was made ready
 * for searching is kept by the row: changes need no bookkeeping, and rows that are gone are forgotten.
 */
export class Search {
  readonly #ready = new WeakMap<Package, { readonly name: string; readonly all: string }>();
  #preparing = 0;

  /** Makes rows ready while the page has nothing better to do. */
  prepare(rows: readonly Package[], onProgress: (done: number) => void): () => void {
    const run = ++this.#preparing;
    let next = 0;
    const work = () => {
      if (run !== this.#preparing) return;
      const end = performance.now() + SLICE_MS;
      while (next < rows.length && performance.now() < end) {
        for (const row of rows.slice(next, next + STRIDE)) this.#textOf(row);
        next += STRIDE;
      }
      onProgress(Math.min(next, rows.length));
      if (next < rows.length) whenIdle(work);
    };
    whenIdle(work);
    return () => {
      this.#preparing += 1;
    };
  }

  /**
   * The rows in which every word of `query` occurs: exact names, names that begin so, names that
   * contain it, descriptions; each in the order of `rows`. `undefined` if aborted.
   */
  async find(
    rows: readonly Package[],
    query: string,
    signal: AbortSignal,
  ): Promise<readonly Package[] | undefined> {
    const words = query.toLowerCase().split(/\s+/u).filter(Boolean);
    const [first] = words;
    if (first === undefined) return rows;
    const ranks: Package[][] = [[], [], [], []];
    let end = performance.now() + SLICE_MS;
    for (const [index, row] of rows.entries()) {
      const text = this.#textOf(row);
      if (words.every((word) => text.all.includes(word))) {
        ranks[rank(text.name, words, first)]?.push(row);
      }
      if (index % STRIDE === 0 && performance.now() > end) {
        await nextTask();
        if (signal.aborted) return undefined;
        end = performance.now() + SLICE_MS;
      }
    }
    return ranks.flat();
  }

  #textOf(row: Package): { readonly name: string; readonly all: string } {
    const known = this.#ready.get(row);
    if (known !== undefined) return known;
    const name = nameOf(row).toLowerCase();
    const text = { name, all: `${name}\n${String(row.Description ?? "").toLowerCase()}` };
    this.#ready.set(row, text);
    return text;
  }
}

function rank(name: string, words: readonly string[], first: string): number {
  if (words.length === 1 && name === first) return 0;
  if (name.startsWith(first)) return 1;
  return words.some((word) => name.includes(word)) ? 2 : 3;
}

const whenIdle: (work: () => void) => void =
  typeof requestIdleCallback === "function"
    ? (work) => void requestIdleCallback(work, { timeout: 500 })
    : (work) => void setTimeout(work, 16);

/** Gives input and drawing a turn; a message is not delayed as nested timers are. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
