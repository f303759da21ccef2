// The admin page: asks the JSON interface beside it and draws what it says. It has no state of its own but the token, which
// stays in this tab. Text reaches the page by textContent alone: names are whatever clients have chosen.

const API = "/admin/api/";
const POLL_MS = 2_000;
const LIST_MS = 4_000;
const PATIENCE_MS = 10_000;
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000];
const EVENTS_SHOWN = 200;
const SAMPLES_KEPT = 300;
const SVG = "http://www.w3.org/2000/svg";
const TOKEN = "rejoin-admin-token";

const main = document.getElementById("main");
const top_ = document.getElementById("top");

// What is known -------------------------------------------------------------------------------------------------------

const known = {
  token: sessionStorage.getItem(TOKEN),
  overview: undefined,
  samples: [],
  events: [],
  lastEvent: undefined,
  missed: 0,
};

/** Ends what the view before has begun. */
let leaveView = new AbortController();
/** Ends everything when the token is put away. */
let session = new AbortController();
/** Told when something came. */
const heard = new EventTarget();
const tell = (name) => heard.dispatchEvent(new Event(name));

// Elements ------------------------------------------------------------------------------------------------------------

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false),
  );
  return element;
}

/** An element; children are elements or text. */
const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** What cannot be seen in a text is spelt out. */
const plain = (text) =>
  String(text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );

/** A name that somebody has chosen: it turns no text around it. */
const name = (text, props) => h("bdi", props, plain(text));

const short = (id) => h("span", { class: "mono", title: id }, `${id.slice(0, 8)}…`);
const badge = (text, level) => h("span", { class: "badge", "data-level": level }, text);

/** Puts children in the place of those before; the focus stays where it was, by `data-key`. */
function replace(parent, ...children) {
  const key = parent.contains(document.activeElement)
    ? document.activeElement.getAttribute("data-key")
    : null;
  parent.replaceChildren(
    ...children.flat(3).filter((child) => child !== undefined && child !== false),
  );
  if (key === null) return;
  for (const found of parent.querySelectorAll("[data-key]")) {
    if (found.getAttribute("data-key") === key) found.focus({ preventScroll: true });
  }
}

// Numbers -------------------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = (value) => (value == null ? "–" : whole.format(value));

function rate(value) {
  if (value == null) return "–";
  if (value >= 10_000) return compact.format(value);
  if (value >= 10 || value === 0) return whole.format(Math.round(value));
  return value >= 0.1 ? value.toFixed(1) : "<0.1";
}

function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function span(ms) {
  if (ms == null) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

const millis = (value) =>
  value == null ? "–" : value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
const pad = (number, digits = 2) => String(number).padStart(digits, "0");
const clock = (at) => {
  const date = new Date(at);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
};
const day = (at) => {
  const date = new Date(at);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
};
const moment = (at) =>
  h(
    "time",
    {
      datetime: new Date(at).toISOString(),
      title: `${day(at)} ${clock(at)}.${pad(at % 1_000, 3)}`,
    },
    clock(at),
  );
/** The server's time, as far as it is known. */
const serverNow = () =>
  known.overview ? known.overview.now + (Date.now() - known.overviewAt) : Date.now();
const ago = (at) => (at ? `${span(Math.max(0, serverNow() - at))} ago` : "never");
const when = (at) =>
  at
    ? h("time", { datetime: new Date(at).toISOString(), title: `${day(at)} ${clock(at)}` }, ago(at))
    : "never";

// Asking --------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

async function request(path, signal, more = {}) {
  const headers = { authorization: `Bearer ${known.token ?? ""}`, ...more };
  const answer = await fetch(API + path, {
    headers,
    signal,
    cache: "no-store",
    credentials: "omit",
  });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("retry-after")) || undefined;
  throw new Refused(answer.status, problem.error ?? `the server answers ${answer.status}`, wait);
}

