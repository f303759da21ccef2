// A record: the stamps that made it what it is.

import { ask, isLockedBy } from "./asking.js";
import { badge, h, main, name, plain, replace, s, short } from "./elements.js";
import { bytes, clock, count, day, pad, plural, when } from "./numbers.js";
import { bones, card, empty, go, head, list, problem, table, to } from "./parts.js";

export function record(view, query, signal) {
  const inputs = ["space", "collection", "id"].map((key) => {
    const label = { space: "Space", collection: "Collection", id: "Record" }[key];
    const input = h("input", {
      id: `record-${key}`,
      name: key,
      value: query.get(key) ?? "",
      required: key !== "id",
      spellcheck: "false",
      autocapitalize: "off",
    });
    return h("div", null, h("label", { for: `record-${key}` }, label), input);
  });
  const box = h("div", { class: "view" });
  const submit = (event) => {
    event.preventDefault();
    const asked = Object.fromEntries(new FormData(event.target));
    if (!asked.id) delete asked.id;
    go("record", asked);
  };
  view.append(
    head("Record", "its history of stamps: who wrote what when; no values"),
    h(
      "form",
      { class: "form card", onsubmit: submit },
      inputs,
      h("button", { type: "submit" }, "Look"),
    ),
    box,
  );
  const [of, collection, id] = ["space", "collection", "id"].map((key) => query.get(key));
  if (!of || !collection) {
    box.append(
      empty("Name a space and a collection to see its records, and a record to see its stamps."),
    );
  } else if (id === null) {
    const found = h("div");
    box.append(card("Records", [name(of), " / ", name(collection)], found));
    list(found, {
      ...{ path: "records", key: "records", signal },
      query: () => ({ space: of, collection }),
      show: (records) =>
        records.length === 0
          ? empty("There is no record in it.")
          : table(
              "Records",
              [
                [
                  "Record",
                  (one) => to("record", { space: of, collection, id: one.id }, name(one.id)),
                  "name",
                ],
                ["State", (one) => (one.live ? badge("there", "good") : badge("removed")), ""],
                ["Last written", (one) => when(one.written), "number"],
                ["Position", (one) => count(one.position), "number"],
                ["Size", (one) => bytes(one.bytes), "number"],
              ],
              records,
            ),
    });
  } else {
    box.append(bones());
    ask("record", { space: of, collection, id }, signal).then(
      (found) => replace(box, history(found)),
      (error) => {
        if (signal.aborted || isLockedBy(error)) return;
        replace(
          box,
          error.status === 404
            ? empty("There is no such record; what was removed long ago is forgotten.")
            : problem(error),
        );
      },
    );
  }
}

/** Everything that is known of a record's writes. */
function history(found) {
  const owner = (replica) => found.principals[replica];
  const by = (replica) => [
    owner(replica) === undefined ? [] : [name(owner(replica)), " "],
    short(replica),
  ];
  const stamp = (one) =>
    h(
      "li",
      null,
      h(
        "span",
        { class: "mono" },
        `${day(one.at)} ${clock(one.at)}.${pad(one.at % 1_000, 3)}${one.count ? ` +${one.count}` : ""}`,
      ),
      h("span", null, by(one.replica)),
    );
  const left = (number) =>
    number ? h("li", { class: "gap" }, `and ${plural(number, "earlier one")}`) : [];
  const stamps = (all, out) => h("ol", { class: "stamps" }, all.map(stamp), left(out));
  const field = (cell) =>
    h(
      "li",
      { class: "field" },
      h(
        "p",
        null,
        h("strong", null, name(cell.field)),
        badge(cell.kind),
        cell.writes.length > 1 &&
          badge(plural(cell.writes.length + cell.left_out, "write"), "conflict"),
      ),
      cell.writes.length > 0 ? stamps(cell.writes, cell.left_out) : [],
      cell.counted_by &&
        h(
          "p",
          { class: "soft small" },
          "counted by ",
          cell.counted_by.map((replica, at) => [at ? ", " : "", by(replica)]),
        ),
      cell.since &&
        h(
          "p",
          { class: "soft small" },
          "reset ",
          when(cell.since.at),
          " by ",
          by(cell.since.replica),
        ),
      cell.knows?.length > 0 &&
        h(
          "details",
          { class: "small" },
          h("summary", null, `Writes it knows of: ${cell.knows.length + cell.knows_left_out}`),
          stamps(cell.knows, cell.knows_left_out),
        ),
    );
  const fact = (label, value) => [h("dt", null, label), h("dd", null, value)];
  return [
    card(
      "Writes by replica",
      `${plural(found.seen.length + found.seen_left_out, "replica")} seen`,
      lanes(found, owner),
    ),
    h(
      "div",
      { class: "two" },
      card(
        "Fields",
        null,
        found.cells.length ? h("ol", null, found.cells.map(field)) : empty("It has no fields."),
      ),
      h(
        "div",
        { class: "view" },
        card(
          "State",
          null,
          h(
            "dl",
            { class: "facts" },
            fact("Record", [name(found.collection), " / ", name(found.id)]),
            fact("State", found.live ? badge("there", "good") : badge("removed")),
            fact("Position", count(found.position)),
            fact("Size", bytes(found.bytes)),
            fact("Removed for good", found.buried ? when(found.buried.at) : "no"),
            fact("Digest", short(found.digest)),
          ),
        ),
        card(
          "Seen",
          "the last write of each replica",
          found.seen.length ? stamps(found.seen, found.seen_left_out) : empty("None."),
        ),
        card(
          "Removed",
          "writes that a removal has covered",
          found.removed.length ? stamps(found.removed, found.removed_left_out) : empty("None."),
        ),
      ),
    ),
  ];
}

