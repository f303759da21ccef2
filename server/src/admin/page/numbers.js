// Numbers, sizes and times as people read them.

import { h } from "./elements.js";
import { known } from "./state.js";

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (value) => (value == null ? "–" : whole.format(value));

export function rate(value) {
  if (value == null) return "–";
  if (value >= 10_000) return compact.format(value);
  if (value >= 10 || value === 0) return whole.format(Math.round(value));
  return value >= 0.1 ? value.toFixed(1) : "<0.1";
}

export function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function span(ms) {
  if (ms == null) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

export const millis = (value) =>
  value == null ? "–" : value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
export const pad = (number, digits = 2) => String(number).padStart(digits, "0");
export const clock = (at) => {
  const date = new Date(at);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
};
export const day = (at) => {
  const date = new Date(at);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
};
export const moment = (at) =>
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
export const ago = (at) => (at ? `${span(Math.max(0, serverNow() - at))} ago` : "never");
export const when = (at) =>
  at
    ? h("time", { datetime: new Date(at).toISOString(), title: `${day(at)} ${clock(at)}` }, ago(at))
    : "never";

export const plural = (number, one, many = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : many}`;
