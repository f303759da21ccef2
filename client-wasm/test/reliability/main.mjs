// `node main.mjs [--cycles N] [--budget S] [--seed N] [--jobs N] [--scenario NAME]`: faults in real browsers on
// a real server. The last line is a JSON object of figures; a cycle that fails tells its scenario and its
// seed, and runs again alone with both.

import { parseArgs } from "node:util";
import { serve } from "../browser/world.mjs";
import { Server, serverProgram } from "../browser/server.mjs";
import { Cycle } from "./cycle.mjs";
import { Profile } from "./chromium.mjs";
import { plan, SCENARIOS } from "./plan.mjs";
import { Stuck, within } from "./time.mjs";

const KINDS = ["torn", "lost", "doubled", "stuck", "wrong"];
/** What no cycle may need; each step has a limit of its own far below. */
const CYCLE_MS = 480_000;

const { values } = parseArgs({
  options: {
    cycles: { type: "string", default: "300" },
    budget: { type: "string" },
    seed: { type: "string", default: "0" },
    jobs: { type: "string", default: "2" },
    scenario: { type: "string" },
  },
});
if (serverProgram() === undefined) throw new Error("no server: cargo build -p rejoin-server");

const say = (text) => process.stderr.write(`${text}\n`);
const figures = { cycles: 0, promised: 0, ...Object.fromEntries(KINDS.map((kind) => [kind, 0])) };
for (const name of Object.keys(SCENARIOS)) figures[name] = 0;

async function run(world, scenario, seed) {
  const started = Date.now();
  const cycle = await Cycle.begin(world, scenario, seed);
  try {
    const work = SCENARIOS[scenario](cycle);
    const count = (await within(CYCLE_MS, "the cycle", work)) ?? 1;
    figures.cycles += count;
    figures[scenario] += count;
  } catch (error) {
    cycle.fault(error instanceof Stuck ? "stuck" : "wrong", error.stack);
    figures.cycles += 1;
  }
  await cycle.end();
  for (const { kind, what } of cycle.faults) {
    figures[kind] += 1;
    say(`${kind}: ${what}\n  alone: REL_SCENARIO=${scenario} cargo rel browser --seed ${seed}`);
  }
  const took = ((Date.now() - started) / 1_000).toFixed(1);
  const { promised, synced } = cycle.ledger;
  figures.promised += promised.size;
  const notes = cycle.notes.map((note) => `, ${note}`).join("");
  const end = cycle.faults.length === 0 ? "well" : "FAILED";
  say(
    `${scenario} ${seed}: ${end}, ${took} s, ${promised.size} writes, ${synced.size} synced${notes}`,
  );
}

const after = [];
const files = await serve();
const origin = `http://localhost:${files.address().port}`;
let spaces = 0;
const world = { origin, next: () => (spaces += 1) };
let failed = true;
try {
  world.server = await Server.start({ after: (end) => after.push(end) }, origin);
  world.witness = await new Profile().start();
  after.push(() => world.witness.remove());
  const end = values.budget === undefined ? Infinity : Date.now() + Number(values.budget) * 1_000;
  const cycles = values.budget === undefined ? Number(values.cycles) : Infinity;
  const work = plan(values.scenario, Number(values.seed));
  const lane = async () => {
    while (figures.cycles < cycles && Date.now() < end) await run(world, ...work.next().value);
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, lane));
  failed = KINDS.some((kind) => figures[kind] > 0);
} finally {
  for (const end of after.reverse()) await end();
  files.closeAllConnections();
  files.close();
}
process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exitCode = failed ? 1 : 0;
