// Which scenarios there are, and in which order they run.

import { b06, b16, b21 } from "./scenarios/builds.mjs";
import { firefox } from "./firefox.mjs";
import { firefox_b01, firefox_b03 } from "./scenarios/firefox.mjs";
import { b02, b02_torn, b03 } from "./scenarios/history.mjs";
import { b01 } from "./scenarios/kill.mjs";
import { b15, b17, b18, b22 } from "./scenarios/machine.mjs";
import { b09, b10, b11, b12, b13 } from "./scenarios/storage.mjs";
import { b04, b05, b05_frozen, b14 } from "./scenarios/tabs.mjs";

/** By the ids of the catalogue of failures. */
export const SCENARIOS = {
  ...{ b01, b02, b02_torn, b03, b04, b05, b05_frozen, b06, b09, b10, b11, b12, b13, b14, b15 },
  ...{ b16, b17, b18, b21, b22, firefox_b01, firefox_b03 },
};

const ofChromium = (name) => !name.startsWith("firefox_");
/** So many of a plan are all scenarios of Chromium, each once. */
export const EACH_ONCE = Object.keys(SCENARIOS).filter(ofChromium).length;

/** One round: each once, which a short run sees all of, then what is quick and worst again. The first mostly waits. */
const ROUND = [
  ...["b05_frozen", "b01", "b02", "b02_torn", "b03", "b05", "b09", "b10", "b12", "b06", "b11"],
  ...["b21", "b17", "b18", "b13", "b22", "b04", "b16", "b15", "b14"],
  ...["b01", "b12", "b09", "b12", "b01", "b02", "b09", "b12", "b03", "b01", "b10", "b06", "b09"],
  "b01",
];

/** At the end of the first round, and of every third behind it, where there is a Firefox: it is slow. */
const FIREFOX = ["firefox_b01", "firefox_b03"];
const ROUNDS_WITHOUT = 2;

/** Without end: the next scenario and its seed. */
export function* plan(only, seed) {
  if (only !== undefined) for (let at = 0; ; at += 1) yield [only, seed + at];
  const more = firefox() === undefined ? [] : FIREFOX;
  const plain = Array.from({ length: ROUNDS_WITHOUT }, () => ROUND).flat();
  const names = [...ROUND, ...more, ...plain];
  for (let at = 0; ; at += 1) yield [names[at % names.length], seed + at];
}
