// The spaces, and one of them.

import { ask, isLockedBy } from "./asking.js";
import { badge, h, name, replace, short } from "./elements.js";
import { ago, bytes, count, when } from "./numbers.js";
import {
  CLIENTS,
  LIST_MS,
  card,
  empty,
  every,
  head,
  list,
  problem,
  table,
  to,
  toSpace,
  who,
} from "./parts.js";

export function spaces(view, query, signal) {
  const box = h("div");
  const input = h("input", {
    id: "contains",
    type: "search",
    placeholder: "Part of a name",
    value: query.get("contains") ?? "",
  });
  view.append(
    head("Spaces"),
    h("div", null, h("label", { for: "contains" }, "Find a space"), input),
    h("section", { class: "card", "aria-label": "Spaces" }, box),
  );
  const size = (of) => (one) =>
    one.size
      ? h("span", { title: `added up ${ago(one.size.at)}` }, of(one.size))
      : h("span", { class: "soft" }, "adding up…");
  const again = list(box, {
    ...{ path: "spaces", key: "spaces", signal },
    query: () => ({ contains: input.value, limit: 50 }),
    show: (found) =>
      found.length === 0
        ? empty(
            input.value
              ? "No space has this in its name."
              : "No client has written or asked for anything yet.",
          )
        : table(
            "Spaces",
            [
              ["Space", (one) => toSpace(one.space), "name"],
              ["Records", size((it) => count(it.records)), "number"],
              ["Size", size((it) => bytes(it.bytes)), "number"],
              ["Position", (one) => count(one.head), "number"],
              ["Forgotten up to", (one) => when(one.horizon), "number"],
              [
                "Clients",
                (one) =>
                  one.open ? count(one.open.clients) : h("span", { class: "soft" }, "asleep"),
                "number",
              ],
              [
                "Written, refused",
                (one) =>
                  one.open ? `${count(one.open.accepted)}, ${count(one.open.refused)}` : "–",
                "number",
              ],
            ],
            found,
          ),
  });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(again, 200);
  });
}

export function space(view, query, signal) {
  const of = query.get("space") ?? "";
  const facts = h("div");
  const here = h("div");
  const replicas = h("div");
  const collections = h("div");
  view.append(
    h(
      "nav",
      { class: "crumbs", "aria-label": "Where this is" },
      h("a", { href: "#/spaces" }, "Spaces"),
      " / ",
      name(of),
    ),
    h("div", { class: "head" }, h("h1", null, name(of))),
    h("div", { class: "two" }, facts, card("Collections", null, collections)),
    card("Connected now", null, here),
    card("Known replicas", "who has ever written here", replicas),
  );
  const fact = (label, value) => [h("dt", null, label), h("dd", null, value)];
  every(
    LIST_MS,
    async () => {
      try {
        const {
          spaces: [one],
        } = await ask("spaces", { space: of }, signal);
        replace(
          facts,
          card(
            "What it holds",
            null,
            one
              ? h(
                  "dl",
                  { class: "facts" },
                  fact("Records", one.size ? count(one.size.records) : "adding up…"),
                  fact(
                    "Size",
                    one.size ? `${bytes(one.size.bytes)}, ${ago(one.size.at)}` : "adding up…",
                  ),
                  fact("Position", count(one.head)),
                  fact("Last written", when(one.clock)),
                  fact("Forgotten up to", when(one.horizon)),
                  fact(
                    "Clients",
                    one.open ? count(one.open.clients) : "asleep: nobody is connected",
                  ),
                  fact("Conflicts since it is open", one.open ? count(one.open.conflicts) : "–"),
                  fact("Epoch", one.epoch ? short(one.epoch) : "–"),
                )
              : empty("There is no such space."),
          ),
        );
      } catch (error) {
        if (!signal.aborted && !isLockedBy(error)) replace(facts, problem(error));
      }
    },
    signal,
  );
  list(here, {
    ...{ path: "clients", key: "clients", signal },
    query: () => ({ space: of }),
    show: (found) =>
      found.length === 0
        ? empty("Nobody is connected.")
        : table(
            "Connected now",
            CLIENTS.filter(([title]) => title !== "Space"),
            found,
          ),
  });
  list(replicas, {
    ...{ path: "replicas", key: "replicas", signal },
    query: () => ({ space: of }),
    show: (found, { head }) => {
      const lag = (one) => {
        if (one.connected) return badge("connected", "good");
        if (one.position === null) return h("span", { class: "soft" }, "unknown");
        return one.position === head
          ? "nothing"
          : `${count(head - one.position)} · left ${ago(one.left)}`;
      };
      return found.length === 0
        ? empty("No replica has written here.")
        : table(
            "Known replicas",
            [
              ["Principal", who, "name"],
              ["Last write accepted", (one) => when(one.accepted), "number"],
              ["Lacks", lag, "number"],
            ],
            found,
          );
    },
  });
  list(collections, {
    ...{ path: "collections", key: "collections", signal },
    query: () => ({ space: of }),
    show: (found) =>
      found.length === 0
        ? empty("It has no records.")
        : h(
            "ul",
            null,
            found.map((collection) =>
              h("li", null, to("record", { space: of, collection }, name(collection))),
            ),
          ),
  });
}
