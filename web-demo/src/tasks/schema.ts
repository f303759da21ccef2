import { bool, counter, defineSchema, fww, number, review, set, text } from "rejoin";
import type { Row } from "rejoin";

/** One field of nearly every kind; what they do under concurrent writes is the point of this page. */
export const schema = defineSchema({
  tasks: {
    title: text(),
    done: bool().default(false),
    votes: counter(),
    tags: set(text()),
    notes: review(text().default("")),
    createdAt: fww(number().default(0)),
  },
});

export type Task = Row<typeof schema.tasks>;
