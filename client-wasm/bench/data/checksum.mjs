// A checksum over every field of every record, in whatever order they come.

import { FIELDS } from "./records.mjs";

/** Two hashes of a text, of 32 bits each (FNV-1a, Fowler, Noll, Vo; with two seeds and a last mix). */
function hash(text) {
  let one = 0x811c9dc5;
  let other = 0xcbf29ce4;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    one = Math.imul(one ^ unit, 0x01000193);
    other = Math.imul(other ^ unit, 0x01000197);
  }
  return [mix(one), mix(other)];
}

function mix(hash) {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}

/** How many records, and the sums of their hashes. Equal for equal sets. */
export function checksum(records) {
  let count = 0;
  let [one, other] = [0, 0];
  for (const record of records) {
    const [first, second] = hash(JSON.stringify(FIELDS.map((field) => record[field])));
    one = (one + first) >>> 0;
    other = (other + second) >>> 0;
    count += 1;
  }
  return [count, ...[one, other].map((sum) => sum.toString(16).padStart(8, "0"))].join("-");
}
