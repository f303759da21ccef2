/**
 * Composables for Vue 3.
 *
 * What they are given may be a value, a ref or a getter, and `undefined` or `null` until there is something to
 * ask: the database before it is open and during server rendering, the id before something is selected. What
 * a query asks counts, not the object; whoever asks the same shares one live query, until the scope is gone.
 *
 * A query that fails before it has shown anything throws where its ref is read, so `onErrorCaptured` and
 * `app.config.errorHandler` hear of it. One that has rows keeps them; `useStatus(db).value?.error` says why
 * nothing changes any more.
 */

import {
  computed,
  type ComputedRef,
  type MaybeRefOrGetter,
  shallowRef,
  toRaw,
  toValue,
  triggerRef,
  watch,
} from "vue";
import type { Collection, Query } from "../collection.js";
import type { Fields, Other, RejectedWrite, Row, Status } from "../types.js";
import {
  byId,
  only,
  othersOf,
  rejectedOf,
  share,
  type Source,
  statusOf,
  type WithPresence,
  type WithRejected,
  type WithStatus,
} from "./sharing.js";

/**
 * The rows of a query, kept current; `undefined` while they are being loaded. The array and the rows in it
 * are the same objects as long as nothing in them changes.
 *
 * @example
 * const open = useLiveQuery(() => db.tasks.where({ done: false, list: props.list }));
 */
export function useLiveQuery<R>(
  query: MaybeRefOrGetter<Query<R> | null | undefined>,
): ComputedRef<readonly R[] | undefined> {
  return follow(() => {
    const asked = given(query);
    return asked === undefined ? undefined : share(asked);
  });
}

/**
 * One record, kept current; `undefined` while it is being loaded, `null` if there is none.
 *
 * @example
 * const task = useRow(db.tasks, () => props.id);
 */
export function useRow<F extends Fields>(
  collection: MaybeRefOrGetter<Collection<F> | null | undefined>,
  id: MaybeRefOrGetter<string | null | undefined>,
): ComputedRef<Row<F> | null | undefined> {
  const rows = useLiveQuery(() => {
    const [from, wanted] = [given(collection), toValue(id)];
    return from === undefined || wanted == null ? undefined : byId(from, wanted);
  });
  return computed(() => only(rows.value));
}

/**
 * `db.status`, kept current.
 *
 * @example
 * const status = useStatus(db);
 */
export function useStatus(
  db: MaybeRefOrGetter<WithStatus | null | undefined>,
): ComputedRef<Status | undefined> {
  return follow(() => {
    const opened = given(db);
    return opened === undefined ? undefined : statusOf(opened);
  });
}

/**
 * `db.rejected.list`, kept current: the writes that the server refused.
 *
 * @example
 * const refused = useRejected(db);
 */
export function useRejected(
  db: MaybeRefOrGetter<WithRejected | null | undefined>,
): ComputedRef<readonly RejectedWrite[] | undefined> {
  return follow(() => {
    const opened = given(db);
    return opened === undefined ? undefined : rejectedOf(opened);
  });
}

/**
 * `db.presence.others`, kept current: who else is here, and what they show.
 *
 * @example
 * const others = usePresence(db);
 */
export function usePresence<T>(
  db: MaybeRefOrGetter<WithPresence<T> | null | undefined>,
): ComputedRef<readonly Other<T>[] | undefined> {
  return follow(() => {
    const opened = given(db);
    return opened === undefined ? undefined : othersOf(opened);
  });
}

/** The object itself: a proxy of Vue's cannot read what is private in it. */
function given<T extends object>(value: MaybeRefOrGetter<T | null | undefined>): T | undefined {
  const found = toValue(value);
  return found == null ? undefined : toRaw(found);
}

function follow<T>(source: () => Source<T> | undefined): ComputedRef<T | undefined> {
  const current = shallowRef<Source<T>>();
  watch(
    source,
    (found, _, onCleanup) => {
      current.value = found;
      if (found !== undefined) onCleanup(found.subscribe(() => triggerRef(current)));
    },
    { immediate: true, flush: "sync" },
  );
  return computed(() => current.value?.getSnapshot());
}
