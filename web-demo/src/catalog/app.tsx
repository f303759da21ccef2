import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Status } from "rejoin";
import type { Server } from "../server.ts";
import { Badge, ProgressBar } from "../shell/badge.tsx";
import { useLive, useShortcut, useStatus } from "../shell/hooks.ts";
import { CopyIcon, LogIcon, SearchIcon } from "../shell/icons.tsx";
import { Log, LogPanel } from "../shell/log.tsx";
import { Masthead } from "../shell/masthead.tsx";
import { NetworkSwitch } from "../shell/switch.tsx";
import { count, explain } from "../shell/text.ts";
import { say, Toasts } from "../shell/toast.tsx";
import { Trouble } from "../shell/trouble.tsx";
import { Details } from "./details.tsx";
import { found, List } from "./list.tsx";
import type { Catalog, Package } from "./schema.ts";
import { Search } from "./search.ts";

export function App({ db, server, log }: { db: Catalog; server: Server; log: Log }) {
  const status = useStatus(db);
  const query = useMemo(() => db.packages.orderBy("Package").live(), [db]);
  useEffect(() => () => query.close(), [query]);
  const rows = useLive(query);
  const { words, setWords, results, ready } = useSearch(rows);
  const [selected, setSelected] = useState<string>();
  const [open, setOpen] = useState(false);
  const [showLog, setShowLog] = useState(false);
  const item = useMemo(() => rows?.find(({ id }) => id === selected), [rows, selected]);
  return (
    <div class="catalog">
      <Masthead page="catalog">
        <button
          type="button"
          class="tool"
          aria-pressed={showLog}
          onClick={() => setShowLog(!showLog)}
        >
          <LogIcon /> <span>Protocol</span>
        </button>
      </Masthead>
      <ProgressBar status={status} />
      <main class="browser" data-open={open && item !== undefined}>
        <section class="finder" aria-label="Packages">
          <header class="replica-head">
            <div>
              <h1>Packages</h1>
              <p class="quiet" data-testid="tally" aria-live="polite">
                {tally(rows, results, ready, status)}
              </p>
            </div>
            <div class="sync">
              <Badge status={status} />
              <NetworkSwitch db={db} paused={status.paused} />
            </div>
          </header>
          <Trouble status={status} />
          <SearchField words={words} onWords={setWords} />
          {rows !== undefined && rows.length === 0 ? (
            <Nothing status={status} server={server} />
          ) : results?.length === 0 && words.trim() !== "" ? (
            <div class="empty" data-testid="no-match">
              <p>Nothing matches.</p>
              <p class="quiet">No name and no description has all of these words.</p>
            </div>
          ) : (
            <List
              rows={results ?? []}
              selected={selected}
              onSelect={(id, show) => {
                setSelected(id);
                if (show) setOpen(true);
              }}
            />
          )}
          <Root db={db} status={status} loaded={rows !== undefined} />
        </section>
        <Details item={item} onClose={() => setOpen(false)} />
      </main>
      {showLog && <LogPanel log={log} onClose={() => setShowLog(false)} />}
      <Toasts aboveLog={showLog} />
    </div>
  );
}

/** What was searched for, and what was found in the rows as they are now. */
function useSearch(rows: readonly Package[] | undefined) {
  const search = useMemo(() => new Search(), []);
  const [words, setWords] = useState("");
  const [ready, setReady] = useState(0);
  const [results, setResults] = useState<readonly Package[]>();
  useEffect(() => (rows ? search.prepare(rows, setReady) : undefined), [search, rows]);
  useEffect(() => {
    if (rows === undefined) return undefined;
    const abort = new AbortController();
    search
      .find(rows, words, abort.signal)
      .then((now) => now && !abort.signal.aborted && setResults(now))
      .catch((error: unknown) => say(`The search failed: ${explain(error)}`));
    return () => abort.abort();
  }, [search, rows, words]);
  return { words, setWords, results, ready };
}

function SearchField({ words, onWords }: { words: string; onWords: (words: string) => void }) {
  const field = useRef<HTMLInputElement>(null);
  useShortcut("/", () => field.current?.focus());
  return (
    <label class="search">
      <SearchIcon />
      <span class="visually-hidden">Search by name and description</span>
      <input
        ref={field}
        type="search"
        value={words}
        onInput={(event) => onWords(event.currentTarget.value)}
        placeholder="Search by name and description"
        autocapitalize="none"
        autocomplete="off"
        spellcheck={false}
        enterkeyhint="search"
        data-testid="search"
      />
    </label>
  );
}

function tally(
  rows: readonly Package[] | undefined,
  results: readonly Package[] | undefined,
  ready: number,
  status: Status,
): string {
  if (status.state === "syncing" && status.progress !== undefined) {
    const { records, total } = status.progress;
    const of = total === undefined ? "" : ` of about ${count(total)}`;
    return `Receiving ${count(records)}${of} packages`;
  }
  if (rows === undefined || results === undefined) return "Reading what is on this device";
  const text = found(results.length, rows.length);
  return ready < rows.length ? `${text}, preparing the search` : text;
}

/** The whole root, to be compared with what `rejoin verify` prints. */
function Root({ db, status, loaded }: { db: Catalog; status: Status; loaded: boolean }) {
  const [own, setOwn] = useState<string>();
  const verified = status.verified?.root;
  useEffect(() => {
    if (!loaded || verified !== undefined) return;
    db.roots().then(
      (roots) => setOwn(roots["packages"]),
      (error: unknown) => say(`No root: ${explain(error)}`),
    );
  }, [db, loaded, verified]);
  const root = verified ?? own;
  if (root === undefined) return <p class="root quiet">Not yet compared with a server.</p>;
  const label = status.synced ? "Verified root" : "Last verified root";
  const copy = () =>
    navigator.clipboard.writeText(root).then(
      () => say("Root copied"),
      (error: unknown) => say(`Not copied: ${explain(error)}`),
    );
  return (
    <p class="root">
      <span class="quiet">{verified === undefined ? "Root of what is here" : label}</span>
      <code data-testid="full-root">{root}</code>
      <button type="button" class="icon-button" aria-label="Copy the root" onClick={copy}>
        <CopyIcon />
      </button>
    </p>
  );
}

function Nothing({ status, server }: { status: Status; server: Server }) {
  return (
    <div class="empty" data-testid="empty">
      <img src="./icon.svg" alt="" width="44" height="44" />
      {status.state === "syncing" ? (
        <>
          <p>Packages are on their way</p>
          <p class="quiet">They show together, once all have arrived and have been checked.</p>
        </>
      ) : status.verified === undefined ? (
        <>
          <p>{status.state === "connecting" ? "Looking for packages" : "No packages yet"}</p>
          <p class="quiet">
            {status.state === "offline"
              ? "They come by themselves as soon as the server can be reached."
              : "Asking the server."}
          </p>
        </>
      ) : (
        <ImportHint server={server} />
      )}
    </div>
  );
}

function ImportHint({ server }: { server: Server }) {
  const command = [
    "cargo run --release -p rejoin-client --bin rejoin -- import",
    `--server ${server.url}`,
    `--space ${server.space} --collection packages`,
    "--key Package packages.jsonl",
  ].join(" \\\n  ");
  return (
    <>
      <p>No packages here yet</p>
      <p class="quiet">
        Import Debian’s package index into this space; the README tells how to get it as a file:
      </p>
      <pre tabIndex={0}>{command}</pre>
    </>
  );
}
