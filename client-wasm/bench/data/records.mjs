// The tasks that every peer stores: the same for all, made from their index alone.

/** The fields of a record, in the order in which its checksum takes them. */
export const FIELDS = ["id", "title", "done", "createdAt", "notes", "priority"];
/** Texts of two or three of these a word take about the bits that written language takes when it is compressed. */
const SYLLABLES =
  "al an ber ca con da del em en fer ga ho il in ka la lin ma mer mo na nor o pa per ra ri sa sol ta ten vi".split(
    " ",
  );
const SEED = 0x5eed;
const EPOCH = 1_700_000_000_000;

/** Numbers from 0 to 2^32 - 1 that follow from a seed (mulberry32, Ettinger 2017). */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/** A UUID of version 4, as far as its form goes. */
function uuid(next) {
  const hex = Array.from({ length: 4 }, () => next().toString(16).padStart(8, "0")).join("");
  const variant = "89ab"[parseInt(hex[16], 16) & 3];
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`];
  return [...parts, `${variant}${hex.slice(17, 20)}`, hex.slice(20)].join("-");
}

function word(next) {
  const count = 2 + (next() % 2);
  return Array.from({ length: count }, () => SYLLABLES[next() % SYLLABLES.length]).join("");
}

/** Words up to `length` characters. */
function words(next, length) {
  let text = "";
  while (text.length < length) text += `${word(next)} `;
  return text.slice(0, length).trimEnd();
}

/** The record at an index. */
export function record(index) {
  const next = numbers(Math.imul(index + 1, 0x9e3779b1) ^ SEED);
  return {
    id: uuid(next),
    title: words(next, 20),
    done: next() % 3 === 0,
    createdAt: EPOCH + (next() % 31_536_000) * 1_000,
    notes: words(next, 80),
    priority: next() % 5,
  };
}

/** The first `count` records. */
export const records = (count) => Array.from({ length: count }, (_, index) => record(index));

/**
 * Changes of `count` different records out of `n`, spread over all: the `lane`-th of `lanes` disjoint lists. Each
 * gives a record a new title.
 */
export function edits(n, count, lane, lanes, word) {
  const step = Math.floor(n / (count * lanes));
  if (step < 1) throw new Error(`${n} records are too few for ${lanes} times ${count} edits`);
  return Array.from({ length: count }, (_, at) => ({
    id: record((at * lanes + lane) * step).id,
    fields: { title: `${word} ${lane} ${at}` },
  }));
}

/** What is there after the edits: new records in place of those that changed. */
export function edited(all, changes) {
  const byId = new Map(changes.map(({ id, fields }) => [id, fields]));
  return all.map((one) => ({ ...one, ...byId.get(one.id) }));
}
