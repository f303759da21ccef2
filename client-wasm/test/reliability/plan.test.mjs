import assert from "node:assert/strict";
import { test } from "node:test";
import { EACH_ONCE, plan, SCENARIOS } from "./plan.mjs";

test("a_round_begins_with_each_scenario_of_chromium_once", () => {
  const names = Object.keys(SCENARIOS).filter((name) => !name.startsWith("firefox_"));
  const begins = plan(undefined, 0);
  const first = Array.from({ length: EACH_ONCE }, () => begins.next().value[0]);
  assert.deepEqual(first.toSorted(), names.toSorted());
});
