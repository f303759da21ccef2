import { useRef, useState } from "preact/hooks";
import { PlusIcon } from "../shell/icons.tsx";
import { useShortcut } from "../shell/hooks.ts";
import { attempt, type Database } from "./database.ts";

/** `#word` in a new title becomes a tag. */
export function parse(line: string): { title: string; tags: string[] } {
  const tags = new Set<string>();
  const title = line.replace(/(?:^|\s)#([^\s#]+)/gu, (_, tag: string) => {
    tags.add(tag);
    return " ";
  });
  const plain = title.replace(/\s+/gu, " ").trim();
  return plain === "" ? { title: line.trim(), tags: [] } : { title: plain, tags: [...tags] };
}

export function Composer({ db, shortcut }: { db: Database; shortcut: boolean }) {
  const [line, setLine] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useShortcut("n", () => shortcut && field.current?.focus());
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        const { title, tags } = parse(line);
        if (title === "") return;
        attempt(db.tasks.add({ title, tags, createdAt: Date.now() }));
        setLine("");
      }}
    >
      <PlusIcon />
      <input
        ref={field}
        dir="auto"
        value={line}
        onInput={(event) => setLine(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
        aria-label="New task"
        placeholder="New task, #tag"
        autocomplete="off"
        enterkeyhint="done"
        data-testid="new-task"
      />
      <button type="submit" class="button primary" disabled={line.trim() === ""}>
        Add
      </button>
    </form>
  );
}
