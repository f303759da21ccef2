import { defineSchema, open, text } from "rejoin/slim";
import wasm from "rejoin/rejoin_bg.wasm";

const schema = defineSchema({ tasks: { title: text() } });

export default {
  async fetch() {
    const db = await open({ name: "worker", schema, wasm });
    const { id } = await db.tasks.add({ title: "In a worker" });
    const task = await db.tasks.get(id);
    await db.close();
    return new Response(task.title);
  },
};
