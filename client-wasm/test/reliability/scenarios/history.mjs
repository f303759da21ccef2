// B02 and B03: what the disk holds goes back in time, or is there twice.

import { appendFileSync, statSync, truncateSync } from "node:fs";
import { SOON_MS, Tab } from "../page.mjs";
import { pause, until } from "../time.mjs";

const open = async (profile, cycle) =>
  (await Tab.open((await profile.start()).context, cycle)).database();

/**
 * Bytes off the end of the log of LevelDB, as after a power cut, or all that was stored as it was at an
 * earlier time. Other rows are written before the server is heard.
 */
export async function b02(cycle) {
  const { random } = cycle;
  const profile = cycle.profile();
  let tab = await open(profile, cycle);
  await tab.found();
  await tab.write("known", random.between(1, 20));
  await tab.synced();
  let earlier;
  if (random.chance(1, 3)) {
    await profile.close();
    earlier = cycle.profile(profile.copy());
    tab = await open(profile, cycle);
  }
  await tab.write("known-too", random.between(0, 10));
  await tab.synced();
  cycle.line.cut();
  await tab.write("offline", random.between(0, 20), random.pick([0, 2_000]));
  const unsent = cycle.ledger.unsent;
  await profile.close();
  if (earlier === undefined) cut(profile, random);
  else profile.restore(earlier);
  cycle.ledger.forgive();
  tab = await open(profile, cycle);
  await tab.tells(unsent);
  if (!(await tab.isFounded())) {
    // All of it was cut: there is nothing to add to before the server has been heard.
    cycle.line.mend();
    await tab.synced();
    cycle.line.cut();
  }
  await tab.write("behind", random.between(1, 20));
  cycle.line.mend();
  await cycle.settle(tab);
}

/**
 * The browser is killed, at rest or while it writes, and the beginning of a record stands at the end of its log, as when
 * it is killed in the middle of one. What it promises behind that stands in another log, and is there when it was killed
 * once more.
 */
export async function b02_torn(cycle) {
  const { random } = cycle;
  const profile = cycle.profile();
  let tab = await open(profile, cycle);
  await tab.found();
  cycle.line.cut();
  const lives = random.between(2, 4);
  let torn;
  for (let life = 0; life < lives; life += 1) {
    if (life > 0) tab = await open(profile, cycle);
    const [lane, size] = [`life-${life}`, random.pick([0, 2_000, 40_000])];
    if (random.chance(1, 2)) {
      await tab.keepWriting(lane, size);
      await until(SOON_MS, "a write is promised", () => cycle.ledger.promised.has(`${lane}.0`));
      await pause(random.between(0, 400));
    } else {
      await tab.write(lane, random.between(1, 10), size);
    }
    await profile.kill();
    const { name, path } = lastLog(profile);
    if (name === torn) cycle.fault("wrong", `${name} goes on behind the record that was torn`);
    appendFileSync(path, beginningOfRecord(random));
    torn = name;
  }
  cycle.line.mend();
  tab = await open(profile, cycle);
  await cycle.settle(tab);
}

/** A checksum, a length, a type, and less than that many bytes. */
function beginningOfRecord(random) {
  const [there, missing] = [random.between(0, 400), random.between(1, 400)];
  const record = Buffer.alloc(7 + there, 0x5a);
  record.writeUInt16LE(there + missing, 4);
  record.writeUInt8(1, 6);
  return record;
}

function cut(profile, random) {
  const { path, size } = lastLog(profile);
  // Most often the last few transactions alone.
  const reach = random.pick([200, 3_000, 20_000, size]);
  truncateSync(path, Math.max(0, size - random.between(1, Math.max(1, Math.min(reach, size)))));
}

/** The log that the browser's database is written to. */
function lastLog(profile) {
  const logs = profile.files().filter(({ name }) => name.endsWith(".log"));
  const { name, path } = logs.toSorted((one, other) => (one.name < other.name ? 1 : -1))[0];
  return { name, path, size: statSync(path).size };
}

/** A profile that is copied with unsent rows in it, and goes on twice. */
export async function b03(cycle) {
  const { random } = cycle;
  const profile = cycle.profile();
  let tab = await open(profile, cycle);
  await tab.found();
  await tab.write("known", random.between(0, 10));
  if (random.chance(1, 2)) await tab.synced();
  cycle.line.cut();
  await tab.write("offline", random.between(0, 20));
  await profile.close();
  const copy = cycle.profile(profile.copy());
  const tabs = [await open(profile, cycle), await open(copy, cycle)];
  for (const [at, tab] of tabs.entries()) {
    await tab.write(`copy-${at}`, random.between(1, 20));
  }
  // Both at once, or one after the other.
  const first = random.pick(tabs);
  if (random.chance(1, 2)) await first.run(() => db.network.pause());
  cycle.line.mend();
  await tabs.find((tab) => tab !== first).synced();
  await first.run(() => db.network.resume());
  for (const [at, tab] of tabs.entries()) {
    await tab.write(`later-${at}`, random.between(1, 5));
  }
  await cycle.settle(...tabs);
}
