import type { Connection } from "./hooks.ts";

/** Cuts and restores the network of one database, as if a cable were pulled inside the page. */
export function NetworkSwitch({ db, paused }: { db: Connection; paused: boolean }) {
  return (
    <button
      type="button"
      class="switch"
      role="switch"
      aria-checked={!paused}
      data-testid="network"
      onClick={() => (paused ? db.network.resume() : db.network.pause())}
    >
      Network
      <i class="track" />
    </button>
  );
}
