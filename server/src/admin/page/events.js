// The tail of events, and the earlier ones.

import { ask, isLockedBy } from "./asking.js";
import { h, replace } from "./elements.js";
import { plural } from "./numbers.js";
import { empty, go, head, problem } from "./parts.js";
import { heard, known } from "./state.js";
import { entry } from "./stories.js";

const CLASSES = [
  ["", "All"],
  ["activity", "Activity"],
  ["conflict", "Conflicts"],
  ["refusal", "Refusals"],
  ["fault", "Faults"],
];

export function events(view, query, signal) {
  const chosen = query.get("class") ?? "";
  let paused = false;
  let older = [];
  let held = [];
  const box = h("ol", { class: "events", "aria-label": "Events, the last first" });
  const missed = h("p", { class: "gap small" });
  const more = h("button", { class: "quiet more", type: "button" }, "Earlier ones");
  const stop = h(
    "button",
    { class: "quiet push", type: "button", "aria-pressed": "false" },
    "Pause",
  );
  const chips = CLASSES.map(([key, label]) =>
    h(
      "button",
      {
        class: "quiet",
        type: "button",
        "aria-pressed": String(key === chosen),
        onclick: () => go("events", key ? { class: key } : {}),
      },
      label,
    ),
  );
  view.append(
    head("Events", "who did what where, never what was written"),
    h("div", { class: "bar" }, chips, stop),
    h("section", { class: "card", "aria-label": "Events" }, missed, box, more),
  );
  const fits = (event) => chosen === "" || event.class === chosen;
  const draw = () => {
    if (paused) return;
    const fresh = known.events.filter(fits);
    const numbers = new Set(fresh.map((event) => event.number));
    held = [...fresh, ...older.filter((event) => !numbers.has(event.number))].sort(
      (a, b) => b.number - a.number,
    );
    replace(
      box,
      held.length
        ? held.map(entry)
        : h("li", null, empty("Nothing yet. What happens from now on comes by itself.")),
    );
    missed.textContent = known.missed
      ? `${plural(known.missed, "event")} came faster than they could be shown.`
      : "";
    missed.hidden = known.missed === 0;
  };
  const load = async (before) => {
    try {
      const found = await ask("events", { class: chosen, before, limit: 100 }, signal);
      older = [...older, ...found.events];
      more.hidden = found.next === null;
      draw();
    } catch (error) {
      if (!signal.aborted && !isLockedBy(error)) replace(box, h("li", null, problem(error)));
    }
  };
  more.hidden = true;
  more.addEventListener("click", () => load(held.at(-1)?.number));
  stop.addEventListener("click", () => {
    paused = !paused;
    stop.setAttribute("aria-pressed", String(paused));
    stop.textContent = paused ? "Go on" : "Pause";
    draw();
  });
  let due = false;
  heard.addEventListener(
    "events",
    () => {
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        draw();
      });
    },
    { signal },
  );
  draw();
  load(undefined);
}
