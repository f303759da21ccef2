// The schema that both ends of RxDB's replication share.

const text = { type: "string" };
const whole = { type: "integer" };

export const SCHEMA = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: {
    id: { type: "string", maxLength: 36 },
    title: text,
    done: { type: "boolean" },
    createdAt: whole,
    notes: text,
    priority: whole,
  },
  required: ["id", "title", "done", "createdAt", "notes", "priority"],
};
