import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as Y from "yjs";
import { applyAll, merge, mergeable, type StoredUpdate } from "../../ts/adapters/yjs-records.js";
import type { RawOp } from "../../ts/raw.js";
import { Random } from "../unit/random.js";
import { settled } from "../unit/world.js";
import { docOf, edit, type Editor, ids, peer, type Peer, same, TEXT } from "./documents.js";

const SEEDS = Number(process.env["REJOIN_YJS_SEEDS"] ?? 3);

/** Something that a person does to a text. */
function act(random: Random, { doc, text }: Editor, name: string): void {
  const at = random.below(text.length + 1);
  const action = random.below(10);
  if (action < 6) text.insert(at, `${name}${random.below(10)}`);
  else if (action < 8) text.delete(at, Math.min(random.below(9), text.length - at));
  else if (action < 9) text.format(at, Math.min(random.below(5), text.length - at), { bold: true });
  else doc.getMap("more").set(`${random.below(4)}`, random.below(100));
}

/** All that was ever put, by id. */
class Puts {
  readonly #updates = new Map<string, Uint8Array>();

  take(batch: readonly RawOp[]): void {
    for (const { op, id, fields } of batch) {
      if (op === "put") this.#updates.set(id, fields[0]?.[3] as Uint8Array);
    }
  }

