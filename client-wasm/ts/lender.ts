/** The page's side of `stage.ts`: tells the worker what happens to the page, and does there what the worker cannot. */

import type { Lent, News, Note } from "./wire.js";

interface PageDocument extends EventTarget {
  readonly visibilityState: string;
}

interface PersistingStorage {
  persist(): Promise<boolean>;
}

/** What a page lends one worker. */
export class Lender {
  readonly #prefix: string;
  readonly #tell: (news: News) => void;
  readonly #end = new AbortController();

  /** For the database `name`; `tell` goes to its worker. */
  constructor(name: string, tell: (news: News) => void) {
    this.#prefix = `rejoin/${name}/`;
    this.#tell = tell;
  }

  /** Begins to tell; what the worker needs to know first. */
  begin(life: string): Lent {
    const { signal } = this.#end;
    const page = pageDocument();
    page?.addEventListener(
      "visibilitychange",
      () => this.#tell({ type: "visibilitychange", visible: isVisible(page) }),
      { signal },
    );
    const resumed = (): void => this.#tell({ type: "resume" });
    page?.addEventListener("resume", resumed, { signal });
    globalThis.addEventListener?.("pageshow", resumed, { signal });
    globalThis.addEventListener?.("storage", (event) => this.#stored(event), { signal });
    return { visible: page === undefined || isVisible(page), kept: this.#kept(), life };
  }

  /** Tells nothing any more. */
  end(): void {
    this.#end.abort();
  }

  /**
   * Makes notes, up to the first that cannot be made. Other tabs write here, too: a number that grows is raised at
   * most, and anything else changes only if what the worker knew is still there.
   */
  note(notes: readonly Note[]): void {
    for (const { key, from, to } of notes) {
      try {
        const now = localStorage.getItem(key);
        const grows = to !== null && (now === null || Number(now) < Number(to));
        if (now !== from && !grows) this.#tell({ type: "kept", key, value: now });
        else if (to === null) localStorage.removeItem(key);
        else localStorage.setItem(key, to);
      } catch {
        // A second place that is full is none; what was to follow counted on this.
        return;
      }
    }
  }

  /** Asks the browser to keep the data. */
  persist(): void {
    const storage = property(property(globalThis, "navigator"), "storage");
    const asked = async (): Promise<boolean> => (storage as PersistingStorage).persist();
    asked().then(
      (granted) => this.#tell({ type: "persist", granted }),
      () => this.#tell({ type: "persist", granted: false }),
    );
  }

  #kept(): Record<string, string> | null {
    try {
      const entries = Object.entries(localStorage) as [string, string][];
      return Object.fromEntries(entries.filter(([key]) => key.startsWith(this.#prefix)));
    } catch {
      // The site may keep nothing, or this is no page.
      return null;
    }
  }

  #stored({ key, newValue }: StorageEvent): void {
    if (key?.startsWith(this.#prefix)) this.#tell({ type: "kept", key, value: newValue });
  }
}

function isVisible(page: PageDocument): boolean {
  return page.visibilityState !== "hidden";
}

/** `undefined` in a worker that opens a worker. */
function pageDocument(): PageDocument | undefined {
  return property(globalThis, "document") as PageDocument | undefined;
}

function property(object: unknown, name: string): unknown {
  return typeof object === "object" && object !== null ? Reflect.get(object, name) : undefined;
}
