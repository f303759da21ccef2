// An audit that finds nothing must be one that could.

import assert from "node:assert/strict";
import { test } from "node:test";
import { amount, audit, Ledger } from "./ledger.mjs";
import { Random } from "./random.mjs";

const IDS = ["a.0", "a.1", "b.0"];

/** What a replica shows that has all of it. */
const whole = () => ({
  marks: IDS.map((id) => [id, amount(id)]),
  twins: [...IDS],
  lanes: [
    ["a", 1],
    ["b", 0],
  ],
  sum: IDS.reduce((sum, id) => sum + amount(id), 0),
});

function kinds(change) {
  const ledger = new Ledger();
  for (const id of IDS) ledger.hear("flushed", id);
  const seen = whole();
  change(seen, ledger);
  return audit("it", seen, ledger).map(({ kind }) => kind);
}

test("what_is_whole_passes_the_audit", () =>
  assert.deepEqual(
    kinds(() => undefined),
    [],
  ));

test("a_write_that_its_own_tab_did_not_show_is_lost", () =>
  assert.deepEqual(
    kinds((_, ledger) => ledger.hear("unseen", "a.0")),
    ["lost"],
  ));

test("a_promised_write_that_is_absent_is_lost", () => {
  assert.deepEqual(
    kinds((_, ledger) => ledger.hear("flushed", "a.2")),
    ["lost"],
  );
  assert.deepEqual(
    kinds((_, ledger) => {
      ledger.hear("synced", "a.2");
      ledger.forgive();
    }),
    ["lost"],
  );
});

test("a_write_that_nobody_promised_may_be_there_or_not", () => {
  const forgiven = (_, ledger) => {
    ledger.hear("flushed", "a.2");
    ledger.forgive();
  };
  assert.deepEqual(kinds(forgiven), []);
});

test("half_a_write_is_torn", () => {
  assert.deepEqual(
    kinds((seen) => seen.twins.pop()),
    ["torn"],
  );
  assert.deepEqual(
    kinds((seen) => seen.twins.push("c.0")),
    ["torn"],
  );
  assert.deepEqual(
    kinds((seen) => (seen.sum -= 1)),
    ["torn"],
  );
  assert.deepEqual(
    kinds((seen) => (seen.lanes[0][1] = 0)),
    ["torn"],
  );
});

test("a_write_that_counts_twice_is_doubled", () => {
  assert.deepEqual(
    kinds((seen) => (seen.sum += amount("a.0"))),
    ["doubled"],
  );
});

test("a_seed_draws_the_same_again_and_its_neighbour_something_else", () => {
  const drawn = (seed) => {
    const random = new Random(seed);
    return Array.from({ length: 8 }, () => random.between(0, 99));
  };
  assert.deepEqual(drawn(7), drawn(7));
  assert.notDeepEqual(drawn(7), drawn(8));
});
