import assert from "node:assert/strict";
import { test } from "node:test";
import { readOptions, Refused } from "../options.mjs";
import { PEERS } from "../peers.mjs";
import { rotated } from "../rounds.mjs";
import { figure, tables } from "../table.mjs";
import { WORKLOADS } from "../workloads.mjs";

test("without options everything is measured", () => {
  const options = readOptions([]);
  assert.deepEqual(options.peers, Object.keys(PEERS));
  assert.deepEqual(options.workloads, Object.keys(WORKLOADS));
  assert.deepEqual([options.sizes, options.rounds, options.json], [[10_000], 3, false]);
});

test("options choose sizes, rounds, peers and workloads", () => {
  const given = ["--n", "1000,100000", "--rounds", "5", "--json"];
  const chosen = ["--peers", "rejoin,indexeddb", "--workloads", "memory"];
  assert.deepEqual(readOptions([...given, ...chosen]), {
    ...{ sizes: [1_000, 100_000], rounds: 5, json: true },
    ...{ peers: ["rejoin", "indexeddb"], workloads: ["memory"] },
  });
});

test("what is not known is refused by its name", () => {
  for (const [args, told] of [
    [["--size", "5"], /--size/u],
    [["extra"], /extra/u],
    [["--n", "1e3"], /'1e3'/u],
    [["--n", "10"], /from 300/u],
    [["--n", "1000,1000"], /twice/u],
    [["--rounds", "0"], /from 1/u],
    [["--peers", "rejoin,oracle"], /no peer 'oracle'; there are: rejoin/u],
    [["--workloads", "nap"], /no workload 'nap'; there are: bulk-insert/u],
  ]) {
    assert.throws(
      () => readOptions(args),
      (error) => error instanceof Refused && told.test(error.message),
    );
  }
});

test("each round begins with another peer and has all of them", () => {
  assert.deepEqual(rotated(["a", "b", "c"], 0), ["a", "b", "c"]);
  assert.deepEqual(rotated(["a", "b", "c"], 1), ["b", "c", "a"]);
  assert.deepEqual(rotated(["a", "b", "c"], 5), ["c", "a", "b"]);
});

test("the table shows figures, failures and what cannot be, each with its reason", () => {
  const common = { workload: "bulk-insert", n: 1_000 };
  const results = [
    { ...common, peer: "a", metric: "time", median: 12.345, min: 1, max: 2_000, unit: "ms" },
    { ...common, peer: "b", cannot: "has no disk" },
    { ...common, peer: "c", failed: "fell over" },
  ];
  const asked = { sizes: [1_000], peers: ["a", "b", "c"], workloads: ["bulk-insert"] };
  assert.equal(
    tables(results, asked),
    [
      "On one device, n = 1,000\n",
      "| peer | bulk-insert time, ms |",
      "| ---- | -------------------: |",
      "| a    |    12.3 (1.00–2,000) |",
      "| b    |                    – |",
      "| c    |               FAILED |\n",
      "- b, bulk-insert: – has no disk",
      "- c, bulk-insert: FAILED: fell over\n",
    ].join("\n"),
  );
});

test("figures have three digits that count", () => {
  const shown = [0, 0.04321, 0.5, 7.123, 45.67, 123.4, 98_765].map(figure);
  assert.deepEqual(shown, ["0", "0.04", "0.50", "7.12", "45.7", "123", "98,765"]);
});
