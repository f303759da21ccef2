import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { count } from "../shell/text.ts";
import { nameOf, summaryOf, type Package } from "./schema.ts";

const ROW_PX = 62;
const SPARE_ROWS = 8;

interface Props {
  readonly rows: readonly Package[];
  readonly selected: string | undefined;
  readonly onSelect: (id: string, open: boolean) => void;
}

/** As many rows in the document as the window shows, however long the list is. */
export function List({ rows, selected, onSelect }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(800);
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  // Another question begins at its first answer.
  useEffect(() => {
    box.current?.scrollTo({ top: 0 });
  }, [rows]);
  const from = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const to = Math.min(rows.length, Math.ceil((top + height) / ROW_PX) + SPARE_ROWS);
  const index = selected === undefined ? -1 : rows.findIndex(({ id }) => id === selected);

  const move = (target: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, target));
    const row = rows[next];
    const element = box.current;
    if (row === undefined || element === null) return;
    onSelect(row.id, false);
    const above = next * ROW_PX;
    if (above < element.scrollTop) element.scrollTop = above;
    else if (above + ROW_PX > element.scrollTop + height) {
      element.scrollTop = above + ROW_PX - height;
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(height / ROW_PX) - 1);
    const target = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + page,
      PageUp: index - page,
      Home: 0,
      End: rows.length - 1,
    }[event.key];
    if (target !== undefined) move(target);
    else if (event.key === "Enter" && selected !== undefined) onSelect(selected, true);
    else return;
    event.preventDefault();
  };
  return (
    <div
      ref={box}
      class="list"
      role="listbox"
      tabIndex={0}
      aria-label="Packages"
      aria-activedescendant={index >= from && index < to ? `row-${index}` : undefined}
      data-testid="list"
      data-rows={rows.length}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={onKeyDown}
    >
      <div style={{ height: `${rows.length * ROW_PX}px` }}>
        {rows.slice(from, to).map((row, offset) => {
          const at = from + offset;
          return (
            <div
              key={row.id}
              id={`row-${at}`}
              class="row"
              role="option"
              aria-selected={row.id === selected}
              aria-posinset={at + 1}
              aria-setsize={rows.length}
              data-testid="package"
              style={{ transform: `translateY(${at * ROW_PX}px)` }}
              onClick={() => onSelect(row.id, true)}
            >
              <b>{nameOf(row)}</b>
              <span class="version mono">{row.Version}</span>
              <span class="summary">{summaryOf(row)}</span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

export const found = (shown: number, all: number): string =>
  shown === all ? `${count(all)} packages` : `${count(shown)} of ${count(all)} packages`;
