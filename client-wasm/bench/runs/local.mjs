// One device, offline: what is stored, and how fast it is there again.

import { edited, edits, records } from "../data/records.mjs";
import { checksum } from "../data/checksum.mjs";
import { percentile } from "../data/figures.mjs";
import { Device } from "../device.mjs";

const WRITES = 100;
const NAME = "bench";

/** Runs the workloads that `wanted` takes, and tells each figure. */
export async function local({ peer, n, site, wanted, expect, tell }) {
  const { page, durability } = peer;
  const options = { name: NAME, durability };
  const all = records(n);
  const device = new Device(site);
  try {
    await device.start(page);
    await device.call("open", options);
    const time = await device.call("insert", n);
    expect("bulk-insert", await device.call("sum"), checksum(all));
    tell("bulk-insert", { time });
    if (wanted("cold-open")) {
      await device.start(page);
      const { first, all: whole, sum } = await device.call("coldOpen", options);
      expect("cold-open", sum, checksum(all));
      tell("cold-open", { "50 rows": first, "all rows": whole });
    }
    if (!wanted("memory") && !wanted("single-write")) return;
    await device.start(page);
    await device.call("openAndRead", options);
    if (wanted("memory")) tell("memory", { renderer: await device.memory() });
    if (wanted("single-write")) {
      const took = await device.call("writes", n, WRITES, 0, 1, "written");
      const expected = edited(all, edits(n, WRITES, 0, 1, "written"));
      expect("single-write", await device.call("sum"), checksum(expected));
      tell("single-write", { p50: percentile(took, 0.5), p99: percentile(took, 0.99) });
    }
  } finally {
    await device.end();
  }
}
