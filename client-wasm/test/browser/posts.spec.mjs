// Networks that let no WebSocket through: a proxy that refuses them, and one that opens them and carries nothing.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { after, before } from "node:test";
import { Server, serverProgram } from "./server.mjs";
import { inBoth, launch, newPage } from "./world.mjs";

const LIMITS = { timeout: 120_000, skip: serverProgram() === undefined && "no rejoin-server" };
/** Two attempts that nobody answers, and the pauses behind them. */
const FOUND_MS = 90_000;
/** What is added to a key before it is hashed (RFC 6455, 1.3). */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

let world;
before(async () => (world = await launch()), { timeout: 60_000 });
after(() => world.close(), { timeout: 60_000 });

/** A proxy before the server for which `upgrade` answers all WebSockets. */
async function proxy(context, server, upgrade) {
  const seen = { sockets: 0, requests: 0 };
  const held = new Set();
  const front = createServer((asked, answer) => {
    seen.requests += 1;
    const { method, url: path, headers } = asked;
    const onward = { host: "127.0.0.1", port: server.port, method, path, headers };
    const told = request(onward, (reply) => {
      answer.writeHead(reply.statusCode, reply.headers);
      reply.pipe(answer);
    });
    told.on("error", () => answer.destroy());
    answer.on("close", () => told.destroy());
    asked.pipe(told);
  });
  front.on("upgrade", (asked, socket) => {
    seen.sockets += 1;
    held.add(socket);
    socket.on("error", () => {});
    upgrade(asked, socket);
  });
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  context.after(() => {
    held.forEach((socket) => socket.destroy());
    front.closeAllConnections();
    return new Promise((resolve) => front.close(resolve));
  });
  return { seen, url: `ws://127.0.0.1:${front.address().port}/sync` };
}

const refuse = (_asked, socket) =>
  socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");

const swallow = (asked, socket) => {
  const key = asked.headers["sec-websocket-key"] + GUID;
  const accept = createHash("sha1").update(key).digest("base64");
  const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  head.push(`Sec-WebSocket-Accept: ${accept}`, "Sec-WebSocket-Protocol: rejoin.v1", "", "");
  socket.write(head.join("\r\n"));
  socket.resume();
};

async function open(context, worker, url, name) {
  const browserContext = await world.browser.newContext();
  context.after(() => browserContext.close());
  const page = await newPage(browserContext, world.origin, undefined, worker);
  await page.evaluate(({ name, url }) => openEngine(name, { url }), { name, url });
  return page;
}

const synced = (page) =>
  page.evaluate(
    (limit) => until(() => engine.status().synced && engine.status().state === "live", limit),
    FOUND_MS,
  );
const untilTitles = (page, count) =>
  page.evaluate((count) => until(async () => (await all()).length === count), count);

/** Whether all is the same as by a WebSocket, behind a proxy that answers these so. */
const carries = (upgrade, after) => async (t, worker) => {
  const server = await Server.start(t, world.origin);
  const { seen, url } = await proxy(t, server, upgrade);
  const carried = await open(t, worker, url, "carried");
  await carried.evaluate(() => add("1", "by requests"));
  await synced(carried);
  assert.ok(seen.sockets >= 2, `${seen.sockets} sockets were tried`);
  const plain = await open(t, worker, server.url, "plain");
  await synced(plain);
  await untilTitles(plain, 1);
  // Live, both ways.
  await plain.evaluate(() => add("2", "by a socket"));
  await untilTitles(carried, 2);
  await carried.evaluate(() => add("3", "by requests"));
  await untilTitles(plain, 3);
  await synced(carried);
  assert.deepEqual(
    await carried.evaluate(() => engine.roots()),
    await plain.evaluate(() => engine.roots()),
  );
  // The server ends and comes back: what was written meanwhile follows.
  const { sockets } = seen;
  await server.kill();
  await carried.evaluate(() => until(() => engine.status().state !== "live"));
  await carried.evaluate(() => add("4", "alone"));
  await server.run();
  await untilTitles(plain, 4);
  assert.ok(seen.requests > 10);
  after?.(seen, sockets);
};

inBoth("p17_where_websockets_are_refused_requests_carry_the_same", LIMITS, carries(refuse));

inBoth(
  "p17_where_websockets_open_and_carry_nothing_requests_do",
  LIMITS,
  carries(swallow, (seen, sockets) =>
    assert.equal(seen.sockets, sockets, "requests are tried first now"),
  ),
);
