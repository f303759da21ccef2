// Who is connected, and how far they are.

import { h } from "./elements.js";
import { CLIENTS, empty, head, list, table } from "./parts.js";

export function clients(view, _query, signal) {
  const box = h("div");
  view.append(
    head(
      "Clients",
      "connected now, in the order in which they came; how far they are behind is looked at every few seconds",
    ),
    h("section", { class: "card", "aria-label": "Clients" }, box),
  );
  list(box, {
    ...{ path: "clients", key: "clients", signal },
    query: () => ({}),
    show: (found) =>
      found.length === 0 ? empty("Nobody is connected.") : table("Clients", CLIENTS, found),
  });
}
