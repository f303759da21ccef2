// The servers of others for rejoin-bench, as the browser's benchmark starts them.
//
// `node peers.mjs y-websocket N`: starts y-websocket's server, says a line of JSON with its address and N messages that
// change its document, and ends when its input does. `node peers.mjs pouchdb CLIENTS MILLISECONDS`: says how many
// documents that many clients of PouchDB's server put per second, each of which waits for one before the next.

import { randomUUID } from "node:crypto";
import { Agent, request } from "node:http";
import { createRequire } from "node:module";

const BENCH = new URL("../../../client-wasm/bench/", import.meta.url);
const { install } = await import(new URL("install.mjs", BENCH));
install();
const { startServer } = await import(new URL("servers/start.mjs", BENCH));

const [peer, count, time] = process.argv.slice(2);
if (peer === "pouchdb") await pouchdb(Number(count), Number(time));
else await yWebsocket(Number(count));

async function yWebsocket(changes) {
  const Y = createRequire(new URL("package.json", BENCH))("yjs");
  const server = await startServer("yjs");
  const doc = new Y.Doc();
  const messages = [];
  doc.on("update", (update) => {
    // A message of the sync protocol (0), an update (2), and its length as a variable one.
    const length = [];
    for (let rest = update.length; ; rest = Math.floor(rest / 128)) {
      length.push(rest < 128 ? rest : (rest % 128) + 128);
      if (rest < 128) break;
    }
    messages.push(Buffer.concat([Buffer.from([0, 2, ...length]), update]).toString("hex"));
  });
  for (let number = 0; number < changes; number += 1) {
    doc.getMap("tasks").set(randomUUID(), new Y.Map(Object.entries(task(number))));
  }
  console.log(JSON.stringify({ url: `${server.url(server.port)}/bench`, changes: messages }));
  for await (const _ of process.stdin);
  await server.stop();
}

async function pouchdb(clients, milliseconds) {
  const server = await startServer("pouchdb");
  const url = server.url(server.port);
  await fetch(url, { method: "PUT" });
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const put = (number) =>
    new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json" };
      const options = { agent, method: "POST", headers };
      const asked = request(`${url}/_bulk_docs`, options, (answer) => {
        answer.resume();
        answer.once("end", () =>
          answer.statusCode === 201 ? resolve() : reject(new Error(`${answer.statusCode}`)),
        );
      });
      asked.once("error", reject);
      asked.end(JSON.stringify({ docs: [{ _id: randomUUID(), ...task(number) }] }));
    });
  let written = 0;
  const started = performance.now();
  const client = async () => {
    while (performance.now() - started < milliseconds) {
      await put(written);
      written += 1;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - started) / 1000;
  agent.destroy();
  await server.stop();
  console.log(JSON.stringify({ written: written / seconds }));
}

function task(number) {
  return {
    title: `Task number ${String(number).padStart(8)}`,
    done: number % 3 === 0,
    createdAt: "2026-11-23T07:00:00.000Z",
    notes: `${randomUUID()} ${randomUUID()} what there is to say of it`,
    priority: ["low", "middle", "high"][number % 3],
  };
}
