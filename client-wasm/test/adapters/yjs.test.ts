import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as Y from "yjs";
import { PART_BYTES_MAX } from "../../ts/adapters/yjs-records.js";
import { YjsProvider } from "../../ts/adapters/yjs.js";
import type { Database } from "../../ts/db.js";
import { settled } from "../unit/world.js";
import { edit, ids, peer, same, schema, TEXT } from "./documents.js";

const NO_SPACE = { code: "quota", message: "no space", retryable: true };

describe("a document in records", () => {
  test("an_edit_is_written_at_once_and_is_in_the_next_document", async () => {
    const page = await peer();
    const { text, provider } = edit(page);
    await provider.loaded;
    assert.equal(provider.unsaved, false);
    text.insert(0, "hello");
    assert.equal(provider.unsaved, true);
    await provider.saved();
    assert.equal(provider.unsaved, false);
    text.insert(5, " world");
    text.delete(0, 1);
    await provider.close();
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "ello world");
    assert.equal(next.provider.unsaved, false);
  });

  test("several_documents_of_one_collection_follow_each_other", async () => {
    const page = await peer();
    const [one, other] = [edit(page), edit(page)];
    await Promise.all([one.provider.loaded, other.provider.loaded]);
    one.text.insert(0, "one ");
    other.text.insert(0, "other ");
    await Promise.all([one.provider.saved(), other.provider.saved()]);
    await settled();
    assert.ok(same(one.doc, other.doc));
    assert.equal(one.text.length, "one other ".length);
    assert.equal((await ids(page)).length, 2, "what came in is not written again");
  });

  test("edits_made_while_a_write_is_under_way_make_one_record", async () => {
    const page = await peer();
    const { text, provider } = edit(page);
    for (let at = 0; at < 50; at += 1) text.insert(at, "x");
    await provider.saved();
    assert.equal((await ids(page)).length, 2);
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "x".repeat(50));
  });

  test("what_a_document_had_before_is_kept_and_what_is_stored_is_not_written_again", async () => {
    const page = await peer();
    const doc = new Y.Doc();
    doc.getText("body").insert(0, "a template, shortened");
    doc.getText("body").delete(10, 11);
    const first = edit(page, doc);
    assert.equal(first.provider.unsaved, true);
    await first.provider.saved();
    assert.equal(first.provider.unsaved, false);
    assert.equal(doc.isLoaded, true);
    await first.provider.close();
    const records = await ids(page);
    assert.equal(records.length, 1);
    const again = edit(page, doc);
    await again.provider.close();
    assert.deepEqual(await ids(page), records);
    // A deletion alone is content, too.
    doc.getText("body").delete(0, 2);
    await edit(page, doc).provider.close();
    assert.equal((await ids(page)).length, 2);
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "template");
  });

  test("an_edit_that_a_listener_makes_when_others_edits_come_in_is_written", async () => {
    const page = await peer();
    const other = edit(page);
    const careful = edit(page);
    await careful.provider.loaded;
    careful.text.observe((event) => {
      if (event.transaction.origin === careful.provider) careful.text.insert(0, "!");
    });
    other.text.insert(0, "hello");
    await other.provider.saved();
    await settled();
    await careful.provider.saved();
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "!hello");
  });

  test("a_document_that_is_destroyed_writes_what_it_has_and_no_more", async () => {
    const page = await peer();
    const { doc, text, provider, errors } = edit(page);
    text.insert(0, "last words");
    doc.destroy();
    await provider.close();
    text.insert(0, "not kept: ");
    await settled();
    assert.deepEqual([...page.engine.watched], []);
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "last words");
    assert.deepEqual(errors, []);
  });

  test("clearing_removes_all_records_parts_without_a_whole_too", async () => {
    const page = await peer();
    const { text, provider } = edit(page);
    text.insert(0, "x".repeat(2 * PART_BYTES_MAX));
    await provider.saved();
    await page.db.collection(TEXT).put("lonely.1.2", { update: new Uint8Array([1]) });
    assert.equal((await ids(page)).length, 4);
    page.engine.refusal = NO_SPACE;
    text.insert(0, "never written");
    await assert.rejects(provider.saved(), { code: "quota" });
    page.engine.refusal = undefined;
    await provider.clear({ erase: true });
    assert.deepEqual(await ids(page), []);
  });
});

