// B01: the whole browser is killed in mid-transaction.

import { Tab } from "../page.mjs";
import { pause } from "../time.mjs";

const KILLS = 5;

/** A profile that is killed again and again while one to three tabs write, on line and off. */
export async function b01(cycle) {
  const { random } = cycle;
  const profile = cycle.profile();
  await profile.start();
  const first = await (await Tab.open(profile.context, cycle)).database();
  await first.found();
  for (let kill = 0; kill < KILLS; kill += 1) {
    const count = random.between(1, 3);
    const offline = random.chance(1, 2);
    if (offline) cycle.line.cut();
    const tabs = kill === 0 ? [first] : [];
    while (tabs.length < count) {
      tabs.push(await (await Tab.open(profile.context, cycle)).database());
    }
    for (const [at, tab] of tabs.entries()) {
      await tab.keepWriting(`${kill}-${at}`, random.chance(1, 3) ? random.between(0, 60_000) : 0);
    }
    await pause(random.between(20, 900));
    await profile.kill();
    cycle.line.mend();
    await profile.start();
  }
  const tab = await (await Tab.open(profile.context, cycle)).database();
  await tab.write("after", 4);
  await cycle.settle(tab);
  return KILLS;
}
