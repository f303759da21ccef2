// B01 and B03 in Firefox, whose IndexedDB is SQLite.

import { FirefoxProfile } from "../firefox.mjs";
import { pause } from "../time.mjs";

const KILLS = 3;
const open = async (profile, cycle) => (await profile.tab(cycle)).database();

/** Firefox is killed while a tab writes, on line and off. */
export async function firefox_b01(cycle) {
  const { random } = cycle;
  const profile = cycle.profile(new FirefoxProfile());
  await profile.start();
  let tab = await open(profile, cycle);
  await tab.found();
  for (let kill = 0; kill < KILLS; kill += 1) {
    if (random.chance(1, 2)) cycle.line.cut();
    await tab.keepWriting(`${kill}`, random.pick([0, 20_000]));
    await pause(random.between(50, 900));
    await profile.kill();
    cycle.line.mend();
    await profile.start();
    tab = await open(profile, cycle);
  }
  await tab.write("after", 4);
  await cycle.settle(tab);
  return KILLS;
}

/** A profile of Firefox that is killed with unsent rows in it, copied, and goes on twice. */
export async function firefox_b03(cycle) {
  const { random } = cycle;
  const profile = cycle.profile(new FirefoxProfile());
  await profile.start();
  let tab = await open(profile, cycle);
  await tab.found();
  cycle.line.cut();
  await tab.write("offline", random.between(1, 20));
  await profile.kill();
  const copy = cycle.profile(profile.copy());
  const tabs = [];
  for (const each of [profile, copy]) {
    await each.start();
    tabs.push(await open(each, cycle));
  }
  for (const [at, tab] of tabs.entries()) await tab.write(`copy-${at}`, random.between(1, 20));
  cycle.line.mend();
  await cycle.settle(...tabs);
}