/** A lane for each replica, with its writes in the order of time. */
function lanes(found, owner) {
  const writes = found.cells.flatMap((cell) =>
    cell.writes.map((one) => ({ ...one, field: cell.field, kind: "field" })),
  );
  const all = [
    ...writes,
    ...found.seen.map((one) => ({ ...one, kind: "seen" })),
    ...found.removed.map((one) => ({ ...one, kind: "removed" })),
  ];
  if (all.length === 0) return empty("Nothing is known of its writes.");
  const replicas = [...new Set(all.map((one) => one.replica))].slice(0, 12);
  // Even steps from write to write: hours and milliseconds are as far apart.
  const times = [...new Set(all.map((one) => one.at))].sort((a, b) => a - b);
  const place = new Map(
    times.map((at, index) => [at, times.length === 1 ? 0.5 : index / (times.length - 1)]),
  );
  const rowHeight = 34;
  const width = Math.min(Math.max(main.clientWidth - 80, 280), 1_160);
  const height = replicas.length * rowHeight + 4;
  const x = (at) => 16 + place.get(at) * (width - 32);
  const lanes = replicas.map((replica, row) => {
    const y = row * rowHeight + 26;
    const marks = all
      .filter((one) => one.replica === replica)
      .map((one) => {
        const title = s(
          "title",
          null,
          `${one.kind === "field" ? `field ${plain(one.field)}` : one.kind}, ${day(one.at)} ${clock(one.at)}`,
        );
        if (one.kind === "seen")
          return s("circle", { class: `seen s${row % 3}`, cx: x(one.at), cy: y, r: 8 }, title);
        if (one.kind === "removed")
          return s(
            "path",
            { class: "s3 curve", d: `M${x(one.at) - 5} ${y - 5}l10 10m0 -10l-10 10` },
            title,
          );
        return s("circle", { class: `s${row % 3}`, cx: x(one.at), cy: y, r: 4.5 }, title);
      })
      .sort((a, b) => Number(b.classList.contains("seen")) - Number(a.classList.contains("seen")));
    return [
      s("line", { x1: 0, x2: width, y1: y, y2: y }),
      s("text", { x: 0, y: y - 12 }, `${plain(owner(replica) ?? "")} ${replica.slice(0, 8)}…`),
      marks,
    ];
  });
  const label = `${plural(all.length, "stamp")} of ${plural(replicas.length, "replica")}, the first ${day(times[0])} ${clock(times[0])}, the last ${day(times.at(-1))} ${clock(times.at(-1))}`;
  return h(
    "div",
    { class: "lanes" },
    s(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      lanes.flat(2),
    ),
    h(
      "p",
      { class: "axis" },
      h("span", null, `${day(times[0])} ${clock(times[0])}`),
      h("span", null, "○ last seen  ● field  × removed"),
      h("span", null, clock(times.at(-1))),
    ),
  );
}
