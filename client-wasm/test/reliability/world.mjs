// What cycles run in: the package's files, a real server, a witness; and how one runs.

import { serve } from "../browser/world.mjs";
import { Server, serverProgram } from "../browser/server.mjs";
import { Cycle } from "./cycle.mjs";
import { Profile } from "./chromium.mjs";
import { SCENARIOS } from "./plan.mjs";
import { Stuck, within } from "./time.mjs";

/** What no cycle may need; each step has a limit of its own far below. */
const CYCLE_MS = 480_000;

export const say = (text) => process.stderr.write(`${text}\n`);

/** Runs `work` in a world that ends with it. */
export async function inWorld(work) {
  if (serverProgram() === undefined) throw new Error("no server: cargo build -p rejoin-server");
  const after = [];
  const files = await serve();
  const origin = `http://localhost:${files.address().port}`;
  let spaces = 0;
  const world = { origin, next: () => (spaces += 1) };
  try {
    world.server = await Server.start({ after: (end) => after.push(end) }, origin);
    world.witness = await new Profile().start();
    after.push(() => world.witness.remove());
    await work(world);
  } finally {
    for (const end of after.reverse()) await end();
    files.closeAllConnections();
    files.close();
  }
}

/** Runs one scenario once, and says how that went; for how many cycles it counts is in `count`. */
export async function run(world, scenario, seed, bug) {
  const started = Date.now();
  const cycle = await Cycle.begin(world, scenario, seed, bug);
  let count = 1;
  try {
    count = (await within(CYCLE_MS, "the cycle", SCENARIOS[scenario](cycle))) ?? 1;
  } catch (error) {
    cycle.fault(error instanceof Stuck ? "stuck" : "wrong", error.stack);
  }
  await cycle.end();
  const took = ((Date.now() - started) / 1_000).toFixed(1);
  const { promised, synced } = cycle.ledger;
  const notes = cycle.notes.map((note) => `, ${note}`).join("");
  const end = cycle.faults.length === 0 ? "well" : "FAILED";
  const where = cycle.worker ? " in a worker" : "";
  const what = bug ? `${scenario} ${seed}, ${bug}` : `${scenario} ${seed}${where}`;
  say(`${what}: ${end}, ${took} s, ${promised.size} writes, ${synced.size} synced${notes}`);
  return { count, faults: cycle.faults, promised: promised.size };
}
