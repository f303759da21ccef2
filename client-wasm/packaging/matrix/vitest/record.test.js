import { defineSchema, open, text } from "rejoin";
import { expect, test } from "vitest";

test("a record is written and read", async () => {
  const db = await open({ name: "vitest", schema: defineSchema({ tasks: { title: text() } }) });
  const { id } = await db.tasks.add({ title: "In Vitest" });
  expect(await db.tasks.get(id)).toMatchObject({ title: "In Vitest" });
  await db.close();
});
