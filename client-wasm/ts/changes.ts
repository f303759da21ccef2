/** Changes to a field that depend on what is there; given to `update` instead of a value. */

/** Made by {@link increment}. */
export class Increment {
  /** How much is added; negative subtracts. */
  readonly by: number | bigint;

  /** Use {@link increment}. */
  constructor(by: number | bigint) {
    this.by = by;
  }
}

/** Made by {@link addTo} and {@link removeFrom}. */
export class SetChange<T> {
  /** Elements that are added. */
  readonly add: readonly T[];
  /** Elements that are removed, as far as they are there. */
  readonly remove: readonly T[];

  /** Use {@link addTo} and {@link removeFrom}. */
  constructor(add: readonly T[], remove: readonly T[]) {
    this.add = add;
    this.remove = remove;
  }
}

/** Made by {@link resolve}. */
export class Resolution<T> {
  /** The chosen value. */
  readonly value: T;

  /** Use {@link resolve}. */
  constructor(value: T) {
    this.value = value;
  }
}

/**
 * Adds to a `counter` field. Increments of several replicas add up.
 *
 * @example
 * await db.tasks.update(id, { votes: increment(1) });
 */
export function increment(by: number | bigint = 1): Increment {
  return new Increment(by);
}

/**
 * Adds elements to a `set` field.
 *
 * @example
 * await db.tasks.update(id, { tags: addTo("home", "urgent") });
 */
export function addTo<T>(...elements: readonly T[]): SetChange<T> {
  return new SetChange(elements, []);
}

/**
 * Removes elements from a `set` field. What another replica adds at the same time stays.
 *
 * @example
 * await db.tasks.update(id, { tags: removeFrom("urgent") });
 */
export function removeFrom<T>(...elements: readonly T[]): SetChange<T> {
  return new SetChange<T>([], elements);
}

/**
 * Chooses the value of a `review` field: replaces the siblings that this replica has seen. A plain
 * value does the same; this spells out the intent.
 *
 * @example
 * await db.tasks.update(id, { notes: resolve(task.notes.siblings[1]?.value ?? "") });
 */
export function resolve<T>(value: T): Resolution<T> {
  return new Resolution(value);
}
