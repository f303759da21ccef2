// The admin page: where one is, and what is drawn there.

import { clients } from "./clients.js";
import { h, main, replace } from "./elements.js";
import { events } from "./events.js";
import { gate } from "./gate.js";
import { follow, poll, say } from "./live.js";
import { plural } from "./numbers.js";
import { overview } from "./overview.js";
import { record } from "./record.js";
import { space, spaces } from "./spaces.js";
import { TOKEN, heard, known, until } from "./state.js";

const top_ = document.getElementById("top");

function lock(reason) {
  until.session.abort();
  until.view.abort();
  sessionStorage.removeItem(TOKEN);
  Object.assign(known, { token: null, overview: undefined, samples: [], events: [], missed: 0 });
  known.lastEvent = undefined;
  top_.hidden = true;
  gate(open, reason);
}

function open() {
  until.session = new AbortController();
  top_.hidden = false;
  say("opening", "connecting");
  poll(until.session.signal);
  follow(until.session.signal);
  route();
}

const VIEWS = { overview, spaces, space, clients, events, record };

function route() {
  if (known.token === null) return;
  until.view.abort();
  until.view = new AbortController();
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
  VIEWS[key](view, new URLSearchParams(search), until.view.signal);
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
heard.addEventListener("refused", () => lock("The token is not good any more."));
window.addEventListener("hashchange", () => {
  route();
  main.focus({ preventScroll: true });
});
document.getElementById("lock").addEventListener("click", () => lock());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

if (known.token === null) gate(open);
else open();
