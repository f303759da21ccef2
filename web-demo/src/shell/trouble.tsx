import type { Status } from "rejoin";

type Problem = NonNullable<Status["storage"]["problem"]>;

const PROBLEMS: Record<Problem, string> = {
  quota: "This device has no space left: nothing new can be saved until there is some.",
  lost: "The browser closed the local database. Reload the page to go on.",
  evicted: "The browser deleted what was stored here. It is being fetched again from the server.",
  unreadable: "The local database could not be read. What was readable is kept.",
  reload_needed: "Another tab runs a newer version of this page. Reload to go on.",
};

const WRITES_LOST =
  "The browser lost changes that were saved here and had not reached the server. Check your last ones.";

/** What the person at the page must know about this device; absent when all is well. */
export function Trouble({ status }: { status: Status }) {
  const { mode, problem, writesLost } = status.storage;
  const broken = status.state === "closed" ? status.error?.message : undefined;
  const trouble = problem === undefined ? undefined : PROBLEMS[problem];
  const text = broken ?? trouble ?? (writesLost ? WRITES_LOST : undefined);
  if (text !== undefined) {
    return (
      <section class="notice warn" role="alert" data-testid="trouble">
        <p>{text}</p>
        {(broken !== undefined || problem === "lost" || problem === "reload_needed") && (
          <div class="actions">
            <button type="button" class="button" onClick={() => location.reload()}>
              Reload
            </button>
          </div>
        )}
      </section>
    );
  }
  if (mode !== "memory") return null;
  return (
    <p class="notice warn" data-testid="trouble">
      This browser keeps nothing: what is written here is gone when the page closes.
    </p>
  );
}
