// Charts of the rates.

import { h, s } from "./elements.js";
import { POLL_MS } from "./live.js";
import { bytes, clock, count, millis, rate, span } from "./numbers.js";
import { known } from "./state.js";

export const CHARTS = [
  {
    title: "Writes",
    unit: "per second",
    show: rate,
    curves: [
      ["accepted", "accepted", 0],
      ["conflicts", "conflicts", 2],
      ["refused", "refused", 3],
    ],
  },
  {
    title: "Messages",
    unit: "per second",
    show: rate,
    curves: [
      ["received", "messages_in", 0],
      ["sent", "messages_out", 1],
    ],
  },
  {
    title: "Bytes",
    unit: "per second",
    show: bytes,
    curves: [
      ["received", "bytes_in", 0],
      ["sent", "bytes_out", 1],
    ],
  },
  { title: "Connections", unit: "open", show: count, curves: [["open", "connections", 0]] },
  { title: "Commits", unit: "per second", show: rate, curves: [["commits", "commits", 0]] },
  {
    title: "Time",
    unit: "on the mean",
    show: millis,
    curves: [
      ["commit", "commit_ms", 0],
      ["wait for sockets", "wait_ms", 1],
    ],
  },
];

const WIDTH = 600;
const HEIGHT = 132;
const PAD = 6;

/** How many samples a chart has room for: two minutes at first, then all. */
const shown = () => Math.max(60, known.samples.length);

/** The least of 1, 2, 5, 10 … that is not below. */
function ceiling(value) {
  if (value <= 0) return 1;
  const base = 10 ** Math.floor(Math.log10(value));
  return base * [1, 2, 5, 10].find((step) => step * base >= value * 0.999);
}

/** One chart, that draws itself anew; the pointer, or arrow keys, ask for earlier values. */
export function chart({ title, unit, show, curves }) {
  const legend = h("ul", { class: "legend" });
  const most = h("span");
  const from = h("span");
  const at = h("span");
  const svg = s("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    tabindex: "0",
  });
  let picked;
  const pick = (index) => {
    picked = index;
    draw();
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    pick(shown() - 1 - Math.round(((event.clientX - box.left) / box.width) * (shown() - 1)));
  });
  svg.addEventListener("pointerleave", () => pick(undefined));
  svg.addEventListener("blur", () => pick(undefined));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    pick(Math.min(Math.max((picked ?? 0) + step, 0), Math.max(known.samples.length - 1, 0)));
  });
  function draw() {
    const samples = known.samples;
    const top = ceiling(
      Math.max(0, ...samples.flatMap((sample) => curves.map(([, key]) => sample[key]))),
    );
    const x = (index) => ((shown() - samples.length + index) / (shown() - 1)) * WIDTH;
    const y = (value) => HEIGHT - PAD - (value / top) * (HEIGHT - 2 * PAD);
    const lines = [0, 0.5, 1].map((part) =>
      s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part) }),
    );
    const drawn = curves.map(([, key, tone]) => {
      if (samples.length === 0) return [];
      const points = samples
        .map((sample, index) => `${x(index).toFixed(1)} ${y(sample[key]).toFixed(1)}`)
        .join("L");
      return [
        tone === 0
          ? s("path", {
              class: "area s0",
              d: `M${x(0).toFixed(1)} ${HEIGHT - PAD}L${points}L${WIDTH} ${HEIGHT - PAD}Z`,
            })
          : [],
        s("path", { class: `curve s${tone}`, d: `M${points}` }),
      ];
    });
    const index = samples.length - 1 - (picked ?? 0);
    const sample = samples[index];
    const cross =
      picked !== undefined && sample
        ? [s("line", { class: "cross", x1: x(index), x2: x(index), y1: 0, y2: HEIGHT })]
        : [];
    svg.replaceChildren(...lines, ...drawn.flat(2), ...cross);
    most.textContent = `up to ${show(top)} ${unit}`;
    from.textContent = `${span(shown() * (known.every ?? POLL_MS))} ago`;
    at.textContent = picked !== undefined && sample ? clock(sample.at) : "now";
    const items = curves.map(([label, key, tone]) =>
      h(
        "li",
        null,
        s(
          "svg",
          { viewBox: "0 0 18 8", "aria-hidden": "true" },
          s("path", { class: `curve s${tone}`, d: "M0 4H18" }),
        ),
        label,
        " ",
        h("b", null, sample ? show(sample[key]) : "–"),
      ),
    );
    legend.replaceChildren(...items);
    const said = curves
      .map(([label, key]) => `${label} ${sample ? show(sample[key]) : "unknown"}`)
      .join(", ");
    svg.setAttribute(
      "aria-label",
      `${title} ${unit}, ${at.textContent}: ${said}. Arrow keys show earlier values.`,
    );
  }
  draw();
  const box = h(
    "section",
    { class: "card chart" },
    h("header", null, h("h2", null, title), legend),
    svg,
    h("p", { class: "axis" }, from, most, at),
  );
  return { box, draw };
}
