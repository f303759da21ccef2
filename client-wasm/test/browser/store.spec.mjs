import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { load, launch, newPage } from "./world.mjs";

let world;
before(async () => (world = await launch()));
after(() => world.close());

async function onePage(context, build) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  return newPage(browserContext, world.origin, build);
}

test("a_local_write_is_there_after_a_reload", async (context) => {
  const page = await onePage(context);
  const receipt = await page.evaluate(async () => {
    await openEngine("reload");
    return add("1", "Hello World", [
      ["votes", "counter", "increment", 3],
      ["tags", "set", "set", ["b", "a"]],
      ["note", "review", "resolve", { big: 2n ** 60n, bytes: new Uint8Array([1, 2]), none: null }],
    ]);
  });
  assert.deepEqual([receipt.row, receipt.durability], [1, "flushed"]);
  assert.deepEqual(receipt.rows[0].values.slice(0, 3), ["Hello World", 3, ["a", "b"]]);
  await load(page, world.origin);
  const [row] = await page.evaluate(async () => {
    await openEngine("reload");
    return all();
  });
  const [id, title, votes, tags, [sibling]] = row;
  assert.deepEqual([id, title, votes, tags], ["1", "Hello World", 3, ["a", "b"]]);
  assert.equal(sibling.value.big, 2n ** 60n);
  assert.deepEqual([...Object.values(sibling.value.bytes)], [1, 2]);
  assert.equal(sibling.value.none, null);
});