  /** A document of all of them. */
  doc(): Y.Doc {
    return docOf(this.#updates.values());
  }
}

/** Bytes and documents of what is live. */
async function live({ db }: Peer): Promise<{ records: number; bytes: number; doc: Y.Doc }> {
  const updates = (await db.collection(TEXT).all()).map(({ update }) => update);
  const bytes = updates.reduce((total, { length }) => total + length, 0);
  return { records: updates.length, bytes, doc: docOf(updates) };
}

describe("merging", () => {
  test("keeps_the_number_of_records_small_and_every_edit", async () => {
    const page = await peer();
    const editor = edit(page);
    const random = new Random(1);
    const puts = new Puts();
    let most = 0;
    for (let count = 0; count < 1_500; count += 1) {
      act(random, editor, "a");
      await editor.provider.saved();
      most = Math.max(most, page.engine.size(TEXT));
    }
    for (const batch of page.engine.written) puts.take(batch);
    const { records, bytes, doc } = await live(page);
    assert.ok(most <= 130, `${most} records at the most`);
    assert.ok(records <= most && same(doc, puts.doc()));
    const whole = Y.encodeStateAsUpdate(editor.doc).length;
    assert.ok(bytes < 4 * whole, `${bytes} bytes for a document of ${whole}`);
  });

  test("loses_nothing_whichever_batch_is_the_last_before_a_crash", async () => {
    const page = await peer();
    const editor = edit(page);
    const random = new Random(2);
    for (let count = 0; count < 260; count += 1) {
      act(random, editor, "a");
      await editor.provider.saved();
    }
    const { written } = page.engine;
    const merges = written.filter((batch) => batch.some(({ op }) => op === "remove"));
    assert.ok(merges.length >= 2);
    const after = await peer();
    const puts = new Puts();
    for (const batch of written) {
      await after.engine.receive(batch);
      puts.take(batch);
      const { doc } = await live(after);
      assert.ok(same(doc, puts.doc()));
    }
  });

  for (let seed = 1; seed <= SEEDS; seed += 1) {
    test(`of_several_replicas_in_any_order_loses_nothing (seed ${seed})`, async () => {
      const random = new Random(seed);
      const replicas = await Promise.all(
        ["a", "b", "c"].map(async (name) => {
          const own = await peer(name);
          return { name, peer: own, editor: edit(own), puts: new Puts(), noted: 0, behind: 0 };
        }),
      );
      type Replica = (typeof replicas)[number];
      /** How much of whose batches somebody has. */
      const got = new Map<Replica, Map<Replica, number>>(
        replicas.map((to) => [to, new Map(replicas.map((from) => [from, 0]))]),
      );
      const note = (replica: Replica): void => {
        const { written } = replica.peer.engine;
        for (; replica.noted < written.length; replica.noted += 1) {
          replica.puts.take(written[replica.noted] ?? []);
        }
      };
      const deliver = async (from: Replica, to: Replica, count: number): Promise<void> => {
        const start = got.get(to)?.get(from) ?? 0;
        const batches = from.peer.engine.written.slice(start, start + count);
        for (const batch of batches) {
          await to.peer.engine.receive(batch);
          to.puts.take(batch);
        }
        got.get(to)?.set(from, start + batches.length);
        await settled();
      };
      const check = async (replica: Replica): Promise<void> => {
        note(replica);
        const { doc } = await live(replica.peer);
        assert.ok(same(doc, replica.puts.doc()), `${replica.name} says what it was told`);
      };
      for (let step = 0; step < 1_200; step += 1) {
        const replica = random.pick(replicas);
        const action = random.below(100);
        if (action < 88) {
          for (let edits = random.below(3); edits >= 0; edits -= 1) {
            act(random, replica.editor, replica.name);
          }
          if (random.below(4) > 0) await replica.editor.provider.saved();
        } else if (action < 98) {
          const other = random.pick(replicas.filter((each) => each !== replica));
          await deliver(other, replica, random.below(250));
          await check(replica);
        } else {
          // Somebody reloads the page.
          await replica.editor.provider.close();
          replica.editor = edit(replica.peer);
          await replica.editor.provider.loaded;
        }
      }
      // Yjs itself edits when formats of several writers meet, so there may be more to deliver.
      const writes = (): number =>
        replicas.reduce((total, { peer }) => total + peer.engine.written.length, 0);
      for (let before = -1; before !== writes();) {
        before = writes();
        for (const to of replicas) {
          for (const from of replicas) if (from !== to) await deliver(from, to, Infinity);
          await to.editor.provider.saved();
        }
      }
      const [first, ...others] = replicas;
      assert.ok(first !== undefined);
      for (const replica of replicas) await check(replica);
      for (const { editor, peer } of others) {
        assert.ok(same(editor.doc, first.editor.doc));
        assert.deepEqual(await ids(peer), await ids(first.peer));
      }
      const { doc } = await live(first.peer);
      assert.ok(same(doc, first.editor.doc));
      assert.ok(replicas.flatMap(({ editor }) => editor.errors).length === 0);
    });
  }

  test("at_the_same_time_on_two_replicas_leaves_copies_that_the_next_one_ends", async () => {
    const pages = [await peer("a"), await peer("b")] as const;
    const editors = pages.map((page) => edit(page));
    const random = new Random(3);
    const got = [0, 0];
    let most = 0;
    for (let count = 0; count < 1_500; count += 1) {
      // Both know the same and write, so both come to the number that makes them merge at once.
      for (const editor of editors) act(random, editor, "x");
      await Promise.all(editors.map(({ provider }) => provider.saved()));
      for (const [at, page] of pages.entries()) {
        const other = pages[1 - at]?.engine.written ?? [];
        for (const batch of other.slice(got[at])) await page.engine.receive(batch);
        got[at] = other.length;
      }
      await Promise.resolve();
      most = Math.max(most, pages[0].engine.size(TEXT));
    }
    await settled();
    const { records, bytes, doc } = await live(pages[0]);
    const [one, other] = editors;
    assert.ok(one !== undefined && other !== undefined && same(one.doc, other.doc));
    assert.ok(same(doc, one.doc));
    const whole = Y.encodeStateAsUpdate(one.doc).length;
    assert.ok(most < 260 && records < 260, `${records} records, ${most} at the most`);
    assert.ok(bytes < 5 * whole, `${bytes} bytes for a document of ${whole}`);
  });

  test("waits_while_something_is_missing", async () => {
    const page = await peer();
    const elsewhere = new Y.Doc();
    const updates: Uint8Array[] = [];
    elsewhere.on("update", (update: Uint8Array) => updates.push(update));
    elsewhere.getText("body").insert(0, "first");
    elsewhere.getText("body").insert(5, " second");
    const [first, second] = updates;
    assert.ok(first !== undefined && second !== undefined);
    const records = page.db.collection(TEXT);
    await records.put("second", { update: second });
    const { text, provider } = edit(page);
    for (let count = 0; count < 150; count += 1) {
      text.insert(0, "x");
      await provider.saved();
    }
    assert.equal((await ids(page)).length, 151);
    await records.put("first", { update: first });
    text.insert(0, "x");
    await provider.saved();
    assert.ok((await ids(page)).length < 20);
    const next = edit(page);
    await next.provider.loaded;
    assert.ok(next.text.toString().includes("first second"));
  });
});

describe("an update that replaces others", () => {
  test("says_all_that_each_of_them_says_whatever_else_there_is", () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = new Random(seed);
      const updates: Uint8Array[] = [];
      const doc = new Y.Doc();
      doc.on("update", (update: Uint8Array) => updates.push(update));
      const others = ["a", "b"].map(() => new Y.Doc());
      for (let step = 0; step < 60; step += 1) {
        const who = random.pick([doc, ...others]);
        act(random, { doc: who, text: who.getText("body") } as Editor, "x");
        if (random.below(4) === 0) Y.applyUpdate(doc, Y.encodeStateAsUpdate(who));
        if (random.below(4) === 0) Y.applyUpdate(who, Y.encodeStateAsUpdate(doc));
      }
      // Copies of what is in others already, as two merges at once leave them.
      updates.push(Y.mergeUpdates(updates.filter(() => random.below(2) === 0)));
      const chosen = updates.filter(() => random.below(2) === 0);
      if (chosen.length === 0) continue;
      const merged = merge(doc, chosen);
      const rest = updates.filter((update) => !chosen.includes(update) && random.below(2) === 0);
      const kept = docOf([merged, ...rest]);
      const before = Y.snapshot(kept);
      for (const update of chosen) Y.applyUpdate(kept, update);
      assert.ok(Y.equalSnapshots(before, Y.snapshot(kept)), `seed ${seed}`);
      const all = [merged, ...updates.filter((update) => !chosen.includes(update))];
      all.sort(() => random.below(3) - 1);
      assert.ok(same(docOf(all), doc), `seed ${seed} in any order`);
      const bit = docOf([]);
      for (const update of all) applyAll(bit, [{ ids: [], update }], undefined, assert.fail);
      assert.ok(same(bit, doc), `seed ${seed} bit by bit`);
    }
  });

  test("is_made_of_those_that_are_not_much_larger_than_all_smaller_ones", () => {
    const sizes = (given: readonly number[]): readonly number[] =>
      mergeable(
        given.map((length, at): StoredUpdate => ({
          ids: [`${at}`],
          update: new Uint8Array(length),
        })),
      ).map(({ update }) => update.length);
    assert.deepEqual(sizes([20, 20, 100_000, 20]), [20, 20, 20]);
    assert.deepEqual(sizes([50_000, 50_000, 20, 20]), [20, 20, 50_000, 50_000]);
    assert.deepEqual(sizes([1, 10, 10, 10, 1_000]), [1, 10, 10, 10]);
    assert.deepEqual(sizes([7]), []);
    assert.deepEqual(sizes([1, 3, 9, 27]), []);
  });
});
