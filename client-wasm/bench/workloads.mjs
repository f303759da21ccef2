// The workloads, what each of them measures, and in which run it is measured.

/** By name: the run that measures it, and its metrics with their units. */
export const WORKLOADS = {
  "bulk-insert": { run: "local", metrics: { time: "ms" } },
  "single-write": { run: "local", metrics: { p50: "ms", p99: "ms" } },
  "cold-open": { run: "local", metrics: { "50 rows": "ms", "all rows": "ms" } },
  memory: { run: "local", metrics: { renderer: "MB" } },
  "first-sync": { run: "sync", metrics: { time: "ms", bytes: "KB" } },
  reconnect: { run: "sync", metrics: { time: "ms", bytes: "KB" } },
  "live-latency": { run: "sync", metrics: { p50: "ms", p99: "ms" } },
};

/** Those of `names` that a run measures. */
export const workloadsOf = (run, names) => names.filter((name) => WORKLOADS[name].run === run);