async function ask(path, query = {}, signal = session.signal) {
  const search = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== undefined && value !== ""),
  );
  const patient = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const answer = await request(search.size ? `${path}?${search}` : path, patient);
  return answer.json();
}

const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** What went wrong, for people. */
function excuse(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "the server takes too long to answer";
  return "the server cannot be reached";
}

/** Whether the token is good no longer: the page is locked then. */
function isLockedBy(error) {
  if (!(error instanceof Refused) || error.status !== 401) return false;
  lock("The token is not good any more.");
  return true;
}

// What comes by itself ------------------------------------------------------------------------------------------------

function say(state, text) {
  const line = document.getElementById("line");
  if (line.dataset.state === state && line.textContent === text) return;
  line.dataset.state = state;
  line.replaceChildren(h("span", null, text));
}

/** Overview and rates, again and again. */
async function poll(signal) {
  let failed = 0;
  while (!signal.aborted) {
    try {
      const after = known.samples.at(-1)?.number ?? 0;
      const [overview, rates] = await Promise.all([
        ask("overview", {}, signal),
        ask("rates", { after }, signal),
      ]);
      const again = known.overview && known.overview.started !== overview.started;
      known.overview = overview;
      known.overviewAt = Date.now();
      known.every = rates.every;
      // Another run counts anew: all of it comes with the next answer.
      known.samples = again ? [] : [...known.samples, ...rates.samples].slice(-SAMPLES_KEPT);
      if (failed > 0) tell("back");
      failed = 0;
      say("live", "live");
      tell("overview");
    } catch (error) {
      if (signal.aborted || isLockedBy(error)) return;
      failed += 1;
      say("lost", `${excuse(error)}, trying again`);
      tell("lost");
    }
    const rest = document.hidden
      ? 5 * POLL_MS
      : failed > 0
        ? RETRY_MS[Math.min(failed, 4)]
        : POLL_MS;
    await wait(rest, signal).catch(() => {});
  }
}

/** Takes the events of a stream apart. */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const message = {};
      for (const line of part.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) message[line.slice(0, at)] = line.slice(at + 2);
      }
      yield message;
    }
  }
}

/** The live tail, again and again. */
async function follow(signal) {
  let failed = 0;
  while (!signal.aborted) {
    try {
      if (known.lastEvent === undefined) {
        const { events } = await ask("events", { limit: 100 }, signal);
        known.events = events;
        known.lastEvent = events[0]?.number ?? 0;
        tell("events");
      }
      const answer = await request(`live?after=${known.lastEvent}`, signal, {
        accept: "text/event-stream",
      });
      for await (const message of messages(answer.body)) {
        failed = 0;
        if (message.event === "missed") known.missed += Number(message.data);
        if (message.event !== "event") continue;
        const event = JSON.parse(message.data);
        if (event.number <= known.lastEvent) known.events = [];
        known.lastEvent = event.number;
        known.events = [event, ...known.events].slice(0, EVENTS_SHOWN);
        tell("events");
      }
    } catch (error) {
      if (signal.aborted || isLockedBy(error)) return;
    }
    await wait(RETRY_MS[Math.min(failed, 4)], signal).catch(() => {});
    failed += 1;
  }
}

// The gate ------------------------------------------------------------------------------------------------------------

function lock(reason) {
  session.abort();
  leaveView.abort();
  sessionStorage.removeItem(TOKEN);
  Object.assign(known, { token: null, overview: undefined, samples: [], events: [], missed: 0 });
  known.lastEvent = undefined;
  top_.hidden = true;
  gate(reason);
}

