import { open } from "rejoin";
import type { Server } from "../server.ts";
import { explain } from "../shell/text.ts";
import { say } from "../shell/toast.tsx";
import { schema } from "./schema.ts";

export type Letter = "A" | "B";

/** Two names are two replicas, even in one page. */
export const openTasks = (server: Server, letter: Letter) =>
  open({
    name: `rejoin-demo/${server.space}/tasks-${letter.toLowerCase()}`,
    schema,
    sync: { url: server.url, space: server.space },
  });

export type Database = Awaited<ReturnType<typeof openTasks>>;

/** Nothing on this page waits for a write; one that fails is told. */
export const attempt = (write: Promise<unknown>): void => {
  write.catch((error: unknown) => say(`Not saved: ${explain(error)}`));
};
