import type { LiveQuery, Status } from "rejoin";
import { useCallback, useSyncExternalStore } from "react";
import type { Database } from "./database";

/** The rows of a live query; `undefined` while they are loaded. */
export function useRows<R>(live: LiveQuery<R>): readonly R[] | undefined {
  const subscribe = useCallback((onChange: () => void) => live.subscribe(onChange), [live]);
  return useSyncExternalStore(subscribe, () => live.getSnapshot());
}

/** Where syncing and storing stand. */
export function useStatus(db: Database): Status {
  const subscribe = useCallback((onChange: () => void) => db.on("status", onChange), [db]);
  return useSyncExternalStore(subscribe, () => db.status);
}
