// `npm run bench -w client-wasm -- [--n N,…] [--rounds R] [--peers A,…] [--workloads A,…] [--json]`: Rejoin and its peers,
// measured in one run. See docs/BENCHMARKS.md.

import { summary } from "./data/figures.mjs";
import { install } from "./install.mjs";
import { Refused, readOptions } from "./options.mjs";
import { PEERS } from "./peers.mjs";
import { rotated } from "./rounds.mjs";
import { local } from "./runs/local.mjs";
import { sync } from "./runs/sync.mjs";
import { buildRejoin } from "./servers/rejoin.mjs";
import { Site } from "./site.mjs";
import { tables } from "./table.mjs";
import { WORKLOADS, workloadsOf } from "./workloads.mjs";

const RUNS = { local, sync };
const say = (text) => process.stderr.write(`${text}\n`);

/** What was measured in all rounds, by size, peer, workload and metric. */
class Results {
  #values = new Map();
  #failures = new Map();

  add(n, peer, workload, figures) {
    for (const [metric, value] of Object.entries(figures)) {
      const key = JSON.stringify([n, peer, workload, metric]);
      this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
    }
  }

  fail(n, peer, workload, failed) {
    this.#failures.set(JSON.stringify([n, peer, workload]), failed);
  }

  get failed() {
    return this.#failures.size > 0;
  }

  /** One result for each metric; where there is none, why. */
  of(n, peer, workload) {
    const cannot = PEERS[peer].cannot[workload];
    if (cannot !== undefined) return [{ peer, workload, n, cannot }];
    const failed = this.#failures.get(JSON.stringify([n, peer, workload]));
    if (failed !== undefined) return [{ peer, workload, n, failed }];
    return Object.entries(WORKLOADS[workload].metrics).map(([metric, unit]) => {
      const values = this.#values.get(JSON.stringify([n, peer, workload, metric]));
      return { peer, workload, n, metric, ...summary(values), unit, rounds: values.length };
    });
  }
}

/** One run of one peer, with everything of its own. */
async function cell(results, site, { n, name, run, workloads }) {
  const peer = PEERS[name];
  const asked = workloadsOf(run, workloads).filter((one) => peer.cannot[one] === undefined);
  if (asked.length === 0) return;
  const started = Date.now();
  const left = new Set(asked);
  let failure;
  const wanted = (workload) => asked.includes(workload);
  const expect = (workload, found, expected) => {
    if (found === expected) return;
    throw new Error(`${workload}: the checksum is ${found}, expected was ${expected}`);
  };
  const tell = (workload, figures) => {
    if (!wanted(workload)) return;
    results.add(n, name, workload, figures);
    left.delete(workload);
  };
  try {
    await RUNS[run]({ peer, n, site, wanted, expect, tell });
  } catch (error) {
    failure = error;
    const [first] = error.message.split("\n");
    for (const workload of left) results.fail(n, name, workload, first);
  }
  const took = ((Date.now() - started) / 1_000).toFixed(1);
  say(`${name}, ${run}, n = ${n}: ${failure === undefined ? `${took} s` : failure.stack}`);
}

async function measure({ sizes, rounds, peers, workloads, json }) {
  install();
  if (peers.some((name) => PEERS[name].server === "rejoin")) buildRejoin();
  const results = new Results();
  const site = await Site.start();
  try {
    for (const n of sizes) {
      for (let round = 0; round < rounds; round += 1) {
        say(`round ${round + 1} of ${rounds}`);
        for (const name of rotated(peers, round)) {
          for (const run of Object.keys(RUNS)) {
            await cell(results, site, { n, name, run, workloads });
          }
        }
      }
    }
  } finally {
    await site.stop();
  }
  const all = sizes.flatMap((n) =>
    peers.flatMap((peer) => workloads.flatMap((workload) => results.of(n, peer, workload))),
  );
  const lines = () => all.map((result) => `${JSON.stringify(result)}\n`).join("");
  process.stdout.write(json ? lines() : tables(all, { sizes, peers, workloads }));
  process.exitCode = results.failed ? 1 : 0;
}

try {
  await measure(readOptions(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  say(error.message);
  process.exitCode = 2;
}
