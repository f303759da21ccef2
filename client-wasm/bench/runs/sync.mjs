// Two devices and a server, with a proxy in between that counts.

import { edited, edits, record, records } from "../data/records.mjs";
import { checksum } from "../data/checksum.mjs";
import { percentile } from "../data/figures.mjs";
import { Device } from "../device.mjs";
import { Proxy } from "../proxy.mjs";
import { startServer } from "../servers/start.mjs";

const EDITS = 100;
const CHANGES = 100;
/** After this long without a byte nothing more is expected. */
const QUIET_MS = 500;

/** Runs the workloads that `wanted` takes, and tells each figure. */
export async function sync({ peer, n, site, wanted, expect, tell }) {
  const after = [];
  try {
    const server = await startServer(peer.server, site.origin);
    after.push(() => server.stop());
    const proxy = await Proxy.start(server.port);
    after.push(() => proxy.stop());
    const devices = [new Device(site), new Device(site)];
    for (const device of devices) {
      after.push(() => device.end());
      await device.start(peer.page);
    }
    const world = { n, proxy, server, devices, expect, tell, all: records(n) };
    const url = server.url(proxy.port);
    for (const device of devices) {
      await device.call("open", { name: "bench", durability: peer.durability, url });
    }
    await firstSync(world);
    if (wanted("reconnect")) await reconnect(world);
    if (wanted("live-latency")) await liveLatency(world);
  } finally {
    for (const end of after.reverse()) await end();
  }
}

async function firstSync({ n, proxy, server, devices, expect, tell, all }) {
  const [one, other] = devices;
  await one.call("insert", n);
  await one.call("connect");
  await one.call("uploaded");
  await server.holds(n);
  await proxy.quiet(QUIET_MS);
  const before = proxy.bytes;
  const { start, end } = await other.call("firstSync", n);
  await proxy.quiet(QUIET_MS);
  const bytes = proxy.bytes - before;
  await same("first-sync", devices, all, expect);
  tell("first-sync", { time: end - start, bytes: bytes / 1e3 });
}

async function reconnect(world) {
  const { n, proxy, devices, expect, tell } = world;
  for (const device of devices) await device.call("disconnect");
  await proxy.quiet(QUIET_MS);
  const lists = devices.map((_, lane) => edits(n, EDITS, lane, devices.length, "offline"));
  for (const [lane, device] of devices.entries()) {
    await device.call("change", n, EDITS, lane, devices.length, "offline");
  }
  const before = proxy.bytes;
  const times = await Promise.all(devices.map((device) => device.call("reconnect", lists.flat())));
  const took =
    Math.max(...times.map(({ end }) => end)) - Math.min(...times.map(({ start }) => start));
  await proxy.quiet(QUIET_MS);
  const bytes = proxy.bytes - before;
  world.all = edited(world.all, lists.flat());
  await same("reconnect", devices, world.all, expect);
  tell("reconnect", { time: took, bytes: bytes / 1e3 });
}

async function liveLatency({ n, devices, expect, tell, all }) {
  const [one, other] = devices;
  const took = [];
  const changes = [];
  for (let at = 0; at < CHANGES; at += 1) {
    const change = { id: record((at * 7) % n).id, fields: { title: `live ${at}` } };
    changes.push(change);
    await other.call("expect", change.id, change.fields.title);
    const start = await one.call("send", change.id, change.fields);
    took.push((await other.call("sight")) - start);
  }
  await same("live-latency", devices, edited(all, changes), expect);
  tell("live-latency", { p50: percentile(took, 0.5), p99: percentile(took, 0.99) });
}

/** Both devices hold these records. */
async function same(workload, devices, all, expect) {
  const expected = checksum(all);
  for (const device of devices) expect(workload, await device.call("sum"), expected);
}
