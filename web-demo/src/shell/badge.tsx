import { useEffect, useRef } from "preact/hooks";
import type { Status } from "rejoin";
import { CheckIcon } from "./icons.tsx";
import { count, moment, size, some } from "./text.ts";

/** `verified` is `live` with nothing left to send and both roots equal. */
export type Shown = Status["state"] | "verified";

export const shownState = (status: Status): Shown =>
  status.state === "live" && status.synced ? "verified" : status.state;

const LABELS: Record<Shown, string> = {
  offline: "Offline",
  connecting: "Connecting",
  syncing: "Syncing",
  live: "Live",
  verified: "Verified",
  "needs-auth": "Sign in",
  closed: "Closed",
};

export function Badge({ status }: { status: Status }) {
  const state = shownState(status);
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => closeOutside(details.current), []);
  const { verified, pending } = status;
  return (
    <details
      ref={details}
      class="badge"
      data-testid="badge"
      data-state={state}
      data-pending={pending}
      data-root={verified?.root ?? ""}
      data-synced={status.synced}
    >
      <summary title="Where syncing stands">
        {state === "verified" ? <CheckIcon /> : <i class="dot" />}
        <span role="status">{LABELS[state]}</span>
        {state === "syncing" && status.progress && (
          <span data-testid="progress">{count(status.progress.records)}</span>
        )}
        {state === "verified" && verified && (
          <span class="code" data-testid="root">
            {verified.short}
          </span>
        )}
        {pending > 0 && (
          <span class="waiting" data-testid="pending">
            {count(pending)} to send
          </span>
        )}
      </summary>
      <Card status={status} />
    </details>
  );
}

function Card({ status }: { status: Status }) {
  const { verified, lastSyncedAt, storage, error, replica, pending } = status;
  return (
    <dl class="badge-card">
      {error && (
        <>
          <dt>Reason</dt>
          <dd>{error.message}</dd>
        </>
      )}
      <dt>To send</dt>
      <dd>{pending === 0 ? "nothing" : some(pending, "write")}</dd>
      <dt>In sync</dt>
      <dd>{lastSyncedAt === undefined ? "not yet" : moment(lastSyncedAt)}</dd>
      <dt>Root</dt>
      <dd>{verified ? <code>{verified.root}</code> : "not yet compared"}</dd>
      {verified && (
        <>
          <dt>At</dt>
          <dd>place {count(verified.seq)} of the server’s feed</dd>
        </>
      )}
      <dt>Replica</dt>
      <dd>
        <code>{replica}</code>
      </dd>
      <dt>Storage</dt>
      <dd>
        {storage.mode}
        {storage.usage !== undefined && `, ${size(storage.usage)} used`}
        {storage.problem && `: ${storage.problem}`}
      </dd>
    </dl>
  );
}

/** A line under the header while records arrive. */
export function ProgressBar({ status }: { status: Status }) {
  if (status.state !== "syncing") return null;
  const { records = 0, total } = status.progress ?? {};
  if (total === undefined || total === 0) {
    return (
      <div class="bar unknown" role="progressbar" aria-label="Syncing" data-testid="bar">
        <i />
      </div>
    );
  }
  const part = Math.min(1, records / total);
  return (
    <div
      class="bar"
      role="progressbar"
      aria-label="Syncing"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(part * 100)}
      data-testid="bar"
    >
      <i style={{ transform: `scaleX(${part})` }} />
    </div>
  );
}

function closeOutside(details: HTMLDetailsElement | null): () => void {
  const close = (event: Event) => {
    if (details === null || !details.open) return;
    const escape = event instanceof KeyboardEvent && event.key === "Escape";
    const outside = event.type === "pointerdown" && !details.contains(event.target as Node);
    if (escape || outside) details.open = false;
    if (escape) details.querySelector("summary")?.focus();
  };
  addEventListener("pointerdown", close);
  addEventListener("keydown", close);
  return () => {
    removeEventListener("pointerdown", close);
    removeEventListener("keydown", close);
  };
}
