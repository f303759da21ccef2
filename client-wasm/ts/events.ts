/** Listeners that cannot harm each other. */

/** Calls `listener`; what it throws goes to the page's error handler and not to the caller. */
export function callSafely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Typed events. */
export class Emitter<E> {
  readonly #listeners = new Map<keyof E, Set<{ call(event: never): void }>>();

  /** Calls `listener` on every event of this type until the returned function is called. */
  on<T extends keyof E>(type: T, listener: (event: E[T]) => void): () => void {
    const entry = { call: listener };
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(entry));
    return () => void listeners.delete(entry);
  }

  /** Whether anyone listens. */
  hears(type: keyof E): boolean {
    return (this.#listeners.get(type)?.size ?? 0) > 0;
  }

  /** Tells all listeners, in the order in which they came. */
  emit<T extends keyof E>(type: T, event: E[T]): void {
    for (const entry of [...(this.#listeners.get(type) ?? [])]) {
      callSafely(() => (entry as { call(event: E[T]): void }).call(event));
    }
  }

  /** Forgets all listeners. */
  clear(): void {
    this.#listeners.clear();
  }
}