describe("what is too large for a value", () => {
  const LONG = "0123456789abcdef".repeat(80_000); // 1.28 MB: seven parts, three batches

  test("is_written_in_parts_and_shown_when_all_are_there", async () => {
    const [here, there] = [await peer(), await peer()];
    const { text, provider, errors } = edit(here);
    text.insert(0, LONG);
    await provider.saved();
    const sizes = here.engine.written
      .flat()
      .map(({ fields }) => (fields[0]?.[3] as Uint8Array).length);
    assert.equal(sizes.length, 7);
    assert.ok(sizes.every((size) => size <= PART_BYTES_MAX));
    const seen = edit(there);
    await seen.provider.loaded;
    for (const batch of here.engine.written) {
      assert.equal(seen.text.length, 0);
      await there.engine.receive(batch);
      await settled();
    }
    assert.equal(seen.text.toString(), LONG);
    assert.deepEqual([...errors, ...seen.errors], []);
  });

  test("goes_on_where_it_failed_under_the_same_names", async () => {
    const page = await peer();
    const { text, provider } = edit(page);
    await provider.loaded;
    page.engine.refusal = NO_SPACE;
    page.engine.accepts = 1;
    text.insert(0, LONG);
    text.insert(0, "then ");
    await assert.rejects(provider.saved(), { code: "quota" });
    assert.equal(page.engine.written.length, 1);
    page.engine.refusal = undefined;
    await provider.saved();
    const names = (await ids(page)).map((id) => id.replace(/\..*/u, ""));
    assert.deepEqual([names.length, new Set(names).size], [8, 2]);
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), `then ${LONG}`);
  });
});

describe("an edit that cannot be written", () => {
  test("is_kept_told_and_tried_again_by_itself", async (context) => {
    const page = await peer();
    const { text, provider, errors } = edit(page);
    await provider.loaded;
    context.mock.timers.enable({ apis: ["setTimeout"] });
    page.engine.refusal = NO_SPACE;
    text.insert(0, "kept");
    await assert.rejects(provider.saved(), { code: "quota" });
    const tries = errors.length;
    context.mock.timers.tick(1_000);
    await assert.rejects(provider.saved(), { code: "quota" });
    assert.ok(errors.length > tries);
    assert.equal(provider.unsaved, true);
    page.engine.refusal = undefined;
    context.mock.timers.tick(30_000);
    context.mock.timers.reset();
    await settled();
    assert.equal(provider.unsaved, false);
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "kept");
  });

  test("is_written_by_the_next_provider_if_the_database_was_closed", async () => {
    const page = await peer();
    const { doc, text, provider, errors } = edit(page);
    text.insert(0, "before");
    await provider.saved();
    await page.db.close();
    text.insert(0, "after and ");
    await assert.rejects(provider.close(), { code: "closed" });
    assert.deepEqual([...new Set(errors.map(({ code }) => code))], ["closed"]);
    const reopened = await peer();
    for (const batch of page.engine.written) await reopened.engine.receive(batch);
    await edit(reopened, doc).provider.close();
    const next = edit(reopened);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "after and before");
  });
});

describe("a record that is no update", () => {
  test("is_told_stays_and_keeps_nothing_else_from_being_shown", async () => {
    const page = await peer();
    const records = page.db.collection(TEXT);
    const first = edit(page);
    first.text.insert(0, "fine");
    await first.provider.close();
    await records.put("0", { update: new Uint8Array([9, 9, 9]) });
    await records.put("z", { update: new Uint8Array() });
    const { text, provider, errors } = edit(page);
    await provider.loaded;
    assert.equal(text.toString(), "fine");
    assert.deepEqual(
      errors.map(({ code }) => code),
      ["invalid", "invalid"],
    );
    for (let count = 0; count < 250; count += 1) {
      text.insert(0, "x");
      await provider.saved();
    }
    const left = await ids(page);
    assert.ok(left.length < 150 && left.includes("0") && left.includes("z"));
  });

  test("fails_loading_only_if_nothing_can_be_read", async () => {
    const page = await peer();
    page.engine.failure = { code: "storage", message: "unreadable", retryable: false };
    const doc = new Y.Doc();
    doc.getText("body").insert(0, " all the same");
    const { text, provider, errors } = edit(page, doc);
    await assert.rejects(provider.loaded, { code: "storage" });
    assert.equal(errors.length, 1);
    text.insert(0, "written");
    await provider.saved();
    const next = edit(page);
    await next.provider.loaded;
    assert.equal(next.text.toString(), "written all the same");
  });
});

/** Never run: what is untrue of the schema does not compile. */
export function types(db: Database<typeof schema>, doc: Y.Doc): void {
  const provider: YjsProvider<typeof schema> = new YjsProvider(db, "texts/1", doc);
  // @ts-expect-error Its fields are not those of updates.
  new YjsProvider(db, "notes", doc);
  // @ts-expect-error There is no such collection.
  new YjsProvider(db, "words/1", doc);
  // @ts-expect-error It is a promise.
  provider.loaded.length;
}
