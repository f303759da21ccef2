// `node canaries.mjs [--seed N] [--scenario NAME]`: promises that the build for tests breaks when a page tells it to
// (src/planted.rs). Of each the scenario must complain, and of the same build with nothing planted it must not.

import { parseArgs } from "node:util";
import { inWorld, run, say } from "./world.mjs";

const CANARIES = {
  NoNewLog: { scenario: "b02_torn", complaint: /goes on behind the record that was torn/u },
  HoldsOn: { scenario: "b06", complaint: /the later build has the database/u },
  LaterIsOwn: { scenario: "b16", complaint: /the old build, loaded again/u },
  LaterIsDeleted: { scenario: "b16", complaint: /the row of the later build is gone/u },
  BreaksUntold: { scenario: "b18", complaint: /not within \d+ ms: broken/u },
};

const { values } = parseArgs({
  options: { seed: { type: "string", default: "0" }, scenario: { type: "string" } },
});
const seed = Number(values.seed);
const chosen = Object.entries(CANARIES).filter(
  ([, { scenario }]) => scenario === (values.scenario ?? scenario),
);

const figures = { bugs: chosen.length, found: 0, scenarios: 0, well: 0 };
await inWorld(async (world) => {
  for (const scenario of new Set(chosen.map(([, { scenario }]) => scenario))) {
    const { faults } = await run(world, scenario, seed, null);
    figures.scenarios += 1;
    if (faults.length === 0) figures.well += 1;
    for (const { kind, what } of faults) say(`${kind}, with nothing planted: ${what}`);
  }
  for (const [bug, { scenario, complaint }] of chosen) {
    const { faults } = await run(world, scenario, seed, bug);
    const found = faults.find(({ what }) => complaint.test(what));
    if (found !== undefined) figures.found += 1;
    say(found === undefined ? `${bug} is NOT FOUND` : `  ${found.what.split("\n", 1)}`);
  }
});
process.stdout.write(`${JSON.stringify(figures)}\n`);
const { bugs, scenarios, well } = figures;
process.exitCode = bugs > 0 && figures.found === bugs && well === scenarios ? 0 : 1;
