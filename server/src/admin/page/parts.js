// What views are made of.

import { ask, excuse, isLockedBy, wait } from "./asking.js";
import { badge, h, name, replace, s, short } from "./elements.js";
import { bytes, count, span, when } from "./numbers.js";

export const LIST_MS = 4_000;

export const bones = () =>
  h(
    "div",
    { class: "bones", role: "status", "aria-label": "Loading" },
    h("div"),
    h("div"),
    h("div"),
  );
export const empty = (text) => h("p", { class: "empty" }, text);
export const problem = (error) =>
  h("p", { class: "problem", role: "alert" }, `Not shown: ${excuse(error)}.`);

export function card(title, aside, ...children) {
  return h(
    "section",
    { class: "card" },
    h("header", null, h("h2", null, title), aside && h("p", { class: "soft small" }, aside)),
    ...children,
  );
}

export const head = (title, aside) =>
  h(
    "div",
    { class: "head" },
    h("h1", null, title),
    aside && h("p", { class: "soft small" }, aside),
  );

/** A table; a column is a title, what makes a cell of a row, and a class. */
export function table(caption, columns, rows) {
  const cell =
    (row) =>
    ([title, make, kind]) =>
      h("td", { class: kind, "data-label": title }, make(row));
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { "aria-label": caption },
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title)),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((row) => h("tr", null, columns.map(cell(row)))),
      ),
    ),
  );
}

const ICONS = {
  good: "M4 12l5 5L20 6",
  note: "M12 11v6M12 7v.01M12 2a10 10 0 100 20 10 10 0 000-20z",
  warn: "M12 9v5M12 17.5v.01M12 3L2 20h20z",
  bad: "M12 7v6M12 16.5v.01M8 2h8l6 6v8l-6 6H8l-6-6V8z",
};
const LEVELS = { good: "Good", note: "Note", warn: "Warning", bad: "Problem" };

export function finding(level, what, detail) {
  return h(
    "li",
    { class: "finding", "data-level": level },
    s(
      "svg",
      { viewBox: "0 0 24 24", role: "img", "aria-label": LEVELS[level] },
      s("path", { d: ICONS[level] }),
    ),
    h("strong", null, what),
    h("p", null, name(detail)),
  );
}

/** A link to a view. */
export const to = (view, query, text, key) =>
  h(
    "a",
    {
      href: `#/${view}?${new URLSearchParams(query)}`,
      "data-key": key ?? `${view} ${Object.values(query).join("\0")}`,
    },
    text,
  );
export const toSpace = (space) => to("space", { space }, name(space));

function lagOf(client) {
  if (!client.lag)
    return client.state === "opening" ? badge("opening") : badge("catching up", "warn");
  if (client.lag.positions === 0) return badge("up to date", "good");
  const far = client.lag.ms >= 5_000;
  return h(
    "span",
    { class: far ? "lag-far" : undefined },
    `${count(client.lag.positions)} · ${span(client.lag.ms)}`,
  );
}

export const who = (client) => h("span", null, name(client.principal), " ", short(client.replica));

export const CLIENTS = [
  ["Principal", who, "name"],
  ["Space", (client) => toSpace(client.space), ""],
  ["Behind by", lagOf, "number"],
  ["Waiting", (client) => bytes(client.unsent_bytes), "number"],
  ["Accepted", (client) => count(client.accepted), "number"],
  ["Refused", (client) => count(client.refused), "number"],
  ["Since", (client) => when(client.since), "number"],
];

/** Does something now, and again after each time, while the page is looked at. */
export async function every(ms, work, signal) {
  while (!signal.aborted) {
    if (!document.hidden) await work();
    await wait(ms, signal).catch(() => {});
  }
}

/** A list in pages that is asked for again; `path`, `query` and `key` are of the interface, `show` draws its entries. */
export function list(box, { path, query, key, show, signal }) {
  let pages = 1;
  replace(box, bones());
  const work = async () => {
    const entries = [];
    let next;
    let answer;
    try {
      for (let page = 0; page < pages; page += 1) {
        answer = await ask(path, { ...query(), after: next }, signal);
        entries.push(...answer[key]);
        next = answer.next ?? undefined;
        if (next === undefined) break;
      }
    } catch (error) {
      if (!signal.aborted && !isLockedBy(error)) replace(box, problem(error));
      return;
    }
    const more = async () => {
      pages += 1;
      await work();
    };
    const button =
      next !== undefined &&
      h(
        "button",
        { class: "quiet more", type: "button", onclick: more, "data-key": `more ${path}` },
        "More",
      );
    replace(box, show(entries, answer), button || []);
  };
  every(LIST_MS, work, signal);
  return work;
}

export function go(view, query) {
  location.hash = `/${view}?${new URLSearchParams(query)}`;
}
