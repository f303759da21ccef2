import { bool, defineSchema, number, open, type Row, type Status, text } from "rejoin";

const schema = defineSchema({
  tasks: {
    title: text(),
    done: bool().default(false),
    createdAt: number(),
  },
});

export type Task = Row<typeof schema.tasks>;
export type Database = Awaited<ReturnType<typeof openDatabase>>;

/** Where to sync, see `.env.example`; without it everything stays in this browser. */
const url: string | undefined = import.meta.env.VITE_REJOIN_URL;
const space: string = import.meta.env.VITE_REJOIN_SPACE ?? "tasks";

/** Resolves when the tasks can be read and written, with or without a network. */
export const openDatabase = () =>
  open({ name: "tasks", schema, sync: url ? { url, space } : undefined });

/** Where the data is, for people. */
export function describe({ state, pending, synced, storage }: Status): string {
  if (storage.problem) return "Cannot be saved here";
  if (storage.mode === "memory") return "Kept until this page closes";
  if (!url) return "Saved in this browser";
  if (synced) return "Saved and synced";
  if (state === "needs-auth") return "Sign in to sync";
  if (state === "syncing" || state === "live") return "Syncing…";
  return pending > 0 ? `Offline, ${pending} to send` : "Offline";
}

/** How that looks: `good`, `busy` or `bad`. */
export function mood({ state, synced, storage }: Status): "good" | "busy" | "bad" {
  if (storage.problem || state === "needs-auth") return "bad";
  return synced || !url ? "good" : "busy";
}
