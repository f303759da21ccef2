import assert from "node:assert/strict";
import { test } from "node:test";
import { checksum } from "../data/checksum.mjs";
import { median, percentile, summary } from "../data/figures.mjs";
import { edited, edits, FIELDS, record, records } from "../data/records.mjs";

test("records are the same in every run, all different, and of the size that is told", () => {
  const all = records(2_000);
  assert.deepEqual(all[7], record(7));
  assert.equal(new Set(all.map(({ id }) => id)).size, all.length);
  for (const one of all) {
    assert.deepEqual(Object.keys(one), FIELDS);
    assert.match(one.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/u);
    assert.ok(one.title.length >= 19 && one.title.length <= 20, one.title);
    assert.ok(one.notes.length >= 79 && one.notes.length <= 80, one.notes);
    assert.ok(Number.isSafeInteger(one.createdAt) && one.priority >= 0 && one.priority < 5);
  }
  assert.ok(all.some(({ done }) => done) && all.some(({ done }) => !done));
});

test("the first record stays what it is: results of different days are of the same data", () => {
  assert.equal(checksum(records(300)), "300-00b5f519-2b8c6676");
});

test("edits of two lanes are of different records and change what is there", () => {
  const all = records(300);
  const lists = [0, 1].map((lane) => edits(300, 100, lane, 2, "word"));
  const changes = lists.flat();
  assert.equal(new Set(changes.map(({ id }) => id)).size, 200);
  const after = edited(all, changes);
  assert.equal(after.filter(({ title }) => title.startsWith("word ")).length, 200);
  assert.equal(all.filter(({ title }) => title.startsWith("word ")).length, 0);
  assert.throws(() => edits(199, 100, 0, 2, "word"), /too few/u);
});

test("the checksum knows no order and every field", () => {
  const all = records(100);
  const sum = checksum(all);
  assert.equal(checksum(all.toReversed()), sum);
  assert.notEqual(checksum(all.slice(1)), sum);
  for (const [field, value] of Object.entries({
    ...{ id: "x", title: "x", done: !all[3].done, createdAt: 1, notes: "x", priority: 9 },
  })) {
    assert.notEqual(checksum(all.with(3, { ...all[3], [field]: value })), sum, field);
  }
  const swapped = [
    { ...all[0], title: all[1].title },
    { ...all[1], title: all[0].title },
  ];
  assert.notEqual(checksum([...swapped, ...all.slice(2)]), sum);
});

test("medians and percentiles are those of the sorted values", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  const hundred = Array.from({ length: 100 }, (_, at) => 100 - at);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile([5], 0.99), 5);
  assert.deepEqual(summary([10, 2, 3]), { median: 3, min: 2, max: 10 });
});
