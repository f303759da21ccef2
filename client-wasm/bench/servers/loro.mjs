// Loro's server as the README of loro-websocket starts it, saving documents to files.

import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { LoroDoc } from "loro-crdt";
import { SimpleServer } from "loro-websocket/server";

const SAVE_MS = 1_000;

export async function start(folder) {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  let held = 0;
  const server = new SimpleServer({
    ...{ host: "127.0.0.1", port, saveInterval: SAVE_MS },
    async onSaveDocument(room, kind, data) {
      const doc = new LoroDoc();
      doc.import(data);
      held = doc.getMap("tasks").size;
      await writeFile(join(folder, `${room}.loro`), data);
    },
  });
  await server.start();
  return { port, url: "ws://127.0.0.1:PORT", held: () => held };
}
