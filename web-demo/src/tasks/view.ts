import type { Task } from "./schema.ts";

export type Show = "all" | "open" | "done";
export type Sort = "newest" | "oldest" | "votes" | "title";

export interface View {
  readonly show: Show;
  readonly sort: Sort;
  readonly tag: string | undefined;
}

export interface Listing {
  readonly tasks: readonly Task[];
  readonly open: number;
  readonly done: number;
  /** Every tag in use, the most used first. */
  readonly tags: readonly string[];
}

const byTitle = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

// Equal tasks keep one order on every replica: the id decides.
const ORDERS: Record<Sort, (a: Task, b: Task) => number> = {
  newest: (a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1),
  oldest: (a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1),
  votes: (a, b) => b.votes - a.votes || ORDERS.newest(a, b),
  title: (a, b) => byTitle.compare(a.title, b.title) || (a.id < b.id ? -1 : 1),
};

/** What to show: open tasks first, each group in the chosen order. */
export function list(tasks: readonly Task[], view: View): Listing {
  const uses = new Map<string, number>();
  for (const task of tasks) {
    for (const tag of task.tags) uses.set(tag, (uses.get(tag) ?? 0) + 1);
  }
  const done = tasks.reduce((n, task) => n + (task.done ? 1 : 0), 0);
  const order = ORDERS[view.sort];
  return {
    tasks: tasks
      .filter((task) => view.show === "all" || task.done === (view.show === "done"))
      .filter((task) => view.tag === undefined || task.tags.includes(view.tag))
      .sort((a, b) => Number(a.done) - Number(b.done) || order(a, b)),
    open: tasks.length - done,
    done,
    tags: [...uses.keys()].sort((a, b) => uses.get(b)! - uses.get(a)! || byTitle.compare(a, b)),
  };
}

/** A hue for a tag, the same everywhere. */
export function hue(tag: string): number {
  let sum = 0;
  for (const letter of tag) sum = (sum * 31 + letter.codePointAt(0)!) % 360;
  return sum;
}
