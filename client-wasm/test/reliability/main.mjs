// `node main.mjs [--cycles N | --each-once] [--budget S] [--seed N] [--jobs N] [--scenario NAME]`: faults in
// real browsers on a real server. The last line is a JSON object of figures and of what was wrong (`told`); a cycle that fails tells its
// scenario and its seed, and runs again alone with both.

import { parseArgs } from "node:util";
import { EACH_ONCE, plan, SCENARIOS } from "./plan.mjs";
import { inWorld, run, say } from "./world.mjs";

const KINDS = ["torn", "lost", "doubled", "stuck", "wrong"];

const { values } = parseArgs({
  options: {
    cycles: { type: "string", default: "300" },
    "each-once": { type: "boolean", default: false },
    budget: { type: "string" },
    seed: { type: "string", default: "0" },
    jobs: { type: "string", default: "2" },
    scenario: { type: "string" },
  },
});

const figures = { cycles: 0, promised: 0, ...Object.fromEntries(KINDS.map((kind) => [kind, 0])) };
for (const name of Object.keys(SCENARIOS)) figures[name] = 0;
/** What was wrong. */
const told = [];

async function count(world, scenario, seed) {
  const { count, faults, promised } = await run(world, scenario, seed);
  figures.cycles += count;
  figures[scenario] += count;
  figures.promised += promised;
  for (const { kind, what } of faults) {
    figures[kind] += 1;
    const alone = `REL_SCENARIO=${scenario} cargo rel browser --seed ${seed}`;
    told.push(`${kind}: ${what}\n  alone: ${alone}`);
    say(told.at(-1));
  }
}

await inWorld(async (world) => {
  const end = values.budget === undefined ? Infinity : Date.now() + Number(values.budget) * 1_000;
  const cycles = values.budget === undefined ? Number(values.cycles) : Infinity;
  let left = values["each-once"] ? EACH_ONCE : Infinity;
  const work = plan(values.scenario, Number(values.seed));
  const lane = async () => {
    while (left > 0 && figures.cycles < cycles && Date.now() < end) {
      left -= 1;
      await count(world, ...work.next().value);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, lane));
});
process.stdout.write(`${JSON.stringify({ ...figures, told })}\n`);
process.exitCode = KINDS.some((kind) => figures[kind] > 0) ? 1 : 0;
