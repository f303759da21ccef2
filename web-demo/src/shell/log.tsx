import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { LogEvent } from "rejoin";
import type { Connection } from "./hooks.ts";
import { CloseIcon, PauseIcon, PlayIcon, TrashIcon } from "./icons.tsx";
import { clock, count, size } from "./text.ts";

const LINES_MAX = 500;
const ARROWS = { in: "↓", out: "↑", state: "·" } as const;

interface Line extends LogEvent {
  readonly number: number;
  readonly source: string;
}

/** The last lines of what went over the wire, of any number of databases. */
export class Log {
  #lines: readonly Line[] = [];
  #taken = 0;
  #waiting = false;
  #listener: (() => void) | undefined;

  get lines(): readonly Line[] {
    return this.#lines;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Takes what `db` logs from now on. */
  record(source: string, db: Connection): () => void {
    return db.on("log", (event) => {
      const line = { ...event, source, number: ++this.#taken };
      this.#lines = [...this.#lines.slice(1 - LINES_MAX), line];
      this.#tell();
    });
  }

  clear(): void {
    this.#lines = [];
    this.#tell();
  }

  onChange(listener: () => void): () => void {
    this.#listener = listener;
    return () => {
      this.#listener = undefined;
    };
  }

  // A burst of messages is drawn once.
  #tell(): void {
    if (this.#waiting || this.#listener === undefined) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#listener?.();
    });
  }
}

export function LogPanel({ log, onClose }: { log: Log; onClose: () => void }) {
  const [lines, setLines] = useState(log.lines);
  const [paused, setPaused] = useState(false);
  const list = useRef<HTMLOListElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (paused) return undefined;
    setLines(log.lines);
    return log.onChange(() => setLines(log.lines));
  }, [log, paused]);
  useLayoutEffect(() => {
    if (atEnd.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines]);
  const onScroll = (event: { currentTarget: HTMLElement }) => {
    const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 24;
  };
  return (
    <aside class="log" aria-label="Protocol log" data-testid="log">
      <header>
        <h2>
          Protocol <small>{lines.length > 0 && `last ${count(lines.length)}`}</small>
        </h2>
        <button
          type="button"
          class="icon-button"
          aria-pressed={paused}
          aria-label={paused ? "Follow the log" : "Pause the log"}
          onClick={() => setPaused(!paused)}
        >
          {paused ? <PlayIcon /> : <PauseIcon />}
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label="Clear the log"
          onClick={() => {
            log.clear();
            setLines([]);
          }}
        >
          <TrashIcon />
        </button>
        <button type="button" class="icon-button" aria-label="Close the log" onClick={onClose}>
          <CloseIcon />
        </button>
      </header>
      <ol ref={list} tabIndex={0} aria-label="Messages" onScroll={onScroll}>
        {lines.length === 0 && <li class="empty-log">Nothing sent or received yet.</li>}
        {lines.map((line) => (
          <li key={line.number} data-direction={line.direction} data-message={line.message}>
            <span>{clock(line.at)}</span>
            <span>{line.source}</span>
            <span class="arrow">{ARROWS[line.direction]}</span>
            <b>{line.message}</b>
            <span>{line.bytes > 0 && size(line.bytes)}</span>
            <span>{line.text !== line.message && line.text}</span>
          </li>
        ))}
      </ol>
    </aside>
  );
}
