import { useEffect, useMemo, useState } from "preact/hooks";
import type { Server } from "../server.ts";
import { ColumnsIcon, LogIcon } from "../shell/icons.tsx";
import { Log, LogPanel } from "../shell/log.tsx";
import { Failed, Masthead } from "../shell/masthead.tsx";
import { explain } from "../shell/text.ts";
import { say, Toasts } from "../shell/toast.tsx";
import { Names } from "./note.tsx";
import { type Database, type Letter, openTasks } from "./database.ts";
import { Replica } from "./replica.tsx";

declare global {
  interface Window {
    /** For tests and the console. */
    rejoin?: object;
  }
}

type Open = { readonly [L in Letter]?: Database };

export function App({ server }: { server: Server }) {
  const [two, setTwo] = useState(() => startsWith("replicas", "2"));
  const [showLog, setShowLog] = useState(() => startsWith("log", "1"));
  const log = useMemo(() => new Log(), []);
  const [databases, setDatabases] = useState<Open>({});
  const [failure, setFailure] = useState<unknown>();
  const keep = (letter: Letter) => (db: Database | undefined) =>
    setDatabases((now) => {
      const next: { [L in Letter]?: Database } = { ...now };
      delete next[letter];
      return db === undefined ? next : { ...next, [letter]: db };
    });
  useEffect(() => hold(server, "A", log, keep("A"), setFailure), [server]);
  useEffect(() => (two ? hold(server, "B", log, keep("B"), setFailure) : undefined), [server, two]);
  useEffect(() => remember("replicas", two ? "2" : undefined), [two]);
  useEffect(() => remember("log", showLog ? "1" : undefined), [showLog]);
  useEffect(() => {
    window.rejoin = { db: databases.A, replicas: databases };
  }, [databases]);
  const names = useMemo(() => namesOf(databases), [databases]);
  if (failure !== undefined) return <Failed error={failure} />;
  const { A, B } = databases;
  return (
    <Names.Provider value={names}>
      <Masthead page="tasks">
        <button
          type="button"
          class="tool"
          aria-pressed={two}
          data-testid="two-replicas"
          onClick={() => setTwo(!two)}
        >
          <ColumnsIcon /> <span>Two replicas</span>
        </button>
        <button
          type="button"
          class="tool"
          aria-pressed={showLog}
          data-testid="show-log"
          onClick={() => setShowLog(!showLog)}
        >
          <LogIcon /> <span>Protocol</span>
        </button>
      </Masthead>
      <main class={two ? "replicas two" : "replicas"}>
        {A && <Replica key="A" db={A} letter="A" alone={!two} />}
        {two && B && <Replica key="B" db={B} letter="B" alone={false} />}
      </main>
      {showLog && <LogPanel log={log} onClose={() => setShowLog(false)} />}
      <Toasts aboveLog={showLog} />
    </Names.Provider>
  );
}

const namesOf = (databases: Open): ReadonlyMap<string, string> =>
  new Map(
    Object.entries(databases).map(([letter, db]) => [db.status.replica, `Replica ${letter}`]),
  );

/** Opens a database while it is shown; the returned function closes it, also when it opens too late. */
function hold(
  server: Server,
  letter: Letter,
  log: Log,
  onOpen: (db: Database | undefined) => void,
  onFailure: (error: unknown) => void,
): () => void {
  let wanted = true;
  let stopLog = () => {};
  const opening = openTasks(server, letter);
  opening.then((db) => {
    if (!wanted) return;
    stopLog = log.record(letter, db);
    onOpen(db);
  }, onFailure);
  return () => {
    wanted = false;
    stopLog();
    onOpen(undefined);
    opening
      .then((db) => db.close())
      .catch((error: unknown) => say(`Replica ${letter} did not close: ${explain(error)}`));
  };
}

const startsWith = (name: string, value: string): boolean =>
  new URL(location.href).searchParams.get(name) === value;

/** What is shown stays so after a reload. */
function remember(name: string, value: string | undefined): void {
  const page = new URL(location.href);
  if (value === undefined) page.searchParams.delete(name);
  else page.searchParams.set(name, value);
  if (page.href !== location.href) history.replaceState(null, "", page);
}