function gate(reason) {
  document.title = "Rejoin admin";
  const problem = h("p", { class: "problem", role: "alert", id: "gate-problem" }, reason ?? "");
  problem.hidden = !reason;
  const input = h("input", {
    ...{ id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" },
    "aria-describedby": "gate-problem",
  });
  const button = h("button", { type: "submit" }, "Open");
  const complain = (text) => {
    problem.textContent = text;
    problem.hidden = false;
  };
  const form = h(
    "form",
    {
      async onsubmit(event) {
        event.preventDefault();
        known.token = input.value.trim();
        // A header has no room for other characters.
        if (!/^[\x21-\x7e]+$/u.test(known.token)) return complain("That is no token.");
        button.disabled = true;
        button.textContent = "Opening…";
        problem.hidden = true;
        try {
          await ask("rates", { after: 0 }, AbortSignal.timeout(PATIENCE_MS));
          sessionStorage.setItem(TOKEN, known.token);
          open();
        } catch (error) {
          known.token = null;
          if (error instanceof Refused && error.status === 401) complain("This is not the token.");
          else if (error instanceof Refused && error.status === 429)
            complain(`Too many wrong tokens: try again in ${error.wait ?? 6} seconds.`);
          else complain(`Not opened: ${excuse(error)}.`);
          button.disabled = false;
          button.textContent = "Open";
          input.select();
        }
      },
    },
    h("div", null, h("label", { for: "token" }, "Admin token"), input),
    problem,
    button,
  );
  const mark = s(
    "svg",
    { viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("path", { d: "M5 8c8 0 8 16 22 8M5 24c8 0 8-16 22-8" }),
  );
  replace(
    main,
    h(
      "section",
      { class: "card gate", "aria-labelledby": "gate-title" },
      h("h1", { id: "gate-title" }, mark, "Rejoin admin"),
      h(
        "p",
        { class: "soft" },
        "Shows how this server is. Nothing can be changed here, and no values of records are shown.",
      ),
      form,
      h(
        "p",
        { class: "soft small" },
        "The token is in the file that --admin-token-file names. It stays in this tab.",
      ),
    ),
  );
  input.focus();
}

function open() {
  session = new AbortController();
  top_.hidden = false;
  say("opening", "connecting");
  poll(session.signal);
  follow(session.signal);
  route();
}

// Parts of views ------------------------------------------------------------------------------------------------------

const bones = () =>
  h(
    "div",
    { class: "bones", role: "status", "aria-label": "Loading" },
    h("div"),
    h("div"),
    h("div"),
  );
const empty = (text) => h("p", { class: "empty" }, text);
const problem = (error) =>
  h("p", { class: "problem", role: "alert" }, `Not shown: ${excuse(error)}.`);

function card(title, aside, ...children) {
  return h(
    "section",
    { class: "card" },
    h("header", null, h("h2", null, title), aside && h("p", { class: "soft small" }, aside)),
    ...children,
  );
}

const head = (title, aside) =>
  h(
    "div",
    { class: "head" },
    h("h1", null, title),
    aside && h("p", { class: "soft small" }, aside),
  );

/** A table; a column is a title, what makes a cell of a row, and a class. */
function table(caption, columns, rows) {
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

function finding(level, what, detail) {
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
const to = (view, query, text, key) =>
  h(
    "a",
    {
      href: `#/${view}?${new URLSearchParams(query)}`,
      "data-key": key ?? `${view} ${Object.values(query).join("\0")}`,
    },
    text,
  );
const toSpace = (space) => to("space", { space }, name(space));

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

const who = (client) => h("span", null, name(client.principal), " ", short(client.replica));

const CLIENTS = [
  ["Principal", who, "name"],
  ["Space", (client) => toSpace(client.space), ""],
  ["Behind by", lagOf, "number"],
  ["Waiting", (client) => bytes(client.unsent_bytes), "number"],
  ["Accepted", (client) => count(client.accepted), "number"],
  ["Refused", (client) => count(client.refused), "number"],
  ["Since", (client) => when(client.since), "number"],
];

// Charts --------------------------------------------------------------------------------------------------------------

const CHARTS = [
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
function chart({ title, unit, show, curves }) {
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

// Events --------------------------------------------------------------------------------------------------------------

const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

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

function entry(event) {
  return h(
    "li",
    null,
    moment(event.at),
    h("span", null, badge(event.class, event.class)),
    h("p", null, event.space ? [toSpace(event.space), " · "] : [], story(event)),
  );
}

// Views ---------------------------------------------------------------------------------------------------------------

const VIEWS = { overview, spaces, space, clients, events, record };

function overview(view, _query, signal) {
  const findings = h("ul", { class: "findings", "aria-label": "What is wrong" });
  const title = h("div");
  const figures = h("dl", { class: "figures card" });
  const charts = CHARTS.map(chart);
  const storage = h("div");
  const probes = h("div");
  const behind = h("div");
  const followers = h("div");
  const conflicts = h("div");
  const refusals = h("div");
  const rest = h(
    "div",
    { class: "view" },
    figures,
    behind,
    h(
      "div",
      { class: "charts" },
      charts.map(({ box }) => box),
    ),
    h("div", { class: "two" }, conflicts, refusals),
    h("div", { class: "two" }, storage, probes),
    followers,
  );
  const waiting = bones();
  view.append(title, findings, waiting, rest);
  rest.hidden = true;

  const draw = () => {
    const told = known.overview;
    if (!told) return;
    waiting.hidden = true;
    rest.hidden = false;
    replace(
      title,
      head("Overview", [
        `version ${told.version} · running for ${span(told.now - told.started)} · access: ${told.access}`,
      ]),
    );
    const found = told.findings.map(({ level, what, detail }) => finding(level, what, detail));
    const wrong = told.findings.some(({ level }) => level !== "note");
    const good = finding(
      "good",
      "Nothing is wrong",
      "It takes writes, nobody is far behind, and there is room on the disk.",
    );
    replace(findings, wrong ? found : [good, ...found]);
    const last = known.samples.at(-1) ?? {};
    const { traffic, storage: disk } = told;
    const figure = (label, value, more) =>
      h(
        "div",
        null,
        h("dt", null, label),
        h("dd", null, value, more && [" ", h("small", null, more)]),
      );
    replace(
      figures,
      figure("Writes", rate(last.accepted), "per s"),
      figure("Connections", count(traffic.connections), `${count(traffic.sessions.live)} live`),
      figure("Spaces", count(told.spaces.all), `${count(told.spaces.open)} open`),
      figure("Commit", millis(traffic.commit_ms || undefined)),
      figure("Conflicts", count(traffic.conflicts), "since start"),
      figure("Disk free", bytes(disk.disk_free_bytes)),
    );
    for (const { draw } of charts) draw();
    replace(
      behind,
      traffic.behind.length > 0 &&
        card(
          "Furthest behind",
          "for more than 5 s",
          table("Clients furthest behind", CLIENTS, traffic.behind),
        ),
    );
    behind.hidden = traffic.behind.length === 0;
    const fact = (label, value) => [h("dt", null, label), h("dd", null, value)];
    replace(
      storage,
      card(
        "Storage",
        null,
        h(
          "dl",
          { class: "facts" },
          fact("Database", bytes(disk.database_bytes)),
          fact("Write-ahead log", bytes(disk.log_bytes)),
          fact(
            "Free on the disk",
            `${bytes(disk.disk_free_bytes)} (${bytes(disk.disk_free_min_bytes)} is the least)`,
          ),
          fact("Last backup", disk.backup ? when(disk.backup) : "never"),
          fact("Lines of the log lost", count(disk.log_lines_dropped)),
        ),
      ),
    );
    const probe = ({ ok, reason }) =>
      ok ? badge("yes", "good") : [badge("no", "bad"), " ", reason];
    replace(
      probes,
      card(
        "Health",
        null,
        h(
          "dl",
          { class: "facts" },
          fact("Alive", probe(told.probes.live)),
          fact("Ready", probe(told.probes.ready)),
          fact(
            "Commit, wait for sockets",
            [traffic.commit_ms, traffic.wait_ms].map((ms) => millis(ms || undefined)).join(", "),
          ),
          fact(
            "Opening, syncing, live",
            [traffic.sessions.opening, traffic.sessions.syncing, traffic.sessions.live]
              .map(count)
              .join(", "),
          ),
          fact("Connections beyond a limit", count(traffic.connections_refused)),
        ),
      ),
    );
    followers.hidden = told.followers.length === 0;
    replace(
      followers,
      card(
        "Tables and webhooks",
        null,
        table(
          "Tables and webhooks",
          [
            ["Name", (one) => name(one.name), "name"],
            ["Kind", (one) => one.kind, ""],
            ["Behind by", (one) => count(one.lag), "number"],
            ["Failures", (one) => count(one.failures), "number"],
          ],
          told.followers,
        ),
      ),
    );
  };
  const drawEvents = async () => {
    const recent = (kind) => ask("events", { class: kind, limit: 5 }, signal);
    try {
      const [conflict, refusal] = await Promise.all([recent("conflict"), recent("refusal")]);
      const list = (found, none) =>
        found.events.length ? h("ol", { class: "events" }, found.events.map(entry)) : empty(none);
      replace(
        conflicts,
        card(
          "Last conflicts",
          to("events", { class: "conflict" }, "all"),
          list(conflict, "No two writes have met without knowing each other."),
        ),
      );
      replace(
        refusals,
        card(
          "Last refusals",
          to("events", { class: "refusal" }, "all"),
          list(refusal, "Nothing was refused."),
        ),
      );
    } catch {
      // The line above says that the server is away.
    }
  };
  heard.addEventListener("overview", draw, { signal });
  every(LIST_MS, drawEvents, signal);
  draw();
}

/** Does something now, and again after each time, while the page is looked at. */
async function every(ms, work, signal) {
  while (!signal.aborted) {
    if (!document.hidden) await work();
    await wait(ms, signal).catch(() => {});
  }
}

/** A list in pages that is asked for again; `path`, `query` and `key` are of the interface, `show` draws its entries. */
function list(box, { path, query, key, show, signal }) {
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

function spaces(view, query, signal) {
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

function space(view, query, signal) {
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

function clients(view, _query, signal) {
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

const CLASSES = [
  ["", "All"],
  ["activity", "Activity"],
  ["conflict", "Conflicts"],
  ["refusal", "Refusals"],
  ["fault", "Faults"],
];

function events(view, query, signal) {
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

function record(view, query, signal) {
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

// Where one is --------------------------------------------------------------------------------------------------------

function go(view, query) {
  location.hash = `/${view}?${new URLSearchParams(query)}`;
}

function route() {
  if (known.token === null) return;
  leaveView.abort();
  leaveView = new AbortController();
  const [path, search] = location.hash.replace(/^#\/?/u, "").split("?", 2);
  const key = Object.hasOwn(VIEWS, path) ? path : "overview";
  for (const tab of document.querySelectorAll(".tabs a")) {
    const here = tab.dataset.view === key || (key === "space" && tab.dataset.view === "spaces");
    if (here) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const view = h("div", { class: "view" });
  replace(main, view);
  document.title = `${key[0].toUpperCase()}${key.slice(1)} · Rejoin admin`;
  VIEWS[key](view, new URLSearchParams(search), leaveView.signal);
  window.scrollTo(0, 0);
}

function drawTop() {
  const told = known.overview;
  if (!told) return;
  const pill = document.getElementById("health");
  const wrong = (level) => told.findings.filter((found) => found.level === level).length;
  const [level, text] = wrong("bad")
    ? ["bad", plural(wrong("bad"), "problem")]
    : wrong("warn")
      ? ["warn", plural(wrong("warn"), "warning")]
      : ["good", "All good"];
  if (pill.textContent !== text) pill.textContent = text;
  pill.dataset.level = level;
  document.getElementById("where").textContent = told.listen;
}

heard.addEventListener("overview", drawTop);
window.addEventListener("hashchange", () => {
  route();
  main.focus({ preventScroll: true });
});
document.getElementById("lock").addEventListener("click", () => lock());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

if (known.token === null) gate();
else open();
