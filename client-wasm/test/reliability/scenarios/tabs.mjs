// B04, B05, B14: several tabs on one database, of which some end, crash or stand still.

import { SOON_MS, Tab } from "../page.mjs";
import { pause, Stuck, until, within } from "../time.mjs";

const TABS = 4;
const WRITES = 200;
/** By when another tab leads where one has crashed: at once, on a machine that has nothing else to do. */
const HANDED_OVER_MS = 5_000;
/** By when a leader that stands still has lost the lead: 15 s, and a minute if a transaction is open in it. */
const FROZEN_MS = 100_000;
/** Enough to be under way when it stands still. */
const FROZEN_WRITES = 1_000;
const AWHILE_MS = 3_000;

const openTab = async (profile, cycle) => (await Tab.open(profile.context, cycle)).database();

async function openTabs(profile, cycle, count) {
  const tabs = [];
  while (tabs.length < count) tabs.push(await openTab(profile, cycle));
  return tabs;
}

/** The tab that leads, once there is one. */
async function leader(tabs) {
  let found;
  await until(SOON_MS, "a tab leads", async () => {
    for (const tab of tabs) if (await tab.leads()) found = tab;
    return found !== undefined;
  });
  return found;
}

/** Four tabs with 200 writes each; now and then one is closed or crashes, and another takes its place. */
export async function b04(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  const tabs = await openTabs(profile, cycle, TABS);
  await tabs[0].found();
  if (random.chance(1, 2)) cycle.line.cut();
  let lanes = 0;
  const begin = (tab) => tab.begin(`lane${(lanes += 1)}`, WRITES);
  for (const tab of tabs) await begin(tab);
  for (let end = random.between(2, 5); end > 0; end -= 1) {
    await pause(random.between(50, 600));
    const at = random.between(0, TABS - 1);
    await (random.chance(1, 2) ? tabs[at].crash() : tabs[at].close());
    tabs[at] = await openTab(profile, cycle);
    await begin(tabs[at]);
  }
  cycle.line.mend();
  for (const tab of tabs) await tab.finished();
  await cycle.settle(...tabs);
}

/** The leader crashes while the others write, three times over. */
export async function b05(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  const tabs = await openTabs(profile, cycle, 3);
  await tabs[0].found();
  const crashes = 3;
  let slowest = 0;
  for (let crash = 0; crash < crashes; crash += 1) {
    const leads = await leader(tabs);
    for (const [at, tab] of tabs.entries()) await tab.keepWriting(`${crash}-${at}`);
    await pause(random.between(20, 400));
    tabs.splice(tabs.indexOf(leads), 1);
    await leads.crash();
    const crashed = Date.now();
    await leader(tabs);
    const took = Date.now() - crashed;
    slowest = Math.max(slowest, took);
    if (took > HANDED_OVER_MS) cycle.fault("stuck", `no tab led for ${took} ms behind a crash`);
    for (const tab of tabs) await tab.stop();
    tabs.push(await openTab(profile, cycle));
  }
  cycle.log(`handed over within ${slowest} ms`);
  await cycle.settle(...tabs);
  return crashes;
}

/** Whether a tab answers so soon. */
async function answers(tab, millis) {
  try {
    await within(
      millis,
      "an answer",
      tab.page.evaluate(() => 1),
    );
    return true;
  } catch (error) {
    if (error instanceof Stuck) return false;
    throw error;
  }
}

/** Stops the process of a tab, whichever of the browser's it is. On a busy machine others are slow to answer, too. */
async function freeze(profile, tab, other) {
  for (const pid of await profile.renderers()) {
    process.kill(pid, "SIGSTOP");
    if (
      !(await answers(tab, 500)) &&
      (await answers(other, 5_000)) &&
      !(await answers(tab, 1_000))
    ) {
      return () => process.kill(pid, "SIGCONT");
    }
    process.kill(pid, "SIGCONT");
  }
  throw new Error("no process is that of the tab alone");
}

/** The leader stands still in mid-transaction; another tab takes over, and it wakes up as a follower. */
export async function b05_frozen(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  const tabs = await openTabs(profile, cycle, 2);
  await tabs[0].found();
  const leads = await leader(tabs);
  const other = tabs.find((tab) => tab !== leads);
  await leads.begin("before", FROZEN_WRITES);
  await pause(random.between(20, 400));
  const thaw = await freeze(profile, leads, other);
  try {
    await until(FROZEN_MS, "another tab leads", () => other.leads());
    await other.write("meanwhile", 10);
    await other.synced();
  } finally {
    thaw();
  }
  await leads.until("it follows", "(status) => !status.leader");
  await pause(random.between(100, AWHILE_MS));
  await leads.stop();
  cycle.same("the tab that took over leads", await other.leads(), true);
  await cycle.settle(leads, other);
}

/** A tab that follows stands still while others write, and the line is cut under it; it catches up. */
export async function b14(cycle) {
  const profile = await cycle.profile().start();
  const tabs = await openTabs(profile, cycle, 2);
  await tabs[0].found();
  const leads = await leader(tabs);
  const other = tabs.find((tab) => tab !== leads);
  const thaw = await freeze(profile, other, leads);
  try {
    await leads.write("meanwhile", 20);
    cycle.line.cut();
    await pause(AWHILE_MS);
    cycle.line.mend();
  } finally {
    thaw();
  }
  await other.write("awake", 5);
  // Away and back by the history: the page is kept as it was, or loaded again.
  await other.page.goto("about:blank");
  await other.page.goBack({ waitUntil: "commit" });
  const kept = await other.run(() => globalThis.db !== undefined);
  if (!kept) {
    await other.load();
    await other.database();
  }
  await other.write("back", 5);
  await cycle.settle(leads, other);
}
