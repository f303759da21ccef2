/** Numbers and times as people of this browser's language write them. */
const counts = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const count = (value: number): string => counts.format(value);
export const moment = (ms: number): string => moments.format(ms);
export const some = (n: number, one: string, many = `${one}s`): string =>
  `${count(n)} ${n === 1 ? one : many}`;

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
] as const;

export function ago(ms: number, now: number): string {
  for (const [unit, length] of UNITS) {
    if (now - ms >= length) return relative.format(-Math.floor((now - ms) / length), unit);
  }
  return "just now";
}

export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const [value, unit] = bytes < 1_048_576 ? [bytes / 1024, "KB"] : [bytes / 1_048_576, "MB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** `12:03:59.120`, the same width for every line of the log. */
export function clock(ms: number): string {
  const at = new Date(ms);
  const two = (n: number) => String(n).padStart(2, "0");
  const seconds = `${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return `${two(at.getHours())}:${two(at.getMinutes())}:${seconds}`;
}

/** `say` the error of a write that could not be made; whatever it was, somebody must see it. */
export const explain = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
