/**
 * What a page lends the engine in its worker: visibility, `localStorage`, the question whether the browser keeps
 * the data. The engine looks for it under `rejoinStage` (src/page.rs), by the names that these have on a page.
 */

import type { Lent, News, Note } from "./wire.js";

/** As on a page. */
class StageDocument extends EventTarget {
  visibilityState: "visible" | "hidden" = "visible";
}

/** The part of `localStorage` that is about one database: as this worker knows it. */
class StageStorage {
  readonly #entries: Map<string, string>;
  readonly #note: (note: Note) => void;

  constructor(entries: Readonly<Record<string, string>>, note: (note: Note) => void) {
    this.#entries = new Map(Object.entries(entries));
    this.#note = note;
  }

  getItem(key: string): string | null {
    return this.#entries.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.#change(key, value);
  }

  removeItem(key: string): void {
    this.#change(key, null);
  }

  /** What the page says is there. */
  hear(key: string, value: string | null): void {
    if (value === null) this.#entries.delete(key);
    else this.#entries.set(key, value);
  }

  #change(key: string, to: string | null): void {
    const from = this.getItem(key);
    if (from === to) return;
    this.hear(key, to);
    this.#note({ key, from, to });
  }
}

/** How what is lent leads back to the page. */
export interface Wires {
  note(note: Note): void;
  persist(): void;
}

/** What the engine finds under `rejoinStage`. */
export class Stage {
  readonly document: EventTarget & { visibilityState: "visible" | "hidden" } = new StageDocument();
  readonly localStorage: StageStorage | undefined;
  readonly navigator: { readonly storage: { persist(): Promise<boolean> } };
  #persisted: ((granted: boolean) => void)[] = [];

  /** Made before the engine begins. */
  constructor({ visible, kept }: Lent, wires: Wires) {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.localStorage =
      kept === null ? undefined : new StageStorage(kept, (note) => wires.note(note));
    const persist = (): Promise<boolean> =>
      new Promise((resolve) => {
        this.#persisted.push(resolve);
        wires.persist();
      });
    this.navigator = { storage: { persist } };
  }

  /** Something happened to the page. */
  hear(news: News): void {
    switch (news.type) {
      case "visibilitychange":
        this.document.visibilityState = news.visible ? "visible" : "hidden";
        this.document.dispatchEvent(new Event(news.type));
        return;
      case "resume":
        this.document.dispatchEvent(new Event(news.type));
        return;
      case "kept":
        this.localStorage?.hear(news.key, news.value);
        return;
      case "persist":
        for (const resolve of this.#persisted.splice(0)) resolve(news.granted);
    }
  }
}
