// A server for a Loro document, since the one of loro-websocket (0.6.2) sends a newcomer everything in one message and
// takes none above 256 KiB: it merges, passes on, and saves a snapshot to a file when nothing came for a second.

import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as loro from "loro-crdt";
import { WebSocketServer } from "ws";
import { takeMessage, versionMessage } from "../data/loro-messages.mjs";

const SAVE_MS = 1_000;

export async function start(folder) {
  const doc = new loro.LoroDoc();
  const file = join(folder, "bench.loro");
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(sockets, "listening");
  let saving;
  const save = () => {
    clearTimeout(saving);
    saving = setTimeout(() => void writeFile(file, doc.export({ mode: "snapshot" })), SAVE_MS);
  };
  sockets.on("connection", (socket) => {
    const lacking = (whole) => socket.send(whole);
    const received = (whole) => {
      for (const other of sockets.clients) if (other !== socket) other.send(whole);
      save();
    };
    socket.on("message", (data) => takeMessage(loro, doc, data, { lacking, received }));
    socket.send(versionMessage(doc));
  });
  return {
    port: sockets.address().port,
    url: "ws://127.0.0.1:PORT",
    held: () => doc.getMap("tasks").size,
  };
}
