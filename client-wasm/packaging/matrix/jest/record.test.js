import { expect, test } from "@jest/globals";
import { defineSchema, open, text } from "rejoin";

test("a record is written and read", async () => {
  const db = await open({ name: "jest", schema: defineSchema({ tasks: { title: text() } }) });
  const { id } = await db.tasks.add({ title: "In Jest" });
  expect(await db.tasks.get(id)).toMatchObject({ title: "In Jest" });
  await db.close();
});
