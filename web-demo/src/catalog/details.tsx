import { BackIcon } from "../shell/icons.tsx";
import { count, size } from "../shell/text.ts";
import { FIELDS, nameOf, summaryOf, type Package } from "./schema.ts";

export function Details({ item, onClose }: { item: Package | undefined; onClose: () => void }) {
  if (item === undefined) {
    return (
      <aside class="pane" aria-label="Details">
        <p class="quiet pane-empty">Choose a package to see all of it.</p>
      </aside>
    );
  }
  return (
    <aside class="pane open" aria-label={`Details of ${nameOf(item)}`} data-testid="pane">
      <button type="button" class="button back" onClick={onClose}>
        <BackIcon /> All packages
      </button>
      <h2>{nameOf(item)}</h2>
      <p class="lead">{summaryOf(item)}</p>
      <Body text={String(item.Description ?? "")} />
      <dl>
        {FIELDS.filter((field) => item[field] !== null).map((field) => (
          <div key={field}>
            <dt>{field}</dt>
            <dd>{shown(field, item[field])}</dd>
          </div>
        ))}
      </dl>
    </aside>
  );
}

/** Debian's long descriptions: a space begins each line, a lone dot stands for an empty one. */
function Body({ text }: { text: string }) {
  const lines = text.split("\n").slice(1);
  if (lines.length === 0) return null;
  const paragraphs = lines
    .map((line) => line.replace(/^ /u, ""))
    .map((line) => (line === "." ? "" : line))
    .join("\n")
    .split(/\n\n+/u);
  return (
    <div class="long">
      {paragraphs.map((paragraph, index) => (
        <p key={index} class={/^[\s*-]/mu.test(paragraph) ? "laid-out" : undefined}>
          {paragraph}
        </p>
      ))}
    </div>
  );
}

function shown(field: string, value: string | number | null) {
  const number = typeof value === "string" ? Number(value) : value;
  if (typeof number === "number" && Number.isFinite(number)) {
    if (field === "Size") return size(number);
    if (field === "Installed-Size") return size(number * 1024);
    return typeof value === "number" ? count(value) : value;
  }
  if (typeof value === "string" && /^https?:\/\/\S+$/u.test(value)) {
    return (
      <a href={value} rel="noreferrer" target="_blank">
        {value}
      </a>
    );
  }
  // What was imported may be anything that JSON can say.
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
