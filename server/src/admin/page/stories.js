// Events, as people read them.

import { badge, h, name, short } from "./elements.js";
import { count, moment, plural, span } from "./numbers.js";
import { to, toSpace } from "./parts.js";

/** What an event says, in parts. */
function story(event) {
  const of = event.principal === undefined ? [] : [name(event.principal), " "];
  const detail = event.detail ? [" – ", name(event.detail)] : [];
  const code = event.code ? [" ", badge(event.code.replaceAll("_", " "))] : [];
  const refused = event.refused ? [", ", plural(event.refused, "write"), " refused"] : [];
  const record = () =>
    event.record === undefined
      ? name(event.collection ?? "")
      : to(
          "record",
          { space: event.space, collection: event.collection, id: event.record },
          [name(event.collection), " / ", name(event.record)],
          `event ${event.number}`,
        );
  switch (event.kind) {
    case "pushed":
      return [of, "wrote ", plural(event.accepted, "row"), refused];
    case "written":
      if (event.accepted === 0)
        return [of, "was refused ", plural(event.refused, "write"), " over HTTP"];
      return [of, "wrote ", plural(event.accepted, "record"), " over HTTP", refused];
    case "conflict":
      return [
        record(),
        ", field ",
        name(event.field),
        ": ",
        short(event.won.replica),
        " won over ",
        short(event.lost.replica),
        event.won.at === event.lost.at
          ? ""
          : `, written ${span(Math.abs(event.won.at - event.lost.at))} ${event.won.at > event.lost.at ? "later" : "earlier"}`,
      ];
    case "connected":
      return [
        of,
        "connected",
        event.detail ? [" (", name(event.detail.replaceAll("_", " ")), ")"] : [],
        code,
      ];
    case "disconnected":
      return [of, "left", code, detail];
    case "rejected":
      return [of, "was refused a write", code, detail];
    case "denied":
      return ["Somebody was not let in", code, detail];
    case "opened":
      return ["opened at position ", count(event.head), detail];
    case "damaged":
      return ["A stored row was damaged ", event.collection ? record() : [], detail];
    default:
      return [of, event.kind.replaceAll("_", " "), code, detail];
  }
}

export function entry(event) {
  return h(
    "li",
    null,
    moment(event.at),
    h("span", null, badge(event.class, event.class)),
    h("p", null, event.space ? [toSpace(event.space), " · "] : [], story(event)),
  );
}
