// The command line.

import { parseArgs } from "node:util";
import { PEERS } from "./peers.mjs";
import { WORKLOADS } from "./workloads.mjs";

/** What cannot be run; told without a trace. */
export class Refused extends Error {}

/** Sizes, rounds, peers and workloads that were asked for. */
export function readOptions(args) {
  const { values } = parse(args);
  return {
    sizes: list("n", values.n, (text) => number("n", text, 300)),
    rounds: number("rounds", values.rounds, 1),
    peers: list("peers", values.peers ?? Object.keys(PEERS).join(), (name) =>
      known("peer", name, Object.keys(PEERS)),
    ),
    workloads: list("workloads", values.workloads ?? Object.keys(WORKLOADS).join(), (name) =>
      known("workload", name, Object.keys(WORKLOADS)),
    ),
    json: values.json,
  };
}

function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        n: { type: "string", default: "10000" },
        rounds: { type: "string", default: "3" },
        peers: { type: "string" },
        workloads: { type: "string" },
        json: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new Refused(error.message);
  }
}

function list(option, text, read) {
  const parts = text.split(",").map((part) => read(part.trim()));
  if (new Set(parts).size !== parts.length)
    throw new Refused(`--${option} names one twice: ${text}`);
  return parts;
}

function number(option, text, least) {
  if (!/^\d+$/u.test(text) || Number(text) < least) {
    throw new Refused(`--${option} takes whole numbers from ${least}, not '${text}'`);
  }
  return Number(text);
}

function known(what, name, names) {
  if (names.includes(name)) return name;
  throw new Refused(`there is no ${what} '${name}'; there are: ${names.join(", ")}`);
}
