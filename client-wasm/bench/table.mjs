// Results as tables for people: Markdown, aligned, a table for each run and size.

import { WORKLOADS, workloadsOf } from "./workloads.mjs";

const RUNS = { local: "On one device", sync: "Between devices" };

/** Tables of all results, those that could not be or failed included, with the reasons below. */
export function tables(results, { sizes, peers, workloads }) {
  const parts = [];
  for (const n of sizes) {
    for (const [run, title] of Object.entries(RUNS)) {
      const names = workloadsOf(run, workloads);
      if (names.length === 0) continue;
      const here = results.filter((result) => result.n === n && names.includes(result.workload));
      parts.push(`${title}, n = ${n.toLocaleString("en")}`, table(here, peers, names), notes(here));
    }
  }
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function table(results, peers, names) {
  const columns = names.flatMap((workload) =>
    Object.entries(WORKLOADS[workload].metrics).map(([metric, unit]) => ({
      workload,
      metric,
      title: `${workload} ${metric}, ${unit}`,
    })),
  );
  const rows = peers.map((peer) => [peer, ...columns.map((column) => cell(results, peer, column))]);
  return align([["peer", ...columns.map(({ title }) => title)], ...rows]);
}

function cell(results, peer, { workload, metric }) {
  const of = results.filter((result) => result.peer === peer && result.workload === workload);
  if (of.some(({ failed }) => failed !== undefined)) return "FAILED";
  const found = of.find((result) => result.metric === metric);
  if (found === undefined) return "–";
  const { median, min, max } = found;
  return `${figure(median)} (${figure(min)}–${figure(max)})`;
}

/** Three digits that count. */
export function figure(value) {
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en", {
    minimumFractionDigits: Math.min(digits, 2),
    maximumFractionDigits: Math.min(digits, 2),
  });
}

function notes(results) {
  const told = results.flatMap(({ peer, workload, cannot, failed }) => {
    if (cannot !== undefined) return [`- ${peer}, ${workload}: – ${cannot}`];
    return failed === undefined ? [] : [`- ${peer}, ${workload}: FAILED: ${failed}`];
  });
  return told.join("\n");
}

/** Columns of equal width; all but the first to the right. */
function align(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) =>
    row.map((text, at) => (at === 0 ? text.padEnd(widths[at]) : text.padStart(widths[at])));
  const rule = widths.map((width, at) =>
    at === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  const [head, ...body] = rows.map(line);
  return [head, rule, ...body].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
