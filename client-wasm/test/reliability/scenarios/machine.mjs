// B15, B17, B18, B22: a slow machine, a wrong clock, a broken engine, odd values.

import { Tab } from "../page.mjs";
import { pause } from "../time.mjs";

const HOUR_MS = 3_600_000;
const YEAR_MS = 8_766 * HOUR_MS;
/** More than a write passes on its way. */
const WAYPOINTS = 200;
/** By when a page has noticed that its engine broke, and another tab leads: it looks every 3 s. */
const BROKEN_MS = 15_000;
const JUMPS = [2 * HOUR_MS, -2 * HOUR_MS, 26 * HOUR_MS, 10 * YEAR_MS, -10 * YEAR_MS];

const openTab = async (profile, cycle, more) =>
  (await Tab.open(profile.context, cycle, more)).database();

/** The page gets a twentieth of the processor: transactions must not end half asked for. */
export async function b15(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  const tab = await openTab(profile, cycle);
  await tab.found();
  const session = await tab.page.context().newCDPSession(tab.page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: 20 });
  await tab.write("slow", 20, random.pick([0, 20_000]));
  await session.send("Emulation.setCPUThrottlingRate", { rate: 1 });
  await cycle.settle(tab);
}

/** Runs in the page: its clock can be moved. */
function movedClock() {
  const OwnDate = Date;
  let offset = 0;
  globalThis.moveClock = (by) => void (offset = by);
  globalThis.Date = class extends OwnDate {
    constructor(...rest) {
      super(...(rest.length === 0 ? [OwnDate.now() + offset] : rest));
    }
    static now() {
      return OwnDate.now() + offset;
    }
  };
}

/** The device's clock jumps by hours and by years while it writes, on line and off. */
export async function b17(cycle) {
  const { random } = cycle;
  const profile = await cycle.profile().start();
  const tab = await openTab(profile, cycle, { shim: movedClock });
  const other = await openTab(await cycle.profile().start(), cycle);
  await tab.found();
  await other.synced();
  for (let jump = 0; jump < 3; jump += 1) {
    const offline = random.chance(1, 2);
    if (offline) cycle.line.cut();
    const by = random.pick(JUMPS);
    cycle.log(`${by / HOUR_MS} h${offline ? " offline" : ""}`);
    await tab.run((by) => moveClock(by), by);
    await tab.write(`jump${jump}`, 4);
    await other.write(`other${jump}`, 4);
    cycle.line.mend();
    if (random.chance(1, 2)) await tab.synced();
  }
  await cycle.settle(tab, other);
}

/** The engine breaks in one of two tabs, in every way in which it can, wherever control is: in a call, a task, a commit. */
export async function b18(cycle) {
  const { random } = cycle;
  cycle.expect(/panicked|broken on purpose|unreachable|call stack|RuntimeError|out of bounds/u);
  const profile = await cycle.profile().start();
  const base = "/tested";
  const tab = await openTab(profile, cycle, { base });
  await tab.found();
  const other = await openTab(profile, cycle);
  await tab.keepWriting("breaks");
  await other.keepWriting("stays");
  await pause(random.between(20, 300));
  const [kind, passes] = [
    random.pick(["panic", "stack", "memory", "access"]),
    random.between(0, WAYPOINTS),
  ];
  cycle.log(`${kind} behind ${passes}`);
  await tab.run(
    async ({ kind, passes }) => {
      const bindings = await import("/tested/pkg/rejoin.js");
      bindings.break_behind(passes, kind);
    },
    { kind, passes },
  );
  await tab.until("broken", '(status) => status.state === "closed"', BROKEN_MS);
  await other.until("the other leads", "(status) => status.leader", BROKEN_MS);
  // What was under way has failed, and says why; so does what comes now.
  await tab.stop();
  cycle.same("why writes fail", [...cycle.ledger.failed.keys()], ["poisoned"]);
  cycle.same("a write", await tab.tryWrite("dead", 1), ["poisoned"]);
  await other.stop();
  const started = Date.now();
  await tab.load(base);
  await tab.database();
  cycle.log(`back in ${Date.now() - started} ms`);
  await tab.write("again", 5);
  await cycle.settle(tab, other);
}

/** Values that JavaScript, IndexedDB and bytes might each see in another way. */
export async function b22(cycle) {
  const profile = await cycle.profile().start();
  const tab = await openTab(profile, cycle);
  await tab.found();
  const wrong = await tab.run(writeOddValues);
  cycle.same("values read at once", wrong, []);
  const before = await tab.run(readOddValues);
  await tab.synced();
  await tab.load();
  await tab.database();
  cycle.same("values read after a reload", await tab.run(readOddValues), before);
  const newcomer = await cycle.newcomer();
  cycle.same("values read elsewhere", await newcomer.run(readOddValues), before);
  await newcomer.page.context().close();
  await cycle.settle(tab);
}

/** Runs in the page: which values are not read as they were written. */
async function writeOddValues() {
  const letters = ["\0", "\uffff", "\ufeff", "e\u0301", "\u00e9", "\u202e", "\u{1f600}", "a", '"'];
  const edges = [0, -0, NaN, Infinity, -Infinity, 5e-324, 1.7976931348623157e308];
  const numbers = [...edges, 1, -1, 0.1, 2 ** 31, 2 ** 53, -(2 ** 53)];
  const { random, floor } = Math;
  const pick = (list) => list[floor(random() * list.length)];
  const text = () => Array.from({ length: floor(random() * 20) }, () => pick(letters)).join("");
  const value = (depth) => {
    switch (floor(random() * (depth > 3 ? 7 : 9))) {
      case 0:
        return text();
      case 1:
        return pick(numbers);
      case 2:
        return (random() - 0.5) * 10 ** floor(random() * 300);
      case 3:
        return pick([true, false, null]);
      case 4:
        return pick([2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, -(2n ** 53n) - 1n]);
      case 5:
        return crypto.getRandomValues(new Uint8Array(floor(random() * 40)));
      case 6:
        return "x".repeat(floor(random() * 5_000));
      case 7:
        return Array.from({ length: floor(random() * 4) }, () => value(depth + 1));
      default: {
        const keys = Array.from({ length: floor(random() * 4) }, text);
        return Object.fromEntries(keys.map((key) => [key, value(depth + 1)]));
      }
    }
  };
  const wrong = [];
  const written = Array.from({ length: 300 }, async (_, at) => {
    const odd = value(0);
    await db.odds.put(`${at}`, { value: odd });
    const read = (await db.odds.get(`${at}`)).value;
    if (plain(read) !== plain(odd)) wrong.push([plain(odd), plain(read)]);
  });
  await Promise.all(written);
  // What no replica could hold is refused, and leaves nothing behind.
  const refused = [
    "\ud800",
    "a\udc00b",
    2n ** 63n,
    -(2n ** 64n),
    new Date(0),
    Symbol("odd"),
    () => 1,
  ];
  for (const odd of refused) {
    const told = await code(() => db.odds.put("refused", { value: { odd } }));
    if (told !== "invalid") wrong.push([String(odd), told]);
  }
  if ((await db.odds.get("refused")) !== undefined) wrong.push("a refused value is there");
  return wrong;
}

/** Runs in the page: all odd values, as text that tells them apart. */
async function readOddValues() {
  return (await db.odds.all()).map(({ id, value }) => `${id} ${plain(value)}`).toSorted();
}
